"""urllib3 used directly, and under clients that are governed themselves."""

from __future__ import annotations

import contextlib
import io
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests
import urllib3
import vcr  # type: ignore[import-untyped]

from integrations.governing import governing
from loopback import Close, Delay, Hang, Server, Status, closed_port, redirect
from resilience_instrument import CircuitBreakerOpenError
from resilience_instrument.integrations import _urllib3
from resilience_instrument.integrations.urllib3 import targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from integrations.governing import Governed

    Govern = Callable[..., Governed]


@pytest.fixture
def govern() -> Iterator[Govern]:
    """Govern urllib3, and requests above it."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            governing(("requests", "urllib3"), **settings)
        )


@pytest.fixture
def manager() -> Iterator[urllib3.PoolManager]:
    """A manager that ends with the test."""
    with urllib3.PoolManager() as opened:
        yield opened


def test_a_call_through_requests_is_governed_once(
    govern: Govern, server: Server
) -> None:
    """The layer below passes: three attempts, not nine."""
    governed = govern()
    server.script("/x", Status(503))

    assert 503 == requests.get(server.url("/x")).status_code
    assert 3 == len(server.hits("/x"))
    assert ["requests"] == [call.library for call in governed.told.calls]


def test_a_call_through_requests_that_is_switched_off_stays_so(
    server: Server,
) -> None:
    """Whoever leaves requests alone does not want it governed from below."""
    server.script("/x", Status(503))
    with governing(("urllib3",)) as governed:
        assert 503 == requests.get(server.url("/x")).status_code

    assert 1 == len(server.hits("/x"))
    assert [] == governed.told.events


def test_a_day_of_retry_after_is_not_slept(
    govern: Govern, manager: urllib3.PoolManager, server: Server
) -> None:
    """Which urllib3 would do, up to six hours of it."""
    govern()
    server.script("/x", Status(503, {"Retry-After": "86400"}))
    started = time.monotonic()

    assert 503 == manager.request("GET", server.url("/x")).status
    assert time.monotonic() - started < 5.0
    assert 1 == len(server.hits("/x"))


@pytest.mark.parametrize("retries", [2, False, urllib3.Retry(2)])
def test_retries_of_the_app_are_its_own(
    govern: Govern, manager: urllib3.PoolManager, server: Server, retries: Any
) -> None:
    """Their number and their errors are what they are without the agent."""
    governed = govern()
    server.script("/x", Close())
    expected = 1 if retries is False else 3

    with pytest.raises(
        urllib3.exceptions.ProtocolError
        if retries is False
        else urllib3.exceptions.MaxRetryError
    ):
        manager.request("GET", server.url("/x"), retries=retries)

    assert expected == len(server.hits("/x"))
    assert ["app_retries"] * expected == governed.told.skipped


def test_retries_of_a_pool_are_the_apps_own(govern: Govern, server: Server) -> None:
    """They hold for each of its calls."""
    governed = govern()
    server.script("/x", Status(503))

    with urllib3.HTTPConnectionPool("127.0.0.1", server.port, retries=1) as pool:
        assert 503 == pool.request("GET", "/x").status

    assert ["app_retries"] == governed.told.skipped


def test_redirects_are_followed_as_often_as_by_default(
    govern: Govern, manager: urllib3.PoolManager, server: Server
) -> None:
    """Leaving retries to the agent changes nothing else."""
    server.script("/a", redirect(server.url("/a")))

    def hits() -> int:
        before = len(server.hits("/a"))
        with pytest.raises(urllib3.exceptions.MaxRetryError):
            manager.request("GET", server.url("/a"))
        return len(server.hits("/a")) - before

    plain = hits()
    govern()

    assert plain == hits()


def test_an_open_circuit_is_wrapped_as_every_failure_is(
    govern: Govern, manager: urllib3.PoolManager
) -> None:
    """An app that handles a dead host handles it."""
    govern(BREAKER_CONSECUTIVE="1")
    url = f"http://127.0.0.1:{closed_port()}/"
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        manager.request("GET", url)

    with pytest.raises(urllib3.exceptions.MaxRetryError) as raised:
        manager.request("GET", url)

    kinds = {CircuitBreakerOpenError, urllib3.exceptions.NewConnectionError}
    assert kinds <= set(type(raised.value.reason).__mro__)


@pytest.mark.parametrize(
    "timeout",
    [0.2, urllib3.Timeout(read=0.2), urllib3.Timeout(total=0.2)],
    ids=["number", "read", "total"],
)
def test_every_form_of_a_timeout_is_the_apps_own(
    govern: Govern, server: Server, timeout: Any
) -> None:
    """For one call and for a pool."""
    governed = govern(RETRY_MAX_ATTEMPTS="1")
    server.script("/x", Delay(1.0, Status(200)))

    with (
        urllib3.PoolManager() as manager,
        pytest.raises(urllib3.exceptions.MaxRetryError),
    ):
        manager.request("GET", server.url("/x"), timeout=timeout)
    with (
        urllib3.PoolManager(timeout=timeout) as manager,
        pytest.raises(urllib3.exceptions.MaxRetryError),
    ):
        manager.request("GET", server.url("/x"))

    assert [False, False] == [call.unbounded for call in governed.told.calls]


def test_an_app_that_gives_all_by_position_has_said_enough(
    govern: Govern, server: Server
) -> None:
    """Its retries and timeouts are among what it gave."""
    governed = govern()
    server.script("/x", Status(503))

    with urllib3.HTTPConnectionPool("127.0.0.1", server.port) as pool:
        response = pool.urlopen("GET", "/x", None, None, None)

    assert 503 == response.status
    assert ["app_retries"] == governed.told.skipped
    assert governed.told.calls[0].deadline is None


@pytest.mark.parametrize("preload", [True, False])
def test_a_failed_answer_gives_its_connection_back(
    govern: Govern, manager: urllib3.PoolManager, server: Server, *, preload: bool
) -> None:
    """One connection for all where bodies are read, a new one where they stream."""
    govern(BREAKER_CONSECUTIVE="50")
    server.script("/x", *[Status(503, body=b"no"), Status(200, body=b"ok")] * 3)

    answers = []
    for _ in range(3):
        response = manager.request("GET", server.url("/x"), preload_content=preload)
        answers.append((response.status, response.read() or response.data))

    assert [(200, b"ok")] * 3 == answers
    assert (1 if preload else 4) == server.connections


def test_the_apps_headers_are_not_touched(govern: Govern, server: Server) -> None:
    """They may be shared by all calls of a pool."""
    governed = govern()

    def carry(call: Any, number: int) -> None:
        call.carrier = {"traceparent": f"t-{number}"}

    governed.told.attempt_started = carry  # type: ignore[attr-defined]
    server.script("/x", Status(503), Status(200))
    shared = {"x-mine": "1"}

    with urllib3.PoolManager(headers=shared) as manager:
        manager.request("GET", server.url("/x"))

    sent = [
        (hit.headers["x-mine"], hit.headers["traceparent"]) for hit in server.hits("/x")
    ]
    assert [("1", "t-1"), ("1", "t-2")] == sent
    assert {"x-mine": "1"} == shared


def test_a_key_in_any_spelling_makes_a_post_repeatable(
    govern: Govern, manager: urllib3.PoolManager, server: Server
) -> None:
    """Headers of an app are a plain dictionary here."""
    govern()
    server.script("/x", Status(503), Status(200))

    response = manager.request(
        "POST", server.url("/x"), body=b"x", headers={"idempotency-key": "1"}
    )

    assert 200 == response.status


def test_a_body_that_cannot_be_wound_back_is_sent_once(
    govern: Govern, manager: urllib3.PoolManager, server: Server
) -> None:
    """A stream of pieces is gone when it was read."""
    governed = govern()
    server.script("/x", Status(503))
    body: Any = io.BytesIO(b"ab")
    pieces = iter([body.read()])

    assert 503 == manager.request("PUT", server.url("/x"), body=pieces).status
    assert ["body"] == governed.told.skipped


def test_a_dead_proxy_does_not_open_the_circuit_of_the_service(
    govern: Govern, manager: urllib3.PoolManager, server: Server
) -> None:
    """Each way to a service has a circuit of its own."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    server.script("/x", Status(200))

    with urllib3.ProxyManager(f"http://127.0.0.1:{closed_port()}") as proxied:
        for _ in range(2):
            with pytest.raises(urllib3.exceptions.MaxRetryError):
                proxied.request("GET", server.url("/x"))

    assert 200 == manager.request("GET", server.url("/x")).status
    services = {call.service for call in governed.told.calls}
    assert {f"127.0.0.1:{server.port}"} == services


def test_a_span_can_show_the_request(
    govern: Govern, manager: urllib3.PoolManager, server: Server
) -> None:
    """The URL is put together again."""
    governed = govern()
    server.script("/x", Status(200))

    manager.request("GET", server.url("/x?token=secret"))

    shown = governed.told.calls[0].attributes()["url.full"]
    assert server.url("/x?token=REDACTED") == shown


def test_a_cassette_is_left_alone(
    govern: Govern, manager: urllib3.PoolManager, server: Server, tmp_path: Path
) -> None:
    """It plays back as many calls as were recorded."""
    governed = govern()
    server.script("/x", Status(503))

    for _ in range(2):
        with vcr.use_cassette(tmp_path / "cassette.yaml"):
            response = manager.request("GET", server.url("/x"), retries=False)
            assert 503 == response.status

    assert 1 == len(server.hits("/x"))
    assert [] == governed.told.events


def test_errors_that_are_the_apps_own_are_nobodys_failure(
    govern: Govern, manager: urllib3.PoolManager, server: Server
) -> None:
    """A body of the wrong type is neither retried nor held against a service."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    body: Any = object()

    with pytest.raises(TypeError):
        manager.request("PUT", server.url("/x"), body=body)

    assert 1 == len(governed.told.of("attempt_started"))
    assert "closed" == governed.state()


def test_a_pool_used_inside_an_attempt_is_not_governed_again(
    govern: Govern, server: Server
) -> None:
    """A hang below ends by what the layer above set."""
    governed = govern(TIMEOUT_READ="0.3", RETRY_MAX_ATTEMPTS="1")
    server.script("/x", Hang())

    with pytest.raises(requests.ReadTimeout):
        requests.get(server.url("/x"))

    assert 1 == len(governed.told.calls)


def test_a_version_of_another_shape_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before version 2 there is nothing that could be wrapped as this is."""
    monkeypatch.delattr(urllib3, "BaseHTTPResponse")
    runtime: Any = None

    assert [] == targets(runtime)


@pytest.mark.parametrize("timeout", ["text", (1, 2, 3), True, object()])
def test_a_timeout_that_makes_no_sense_is_none_of_ours(timeout: Any) -> None:
    """The library says so itself."""
    assert _urllib3.app_timeouts(timeout) is None


def test_headers_of_bytes_are_read(
    govern: Govern, manager: urllib3.PoolManager, server: Server
) -> None:
    """Clients of services send them so; one of them says that it counts attempts."""
    governed = govern()
    server.script("/x", Status(503))
    headers: Any = {"amz-sdk-request": b"attempt=1", "Content-Type": b"a/b"}

    response = manager.request("GET", server.url("/x"), headers=headers)

    assert 503 == response.status
    assert (["app_retries"], 1) == (governed.told.skipped, len(server.hits("/x")))


def test_bytes_in_headers_of_requests_are_read(govern: Govern, server: Server) -> None:
    """It sends what it is given."""
    govern()
    server.script("/x", Status(503), Status(200))
    headers: Any = {"Content-Type": b"a/b"}

    answer = requests.put(server.url("/x"), data=b"1", headers=headers)

    assert 200 == answer.status_code
