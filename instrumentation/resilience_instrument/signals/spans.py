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
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from resilience_instrument import __version__
from resilience_instrument.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resilience_instrument.call import AttributeValue, Call
    from resilience_instrument.events import (
        ActingPolicy,
        CallOutcome,
        Facts,
        FallbackKind,
        FallbackOutcome,
        RejectingPolicy,
        SkipReason,
        Transition,
    )
    from resilience_instrument.verdict import Judgement

    Attributes = Mapping[str, AttributeValue]
    Report = Callable[[str, Exception], None]

Position: TypeAlias = Literal["nowhere", "around", "below"]
"""Where another tracer makes the CLIENT spans of a call."""

_NAME: Final = "resilience_instrument"
_FAILED: Final = frozenset({"error", "timeout", "rejected"})
_CLIENT_ERROR: Final = 400
_NO_ATTEMPT: Final = (None, None)
_KEYS: Final = 1024
"""Kinds of calls whose facts are remembered, for each endpoint."""


@final
class _Api:
    """What of OpenTelemetry is used at every call, found once for a provider.

    Args:
        trace: `opentelemetry.trace`, in which a provider is set.
    """

    __slots__ = (
        "attach",
        "client",
        "current",
        "detach",
        "inject",
        "provider",
        "silent",
        "span_in",
        "start",
        "suppressing",
        "with_span",
    )

    def __init__(self, trace: Any) -> None:
        from opentelemetry import context, propagate  # noqa: PLC0415 - it is loaded

        self.provider = trace._TRACER_PROVIDER  # noqa: SLF001 - as `_recording_api`
        # A provider makes a new tracer each time that it is asked for one.
        self.start = trace.get_tracer(_NAME, __version__).start_span
        self.client = trace.SpanKind.CLIENT
        self.span_in = trace.get_current_span
        self.with_span = trace.set_span_in_context
        self.silent = trace.NonRecordingSpan
        self.current = context.get_current
        self.attach = context.attach
        self.detach = context.detach
        self.inject = propagate.inject
        self.suppressing = getattr(context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None)

    def is_around(self, around: Any) -> bool:
        """Tell whether another tracer makes the CLIENT span of calls in a context."""
        if getattr(self.span_in(around), "kind", None) is self.client:
            return True
        # Another instrumentation says that it traces this call already.
        key = self.suppressing
        return key is not None and bool(around.get(key))


@final
class _Spans:
    """The spans of one call on its way, kept in the call's slot for observers.

    Attributes:
        api: What is needed of OpenTelemetry.
        others: Where another tracer stands.
        brief: Whether the call has a span only if something happens.
        shown: The span that stands for the call in metrics, None for that of `around`.
        around: The context in which the call was made.
        began: When it was, in nanoseconds since the epoch.
        call: The span of the call, None while it has none.
        attempts: For each attempt under way its span, if any, and a token, None
            once its context was left.
        carrier: The headers that carry the last attempt on.
    """

    __slots__ = (
        "api",
        "around",
        "attempts",
        "began",
        "brief",
        "call",
        "carrier",
        "others",
        "shown",
    )

    def __init__(
        self, api: _Api, others: Position, around: Any, *, brief: bool
    ) -> None:
        self.api = api
        self.others = others
        self.around = around
        self.brief = brief
        self.shown: Any = None
        self.began = time.time_ns()
        self.call: Any = None
        self.attempts: dict[int, tuple[Any, Any]] = {}
        self.carrier: dict[str, str] = {}

    def tell(self, call: Call) -> Any:
        """Return the span of the call, which begins now at the latest."""
        return self.call or self.begin(call.operation, call.service)

    def begin(self, operation: str, service: str) -> Any:
        """Begin the span of the call, at the time when the call began."""
        api, around = self.api, self.around
        if self.shown and not api.span_in(around).get_span_context().is_valid:
            # Else it would begin a trace of its own, beside that of the attempt.
            around = api.with_span(self.shown, around)
        self.call = self.shown = api.start(
            f"resilience {operation} {service}",
            context=around,
            attributes={"resilience.service": service},
            start_time=self.began,
        )
        return self.call

    def attempt(self, number: int, name: str, attributes: Attributes) -> bool:
        """Begin the span of an attempt, and enter its context.

        Return whether it is recorded, which is not known before of a brief call.
        """
        api, brief = self.api, self.brief
        attempt = api.start(
            name, context=self._parent(), kind=api.client, attributes=attributes
        )
        if brief:
            if not attempt.is_recording():
                return False
            self.shown = self.shown or attempt
        around = api.with_span(attempt, self.around)
        if not brief:
            carrier: dict[str, str] = {}
            api.inject(carrier, around)
            self.carrier = carrier
        self.attempts[number] = attempt, api.attach(around)
        return True

    def _parent(self) -> Any:
        """Return the context for the span of an attempt."""
        api, around = self.api, self.around
        if self.others != "around":
            return around if self.call is None else api.with_span(self.call, around)
        # Attempts stand side by side: ours have the parent of the other tracer's.
        parent = getattr(api.span_in(around), "parent", None)
        if parent is None:
            return around
        return api.with_span(api.silent(parent), around)

    def end(self, attempts: int, outcome: CallOutcome) -> None:
        """End the span of the call, if it has one."""
        call = self.call
        if call is not None:
            # Two by name are cheaper than both in a mapping.
            call.set_attribute("resilience.attempts", attempts)
            call.set_attribute("resilience.outcome", outcome)
            if outcome in _FAILED:
                _fail(call)
            call.end()

    def sampled(self) -> tuple[int, int] | None:
        """Return the ids of the trace and of the span, None if it is not sampled."""
        span = self.shown or self.api.span_in(self.around)
        ids = span.get_span_context()
        if ids.is_valid and ids.trace_flags.sampled:
            return ids.trace_id, ids.span_id
        return None

    # -- on the short way -------------------------------------------------------

    def close(self, status: int | None) -> None:
        """End the only attempt, which succeeded, and the call."""
        attempt = self.left(1)
        if attempt is not None:
            _end_attempt(attempt, status, "", None)
        self.end(1, "success")

    def leave(self) -> None:
        """Leave the context of the first attempt; its span will be ended."""
        if self.attempts:
            attempt, token = self.attempts[1]
            self.attempts[1] = attempt, None
            self.api.detach(token)

    def abandon(self) -> None:
        """End what was begun, though nothing can be told of it."""
        for span in (self.left(1), self.call):
            if span is not None:
                span.end()

    def left(self, number: int) -> Any:
        """Leave an attempt's context and return its span, None if it has none."""
        attempt, token = self.attempts.pop(number, _NO_ATTEMPT)
        if token is not None:
            self.api.detach(token)
        return attempt


@final
class _Unrecorded:
    """Stands for the spans of a call that nobody records, which was asked already."""

    __slots__ = ()

    carrier: Mapping[str, str] = MappingProxyType({})

    def close(self, status: int | None) -> None:
        """Have nothing to end."""

    def leave(self) -> None:
        """Have nothing to leave."""

    abandon = leave

    def sampled(self) -> None:
        """Have no trace."""


_UNRECORDED: Final = _Unrecorded()


@final
class SpanTrail:
    """Makes the spans of calls of one kind of which there is nothing to tell.

    Args:
        observer: Makes those of all others.
        call: One of these calls, for its library and its service.
        report: Takes what goes wrong here.
    """

    __slots__ = ("_brief", "_library", "_observer", "_report", "_service", "known")

    def __init__(self, observer: SpanObserver, call: Call, report: Report) -> None:
        self._observer = observer
        self._library = call.library
        self._service = call.service
        self._brief = call.brief
        self._report = report
        self.known: dict[Any, Facts] = {}
        """What is the same for all calls with the same key."""

    def learn(self, key: Any, facts: Facts) -> Facts:
        """Keep what is the same for calls with a key, and return it."""
        if len(self.known) >= _KEYS:
            self.known.clear()
        self.known[key] = facts
        return facts

    def open(self, facts: Facts) -> _Spans | _Unrecorded:
        """Begin the spans of a call and of its attempt."""
        spans: _Spans | None = None
        try:
            spans = self._observer.begin(self._library, brief=self._brief)
            if spans is not None and spans.others == "nowhere":
                operation, attributes = facts
                if not (
                    spans.brief or spans.begin(operation, self._service).is_recording()
                ):
                    return _UNRECORDED
                if not spans.attempt(1, _name(operation, attributes), attributes):
                    return _UNRECORDED
        except Exception as fault:
            self._report("observer", fault)
        return _UNRECORDED if spans is None else spans


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

    __slots__ = ("_api", "_traced_below")

    def __init__(self, traced_below: Callable[[str], bool] = _nobody) -> None:
        self._traced_below = traced_below
        self._api: _Api | None = None

    def tally(self, call: Call) -> None:
        """Count nothing; where somebody records, a trail follows every call."""

    def trail(self, call: Call, report: Report) -> SpanTrail:
        """Return what follows calls like this one of which there is nothing to tell.

        Args:
            call: One of them.
            report: Takes what goes wrong on it.
        """
        return SpanTrail(self, call, report)

    def begin(self, library: str, *, brief: bool) -> _Spans | None:
        """Return the spans of a call through a library, None if nobody records."""
        trace = _recording_api()
        if trace is None:
            return None
        api = self._api
        if api is None or api.provider is not trace._TRACER_PROVIDER:  # noqa: SLF001 - as `_recording_api`
            api = self._api = _Api(trace)
        around = api.current()
        others: Position = "nowhere"
        if api.is_around(around):
            others = "around"
        elif self._traced_below(library):
            others = "below"
        return _Spans(api, others, around, brief=brief and others == "nowhere")

    def call_started(self, call: Call) -> None:
        """Begin the call's span, if anybody records and nobody else does this.

        A call that comes from the short way has its spans already.
        """
        if call.span is not None:
            return
        spans = self.begin(call.library, brief=call.brief)
        if spans is not None and (
            spans.brief or spans.others != "nowhere" or spans.tell(call).is_recording()
        ):
            call.span = spans

    def attempt_started(self, call: Call, number: int) -> None:
        """Begin the attempt's span and say which headers carry it on."""
        spans = _spans_of(call)
        if spans is None or number in spans.attempts:
            return
        call.carrier = {}
        if spans.others == "below" or (spans.others == "around" and number == 1):
            return
        attributes = _attributes(call, number)
        if spans.attempt(number, _name(call.operation, attributes), attributes):
            call.carrier = spans.carrier
        elif number == 1:
            call.span = _UNRECORDED

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
        failed = judgement.verdict is not Verdict.SUCCESS
        kind = None
        if failed:
            timed_out = judgement.timeout is not None
            kind = "timeout" if timed_out else judgement.reason or str(judgement.status)
        _end_attempt(attempt, judgement.status, judgement.code, kind)

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
        if spans is not None:
            spans.end(attempts, outcome)


def _recording_api() -> Any:
    """Return `opentelemetry.trace` if the app has it and set a provider up."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or trace._TRACER_PROVIDER is None:  # noqa: SLF001 - asking for it would set it
        return None
    return trace


def _spans_of(call: Call) -> _Spans | None:
    spans = call.span
    return spans if isinstance(spans, _Spans) else None


def _name(operation: str, attributes: Attributes) -> str:
    """Return the name of an attempt's span."""
    return str(attributes.get("db.query.summary") or operation)


def _attributes(call: Call, number: int) -> Attributes:
    attributes = dict(call.attributes())
    if number > 1:
        attributes["http.request.resend_count"] = number - 1
    return attributes


def _leave(call: Call, number: int) -> Any:
    spans = _spans_of(call)
    return None if spans is None else spans.left(number)


def _end_attempt(attempt: Any, status: int | None, code: str, kind: str | None) -> None:
    """End the span of an attempt.

    Args:
        attempt: The span.
        status: The status of an answer.
        code: What a database called its error, empty for none.
        kind: What an error was, None for none.
    """
    if status is not None:
        attempt.set_attribute("http.response.status_code", status)
        if kind is None and status >= _CLIENT_ERROR:
            kind = str(status)
    if code:
        attempt.set_attribute("db.response.status_code", code)
    if kind is not None:
        attempt.set_attribute("error.type", kind)
        _fail(attempt)
    attempt.end()


def _note(call: Call, event: str, attributes: dict[str, Any]) -> None:
    spans = _spans_of(call)
    if spans is None:
        return
    named = {f"resilience.{name}": value for name, value in attributes.items()}
    spans.tell(call).add_event(event, named)
    if spans.others == "around":
        spans.api.span_in(spans.around).add_event(event, named)


def _fail(span: Any) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - loaded

    span.set_status(Status(StatusCode.ERROR))
