"""Calls on the short way: an app sees what it sees on the long one."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
import urllib3

from integrations.governing import governing
from loopback import Close, Delay, DripBody, Reset, Server, Status, redirect
from resilience_instrument import CircuitBreakerOpenError
from resilience_instrument.integrations import _sending
from resilience_instrument.policies.deadline import CURRENT
from resilience_instrument.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.governing import Governed


class Requests:
    """A session that is kept."""

    library = "requests"
    room = "requests"
    error = requests.exceptions.RequestException
    late = requests.exceptions.Timeout
    adapter = (requests.adapters.HTTPAdapter, "send")

    def __init__(self) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.close = self.session.close

    def get(self, url: str, method: str = "GET", **options: Any) -> Any:
        return self.session.request(method, url, **options)


class Httpx:
    """A client that is kept."""

    library = "httpx"
    room = "_httpx"
    error = httpx.HTTPError
    late = httpx.TimeoutException
    adapter = (httpx.HTTPTransport, "handle_request")

    def __init__(self) -> None:
        self.client = httpx.Client(follow_redirects=True, trust_env=False)
        self.close = self.client.close

    def get(self, url: str, method: str = "GET", **options: Any) -> Any:
        return self.client.request(method, url, **options)


class AsyncHttpx:
    """The same, awaited."""

    library = "httpx"
    room = "_httpx"
    error = httpx.HTTPError
    late = httpx.TimeoutException
    adapter = (httpx.AsyncHTTPTransport, "handle_async_request")

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.client = httpx.AsyncClient(follow_redirects=True, trust_env=False)

    def get(self, url: str, method: str = "GET", **options: Any) -> Any:
        # In the context of the test, as an app that runs in it would be.
        context = contextvars.copy_context()
        call = self.client.request(method, url, **options)
        return self.runner.run(call, context=context)

    def close(self) -> None:
        self.runner.run(self.client.aclose())
        self.runner.close()


@pytest.fixture(params=[Requests, Httpx, AsyncHttpx])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each library in turn."""
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def governed(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Governed]:
    """The library, governed with the short way open."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    with governing((client.library,), fast=True) as made:
        yield made


@pytest.fixture
def warm(client: Any, governed: Governed, server: Server) -> Callable[..., str]:
    """Return a URL that was called once, and so has a lane."""

    def make(*behaviours: Any, path: str = "/x", **options: Any) -> str:
        server.script(path, Status(200, body=b"warm"), *behaviours)
        url = server.url(path)
        assert 200 == client.get(url, **options).status_code
        assert [] == governed.told.of("short")
        governed.told.events.clear()
        return url

    return make


def test_the_second_call_takes_the_short_way(
    client: Any, governed: Any, warm: Callable[..., str]
) -> None:
    """The first one found out what there is to know."""
    url = warm(Status(200, body=b"ok"), Status(404))

    answer = client.get(url)
    missing = client.get(url)

    assert (200, b"ok") == (answer.status_code, answer.content)
    assert 404 == missing.status_code
    assert ["short", "short"] == [event[0] for event in governed.told.events]
    assert 0 < answer.elapsed.total_seconds() < 5


def test_another_path_of_a_known_endpoint_is_known(
    client: Any, governed: Any, server: Server, warm: Callable[..., str]
) -> None:
    """What differs is the parameter only, so nothing new is to be found out."""
    warm(path="/orders/4711")
    server.script("/orders/4712", Status(200))

    client.get(server.url("/orders/4712"))

    assert 1 == governed.told.short


@pytest.mark.parametrize("timeout", [7, 7.5])
def test_a_timeout_of_the_app_is_remembered(
    client: Any, governed: Any, warm: Callable[..., str], timeout: float
) -> None:
    """A call with a limit of its own is another kind of call."""
    url = warm(Status(200), Status(200), Status(200), timeout=timeout)

    client.get(url, timeout=timeout)
    assert 1 == governed.told.short

    client.get(url)
    client.get(url)
    assert 2 == governed.told.short


def test_a_post_takes_the_short_way_too(
    client: Any, governed: Any, warm: Callable[..., str]
) -> None:
    """It is not repeated, which matters only if it fails."""
    url = warm(Status(201), method="POST")

    assert 201 == client.get(url, method="POST").status_code
    assert 1 == governed.told.short


def test_two_503s_on_the_short_way_are_a_200(
    client: Any, governed: Any, warm: Callable[..., str]
) -> None:
    """The engine goes on from the attempt that was made, and tells all of it."""
    url = warm(Status(503), Status(503), Status(200, body=b"ok"))

    answer = client.get(url)

    assert (200, b"ok") == (answer.status_code, answer.content)
    assert [2, 3] == governed.told.retries
    assert ["success"] == governed.told.outcomes
    assert 0 == governed.told.short


@pytest.mark.parametrize("behaviour", [Close(), Reset()], ids=["closed", "reset"])
def test_a_broken_connection_on_the_short_way_is_tried_again(
    client: Any, governed: Any, warm: Callable[..., str], behaviour: Any
) -> None:
    """As on the long one, as the call may be repeated."""
    url = warm(behaviour, Status(200, body=b"ok"))

    assert b"ok" == client.get(url).content
    assert [2] == governed.told.retries


def test_a_post_that_breaks_raises_the_librarys_own_error(
    client: Any, governed: Any, warm: Callable[..., str]
) -> None:
    """It may have had an effect: the app decides."""
    url = warm(Close(), method="POST")

    with pytest.raises(client.error) as raised:
        client.get(url, method="POST")

    assert not isinstance(raised.value, CircuitBreakerOpenError)
    assert ["not_idempotent"] == [
        reason for (reason,) in governed.told.of("retry_skipped")
    ]
    assert ["error"] == governed.told.outcomes


def test_a_timeout_of_the_app_strikes_on_the_short_way(
    client: Any, governed: Any, warm: Callable[..., str]
) -> None:
    """And speaks of a timeout, of too short a one to blame the service."""
    url = warm(Delay(5.0, Status(200)), method="POST", timeout=0.2)

    with pytest.raises(client.late):
        client.get(url, method="POST", timeout=0.2)

    assert ["timeout"] == governed.told.outcomes
    assert "closed" == governed.state()


def test_a_body_that_drips_is_cut_at_the_end_of_the_call(
    client: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sockets find the end of the call although no object was made for it."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    settings = {"TIMEOUT_TOTAL": "0.6", "TIMEOUT_READ": "0.5", "TIMEOUT_CONNECT": "0.5"}
    with governing((client.library,), fast=True, **settings) as governed:
        server.script("/x", Status(200), DripBody(0.1))
        client.get(server.url("/x"))

        with pytest.raises(client.error):
            client.get(server.url("/x"))

    assert ["success", "timeout"] == governed.told.outcomes


def test_a_circuit_that_opens_ends_the_short_way(
    client: Any, governed: Any, warm: Callable[..., str]
) -> None:
    """Failures that began there count, and an open circuit refuses."""
    url = warm(*[Status(500)] * 5)

    assert [500] * 5 == [client.get(url).status_code for _ in range(5)]
    with pytest.raises(CircuitBreakerOpenError) as raised:
        client.get(url)

    assert isinstance(raised.value, client.error)
    assert 1 == len(governed.told.of("transitioned"))


def test_a_redirect_is_followed_hop_by_hop(
    client: Any, governed: Any, server: Server, warm: Callable[..., str]
) -> None:
    """The first hop is short, the second knows when the call must be over."""
    url = warm(redirect("/y"))
    server.script("/y", Status(200, body=b"there"))

    assert b"there" == client.get(url).content
    assert 1 == governed.told.short
    assert ["success"] == governed.told.outcomes


def test_a_deadline_of_the_app_takes_the_long_way(
    client: Any, governed: Any, warm: Callable[..., str]
) -> None:
    """It may shorten what is known of calls like this one."""
    url = warm(Status(200))
    token = CURRENT.set(governed.runtime.clock.monotonic() + 5)
    try:
        client.get(url)
    finally:
        CURRENT.reset(token)

    assert (0, ["success"]) == (governed.told.short, governed.told.outcomes)


def test_an_interruption_counts_as_nothing(
    client: Any, governed: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C on the short way passes on, and the call was cancelled."""
    answers: list[BaseException | None] = [None, KeyboardInterrupt()]
    del governed
    owner, name = client.adapter
    plain = vars(owner)[name].__wrapped__

    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        error = answers.pop(0)
        if error is not None:
            raise error
        return plain(self, request, *args, **kwargs)

    with monkeypatch.context() as patch:
        # Below the agent: the original is replaced before it is governed anew.
        ours = vars(owner)[name]
        setattr(owner, name, send)
        try:
            with governing((client.library,), fast=True) as again:
                server.script("/x", Status(200))
                client.get(server.url("/x"))
                with pytest.raises(KeyboardInterrupt):
                    client.get(server.url("/x"))
        finally:
            setattr(owner, name, ours)
        del patch

    assert ["success", "cancelled"] == again.told.outcomes
    assert 1 == len(again.told.of("attempt_cancelled"))


def test_whoever_records_hears_every_call(
    client: Any,
    governed: Any,
    warm: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a tracer provider in the process there is no short way."""
    url = warm(Status(200), Status(200))
    context = types.SimpleNamespace(
        get_value={}.get, _SUPPRESS_INSTRUMENTATION_KEY="key"
    )
    monkeypatch.setitem(sys.modules, "opentelemetry.context", context)
    trace = types.SimpleNamespace(_TRACER_PROVIDER=None)
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", trace)

    client.get(url)
    trace._TRACER_PROVIDER = object()
    client.get(url)

    assert (1, ["success"]) == (governed.told.short, governed.told.outcomes)


def test_a_fork_or_other_settings_forget_the_lanes(
    client: Any, governed: Any, warm: Callable[..., str]
) -> None:
    """What was found out may not hold any more."""
    url = warm(Status(200), Status(200))
    registry = governed.runtime.registry

    registry.reload(registry.settings)
    client.get(url)

    assert (0, ["success"]) == (governed.told.short, governed.told.outcomes)


def test_a_fault_while_counting_does_not_reach_the_app(
    client: Any,
    governed: Any,
    warm: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer is there: it is returned, and the fault is told."""
    url = warm(Status(200, body=b"ok"))

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("integrations.governing.ShortTally.succeed", fail)
    governed.expected_faults = ["engine"]

    assert b"ok" == client.get(url).content


def test_a_request_that_cannot_be_described_ends_as_it_did(
    client: Any,
    governed: Any,
    warm: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was made stands, whatever goes wrong in telling of it."""
    url = warm(Status(503), Close(), method="POST")
    sending = "resilience_instrument.integrations._sending.Sending._find_policies"

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(sending, fail)
    governed.expected_faults = ["describe", "describe"]

    assert 503 == client.get(url, method="POST").status_code
    with pytest.raises(client.error):
        client.get(url, method="POST")


def test_without_a_total_limit_no_call_must_be_over_by_then(
    client: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody wants an end of the whole, its parts are limited alone."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    with governing((client.library,), fast=True, TIMEOUT_TOTAL="off") as governed:
        server.script("/x", Status(200), Status(200, body=b"ok"))
        client.get(server.url("/x"))

        assert b"ok" == client.get(server.url("/x")).content

    told: Any = governed.told
    assert 1 == told.short


def test_what_must_be_over_at_once_has_no_short_way(
    client: Any, governed: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The long one refuses what cannot succeed in the time that is left."""
    room = importlib.import_module(f"resilience_instrument.integrations.{client.room}")
    monkeypatch.setattr(room, "MIN_USEFUL", 1e6)
    server.script("/x", Status(200), Status(200))

    client.get(server.url("/x"))
    client.get(server.url("/x"))

    assert (0, ["success", "success"]) == (governed.told.short, governed.told.outcomes)


def test_many_addresses_of_an_endpoint_are_not_all_remembered(
    client: Any,
    governed: Any,
    server: Server,
    warm: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are forgotten when there are too many, and found again."""
    monkeypatch.setattr(_sending, "_URLS", 1)
    warm(path="/orders/1")
    for number in range(2, 6):
        server.script(f"/orders/{number}", Status(200))

        assert 200 == client.get(server.url(f"/orders/{number}")).status_code

    assert 4 == governed.told.short


def test_a_service_that_made_room_for_others_has_no_lane(
    client: Any, governed: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is counted by it would be lost."""
    monkeypatch.setattr(Registry, "keeps", lambda *_: False)
    server.script("/x", Status(200), Status(200))

    client.get(server.url("/x"))
    client.get(server.url("/x"))

    assert (0, ["success", "success"]) == (governed.told.short, governed.told.outcomes)


def test_a_call_that_cannot_be_remembered_is_answered(
    client: Any, governed: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How the next one may be shorter is no matter of this one."""
    governed.expected_faults = ["describe"]
    server.script("/x", Status(200, body=b"ok"))

    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(_sending.Site, "remember", fail)

    assert b"ok" == client.get(server.url("/x")).content


def test_a_client_whose_limits_change_makes_another_kind_of_call(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was known of its requests is known no more."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    server.script("/x", Status(200), Status(200), Status(200))
    with (
        governing(("httpx",), fast=True) as governed,
        httpx.Client(trust_env=False) as client,
    ):
        client.get(server.url("/x"))
        client.get(server.url("/x"))
        client.timeout = httpx.Timeout(7)
        client.get(server.url("/x"))

    told: Any = governed.told
    assert (1, ["success", "success"]) == (told.short, told.outcomes)


def test_a_call_within_a_call_ends_with_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that calls has no more time than the call whose hook it is."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    server.script("/x", Status(200))
    server.script("/y", Status(204))
    inner: list[int] = []
    with (
        governing(("httpx",), fast=True) as governed,
        httpx.Client(trust_env=False) as client,
    ):

        def look_up(_: httpx.Response) -> None:
            inner.append(other.get(server.url("/y")).status_code)

        with httpx.Client(trust_env=False) as other:
            client.event_hooks = {"response": [look_up]}
            client.get(server.url("/x"))

    assert ([204], ["success"] * 2) == (inner, governed.told.outcomes)


def test_a_version_with_other_parameters_is_called_as_it_was(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its arguments are handed on unseen."""
    plain = httpx.Client.build_request

    def build_request(self: Any, *args: Any, **kwargs: Any) -> Any:
        return plain(self, *args, **kwargs)

    owner = next(c for c in httpx.Client.__mro__ if "build_request" in vars(c))
    monkeypatch.setattr(owner, "build_request", build_request)
    server.script("/x", Status(200, body=b"ok"))
    with governing(("httpx",)) as governed, httpx.Client(trust_env=False) as client:
        assert b"ok" == client.get(server.url("/x"), timeout=7).content

    assert ["success"] == governed.told.outcomes


def test_a_timeout_that_may_change_has_no_short_way(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object of the app's may say something else at the next call."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    server.script("/x", Status(200), Status(200))
    limit: Any = urllib3.Timeout(7)
    with governing(("requests",), fast=True) as governed, requests.Session() as session:
        session.trust_env = False
        for _ in range(2):
            session.get(server.url("/x"), timeout=limit)

    told: Any = governed.told
    assert (0, ["success", "success"]) == (told.short, told.outcomes)


@pytest.mark.parametrize("client", [Requests, Httpx], indirect=True)
def test_a_service_that_has_more_to_ask_has_no_lane(
    client: Any, server: Server
) -> None:
    """Where attempts at once are limited, each call is told in full."""
    server.script("/x", Status(200), Status(200))
    with governing((client.library,), fast=True, BULKHEAD_LIMIT="5") as governed:
        client.get(server.url("/x"))
        client.get(server.url("/x"))

    assert ["success", "success"] == governed.told.outcomes
    assert [] == governed.told.of("short")


@pytest.mark.parametrize("noticeable", [0.0, 3600.0])
def test_an_answer_is_as_old_as_requests_says(
    server: Server, monkeypatch: pytest.MonkeyPatch, noticeable: float
) -> None:
    """`elapsed` ends with the headers, whether or not the body took noticeably long."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    monkeypatch.setattr(
        "resilience_instrument.integrations.requests._NOTICEABLE", noticeable
    )
    server.script("/x", Status(200), DripBody(0.001))
    with (
        governing(("requests",), fast=True) as governed,
        requests.Session() as session,
    ):
        session.get(server.url("/x"))
        answer = session.get(server.url("/x"))

    assert 1 == len(governed.told.of("short"))
    assert 500 == len(answer.content)
    assert (answer.elapsed.total_seconds() < 0.4) is (noticeable == 0.0)
