"""Records the spans of a test, and tells what can be compared of them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PLACES = ("nowhere", "app", "around", "suppressed", "below", "unsampled")
"""Where another tracer stands, or who does not record."""


class Recorded:
    """The spans that ended so far."""

    def __init__(self, *, sampled: bool = True) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=ALWAYS_ON if sampled else ALWAYS_OFF)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    @property
    def spans(self) -> tuple[Any, ...]:
        return self.exporter.get_finished_spans()

    def told(self) -> list[tuple[Any, ...]]:
        """Return all but times and ids: a parent is the place of its span here."""
        places = {span.context.span_id: n for n, span in enumerate(self.spans)}
        return [
            (
                span.name,
                span.kind,
                dict(span.attributes),
                span.status.status_code,
                [(event.name, dict(event.attributes)) for event in span.events],
                span.parent and places.get(span.parent.span_id, "open"),
            )
            for span in self.spans
        ]

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """Be what the app has set up, for a while."""
        before = trace._TRACER_PROVIDER
        trace._TRACER_PROVIDER = self.provider
        try:
            yield
        finally:
            trace._TRACER_PROVIDER = before


def below(place: str) -> Callable[[str], bool]:
    """Return what tells whether another tracer stands below."""
    return lambda _library: place == "below"


@contextlib.contextmanager
def standing(place: str) -> Iterator[Recorded]:
    """Record, in the surroundings that `place` names."""
    recorded = Recorded(sampled=place != "unsampled")
    tracer = recorded.provider.get_tracer("theirs")
    with recorded.in_force(), contextlib.ExitStack() as stack:
        before = trace.get_current_span()
        if place in {"app", "around"}:
            stack.enter_context(tracer.start_as_current_span("app"))
        if place == "around":
            kind = trace.SpanKind.CLIENT
            stack.enter_context(tracer.start_as_current_span("GET", kind=kind))
        if place == "suppressed":
            key = context._SUPPRESS_HTTP_INSTRUMENTATION_KEY
            token = context.attach(context.set_value(key, value=True))
            stack.callback(context.detach, token)
        inside = trace.get_current_span()
        yield recorded
        assert inside is trace.get_current_span()
        stack.close()
        assert before is trace.get_current_span()
