"""The contract of HTTP clients: every library passes every case, sync and async.

Each case is a server that misbehaves in one way and what an app must see then.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import itertools
import pickle
import socket
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import pytest

from integrations.harness import Wish
from loopback import (
    Close,
    CorruptGzip,
    Delay,
    Drip,
    DripBody,
    DripChunked,
    EventStream,
    Gate,
    Hang,
    Reset,
    Server,
    SlowReader,
    StallBody,
    Status,
    Truncated,
    TruncatedChunked,
    closed_port,
    redirect,
    tarpit,
)
from resilience_instrument import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    DeadlineExceededError,
)
from resilience_instrument.config.model import BulkheadSettings
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from integrations.governing import Governed
    from integrations.harness import Harness

    Govern = Callable[..., Governed]

pytestmark = pytest.mark.usefixtures("harness")

IN_BODY = (Truncated, TruncatedChunked, StallBody, DripBody, DripChunked)


def refused(method: str = "GET") -> Wish:
    """A call to a port where nobody listens."""
    return Wish(f"http://127.0.0.1:{closed_port()}/", method)


def test_two_503s_and_a_200_are_a_200(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """A transient failure of an idempotent call is tried again."""
    governed = govern()
    server.script("/x", Status(503), Status(503), Status(200, body=b"ok"))

    answer = harness.send(Wish(server.url("/x")))

    assert (200, b"ok") == (answer.status, answer.body)
    assert [2, 3] == governed.told.retries
    assert ["success"] == governed.told.outcomes


def test_the_last_503_is_handed_to_the_app(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """When retries are used up the last real response surfaces, no error."""
    governed = govern()
    server.script("/x", Status(503, body=b"down"))

    answer = harness.send(Wish(server.url("/x")))

    assert (503, b"down") == (answer.status, answer.body)
    assert 3 == len(server.hits("/x"))
    assert ["error"] == governed.told.outcomes
    assert ["attempts"] == governed.told.skipped


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_client_error_is_an_answer(
    harness: Harness, govern: Govern, server: Server, status: int
) -> None:
    """A 4xx says that the server is alive: no retry, no failure."""
    governed = govern()
    server.script("/x", Status(status))

    answer = harness.send(Wish(server.url("/x")))

    assert status == answer.status
    assert 1 == len(server.hits("/x"))
    assert ["success"] == governed.told.outcomes


def test_a_500_is_not_retried(harness: Harness, govern: Govern, server: Server) -> None:
    """A bug of the service will be there at the next try too."""
    governed = govern()
    server.script("/x", Status(500))

    assert 500 == harness.send(Wish(server.url("/x"))).status
    assert 1 == len(server.hits("/x"))
    assert ["error"] == governed.told.outcomes


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_post_is_sent_once(
    harness: Harness, govern: Govern, server: Server, method: str
) -> None:
    """A call that may have had an effect is never sent twice."""
    governed = govern()
    server.script("/x", Status(503), Status(200))

    answer = harness.send(Wish(server.url("/x"), method, body=b"order"))

    assert 503 == answer.status
    assert 1 == len(server.hits("/x"))
    assert ["not_idempotent"] == governed.told.skipped


def test_a_post_with_an_idempotency_key_is_tried_again(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The same key and the same body go out with every attempt."""
    govern()
    server.script("/x", Status(503), Status(200))
    wish = Wish(server.url("/x"), "POST", {"Idempotency-Key": "k-1"}, b"order")

    assert 200 == harness.send(wish).status

    sent = [(hit.headers["idempotency-key"], hit.body) for hit in server.hits("/x")]
    assert [("k-1", b"order")] * 2 == sent


def test_a_refused_post_is_tried_again(harness: Harness, govern: Govern) -> None:
    """Where no byte left, trying again is safe; the library's own error surfaces."""
    governed = govern()

    answer = harness.send(refused("POST"))

    assert isinstance(answer.error, harness.connection_error)
    assert not isinstance(answer.error, CircuitBreakerOpenError)
    assert [2, 3] == governed.told.retries
    assert "3 attempts" in answer.error.__notes__[0]


def test_a_post_without_an_answer_is_sent_once(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The server may have done it before it closed the connection."""
    govern()
    server.script("/x", Close(), Status(200))

    answer = harness.send(Wish(server.url("/x"), "POST", body=b"order"))

    assert isinstance(answer.error, harness.base_error)
    assert 1 == len(server.hits("/x"))


@pytest.mark.parametrize(
    "failure",
    [Close(), Reset(), Truncated(), TruncatedChunked()],
    ids=lambda failure: type(failure).__name__,
)
def test_a_broken_connection_is_tried_again(
    harness: Harness, govern: Govern, server: Server, failure: Any
) -> None:
    """Also when it breaks in the body: the app gets a whole answer."""
    govern()
    server.script("/x", failure, Status(200, body=b"whole"))

    answer = harness.send(Wish(server.url("/x")))

    if isinstance(failure, IN_BODY) and not harness.traits.reads:
        # The app reads the body itself, when the call is over.
        assert isinstance(answer.error, harness.base_error)
        return
    assert (200, b"whole") == (answer.status, answer.body)
    assert 2 == len(server.hits("/x"))


@pytest.mark.parametrize(
    "failure", [Hang(), StallBody()], ids=lambda failure: type(failure).__name__
)
def test_a_read_timeout_is_tried_again(
    harness: Harness, govern: Govern, server: Server, failure: Any
) -> None:
    """A server that says nothing costs one read timeout, not the call."""
    if isinstance(failure, IN_BODY) and not harness.traits.reads:
        pytest.skip("the app reads the body itself")
    governed = govern(TIMEOUT_READ="0.3")
    server.script("/x", failure, Status(200, body=b"ok"))

    assert 200 == harness.send(Wish(server.url("/x"))).status

    (_, first, _), _ = governed.told.of("attempt_ended")
    assert "timeout" == first.outcome
    assert "read" == first.timeout.value


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "drip",
    [Drip(interval=0.1), DripBody(interval=0.1), DripChunked(interval=0.1)],
    ids=lambda drip: type(drip).__name__,
)
def test_a_dripping_answer_is_cut_at_the_total(
    harness: Harness, govern: Govern, drip: Any, *, tls: bool
) -> None:
    """A byte now and then does not keep a call alive, in headers nor in the body."""
    if isinstance(drip, IN_BODY) and not harness.traits.reads:
        pytest.skip("the app reads the body itself")
    governed = govern(TIMEOUT_READ="1", TIMEOUT_TOTAL="1")
    with Server(tls=tls) as server:
        server.script("/x", drip)
        verify = str(server.ca_file) if tls else True
        started = time.monotonic()

        answer = harness.send(Wish(server.url("/x"), verify=verify))

        took = time.monotonic() - started
    assert isinstance(answer.error, harness.timeout_errors)
    assert 0.9 < took < 10.0
    assert ["timeout"] == governed.told.outcomes
    ((_, judgement, _),) = governed.told.of("attempt_ended")
    assert "total" == judgement.timeout.value


def test_retries_end_with_the_total(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """Whatever the number of attempts, the call is over at its deadline."""
    governed = govern(TIMEOUT_READ="0.4", TIMEOUT_TOTAL="1", RETRY_MAX_ATTEMPTS="9")
    server.script("/x", Hang())
    started = time.monotonic()

    answer = harness.send(Wish(server.url("/x")))

    assert isinstance(answer.error, harness.timeout_errors)
    assert 0.8 < time.monotonic() - started < 3.0
    assert len(governed.told.of("attempt_started")) in {2, 3}


def test_retry_after_is_waited_for(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """A service that asks for a second gets it."""
    govern()
    server.script("/x", Status(503, {"Retry-After": "1"}), Status(200))

    assert 200 == harness.send(Wish(server.url("/x"))).status

    first, second = server.hits("/x")
    assert second.time - first.time >= 1.0


def test_a_date_in_retry_after_is_waited_for(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """It counts from the answer's own date, whatever this machine's clock says."""
    govern()
    dates = {
        "Date": formatdate(1_000_000_000, usegmt=True),
        "Retry-After": formatdate(1_000_000_001, usegmt=True),
    }
    server.script("/x", Status(503, dates), Status(200))

    assert 200 == harness.send(Wish(server.url("/x"))).status

    first, second = server.hits("/x")
    assert second.time - first.time >= 1.0


def test_a_long_retry_after_ends_the_call(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """A wait beyond the cap is not shortened: the app gets the answer at once."""
    governed = govern()
    server.script("/x", Status(503, {"Retry-After": "100"}), Status(200))

    assert 503 == harness.send(Wish(server.url("/x"))).status
    assert 1 == len(server.hits("/x"))
    assert ["retry_after"] == governed.told.skipped


def test_a_retry_after_beyond_the_deadline_ends_the_call(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """There is no use in a wait that the call cannot survive."""
    governed = govern(TIMEOUT_READ="2", TIMEOUT_TOTAL="2")
    server.script("/x", Status(503, {"Retry-After": "5"}), Status(200))

    assert 503 == harness.send(Wish(server.url("/x"))).status
    assert ["retry_after"] == governed.told.skipped


def test_an_unreadable_retry_after_is_ignored(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """A bad header must not break a call."""
    govern()
    server.script("/x", Status(503, {"Retry-After": "soon"}), Status(200))

    assert 200 == harness.send(Wish(server.url("/x"))).status


def test_each_hop_of_a_redirect_is_judged_for_itself(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """A failing target is tried again; the redirect before it is not."""
    governed = govern()
    with Server() as target:
        server.script("/a", redirect(target.url("/b")))
        target.script("/b", Status(503), Status(200, body=b"ok"))

        assert 200 == harness.send(Wish(server.url("/a"))).status

        assert (1, 2) == (len(server.hits("/a")), len(target.hits("/b")))
    assert ["success", "success"] == governed.told.outcomes
    assert 2 == len({call.service for call in governed.told.calls})


def test_a_redirected_post_is_sent_once(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The GET behind a 303 may be repeated without the POST before it."""
    govern()
    server.script("/a", redirect(server.url("/b"), 303))
    server.script("/b", Status(503), Status(200))

    answer = harness.send(Wish(server.url("/a"), "POST", body=b"order"))

    assert 200 == answer.status
    assert (1, 2) == (len(server.hits("/a")), len(server.hits("/b")))


def test_a_dead_target_does_not_open_the_circuit_of_the_redirecting_service(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """Each service answers for itself."""
    governed = govern(BREAKER_CONSECUTIVE="2")
    server.script("/a", redirect(refused().url))

    assert isinstance(harness.send(Wish(server.url("/a"))).error, harness.base_error)

    now = governed.runtime.clock.monotonic()
    states = [p.breaker.state(now) for p in governed.runtime.registry.known()]
    assert ["closed", "open"] == sorted(states)


def test_a_dead_host_opens_its_circuit(harness: Harness, govern: Govern) -> None:
    """After five failures in a row the next call fails at once, without a byte."""
    governed = govern()
    wish = refused()
    errors = [harness.send(wish).error for _ in range(2)]
    assert not any(isinstance(error, CircuitBreakerOpenError) for error in errors)
    before = len(governed.told.of("attempt_started"))

    answer = harness.send(wish)

    assert isinstance(answer.error, CircuitBreakerOpenError)
    assert isinstance(answer.error, harness.connection_error)
    assert isinstance(answer.error, harness.base_error)
    assert 5 == before == len(governed.told.of("attempt_started"))
    assert "open" == governed.state()
    assert answer.error.service in str(answer.error)
    if harness.traits.asked:
        asked = answer.error.request  # type: ignore[attr-defined]
        assert wish.url == str(getattr(asked, harness.traits.asked))


def test_an_open_circuit_pickles(harness: Harness, govern: Govern) -> None:
    """A worker may send the error to its parent."""
    govern(BREAKER_CONSECUTIVE="1")
    wish = refused()
    harness.send(wish)
    error = harness.send(wish).error
    assert isinstance(error, CircuitBreakerOpenError)

    copy = pickle.loads(pickle.dumps(error))

    assert (type(error), str(error)) == (type(copy), str(copy))
    assert (error.service, error.retry_after) == (copy.service, copy.retry_after)


def test_a_full_bulkhead_refuses_by_the_librarys_own_error(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """An app that handles a dead host handles it; no attempt was made."""
    governed = govern()
    registry = governed.runtime.registry
    registry.settings = dataclasses.replace(
        registry.settings, bulkhead=BulkheadSettings(limit=1)
    )
    gate = Gate(Status(200))
    server.script("/x", gate)
    wish = Wish(server.url("/x"))

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(harness.send, wish)
        server.wait_for_hits("/x", 1)
        error = harness.send(wish).error
        gate.opened.set()

    assert 200 == first.result().status
    assert isinstance(error, BulkheadFullError)
    assert isinstance(error, harness.connection_error)
    assert str(error) == str(pickle.loads(pickle.dumps(error)))
    assert 1 == len(server.hits("/x"))


def test_one_of_many_probes_and_two_successes_close(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """When the open time is up one call finds out for all, and once more."""
    governed = govern(
        BREAKER_CONSECUTIVE="1", BREAKER_OPEN_FOR="0.5", BREAKER_OPEN_JITTER="0"
    )
    gate = Gate(Status(200))
    server.script("/x", Status(500), gate)
    wish = Wish(server.url("/x"))
    harness.send(wish)
    time.sleep(0.6)

    with ThreadPoolExecutor(20) as pool:
        calls = as_completed([pool.submit(harness.send, wish) for _ in range(20)])
        refused_ones = [next(calls).result().error for _ in range(19)]
        gate.opened.set()
        probe = next(calls).result()

    assert {True} == {isinstance(e, CircuitBreakerOpenError) for e in refused_ones}
    assert 200 == probe.status
    assert 2 == len(server.hits("/x"))
    assert "half_open" == governed.state()
    assert 200 == harness.send(wish).status
    assert "closed" == governed.state()


def test_an_interrupted_probe_gives_its_place_back(
    harness: Harness, govern: Govern, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C says nothing of the service: the circuit waits for another probe."""
    governed = govern(
        BREAKER_CONSECUTIVE="1", BREAKER_OPEN_FOR="0.05", BREAKER_OPEN_JITTER="0"
    )
    if harness.traits.awaits:
        pytest.skip("a task is cancelled instead")
    server.script("/x", Status(500), Status(200))
    wish = Wish(server.url("/x"))
    harness.send(wish)
    time.sleep(0.1)

    def interrupt(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", interrupt)
        with pytest.raises(KeyboardInterrupt):
            harness.send(wish)

    assert ["error", "cancelled"] == governed.told.outcomes
    assert "half_open" == governed.state()
    assert 200 == harness.send(wish).status


def test_a_circuit_that_opens_between_attempts_hides_nothing(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The last real answer surfaces, not the refusal of the next attempt."""
    governed = govern(BREAKER_CONSECUTIVE="2")
    server.script("/x", Status(503, body=b"real"))

    answer = harness.send(Wish(server.url("/x")))

    assert (503, b"real") == (answer.status, answer.body)
    assert 2 == len(server.hits("/x"))
    assert ["open"] == governed.told.skipped


def test_a_generator_body_is_not_sent_twice(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """What was read from it is gone."""
    governed = govern()
    server.script("/x", Status(503), Status(200))
    if not harness.traits.iterates:
        pytest.skip("an async client takes no plain generator")
    body = (piece for piece in [b"a", b"b"])

    assert 503 == harness.send(Wish(server.url("/x"), "PUT", body=body)).status
    assert 1 == len(server.hits("/x"))
    assert ["body"] == governed.told.skipped


def test_a_generator_survives_a_refused_connection(
    harness: Harness, govern: Govern, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was read from it yet: it is whole in the attempt that connects."""
    governed = govern()
    server.script("/x", Status(200))
    started: list[int] = []
    connect, failures = socket.socket.connect, iter([ConnectionRefusedError])

    def refuse_once(sock: socket.socket, address: Any) -> None:
        for failure in failures:
            started.append(len(read))
            raise failure
        connect(sock, address)

    read: list[bytes] = []
    monkeypatch.setattr(socket.socket, "connect", refuse_once, raising=False)
    wish = Wish(server.url("/x"), "POST", body=_pieces(harness, read))

    assert 200 == harness.send(wish).status
    assert [b"ab"] == [hit.body for hit in server.hits("/x")]
    assert [0] == started
    assert [2] == governed.told.retries


def _pieces(harness: Harness, read: list[bytes]) -> Any:
    """Return a generator of the kind that a library takes; it notes what was read."""

    def plain() -> Iterator[bytes]:
        for piece in (b"a", b"b"):
            read.append(piece)
            yield piece

    async def awaited() -> AsyncIterator[bytes]:
        for piece in plain():
            yield piece

    return awaited() if harness.traits.awaits else plain()


def test_a_bytes_body_is_sent_again(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """Both attempts carry the same bytes."""
    govern()
    server.script("/x", Status(503), Status(200))

    assert 200 == harness.send(Wish(server.url("/x"), "PUT", body=b"whole")).status
    assert [b"whole", b"whole"] == [hit.body for hit in server.hits("/x")]


def test_a_host_that_does_not_accept_is_a_connect_timeout(
    harness: Harness, govern: Govern
) -> None:
    """Nothing was sent, so that even a POST is tried again."""
    governed = govern(TIMEOUT_CONNECT="0.2")
    with tarpit() as port:
        wish = Wish(f"http://127.0.0.1:{port}/", "POST", body=b"order")
        answer = harness.send(wish)

    assert isinstance(answer.error, harness.timeout_errors)
    phases = [
        judged.timeout.value for _, judged, _ in governed.told.of("attempt_ended")
    ]
    assert ["connect"] * 3 == phases


def test_the_apps_own_timeout_wins(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """It is neither lengthened nor evidence against the service."""
    governed = govern(TIMEOUT_READ="5", RETRY_MAX_ATTEMPTS="1", BREAKER_CONSECUTIVE="1")
    server.script("/x", Delay(2.0, Status(200)))

    answer = harness.send(Wish(server.url("/x"), timeout=0.2))

    assert isinstance(answer.error, harness.timeout_errors)
    assert "closed" == governed.state()
    assert not governed.told.calls[0].unbounded


def test_a_longer_timeout_of_the_app_is_not_shortened(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """Neither the read timeout nor the total of the settings cuts it."""
    govern(TIMEOUT_READ="0.3", TIMEOUT_TOTAL="0.5")
    server.script("/x", Delay(1.0, Status(200)))

    assert 200 == harness.send(Wish(server.url("/x"), timeout=5)).status


def test_a_call_without_a_timeout_is_counted(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The audit knows which calls would have waited without an end."""
    governed = govern()
    server.script("/x", Status(200))

    harness.send(Wish(server.url("/x")))
    harness.send(Wish(server.url("/x"), timeout=3))

    assert [True, False] == [call.unbounded for call in governed.told.calls]


def test_a_stream_is_not_cut_by_a_timeout_of_ours(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """An app that reads a stream itself may wait longer between two events."""
    govern(TIMEOUT_READ="0.3", TIMEOUT_TOTAL="0.6")
    server.script("/x", EventStream([b"a", b"b", b"c"], gap=0.5))

    answer = harness.send(Wish(server.url("/x"), stream=True))

    assert b"abc" == answer.body


def test_a_stream_that_begins_with_a_503_is_tried_again(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The app sees only the answer that came through."""
    govern()
    server.script("/x", Status(503, body=b"no"), Status(200, body=b"ok"))

    answer = harness.send(Wish(server.url("/x"), stream=True))

    assert (200, b"ok") == (answer.status, answer.body)


# httpx leaves its generators to the garbage collector here, which trio points out.
@pytest.mark.filterwarnings("ignore:.*async_generator")
def test_a_corrupt_body_is_not_tried_again(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """What cannot be decoded arrived whole."""
    govern()
    server.script("/x", CorruptGzip(), Status(200))

    answer = harness.send(Wish(server.url("/x")))

    if harness.traits.decodes:
        assert isinstance(answer.error, harness.base_error)
    assert 1 == len(server.hits("/x"))


def test_a_certificate_that_is_not_trusted_is_final(
    harness: Harness, govern: Govern, tls_server: Server
) -> None:
    """It will not be trusted at the next try, and the server is alive."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    tls_server.script("/x", Status(200))

    answer = harness.send(Wish(tls_server.url("/x")))

    assert isinstance(answer.error, harness.base_error)
    assert 1 == len(governed.told.of("attempt_started"))
    assert "closed" == governed.state()


def test_a_deadline_of_the_app_shortens_the_call(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """A nested call inherits what is left, and it proves nothing of the service."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    server.script("/x", Hang())
    token = CURRENT.set(time.monotonic() + 0.4)
    try:
        answer = harness.send(Wish(server.url("/x")))
    finally:
        CURRENT.reset(token)

    assert isinstance(answer.error, harness.timeout_errors)
    assert "closed" == governed.state()


def test_no_time_left_means_no_attempt(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The error is the library's timeout and says that nothing was tried."""
    governed = govern()
    server.script("/x", Status(200))
    token = CURRENT.set(time.monotonic())
    try:
        answer = harness.send(Wish(server.url("/x")))
    finally:
        CURRENT.reset(token)

    assert isinstance(answer.error, DeadlineExceededError)
    assert isinstance(answer.error, harness.timeout_errors)
    assert [] == server.hits("/x")
    assert ["timeout"] == governed.told.outcomes


@pytest.mark.slow
def test_a_short_connect_timeout_never_kills_an_upload(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """30 MB to a server that reads 5 MB a second take far longer, and arrive."""
    govern(TIMEOUT_CONNECT="0.5")
    size = 30_000_000
    server.script("/x", SlowReader(5_000_000, Status(200)))
    started = time.monotonic()

    answer = harness.send(Wish(server.url("/x"), "PUT", body=b"x" * size))

    assert (None, 200) == (answer.error, answer.status)
    assert size == len(server.hits("/x")[0].body)
    assert time.monotonic() - started > 3.0


def test_a_call_inside_an_event_loop_does_not_stop_it(
    harness: Harness, govern: Govern, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A synchronous client tries again at once there: no pause for all tasks."""
    govern()
    if harness.traits.awaits:
        pytest.skip("an async client may wait")
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    server.script("/x", Status(503), Status(200))

    async def call() -> Any:
        return harness.send(Wish(server.url("/x")))

    assert 200 == asyncio.run(call()).status
    assert [] == slept


def test_headers_of_an_attempt_are_its_own(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """What an observer carries out goes with one attempt and leaves no trace."""
    governed = govern()
    numbers = itertools.count(1)

    def attempt_started(call: Any, number: int) -> None:
        call.carrier = {"traceparent": f"t-{next(numbers)}"}
        governed.told.events.append(("attempt_started", number))

    governed.told.attempt_started = attempt_started  # type: ignore[attr-defined]
    server.script("/x", Status(503), Status(200))

    harness.send(Wish(server.url("/x")))

    sent = [hit.headers["traceparent"] for hit in server.hits("/x")]
    assert ["t-1", "t-2"] == sent


def test_a_fault_while_describing_lets_the_call_through(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The app wins: the call goes out once, as without the agent."""
    governed = govern()
    governed.runtime.registry = None  # type: ignore[assignment]
    server.script("/x", Status(503), Status(200))

    assert 503 == harness.send(Wish(server.url("/x"))).status
    governed.expected_faults = [where for where, _ in governed.faults]
    assert {"describe"} == set(governed.expected_faults)


def test_a_fault_before_the_first_attempt_lets_the_call_through(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """The call is made once, untouched; its errors are the library's."""
    governed = govern()

    def fail() -> None:
        raise RuntimeError

    governed.runtime.begin = fail
    server.script("/x", Status(503), Status(200))

    assert 503 == harness.send(Wish(server.url("/x"))).status
    assert isinstance(harness.send(refused()).error, harness.connection_error)
    governed.expected_faults = ["engine", "engine"]


def test_a_fault_after_an_attempt_hands_its_outcome_on(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """What was sent is not sent again because our reading of it failed."""
    governed = govern()

    def fail(*_: object) -> None:
        raise RuntimeError

    governed.told.attempt_ended = fail  # type: ignore[attr-defined]
    server.script("/x", Status(503, body=b"once"), Status(200))

    answer = harness.send(Wish(server.url("/x")))

    assert (503, b"once") == (answer.status, answer.body)
    assert 1 == len(server.hits("/x"))
    governed.expected_faults = ["engine"]


def test_calls_of_telemetry_pass_untouched(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """An exporter that asks to be left alone is neither retried nor counted."""
    from opentelemetry import context

    governed = govern()
    server.script("/x", Status(503), Status(200))
    key = context._SUPPRESS_INSTRUMENTATION_KEY
    token = context.attach(context.set_value(key, value=True))
    try:
        answer = harness.send(Wish(server.url("/x")))
    finally:
        context.detach(token)

    assert 503 == answer.status
    assert [] == governed.told.events


def test_a_file_is_sent_again_from_where_it_stood(
    harness: Harness, govern: Govern, server: Server
) -> None:
    """Where the library cannot wind a file back it is sent once."""
    governed = govern()
    if not harness.traits.files:
        pytest.skip("an async client takes no plain file")
    server.script("/x", Status(503), Status(200))
    body = io.BytesIO(b"whole")
    if harness.traits.rewinds:
        # httpx announces the length of a whole file, wherever it stands.
        body = io.BytesIO(b"skipped-whole")
        body.seek(8)

    answer = harness.send(Wish(server.url("/x"), "PUT", body=body))

    bodies = [hit.body for hit in server.hits("/x")]
    if harness.traits.rewinds:
        assert (200, [b"whole", b"whole"]) == (answer.status, bodies)
    else:
        assert (503, [b"whole"]) == (answer.status, bodies)
        assert ["body"] == governed.told.skipped
