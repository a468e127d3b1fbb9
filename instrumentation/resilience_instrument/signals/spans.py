"""OpenTelemetry spans: one for the call, one for each attempt.

Without an SDK nothing happens, and OpenTelemetry is not even loaded: it is looked
for among the modules that the app has. A call is an INTERNAL span, its attempts
are CLIENT spans by the semantic conventions, each with a `traceparent` of its own.
Where another tracer makes the CLIENT spans, the call's span gets events instead.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument import __version__
from resilience_instrument.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.call import Call
    from resilience_instrument.events import (
        CallOutcome,
        RejectingPolicy,
        SkipReason,
        Transition,
    )
    from resilience_instrument.verdict import Judgement

_NAME: Final = "resilience_instrument"
_FAILED: Final = frozenset({"error", "timeout", "rejected"})
_CLIENT_ERROR: Final = 400


@final
class _Spans:
    """The spans of one call on its way, kept in the call's slot for observers."""

    __slots__ = ("attempt", "call", "token", "tracer")

    def __init__(self, tracer: Any, call: Any) -> None:
        self.tracer = tracer
        self.call = call
        self.attempt: Any = None
        self.token: Any = None


@final
class SpanObserver:
    """Records spans where the app has a tracer provider, else does nothing."""

    __slots__ = ()

    def tally(self, call: Call) -> None:
        """Count nothing; where somebody records, every call is told in full."""

    def call_started(self, call: Call) -> None:
        """Begin the call's span, if anybody records."""
        trace = _recording_api()
        if trace is None:
            return
        tracer = trace.get_tracer(_NAME, __version__)
        span = tracer.start_span(
            f"resilience {call.operation} {call.service}",
            attributes={"resilience.service": call.service},
        )
        if span.is_recording():
            call.span = _Spans(tracer, span)

    def attempt_started(self, call: Call, number: int) -> None:
        """Begin the attempt's span and say which headers carry it on."""
        spans = _spans_of(call)
        if spans is None:
            return
        from opentelemetry import context, propagate, trace  # noqa: PLC0415 - loaded

        around = trace.set_span_in_context(spans.call)
        if not _traced_by_others():
            spans.attempt = spans.tracer.start_span(
                call.operation,
                context=around,
                kind=trace.SpanKind.CLIENT,
                attributes=_attributes(call, number),
            )
            around = trace.set_span_in_context(spans.attempt)
            call.carrier = {}
            propagate.inject(call.carrier, context=around)
        spans.token = context.attach(around)

    def attempt_ended(
        self,
        call: Call,
        number: int,  # noqa: ARG002 - the shape of an observer
        judgement: Judgement,
        seconds: float,  # noqa: ARG002 - the span has a clock of its own
    ) -> None:
        """End the attempt's span with what it came to."""
        spans = _spans_of(call)
        if spans is None:
            return
        attempt = _leave(spans)
        if attempt is None:
            return
        status = judgement.status
        if status is not None:
            attempt.set_attribute("http.response.status_code", status)
        failed = judgement.verdict is not Verdict.SUCCESS
        if failed or (status is not None and status >= _CLIENT_ERROR):
            timed_out = judgement.timeout is not None
            kind = "timeout" if timed_out else judgement.reason or str(status)
            attempt.set_attribute("error.type", kind)
            _fail(attempt)
        attempt.end()

    def attempt_cancelled(self, call: Call, number: int) -> None:  # noqa: ARG002
        """End the attempt's span: who cancels makes no error."""
        spans = _spans_of(call)
        if spans is not None:
            attempt = _leave(spans)
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
            spans.call.set_attribute("resilience.breaker.state", transition.to_state)

    def call_ended(
        self,
        call: Call,
        outcome: CallOutcome,
        attempts: int,
        seconds: float,  # noqa: ARG002 - the span has a clock of its own
    ) -> None:
        """End the call's span."""
        spans = _spans_of(call)
        if spans is None:
            return
        spans.call.set_attribute("resilience.attempts", attempts)
        spans.call.set_attribute("resilience.outcome", outcome)
        if outcome in _FAILED:
            _fail(spans.call)
        spans.call.end()
        call.span = None


def _recording_api() -> Any:
    """Return `opentelemetry.trace` if the app has it and set a provider up."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or trace._TRACER_PROVIDER is None:  # noqa: SLF001 - asking for it would set it
        return None
    return trace


def _spans_of(call: Call) -> _Spans | None:
    spans = call.span
    return spans if isinstance(spans, _Spans) else None


def _traced_by_others() -> bool:
    """Tell whether we run inside the CLIENT span of another instrumentation."""
    from opentelemetry import context  # noqa: PLC0415 - the app has it loaded

    key = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)
    return key is not None and bool(context.get_value(key))


def _attributes(call: Call, number: int) -> Mapping[str, Any]:
    attributes = dict(call.attributes())
    if number > 1:
        attributes["http.request.resend_count"] = number - 1
    return attributes


def _leave(spans: _Spans) -> Any:
    """Leave the attempt's context and return its span, None if it has none."""
    from opentelemetry import context  # noqa: PLC0415 - the app has it loaded

    if spans.token is not None:
        context.detach(spans.token)
        spans.token = None
    attempt, spans.attempt = spans.attempt, None
    return attempt


def _note(call: Call, event: str, attributes: dict[str, Any]) -> None:
    spans = _spans_of(call)
    if spans is not None:
        spans.call.add_event(
            event, {f"resilience.{name}": value for name, value in attributes.items()}
        )


def _fail(span: Any) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - loaded

    span.set_status(Status(StatusCode.ERROR))
