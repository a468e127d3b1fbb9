"""urllib.request: what only it can do."""

from __future__ import annotations

import contextlib
import email.message
import http.client
import io
import socket
import urllib.error
import urllib.request
import urllib.response
from typing import TYPE_CHECKING, Any

import pytest

from integrations.governing import governing
from loopback import Delay, Hang, Server, SlowReader, Status, closed_port, tarpit
from resilience_instrument import CircuitBreakerOpenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.governing import Governed

    Govern = Callable[..., Governed]


@pytest.fixture
def govern() -> Iterator[Govern]:
    """Govern urllib with the settings that are given."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            governing(("urllib.request",), **settings)
        )


def _get(url: str, *args: Any, **options: Any) -> int:
    with urllib.request.urlopen(url, *args, **options) as response:
        response.read()
        status: int = response.status
        return status


def test_a_default_timeout_of_the_app_is_its_own(
    govern: Govern, server: Server
) -> None:
    """Whether it was given to the call or to all sockets."""
    governed = govern(RETRY_MAX_ATTEMPTS="1")
    server.script("/x", Delay(1.0, Status(200)))
    socket.setdefaulttimeout(0.2)
    try:
        with pytest.raises(TimeoutError):
            _get(server.url("/x"))
    finally:
        socket.setdefaulttimeout(None)

    assert not governed.told.calls[0].unbounded


def test_no_limit_at_all_can_be_asked_for(govern: Govern, server: Server) -> None:
    """A timeout of nothing is a choice, unlike one that is not given."""
    governed = govern(TIMEOUT_READ="0.2", TIMEOUT_TOTAL="0.3")
    server.script("/x", Delay(0.6, Status(200)))

    assert 200 == _get(server.url("/x"), timeout=None)
    assert governed.told.calls[0].deadline is None


def test_connecting_and_reading_have_timeouts_of_their_own(
    govern: Govern, server: Server
) -> None:
    """Though urllib knows one only."""
    governed = govern(TIMEOUT_CONNECT="0.2", TIMEOUT_READ="0.6", RETRY_MAX_ATTEMPTS="1")
    server.script("/late", Delay(0.4, Status(200)))
    server.script("/never", Hang())

    with tarpit() as port, pytest.raises(urllib.error.URLError):
        _get(f"http://127.0.0.1:{port}/")
    assert 200 == _get(server.url("/late"))
    with pytest.raises(TimeoutError):
        _get(server.url("/never"))

    phases = [judged.timeout for _, judged, _ in governed.told.of("attempt_ended")]
    assert ["connect", None, "read"] == [phase and phase.value for phase in phases]


def test_a_short_timeout_of_the_app_holds_while_sending(
    govern: Govern, server: Server
) -> None:
    """As without the agent, and it is told apart from waiting for the answer."""
    governed = govern()
    server.script("/x", SlowReader(1_000_000, Status(200)))

    with pytest.raises(urllib.error.URLError):
        _get(server.url("/x"), b"x" * 20_000_000, timeout=0.3)

    ((_, judged, _),) = governed.told.of("attempt_ended")
    assert "write" == judged.timeout.value
    assert ["not_idempotent"] == governed.told.skipped


def test_a_dead_proxy_does_not_open_the_circuit_of_the_service(
    govern: Govern, server: Server
) -> None:
    """Each way to a service has a circuit of its own."""
    govern(BREAKER_CONSECUTIVE="1")
    server.script("/x", Status(200))
    proxies = {"http": f"127.0.0.1:{closed_port()}"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))

    with pytest.raises(urllib.error.URLError):
        opener.open(server.url("/x"))
    with pytest.raises(CircuitBreakerOpenError):
        opener.open(server.url("/x"))

    assert 200 == _get(server.url("/x"))


def test_a_tunnel_is_a_way_of_its_own_too(govern: Govern) -> None:
    """Nothing was sent to the service while the proxy is dead."""
    governed = govern()
    proxies = {"https": f"127.0.0.1:{closed_port()}"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))

    with pytest.raises(urllib.error.URLError):
        opener.open("https://service.invalid/", b"order")

    assert [2, 3] == governed.told.retries
    assert "service.invalid" == governed.told.calls[0].service


class Pipe(io.BytesIO):
    """A file that does not know where it stands."""

    def tell(self) -> int:
        raise OSError


def test_a_body_that_cannot_be_wound_back_is_sent_once(
    govern: Govern, server: Server
) -> None:
    """Some files only pretend that they can."""
    governed = govern()
    server.script("/x", Status(503))
    request = urllib.request.Request(
        server.url("/x"), Pipe(b"x"), {"Content-Length": "1"}, method="PUT"
    )

    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(request)
    raised.value.close()

    assert ["body"] == governed.told.skipped


def test_other_schemes_are_left_alone(govern: Govern) -> None:
    """A file or a literal is no call."""
    governed = govern()

    with urllib.request.urlopen("data:,hello") as response:
        assert b"hello" == response.read()

    assert [] == governed.told.events


@pytest.mark.parametrize("url", ["http:///x", "http://127.0.0.1:80/a b"])
def test_errors_that_are_the_apps_own_are_nobodys_failure(
    govern: Govern, url: str
) -> None:
    """A URL that cannot be asked is neither retried nor held against a service."""
    governed = govern(BREAKER_CONSECUTIVE="1")

    with pytest.raises((urllib.error.URLError, http.client.InvalidURL)):
        _get(url)

    assert [] == governed.told.retries
    assert all(
        policies.breaker.state(0.0) == "closed"
        for policies in governed.runtime.registry.known()
    )


def test_a_deadline_error_is_a_timeout_and_a_url_error() -> None:
    """Whichever of the two an app handles."""
    from resilience_instrument.integrations.urllib_request import (
        DeadlineExceededError,
    )

    error = DeadlineExceededError("no time left", service="api")

    assert isinstance(error, TimeoutError)
    assert ("no time left", "api") == (str(error), error.service)


def test_a_handler_of_the_tests_own() -> None:
    """urllib.request is tested by what is put into its opener, or in its place."""
    asked = []
    url = "http://service.invalid/x"

    class Playing(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> Any:
            asked.append(req.full_url)
            answer: Any = urllib.response.addinfourl(
                io.BytesIO(b"no"), email.message.Message(), req.full_url, 503
            )
            answer.msg = "Scripted"
            return answer

    with governing(("urllib.request",)) as governed:
        opener = urllib.request.build_opener(Playing)
        with pytest.raises(urllib.error.HTTPError) as raised:
            opener.open(url)
        raised.value.close()

    assert [url] == asked
    assert [] == governed.told.events
