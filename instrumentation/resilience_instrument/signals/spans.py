"""OpenTelemetry spans: one for each attempt, one for a call that had a story.

Without an SDK nothing happens, and OpenTelemetry is not even loaded: it is looked
for among the modules that the app has. An attempt is a CLIENT span by the semantic
conventions with a `traceparent` of its own; the call around them is INTERNAL.

Where another tracer makes CLIENT spans, none of ours says the same again. It stands
around the call (then the first attempt is its span, and further ones are ours beside
it) or below us (then each attempt is its span). The call's own span is made then
only if something happens, and begins when the call began.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from resilience_instrument import __version__
from resilience_instrument.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resilience_instrument.call import Call
    from resilience_instrument.events import (
        ActingPolicy,
        CallOutcome,
        FallbackKind,
        FallbackOutcome,
        RejectingPolicy,
        SkipReason,
        Transition,
    )
    from resilience_instrument.verdict import Judgement

Position: TypeAlias = Literal["nowhere", "around", "below"]
"""Where another tracer makes the CLIENT spans of a call."""

_NAME: Final = "resilience_instrument"
_FAILED: Final = frozenset({"error", "timeout", "rejected"})
_CLIENT_ERROR: Final = 400


@final
class _Spans:
    """The spans of one call on its way, kept in the call's slot for observers.

    Attributes:
        trace: `opentelemetry.trace`.
        tracer: Ours.
        others: Where another tracer stands.
        around: The context in which the call was made.
        began: When it was, in nanoseconds since the epoch.
        call: The span of the call, None while it has none.
        attempts: For each attempt under way its span, if any, and a token.
    """

    __slots__ = ("around", "attempts", "began", "call", "others", "trace", "tracer")

    def __init__(self, trace: Any, tracer: Any, others: Position, around: Any) -> None:
        self.trace = trace
        self.tracer = tracer
        self.others = others
        self.around = around
        self.began = time.time_ns()
        self.call: Any = None
        self.attempts: dict[int, tuple[Any, Any]] = {}

    def tell(self, call: Call) -> Any:
        """Return the span of the call, which begins now at the latest."""
        if self.call is None:
            self.call = self.tracer.start_span(
                f"resilience {call.operation} {call.service}",
                context=self.around,
                attributes={"resilience.service": call.service},
                start_time=self.began,
            )
        return self.call

    def sampled(self) -> tuple[int, int] | None:
        """Return the ids of the trace and of the span, None if it is not sampled."""
        span = self.call or self.trace.get_current_span(self.around)
        ids = span.get_span_context()
        if ids.is_valid and ids.trace_flags.sampled:
            return ids.trace_id, ids.span_id
        return None

    def parent(self) -> Any:
        """Return the context for the span of an attempt."""
        if self.others != "around":
            return self.trace.set_span_in_context(self.call, self.around)
        # Attempts stand side by side: ours have the parent of the other tracer's.
        theirs = self.trace.get_current_span(self.around)
        parent = getattr(theirs, "parent", None)
        if parent is None:
            return self.around
        beside = self.trace.NonRecordingSpan(parent)
        return self.trace.set_span_in_context(beside, self.around)


def _nobody(library: str) -> bool:  # noqa: ARG001 - the shape of the question
    """Say that no other tracer is there."""
    return False


@final
class SpanObserver:
    """Records spans where the app has a tracer provider, else does nothing.

    Args:
        traced_below: Tells whether another tracer makes a span of each attempt of
            a library, below us.
    """

    __slots__ = ("_traced_below", "_tracer")

    def __init__(self, traced_below: Callable[[str], bool] = _nobody) -> None:
        self._traced_below = traced_below
        self._tracer: tuple[Any, Any] = (None, None)

    def tally(self, call: Call) -> None:
        """Count nothing; where somebody records, every call is told in full."""

    def call_started(self, call: Call) -> None:
        """Begin the call's span, if anybody records and nobody else does this."""
        trace = _recording_api()
        if trace is None:
            return
        from opentelemetry import context  # noqa: PLC0415 - the app has it loaded

        others, around = self._others(trace, call), context.get_current()
        spans = _Spans(trace, self._tracer_of(trace), others, around)
        if spans.others != "nowhere" or spans.tell(call).is_recording():
            call.span = spans

    def _tracer_of(self, trace: Any) -> Any:
        """Return our tracer, asked for once: a provider makes a new one each time."""
        provider = trace._TRACER_PROVIDER  # noqa: SLF001 - as `_recording_api`
        known, tracer = self._tracer
        if known is not provider:
            tracer = trace.get_tracer(_NAME, __version__)
            self._tracer = provider, tracer
        return tracer

    def _others(self, trace: Any, call: Call) -> Position:
        current = trace.get_current_span()
        kind = getattr(current, "kind", None)
        if _is_suppressed() or kind is trace.SpanKind.CLIENT:
            return "around"
        return "below" if self._traced_below(call.library) else "nowhere"

    def attempt_started(self, call: Call, number: int) -> None:
        """Begin the attempt's span and say which headers carry it on."""
        spans = _spans_of(call)
        if spans is None:
            return
        from opentelemetry import context, propagate  # noqa: PLC0415 - loaded

        call.carrier = {}
        if spans.others == "below" or (spans.others == "around" and number == 1):
            return
        attributes = _attributes(call, number)
        attempt = spans.tracer.start_span(
            str(attributes.get("db.query.summary") or call.operation),
            context=spans.parent(),
            kind=spans.trace.SpanKind.CLIENT,
            attributes=attributes,
        )
        around = spans.trace.set_span_in_context(attempt, spans.around)
        propagate.inject(call.carrier, context=around)
        spans.attempts[number] = attempt, context.attach(around)

    def attempt_ended(
        self,
        call: Call,
        number: int,
        judgement: Judgement,
        seconds: float,  # noqa: ARG002 - the span has a clock of its own
    ) -> None:
        """End the attempt's span with what it came to."""
        attempt = _leave(call, number)
        if attempt is None:
            return
        status = judgement.status
        if status is not None:
            attempt.set_attribute("http.response.status_code", status)
        if judgement.code:
            attempt.set_attribute("db.response.status_code", judgement.code)
        failed = judgement.verdict is not Verdict.SUCCESS
        if failed or (status is not None and status >= _CLIENT_ERROR):
            timed_out = judgement.timeout is not None
            kind = "timeout" if timed_out else judgement.reason or str(status)
            attempt.set_attribute("error.type", kind)
            _fail(attempt)
        attempt.end()

    def attempt_cancelled(self, call: Call, number: int) -> None:
        """End the attempt's span: who cancels makes no error."""
        attempt = _leave(call, number)
        if attempt is not None:
            attempt.end()

    def retry_scheduled(
        self, call: Call, number: int, delay: float, reason: str
    ) -> None:
        """Note the retry on the call's span."""
        _note(
            call,
            "resilience.retry",
            {"attempt": number, "delay": delay, "reason": reason},
        )

    def retry_skipped(self, call: Call, reason: SkipReason) -> None:
        """Note on the call's span why there is no retry."""
        _note(call, "resilience.retry_skipped", {"reason": reason})

    def rejected(self, call: Call, policy: RejectingPolicy) -> None:
        """Note on the call's span who refused it."""
        _note(call, "resilience.rejected", {"policy": policy})

    def transitioned(self, call: Call, transition: Transition) -> None:
        """Note the transition and the new state on the call's span."""
        _note(
            call,
            "resilience.breaker.transition",
            {"from": transition.from_state, "to": transition.to_state},
        )
        spans = _spans_of(call)
        if spans is not None:
            state = transition.to_state
            spans.tell(call).set_attribute("resilience.breaker.state", state)

    def would_act(
        self, call: Call, policy: ActingPolicy, saved: float, lost: int
    ) -> None:
        """Note nothing: the call's span has ended by then."""

    def fell_back(
        self, call: Call, kind: FallbackKind, outcome: FallbackOutcome
    ) -> None:
        """Note on the call's span what answered, or failed to."""
        _note(call, "resilience.fallback", {"kind": kind, "outcome": outcome})
        spans = _spans_of(call)
        if spans is not None and outcome == "success":
            spans.call.set_attribute("resilience.fallback", kind)

    def call_ended(
        self,
        call: Call,
        outcome: CallOutcome,
        attempts: int,
        seconds: float,  # noqa: ARG002 - the span has a clock of its own
    ) -> None:
        """End the call's span."""
        spans = _spans_of(call)
        call.span = None
        if spans is None or spans.call is None:
            return
        spans.call.set_attribute("resilience.attempts", attempts)
        spans.call.set_attribute("resilience.outcome", outcome)
        if outcome in _FAILED:
            _fail(spans.call)
        spans.call.end()


def _recording_api() -> Any:
    """Return `opentelemetry.trace` if the app has it and set a provider up."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or trace._TRACER_PROVIDER is None:  # noqa: SLF001 - asking for it would set it
        return None
    return trace


def _spans_of(call: Call) -> _Spans | None:
    spans = call.span
    return spans if isinstance(spans, _Spans) else None


def _is_suppressed() -> bool:
    """Tell whether another instrumentation says that it traces this call already."""
    from opentelemetry import context  # noqa: PLC0415 - the app has it loaded

    key = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)
    return key is not None and bool(context.get_value(key))


def _attributes(call: Call, number: int) -> Mapping[str, Any]:
    attributes = dict(call.attributes())
    if number > 1:
        attributes["http.request.resend_count"] = number - 1
    return attributes


def _leave(call: Call, number: int) -> Any:
    """Leave an attempt's context and return its span, None if it has none."""
    spans = _spans_of(call)
    if spans is None or number not in spans.attempts:
        return None
    from opentelemetry import context  # noqa: PLC0415 - the app has it loaded

    attempt, token = spans.attempts.pop(number)
    context.detach(token)
    return attempt


def _note(call: Call, event: str, attributes: dict[str, Any]) -> None:
    spans = _spans_of(call)
    if spans is None:
        return
    named = {f"resilience.{name}": value for name, value in attributes.items()}
    spans.tell(call).add_event(event, named)
    if spans.others == "around":
        spans.trace.get_current_span(spans.around).add_event(event, named)


def _fail(span: Any) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - loaded

    span.set_status(Status(StatusCode.ERROR))
