"""requests: what only it can do."""

from __future__ import annotations

import contextlib
import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests
import requests.adapters
import urllib3

from integrations.governing import governing
from loopback import (
    Close,
    Delay,
    DripBody,
    Hang,
    Server,
    Status,
    closed_port,
    redirect,
)
from resilience_instrument import CircuitBreakerOpenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.governing import Governed

    Govern = Callable[..., Governed]


@pytest.fixture
def govern() -> Iterator[Govern]:
    """Govern requests with the settings that are given."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            governing(("requests",), **settings)
        )


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """A session that ends with the test."""
    with requests.Session() as opened:
        yield opened


@pytest.fixture
def refused() -> str:
    """A URL at which nobody listens."""
    return f"http://127.0.0.1:{closed_port()}/"


# -- timeouts ---------------------------------------------------------------


@pytest.mark.parametrize(
    "timeout",
    [0.2, (3, 0.2), urllib3.Timeout(connect=3, read=0.2), urllib3.Timeout(total=0.2)],
    ids=["number", "pair", "urllib3", "urllib3-total"],
)
def test_every_form_of_a_timeout_is_the_apps_own(
    govern: Govern, session: requests.Session, server: Server, timeout: Any
) -> None:
    """Whatever requests accepts wins over the settings."""
    governed = govern(RETRY_MAX_ATTEMPTS="1")
    server.script("/x", Delay(1.0, Status(200)))

    with pytest.raises(requests.ReadTimeout):
        session.get(server.url("/x"), timeout=timeout)

    assert not governed.told.calls[0].unbounded


@pytest.mark.parametrize(
    "timeout", ["text", (1, 2, 3), True, (3, "text"), urllib3.Timeout()]
)
def test_a_timeout_that_makes_no_sense_is_judged_by_the_library(
    govern: Govern, session: requests.Session, server: Server, timeout: Any
) -> None:
    """The app sees what it would have seen, and no deadline is made of it."""
    server.script("/x", Status(200))

    def result() -> str:
        try:
            return str(session.get(server.url("/x"), timeout=timeout).status_code)
        except ValueError as error:
            return str(error)

    plain = result()
    governed = govern()

    assert plain == result()
    assert governed.told.calls[0].deadline is None


def test_no_limit_at_all_can_be_asked_for(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """A pair of nothing is a choice, unlike a timeout that is not given."""
    governed = govern(TIMEOUT_READ="0.2", TIMEOUT_TOTAL="0.3")
    server.script("/x", Delay(0.6, Status(200)))

    assert 200 == session.get(server.url("/x"), timeout=(None, None)).status_code
    assert governed.told.calls[0].deadline is None


def test_an_adapter_that_sets_a_default_timeout_is_bounded_at_last(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """Such an adapter never sees a missing timeout, so that its default is dead."""

    class TimeoutAdapter(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> requests.Response:
            kwargs.setdefault("timeout", 0.2)
            return super().send(*args, **kwargs)

    govern(TIMEOUT_READ="0.3", RETRY_MAX_ATTEMPTS="1")
    session.mount("http://", TimeoutAdapter())
    server.script("/x", Hang())

    with pytest.raises(requests.ReadTimeout):
        session.get(server.url("/x"))


@pytest.mark.parametrize("stream", [False, True])
def test_the_elapsed_time_is_that_of_the_last_attempt(
    govern: Govern, session: requests.Session, server: Server, *, stream: bool
) -> None:
    """Pauses and failed attempts are not the service's doing."""
    govern(RETRY_BASE_DELAY="0")
    server.script("/x", Delay(0.5, Status(503)), Status(200))

    with session.get(server.url("/x"), stream=stream) as response:
        response.content  # noqa: B018 - reads it

    assert 0 < response.elapsed.total_seconds() < 0.4


# -- bodies -----------------------------------------------------------------


def test_a_generator_survives_a_refused_connection(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """Nothing was read from it yet: it is whole in the attempt that connects."""
    governed = govern()
    server.script("/x", Status(200))
    adapter = session.get_adapter("http://")
    original = urllib3.connection.HTTPConnection._new_conn
    failures = iter([urllib3.exceptions.NewConnectionError])

    def refuse_once(self: Any) -> Any:
        for kind in failures:
            message = "refused"
            raise kind(self, message)
        return original(self)

    urllib3.connection.HTTPConnection._new_conn = refuse_once  # type: ignore[method-assign]
    try:
        body = (piece for piece in [b"a", b"b"])
        response = session.post(server.url("/x"), data=body)
    finally:
        urllib3.connection.HTTPConnection._new_conn = original  # type: ignore[method-assign]

    assert adapter is not None
    assert (200, [b"ab"]) == (
        response.status_code,
        [hit.body for hit in server.hits("/x")],
    )
    assert [2] == governed.told.retries


@pytest.mark.parametrize("size", [10, 100_000], ids=["small", "large"])
def test_a_failed_answer_gives_its_connection_back(
    govern: Govern, session: requests.Session, server: Server, size: int
) -> None:
    """Five times 503 and 200 take one connection, whatever came with the 503."""
    govern(BREAKER_CONSECUTIVE="50")
    answers = [Status(503, body=b"x" * size), Status(200)] * 5
    server.script("/x", *answers)

    statuses = [session.get(server.url("/x")).status_code for _ in range(5)]

    assert ([200] * 5, 1) == (statuses, server.connections)


def test_a_streamed_failure_of_no_small_size_is_not_read(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """What may be long costs a connection instead."""
    govern()
    server.script("/x", DripBody(interval=1.0), Status(200))
    server.script("/x", Status(503, body=b"x" * 100_000), Status(200, body=b"ok"))

    with session.get(server.url("/x"), stream=True) as response:
        assert b"ok" == response.content

    assert 2 == server.connections


# -- retries of others ------------------------------------------------------


@pytest.mark.parametrize("retries", [2, urllib3.Retry(2), urllib3.Retry(0), 0])
def test_a_mounted_retry_is_the_only_one(
    govern: Govern, session: requests.Session, server: Server, retries: Any
) -> None:
    """Where the app retries, or says that it does not want to, nothing is added."""
    governed = govern()
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retries))
    server.script("/x", Close())
    expected = 1 if retries == 0 else 1 + int(getattr(retries, "total", retries) or 0)
    if retries == 0:
        # The adapter's default: the app may well have said nothing.
        expected = 3

    with pytest.raises(requests.ConnectionError):
        session.get(server.url("/x"))

    assert expected == len(server.hits("/x"))
    assert ["app_retries" if retries != 0 else "attempts"] == governed.told.skipped


def test_an_adapter_that_sends_again_is_noticed(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """From its second time on the attempts are its own: five in all, not nine."""
    governed = govern(BREAKER_CONSECUTIVE="50")

    class Insisting(requests.adapters.HTTPAdapter):
        def send(self, *args: Any, **kwargs: Any) -> requests.Response:
            for _ in range(2):
                if super().send(*args, **kwargs).status_code != 503:
                    break
            return super().send(*args, **kwargs)

    session.mount("http://", Insisting())
    server.script("/x", Status(503))

    assert 503 == session.get(server.url("/x")).status_code
    assert 5 == len(server.hits("/x"))
    assert ["attempts", "app_retries", "app_retries"] == governed.told.skipped


def test_a_mounted_retry_that_gives_up_is_a_failure_of_the_service(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """Its error says that statuses were too bad too often."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    retry = urllib3.Retry(1, status_forcelist=[503])
    session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
    server.script("/x", Status(503))

    with pytest.raises(requests.exceptions.RetryError):
        session.get(server.url("/x"))

    assert "open" == governed.state()


# -- hops, hooks, proxies ---------------------------------------------------


def test_a_hook_sees_the_final_answer_only(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """And one that raises for a status does not stop the retry."""
    govern()
    server.script("/x", Status(503), Status(200))
    seen: list[int] = []

    def look(response: requests.Response, **_: Any) -> None:
        seen.append(response.status_code)
        response.raise_for_status()

    response = session.get(server.url("/x"), hooks={"response": look})

    assert (200, [200]) == (response.status_code, seen)


def test_the_second_leg_of_digest_is_tried_again_alone(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """The challenge is an answer; what follows it has attempts of its own."""
    governed = govern()
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    server.script("/x", Status(401, challenge), Status(503), Status(200))

    response = session.get(
        server.url("/x"), auth=requests.auth.HTTPDigestAuth("user", "secret")
    )

    assert 200 == response.status_code
    signed = ["authorization" in hit.headers for hit in server.hits("/x")]
    assert [False, True, True] == signed
    assert [2] == governed.told.retries


def test_a_dead_proxy_does_not_open_the_circuit_of_the_service(
    govern: Govern, session: requests.Session, server: Server, refused: str
) -> None:
    """Each way to a service has a circuit of its own, and errors of its own."""
    govern(BREAKER_CONSECUTIVE="1")
    server.script("/x", Status(200))
    proxies = {"http": refused}

    with pytest.raises(requests.exceptions.ProxyError):
        session.get(server.url("/x"), proxies=proxies)
    with pytest.raises(requests.exceptions.ProxyError) as rejected:
        session.get(server.url("/x"), proxies=proxies)

    assert isinstance(rejected.value, CircuitBreakerOpenError)
    assert 200 == session.get(server.url("/x")).status_code


def test_a_refused_proxy_has_sent_nothing(
    govern: Govern, session: requests.Session, refused: str
) -> None:
    """So that even a POST is tried again."""
    governed = govern()

    with pytest.raises(requests.exceptions.ProxyError):
        session.post("http://service.invalid/", data=b"x", proxies={"http": refused})

    assert [2, 3] == governed.told.retries


def test_a_redirect_that_is_not_followed_is_an_answer(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """Its body is the app's to read."""
    govern()
    server.script("/a", redirect(server.url("/b")))

    response = session.get(server.url("/a"), allow_redirects=False)

    assert (302, b"") == (response.status_code, response.content)


def test_a_nested_call_is_one_of_its_own(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """A token that is fetched on the way is read whole, though the call streams."""
    governed = govern()
    server.script("/token", Status(200, body=b"t"))
    server.script("/x", Status(200, body=b"x"))

    class Signing(requests.adapters.HTTPAdapter):
        def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
            if "token" not in request.url:
                token = session.get(server.url("/token"), timeout=(1, 2))
                request.headers["X-Token"] = token.text
            return super().send(request, *args, **kwargs)

    session.mount("http://", Signing())

    with session.get(server.url("/x"), stream=True) as response:
        assert b"x" == response.content

    assert "t" == server.hits("/x")[0].headers["x-token"]
    assert 2 == len(governed.told.calls)


def test_an_adapter_that_the_app_calls_itself_is_governed(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """Without a frame the body stays unread, as the app expects it."""
    govern()
    server.script("/x", Status(503), Status(200, body=b"ok"))
    request = session.prepare_request(requests.Request("GET", server.url("/x")))

    response = session.get_adapter(server.url("/x")).send(request)

    assert (200, b"ok") == (response.status_code, response.content)


def test_two_threads_and_one_session_do_not_mix(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """Each call has a frame of its own."""
    govern()
    server.script("/fast", Status(200, body=b"fast"))
    server.script("/slow", Delay(0.3, Status(200, body=b"slow")))

    def call(path: str) -> tuple[bytes, bool]:
        with session.get(server.url(path), stream=path == "/fast") as response:
            read = vars(response)["_content"] is not False
            return response.content, read

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(call, ["/slow", "/fast"] * 4))

    assert [(b"slow", True), (b"fast", False)] * 4 == answers


# -- errors -----------------------------------------------------------------


def test_errors_that_are_the_apps_own_are_nobodys_failure(
    govern: Govern, session: requests.Session
) -> None:
    """A URL that cannot be asked is neither retried nor held against a service."""
    governed = govern(BREAKER_CONSECUTIVE="1")

    class Broken(requests.adapters.HTTPAdapter):
        def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
            raise LookupError

    session.mount("http://", Broken())
    with pytest.raises(LookupError):
        session.get("http://service.invalid/")

    assert 1 == len(governed.told.of("attempt_started"))
    assert "closed" == governed.state()


def test_a_bare_connection_error_may_have_sent_something(
    govern: Govern, session: requests.Session
) -> None:
    """An adapter below may raise one without a reason: no proof, no retry."""
    governed = govern()

    class Broken(requests.adapters.HTTPAdapter):
        def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
            raise requests.ConnectionError

    session.mount("http://", Broken())
    with pytest.raises(requests.ConnectionError):
        session.post("http://service.invalid/")

    assert ["not_idempotent"] == governed.told.skipped


@pytest.mark.usefixtures("govern")
def test_sessions_pickle_and_copy_as_without_the_agent(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """Also their methods, which a worker may be given."""
    govern()
    server.script("/x", Status(503), Status(200))
    session.headers["X-Mine"] = "1"

    pickled = pickle.loads(pickle.dumps(session))
    copied = copy.deepcopy({"session": session, "send": session.send})
    send = pickle.loads(pickle.dumps(session.send))
    request = session.prepare_request(requests.Request("GET", server.url("/x")))

    assert "1" == pickled.headers["X-Mine"]
    assert 200 == send(request).status_code
    assert 200 == copied["send"](request).status_code  # type: ignore[operator]


def test_a_call_that_ctrl_c_ends_counts_as_nothing(
    govern: Govern, session: requests.Session
) -> None:
    """A half-open circuit gives the probe's place back and stays half open."""
    governed = govern(
        BREAKER_CONSECUTIVE="1", BREAKER_OPEN_FOR="0.01", RETRY_MAX_ATTEMPTS="1"
    )
    failures: list[BaseException] = [requests.ConnectionError(), KeyboardInterrupt()]

    class Failing(requests.adapters.HTTPAdapter):
        def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
            raise failures.pop(0)

    session.mount("http://", Failing())
    with pytest.raises(requests.ConnectionError):
        session.get("http://service.invalid/")
    time.sleep(0.05)
    with pytest.raises(KeyboardInterrupt):
        session.get("http://service.invalid/")

    assert "half_open" == governed.state()
    assert ["error", "cancelled"] == governed.told.outcomes
    assert [] == governed.policies().breaker._probes


def test_a_span_can_show_the_request(
    govern: Govern, session: requests.Session, server: Server
) -> None:
    """Its attributes are made when somebody records, and hold no secrets."""
    governed = govern()
    server.script("/x", Status(200))

    session.get(server.url("/x?token=secret"))

    attributes: Any = governed.told.calls[0].attributes()
    assert {
        "http.request.method": "GET",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "url.full": server.url("/x?token=REDACTED"),
    } == attributes
