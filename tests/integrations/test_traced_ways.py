"""Traced calls through libraries: the short way leaves what the long one leaves."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context, trace

import tracing
from integrations.governing import governing
from integrations.test_short_way import AsyncHttpx, Httpx, Requests
from loopback import Reset, Server, Status, redirect
from resilience_instrument.clock import SystemClock
from resilience_instrument.integrations import _traced
from resilience_instrument.signals.fanout import Fanout
from resilience_instrument.signals.metrics import MetricsObserver
from resilience_instrument.signals.spans import SpanObserver
from resilience_instrument.signals.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integrations.governing import Governed

ANSWERS = (
    *(Status(200, body=b"ok"),) * 3,
    *(Status(404), Status(200), Status(503), Status(200), Status(500)),
    *(redirect("/y"), Reset(), Status(200), Status(429), Status(201)),
)


@contextlib.contextmanager
def observing(library: str, place: str, *, fast: bool) -> Iterator[Governed]:
    """Govern a library with counters and spans."""
    with governing((library,), fast=fast) as inside:
        observers = [MetricsObserver(Store()), SpanObserver(tracing.below(place))]
        observer: Any = Fanout(observers, inside.runtime.fault)
        inside.runtime.observer = observer
        yield inside


@pytest.fixture(autouse=True)
def even(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pauses be the same each time, as events tell them."""
    monkeypatch.setattr(SystemClock, "uniform", lambda _self, low, _high: low)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every call that ends well on the short way."""
    noted: list[str] = []
    succeed = _traced.Traced.succeed

    def note(self: Any, *facts: Any) -> None:
        noted.append("short")
        succeed(self, *facts)

    monkeypatch.setattr(_traced.Traced, "succeed", note)
    return noted


def carried(server: Server) -> list[str | None]:
    """Return the spans that the requests were sent for."""
    parents = [hit.headers.get("traceparent") for hit in server.hits()]
    return [parent and parent.split("-")[2] for parent in parents]


@pytest.mark.parametrize("kind", [Requests, Httpx, AsyncHttpx])
@pytest.mark.parametrize("place", tracing.PLACES)
def test_requests_leave_the_same_spans_on_both_ways(
    kind: Any, place: str, server: Server, short: list[str]
) -> None:
    """Answers of all kinds, whoever else traces; and the next service sees whose."""
    left = []
    for fast in (False, True):
        before = len(server.hits())
        server.script("/y", Status(200))
        server.script("/x", *ANSWERS)
        with (
            tracing.standing(place) as recorded,
            observing(kind.library, place, fast=fast),
        ):
            client = kind()
            for _ in range(10):
                with contextlib.suppress(client.error):
                    client.get(server.url("/x?token=secret"))
            client.close()
        ids = {
            f"{span.context.span_id:016x}": n for n, span in enumerate(recorded.spans)
        }
        sent = [parent and ids.get(parent) for parent in carried(server)[before:]]
        left.append((recorded.told(), sent))

    assert left[0] == left[1]
    assert 4 <= len(short)


def test_statements_leave_the_same_spans_on_both_ways(
    short: list[str],
) -> None:
    """Of those that work there is one, a client's; a mistake is told by it too."""
    left = []
    for fast in (False, True):
        with (
            tracing.standing("nowhere") as recorded,
            observing("sqlite3", "nowhere", fast=fast),
        ):
            connection = sqlite3.connect(":memory:")
            for _ in range(3):
                connection.execute("SELECT 1").close()
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("SELECT a FROM nowhere")
            connection.close()
        left.append(recorded.told())

    assert left[0] == left[1]
    assert 2 == len(short)
    assert {trace.SpanKind.CLIENT} == {told[1] for told in left[0]}


@pytest.mark.parametrize("kind", [Requests, Httpx, AsyncHttpx])
def test_a_provider_that_comes_later_or_is_replaced_is_noticed(
    kind: Any, server: Server, short: list[str]
) -> None:
    """By the next call, though its way was found before."""
    server.script("/x", *[Status(200)] * 9)
    first, second = tracing.Recorded(), tracing.Recorded()
    with observing(kind.library, "nowhere", fast=True):
        client = kind()

        def call() -> None:
            client.get(server.url("/x"))

        call()
        call()
        with first.in_force():
            call()
            call()
        with second.in_force():
            call()
        call()
        client.close()

    assert [4, 2] == [len(first.spans), len(second.spans)]
    assert 3 == len(short)


@pytest.mark.parametrize("kind", [Requests, Httpx, AsyncHttpx])
def test_a_suppressed_call_is_left_alone(
    kind: Any, server: Server, short: list[str]
) -> None:
    """Though calls like it are known and recorded."""
    server.script("/x", *[Status(200)] * 3)
    with (
        tracing.standing("nowhere") as recorded,
        observing(kind.library, "nowhere", fast=True),
    ):
        client = kind()
        client.get(server.url("/x"))
        token = context.attach(
            context.set_value("suppress_instrumentation", value=True)
        )
        client.get(server.url("/x"))
        context.detach(token)
        client.close()

    assert 2 == len(recorded.spans)
    assert [] == short


@pytest.mark.parametrize("kind", [Requests, Httpx, AsyncHttpx])
def test_spans_end_though_nothing_can_be_told(
    kind: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours after the attempt: the app has its answer."""
    server.script("/x", Status(200), Status(503))
    with (
        tracing.standing("nowhere") as recorded,
        observing(kind.library, "nowhere", fast=True) as inside,
    ):
        client = kind()
        client.get(server.url("/x"))
        inside.expected_faults = ["describe"]
        room = "requests" if kind is Requests else "_httpx"
        name = "_async_governed" if kind is AsyncHttpx else "_governed"
        where = f"resilience_instrument.integrations.{room}.{name}"
        monkeypatch.setattr(where, lambda *_: 1 / 0)

        assert 503 == client.get(server.url("/x")).status_code
        client.close()

    assert 4 == len(recorded.spans)


@pytest.mark.parametrize("kind", [Requests, Httpx])
def test_headers_of_the_app_are_as_they_were(kind: Any, server: Server) -> None:
    """A traceparent of its own is replaced while the request is sent."""
    server.script("/x", *[Status(200)] * 2)
    own = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
    with (
        tracing.standing("nowhere"),
        observing(kind.library, "nowhere", fast=True),
    ):
        client = kind()
        answers = [client.get(server.url("/x"), headers=own) for _ in range(2)]
        client.close()

    sent = carried(server)
    assert own["traceparent"] == answers[1].request.headers["traceparent"]
    assert "2" * 16 not in sent


def test_what_goes_wrong_while_spans_begin_costs_the_spans_only(
    server: Server, short: list[str]
) -> None:
    """It is told, and the call goes its way."""

    def broken(_library: str) -> bool:
        raise RuntimeError

    server.script("/x", *[Status(200)] * 2)
    with (
        tracing.standing("nowhere") as recorded,
        observing("requests", "nowhere", fast=True) as inside,
    ):
        observers = [MetricsObserver(Store()), SpanObserver(broken)]
        observer: Any = Fanout(observers, inside.runtime.fault)
        inside.runtime.observer = observer
        client = Requests()
        for _ in range(2):
            assert 200 == client.get(server.url("/x")).status_code
        client.close()
        inside.expected_faults = ["observer"] * 2

    assert () == recorded.spans
    assert ["short"] == short
