"""Telemetry of others passes: an exporter is neither governed nor counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from integrations.governing import governing
from loopback import Server, Status, closed_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integrations.governing import Governed


@pytest.fixture
def governed() -> Iterator[Governed]:
    """Govern requests, which the exporter uses."""
    with governing(("requests",)) as inside:
        yield inside


def _export(endpoint: str) -> float:
    """Export one span and return how long that took."""
    provider = TracerProvider(shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint, timeout=1)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    started = time.monotonic()
    with provider.get_tracer("test").start_as_current_span("work"):
        pass
    provider.shutdown()
    return time.monotonic() - started


def test_a_dead_collector_is_not_governed(governed: Governed) -> None:
    """No retry of ours, no circuit, no metric, and an exit that is not slower."""
    took = _export(f"http://127.0.0.1:{closed_port()}/v1/traces")

    assert [] == governed.told.events
    assert [] == governed.runtime.registry.known()
    assert took < 5.0


def test_a_live_collector_gets_its_spans(governed: Governed, server: Server) -> None:
    """Once, as the exporter sent them."""
    server.script("/v1/traces", Status(200))

    _export(server.url("/v1/traces"))

    assert 1 == len(server.hits("/v1/traces"))
    assert [] == governed.told.events
