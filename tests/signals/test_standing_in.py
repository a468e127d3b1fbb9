"""Fallbacks and predictions as metrics, spans and log lines have them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from fakes import a_call
from resilience_instrument.signals.exposition import Exposition
from resilience_instrument.signals.gather import gather
from resilience_instrument.signals.log import LogObserver
from resilience_instrument.signals.metrics import MetricsObserver
from resilience_instrument.signals.spans import SpanObserver
from resilience_instrument.signals.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator


class Counting:
    """An observer, and what it has counted."""

    def __init__(self) -> None:
        self.store = Store()
        self.observer = MetricsObserver(self.store)

    def lines(self, name: str) -> dict[str, float]:
        """Return the samples of a metric by their labels, as they are served."""
        exposition = Exposition(lambda: gather(self.store, None))
        text = exposition.render("")[0].decode()
        found = (line for line in text.splitlines() if line.startswith(f"{name}{{"))
        return {
            line[len(name) : line.rindex(" ")]: float(line.rpartition(" ")[2])
            for line in found
        }


def test_a_fallback_is_counted_by_kind_and_outcome() -> None:
    """A service without one shows none."""
    counting = Counting()
    counting.observer.call_started(a_call())
    assert {} == counting.lines("resilience_fallback_total")

    counting.observer.fell_back(a_call(), "service", "error")
    counting.observer.fell_back(a_call(), "cache", "success")
    counting.observer.fell_back(a_call(), "cache", "success")

    samples = counting.lines("resilience_fallback_total")
    assert sorted(samples.values()) == [1.0, 2.0]
    for labels, count in samples.items():
        kind, outcome = ("cache", "success") if count > 1 else ("service", "error")
        assert f'kind="{kind}"' in labels
        assert f'outcome="{outcome}"' in labels
        assert 'endpoint="/orders/{id}"' in labels


def test_predictions_are_counted_with_what_they_save_and_cost() -> None:
    """Seconds are whole; what is left over is not lost."""
    counting = Counting()
    observer = counting.observer

    for _ in range(4):
        observer.would_act(a_call(), "timeout", 0.6, 0)
    observer.would_act(a_call(), "breaker", 0.0, 1)

    def of(name: str) -> list[float]:
        samples = counting.lines(f"resilience_would_{name}")
        return [
            sum(n for labels, n in samples.items() if f'"{policy}"' in labels)
            for policy in ("timeout", "breaker")
        ]

    assert [4.0, 1.0] == of("act_total")
    assert [2.0, 0.0] == of("save_seconds_total")
    assert [0.0, 1.0] == of("lose_total")


def test_reloads_are_counted() -> None:
    """Both outcomes exist with 0 from the start."""
    counting = Counting()
    name = "resilience_config_reload_total"
    counting.observer.config_reloaded("refused")

    assert {'{outcome="applied"}': 0.0, '{outcome="refused"}': 1.0} == counting.lines(
        name
    )


def test_the_mode_is_stated_once() -> None:
    """The one that holds now."""
    counting = Counting()
    counting.observer.agent_info("1", "enforce", "3")
    counting.observer.agent_info("1", "observe", "3")

    assert {'{mode="observe",python="3",version="1"}': 1.0} == counting.lines(
        "resilience_agent_info"
    )


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """Record spans for the test alone."""
    found = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    yield found
    provider.shutdown()


def test_the_calls_span_says_what_answered(exporter: InMemorySpanExporter) -> None:
    """Each try is an event; the one that succeeded is an attribute."""
    observer, call = SpanObserver(), a_call()
    observer.call_started(call)
    observer.fell_back(call, "service", "error")
    observer.fell_back(call, "static", "success")
    observer.would_act(call, "retry", 0.0, 0)
    observer.call_ended(call, "fallback", 1, 0.1)

    (span,) = exporter.get_finished_spans()
    events = [dict(event.attributes or {}) for event in span.events]
    assert span.attributes is not None
    assert "static" == span.attributes["resilience.fallback"]
    assert [
        {"resilience.kind": "service", "resilience.outcome": "error"},
        {"resilience.kind": "static", "resilience.outcome": "success"},
    ] == events


def test_without_a_span_nothing_is_noted() -> None:
    """An app without tracing pays nothing."""
    call = a_call()

    SpanObserver().fell_back(call, "static", "success")

    assert call.span is None


def test_a_fallback_is_a_detail_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A prediction is none: there may be thousands."""
    caplog.set_level(logging.DEBUG, "resilience_instrument")

    LogObserver().fell_back(a_call(), "cache", "success")
    LogObserver().would_act(a_call(), "retry", 0.0, 0)

    (record,) = caplog.records
    facts: Any = record
    assert "payment-api GET /orders/{id}: fallback cache: success" == (
        record.getMessage()
    )
    assert ("cache", "success") == (facts.kind, facts.outcome)
