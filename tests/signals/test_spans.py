"""Spans: one for the call, one for each attempt, and nothing without a provider."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import SpanKind, StatusCode

from fakes import a_call
from resilience_instrument.events import Transition
from resilience_instrument.signals.spans import SpanObserver
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

GOOD = Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=200)
MISSING = Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=404)
BAD = Judgement(Verdict.TRANSIENT, Evidence.FAILURE, status=503, reason="503")
LATE = Judgement(
    Verdict.TRANSIENT, Evidence.FAILURE, timeout=Phase.READ, reason="ReadTimeout"
)


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Record spans as an app with an SDK does."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


def play(*judgements: Judgement | None, **facts: Any) -> Any:
    """Tell an observer of a call whose attempts come to this, None is cancelled."""
    observer = SpanObserver()
    call = a_call(attributes=lambda: {"server.address": "pay.example"}, **facts)
    carriers = []
    observer.call_started(call)
    for number, judgement in enumerate(judgements, start=1):
        observer.attempt_started(call, number)
        carriers.append(call.carrier)
        if judgement is None:
            observer.attempt_cancelled(call, number)
        else:
            observer.attempt_ended(call, number, judgement, 0.1)
    last = judgements[-1] if judgements else None
    outcome = "cancelled" if last is None else last.outcome
    observer.call_ended(call, outcome, len(judgements), 0.2)
    return carriers


def test_each_attempt_is_a_client_span_below_the_call(
    exporter: InMemorySpanExporter,
) -> None:
    """Three spans: the call is internal, the attempts are numbered resends."""
    play(BAD, GOOD)

    first, second, call = exporter.get_finished_spans()
    assert "resilience GET payment-api" == call.name
    assert SpanKind.INTERNAL == call.kind
    assert {"GET"} == {first.name, second.name}
    assert {SpanKind.CLIENT} == {first.kind, second.kind}
    assert first.parent is not None
    assert first.parent.span_id == call.context.span_id
    assert "http.request.resend_count" not in (first.attributes or {})
    assert 1 == (second.attributes or {})["http.request.resend_count"]
    assert "pay.example" == (second.attributes or {})["server.address"]


def test_the_call_says_how_it_went(exporter: InMemorySpanExporter) -> None:
    """Service, attempts and outcome are attributes of the call."""
    play(BAD, GOOD)

    call = exporter.get_finished_spans()[-1]
    expected = {
        "resilience.service": "payment-api",
        "resilience.attempts": 2,
        "resilience.outcome": "success",
    }
    assert expected == dict(call.attributes or {})
    assert StatusCode.UNSET == call.status.status_code


def test_each_attempt_has_a_traceparent_of_its_own(
    exporter: InMemorySpanExporter,
) -> None:
    """The next service sees which attempt called it."""
    carriers = play(BAD, GOOD)

    attempts = exporter.get_finished_spans()[:2]
    ids = [f"{span.context.span_id:016x}" for span in attempts]
    assert ids == [carrier["traceparent"].split("-")[2] for carrier in carriers]


@pytest.mark.parametrize(
    ("judgement", "kind", "status"),
    [(BAD, "503", 503), (MISSING, "404", 404), (LATE, "timeout", None)],
)
def test_a_failed_attempt_is_an_error(
    exporter: InMemorySpanExporter, judgement: Judgement, kind: str, status: int | None
) -> None:
    """Also a 404, as the conventions for clients have it."""
    play(judgement)

    attempt = exporter.get_finished_spans()[0]
    attributes = attempt.attributes or {}
    assert kind == attributes["error.type"]
    assert status == attributes.get("http.response.status_code")
    assert StatusCode.ERROR == attempt.status.status_code


@pytest.mark.parametrize(
    ("judgement", "expected"), [(BAD, StatusCode.ERROR), (MISSING, StatusCode.UNSET)]
)
def test_a_failed_call_is_an_error(
    exporter: InMemorySpanExporter, judgement: Judgement, expected: StatusCode
) -> None:
    """The call as a whole failed; an answer that says no is no failure of it."""
    play(judgement)

    assert expected == exporter.get_finished_spans()[-1].status.status_code


def test_a_cancelled_attempt_is_no_error(exporter: InMemorySpanExporter) -> None:
    """Who cancels has reasons; its spans end all the same."""
    play(None)

    attempt, call = exporter.get_finished_spans()
    assert StatusCode.UNSET == attempt.status.status_code
    assert "cancelled" == (call.attributes or {})["resilience.outcome"]


def test_what_happens_between_attempts_is_noted(exporter: InMemorySpanExporter) -> None:
    """Retries, refusals and transitions are events of the call."""
    observer, call = SpanObserver(), a_call()
    observer.call_started(call)
    observer.retry_scheduled(call, 2, 0.5, "503")
    observer.retry_skipped(call, "budget")
    observer.rejected(call, "breaker")
    observer.transitioned(call, Transition("payment-api", "closed", "open"))
    observer.call_ended(call, "rejected", 1, 0.1)

    (span,) = exporter.get_finished_spans()
    names = [event.name for event in span.events]
    retry = span.events[0].attributes or {}
    assert [
        "resilience.retry",
        "resilience.retry_skipped",
        "resilience.rejected",
        "resilience.breaker.transition",
    ] == names
    assert (2, 0.5) == (retry["resilience.attempt"], retry["resilience.delay"])
    assert "open" == (span.attributes or {})["resilience.breaker.state"]
    assert StatusCode.ERROR == span.status.status_code


@pytest.mark.usefixtures("exporter")
def test_the_context_is_as_it_was_afterwards() -> None:
    """Spans of the app that follow are not below ours."""
    before = trace.get_current_span()

    play(BAD, None)

    assert before is trace.get_current_span()


@contextlib.contextmanager
def inside_another_tracers_span() -> Iterator[Any]:
    """Have a span of the app and in it the CLIENT span of an instrumentation."""
    tracer = trace.get_tracer("theirs")
    with (
        tracer.start_as_current_span("app"),
        tracer.start_as_current_span("GET", kind=SpanKind.CLIENT) as theirs,
    ):
        yield theirs


def test_inside_another_tracers_span_only_further_attempts_are_ours(
    exporter: InMemorySpanExporter,
) -> None:
    """Side by side with it, each with a header of its own; no attempt has two."""
    with inside_another_tracers_span() as theirs:
        carriers = play(BAD, GOOD)

    resend = exporter.get_finished_spans()[0]
    assert SpanKind.CLIENT == resend.kind
    assert 1 == (resend.attributes or {})["http.request.resend_count"]
    assert resend.parent is not None
    assert theirs.parent.span_id == resend.parent.span_id
    assert [False, True] == ["traceparent" in carrier for carrier in carriers]
    assert ["GET", "GET", "app"] == [s.name for s in exporter.get_finished_spans()]


def test_a_suppressed_instrumentation_says_that_it_traces(
    exporter: InMemorySpanExporter,
) -> None:
    """Its key in the context is enough, whatever the current span is."""
    key = context._SUPPRESS_HTTP_INSTRUMENTATION_KEY
    token = context.attach(context.set_value(key, value=True))
    try:
        carriers = play(BAD)
        play(BAD, None)
    finally:
        context.detach(token)

    assert [{}] == carriers
    assert ["GET"] == [span.name for span in exporter.get_finished_spans()]


def test_what_happens_inside_another_tracers_span_is_told_there_too(
    exporter: InMemorySpanExporter,
) -> None:
    """And by a span of the call, which begins when the call began."""
    with inside_another_tracers_span():
        observer, call = SpanObserver(), a_call()
        observer.call_started(call)
        observer.retry_scheduled(call, 2, 0.5, "503")
        observer.call_ended(call, "success", 2, 0.1)

    ours, theirs, _ = exporter.get_finished_spans()
    assert ["resilience.retry"] == [event.name for event in ours.events]
    assert ["resilience.retry"] == [event.name for event in theirs.events]
    assert (theirs.start_time or 0) <= (ours.start_time or 0)


def test_above_another_tracer_an_uneventful_call_has_no_span(
    exporter: InMemorySpanExporter,
) -> None:
    """Each attempt is a span of the other tracer's; ours tells what they cannot."""
    observer, call = SpanObserver(lambda library: library == "httpx"), a_call()
    call.library = "httpx"
    observer.call_started(call)
    observer.attempt_started(call, 1)
    observer.attempt_ended(call, 1, GOOD, 0.1)
    observer.call_ended(call, "success", 1, 0.1)

    assert () == exporter.get_finished_spans()
    assert {} == call.carrier


def test_attempts_at_the_same_time_have_spans_of_their_own(
    exporter: InMemorySpanExporter,
) -> None:
    """One that starts before the other ends does not take its span away."""
    observer, call = SpanObserver(), a_call()
    observer.call_started(call)
    observer.attempt_started(call, 1)
    observer.attempt_started(call, 2)
    observer.attempt_ended(call, 2, GOOD, 0.1)
    observer.attempt_cancelled(call, 1)
    observer.call_ended(call, "success", 2, 0.1)

    assert 3 == len(exporter.get_finished_spans())


def test_a_statement_is_named_by_its_summary(exporter: InMemorySpanExporter) -> None:
    """As the conventions for databases have it."""
    observer = SpanObserver()
    call = a_call(attributes=lambda: {"db.query.summary": "SELECT users"})
    observer.call_started(call)
    observer.attempt_started(call, 1)
    observer.attempt_ended(call, 1, GOOD, 0.1)

    assert "SELECT users" == exporter.get_finished_spans()[0].name


def test_an_unsampled_call_costs_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody records there are no spans of attempts."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(sampler=ALWAYS_OFF))

    assert [{}] == play(BAD)


def test_without_a_provider_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API alone records nothing, and asking does not set a provider up."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)

    assert [{}, {}] == play(BAD, None)
    observer, call = SpanObserver(), a_call()
    observer.rejected(call, "breaker")
    observer.transitioned(call, Transition("payment-api", "closed", "open"))
    observer.call_ended(call, "rejected", 0, 0.1)
    assert trace._TRACER_PROVIDER is None


def test_opentelemetry_is_not_loaded_for_an_app_without_it() -> None:
    """An app that does not trace does not pay for the import."""
    script = (
        "import sys\n"
        "from resilience_instrument.signals.spans import SpanObserver\n"
        "from resilience_instrument.call import Call\n"
        "SpanObserver().call_started(Call(library='x', service='s', endpoint='/',"
        " operation='GET', repeatable=True))\n"
        "print([m for m in sys.modules if m.startswith('opentelemetry')])"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert "[]\n" == done.stdout


def test_an_attempt_that_could_not_be_begun_is_ended_quietly(
    exporter: InMemorySpanExporter,
) -> None:
    """A fault while its attributes are read costs one span, not the call's."""
    observer, call = SpanObserver(), a_call(attributes=lambda: 1 / 0)
    observer.call_started(call)
    with pytest.raises(ZeroDivisionError):
        observer.attempt_started(call, 1)

    observer.attempt_ended(call, 1, GOOD, 0.1)
    observer.call_ended(call, "success", 1, 0.1)

    assert ["resilience GET payment-api"] == [
        span.name for span in exporter.get_finished_spans()
    ]


def test_the_ids_of_a_sampled_call_can_be_had(exporter: InMemorySpanExporter) -> None:
    """Of its own span, else of the one around it; of none that is not recorded."""
    observer, call = SpanObserver(), a_call()
    observer.call_started(call)
    spans: Any = call.span
    ids = spans.sampled()
    observer.call_ended(call, "success", 1, 0.1)

    (span,) = exporter.get_finished_spans()
    assert (span.context.trace_id, span.context.span_id) == ids
    below = SpanObserver(lambda _: True)
    call = a_call()
    below.call_started(call)
    spans = call.span
    assert spans.sampled() is None


def brief(**facts: Any) -> Any:
    """Return a call whose attempt says all of it while nothing happens."""
    named = {"db.query.summary": "SELECT users"}
    return a_call(brief=True, attributes=lambda: named, **facts)


def test_a_brief_call_is_its_attempt(exporter: InMemorySpanExporter) -> None:
    """One CLIENT span, whether it works or fails."""
    for judgement in (GOOD, BAD):
        observer, call = SpanObserver(), brief()
        observer.call_started(call)
        observer.attempt_started(call, 1)
        observer.attempt_ended(call, 1, judgement, 0.1)
        observer.call_ended(call, judgement.outcome, 1, 0.1)

    kinds = [span.kind for span in exporter.get_finished_spans()]
    assert [SpanKind.CLIENT] * 2 == kinds


@pytest.mark.parametrize("inside", [False, True])
def test_a_brief_call_with_a_story_is_one_trace(
    exporter: InMemorySpanExporter, *, inside: bool
) -> None:
    """Its span begins when it began; what comes later is below that."""
    observer, call = SpanObserver(), brief()
    tracer = trace.get_tracer("theirs")
    with contextlib.ExitStack() as stack:
        if inside:
            stack.enter_context(tracer.start_as_current_span("app"))
        observer.call_started(call)
        observer.attempt_started(call, 1)
        observer.attempt_ended(call, 1, BAD, 0.1)
        observer.retry_scheduled(call, 2, 0.5, "503")
        observer.attempt_started(call, 2)
        observer.attempt_ended(call, 2, GOOD, 0.1)
        observer.call_ended(call, "success", 2, 0.1)

    first, second, told = exporter.get_finished_spans()[:3]
    assert SpanKind.INTERNAL == told.kind
    assert 1 == len({span.context.trace_id for span in exporter.get_finished_spans()})
    assert second.parent is not None
    assert told.context.span_id == second.parent.span_id
    assert (told.start_time or 0) <= (first.start_time or 0)


def test_an_unsampled_brief_call_has_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor has what happens to it: who samples was asked once."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider(sampler=ALWAYS_OFF))
    observer, call = SpanObserver(), brief()
    observer.call_started(call)
    observer.attempt_started(call, 1)

    observer.retry_scheduled(call, 2, 0.5, "503")
    observer.attempt_started(call, 2)
    observer.call_ended(call, "success", 2, 0.1)

    assert {} == call.carrier
    assert call.span is None


def test_what_is_known_of_calls_is_bounded(exporter: InMemorySpanExporter) -> None:
    """An app may call any number of URLs."""
    trail = SpanObserver().trail(a_call(), print)

    for number in range(1500):
        trail.learn(number, ("GET", {}))

    assert len(trail.known) <= 1024
    assert () == exporter.get_finished_spans()


def test_nobody_records_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that went away between two looks leaves a call without spans."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)

    track = SpanObserver().trail(a_call(), print).open(("GET", {}))
    track.close(200)
    track.leave()
    track.abandon()

    assert track.sampled() is None


@pytest.mark.parametrize("brief", [False, True])
def test_a_sampler_may_drop_a_further_attempt(
    monkeypatch: pytest.MonkeyPatch, *, brief: bool
) -> None:
    """The call keeps its spans, and the attempt goes on in the trace, not sampled."""

    class NoResends(Sampler):
        def should_sample(self, *args: Any, **named: Any) -> SamplingResult:
            attributes = named.get("attributes") or args[4]
            resent = "http.request.resend_count" in (attributes or {})
            return (ALWAYS_OFF if resent else ALWAYS_ON).should_sample(*args, **named)

        def get_description(self) -> str:
            return "NoResends"

    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=NoResends())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)

    carriers = play(BAD, GOOD, brief=brief)

    first, *calls = exporter.get_finished_spans()
    assert "GET" == first.name
    if brief:
        assert ([], [{}, {}]) == (calls, carriers)
    else:
        _, trace_id, _, flags = carriers[1]["traceparent"].split("-")
        assert [int(trace_id, 16)] == [call.context.trace_id for call in calls]
        assert 0 == int(flags, 16) & 1


def test_spans_of_which_nothing_can_be_told_end(exporter: InMemorySpanExporter) -> None:
    """Those that there are: of a statement there is one at most."""
    brief, whole = a_call(library="sqlite3", brief=True), a_call()
    for call in (brief, whole):
        observer = SpanObserver()
        observer.call_started(call)
        spans: Any = call.span
        spans.abandon()

    assert ["resilience GET payment-api"] == [
        span.name for span in exporter.get_finished_spans()
    ]
