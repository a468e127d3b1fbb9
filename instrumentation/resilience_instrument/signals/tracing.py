"""Set up OpenTelemetry's SDK where its variables ask for it and nobody else did.

An app that wants spans and has an exporter installed needs no line of code. One that
sets a provider up itself, or runs under another agent, is left alone.
"""

from __future__ import annotations

import importlib.metadata
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from resilience_instrument.signals.faults import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_GROUP: Final = "opentelemetry_traces_exporter"
_ENDPOINTS: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
)
# What a process may wait at its end for its last spans. Seconds.
_PARTING: Final = 0.05


def is_asked_for(environ: Mapping[str, str]) -> bool:
    """Tell whether the variables ask for spans, and nobody records any yet."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None and trace._TRACER_PROVIDER is not None:  # noqa: SLF001 - asking for it would set it
        return False
    return bool(_names(environ))


def set_up(environ: Mapping[str, str]) -> None:
    """Record spans and export them as the variables say."""
    exporters = list(_exporters(environ))
    if not exporters:
        say(f"no spans: no exporter is installed for {', '.join(_names(environ))}")
        return
    from opentelemetry import trace  # noqa: PLC0415 - the app asked for it
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 - likewise
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    # Its own way of ending waits for the collector, however long that takes.
    provider = TracerProvider(shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter()))
    trace.set_tracer_provider(provider)
    threading._register_atexit(_part, provider)  # type: ignore[attr-defined]  # noqa: SLF001 - threads can still be started then


def _part(provider: Any) -> None:
    """Give the last spans a moment to leave; a dead collector costs no more."""
    thread = threading.Thread(target=provider.force_flush, daemon=True)
    thread.start()
    thread.join(_PARTING)


def _names(environ: Mapping[str, str]) -> list[str]:
    """Return the exporters that are asked for, as OpenTelemetry's variables do."""
    given = environ.get("OTEL_TRACES_EXPORTER", "")
    if not given and any(environ.get(name) for name in _ENDPOINTS):
        given = "otlp"
    names = [name.strip() for name in given.split(",")]
    return [name for name in names if name not in {"", "none"}]


def _exporters(environ: Mapping[str, str]) -> Iterator[Any]:
    """Yield the class of every exporter that is asked for and installed."""
    protocol = environ.get(
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", ""),
    )
    wanted = "otlp_proto_grpc" if protocol == "grpc" else "otlp_proto_http"
    installed = {e.name: e for e in importlib.metadata.entry_points(group=_GROUP)}
    for name in _names(environ):
        candidates = [name]
        if name == "otlp":
            either = ("otlp_proto_grpc", "otlp_proto_http")
            candidates = [wanted] if protocol else [wanted, *either]
        for candidate in candidates:
            if candidate in installed:
                yield installed[candidate].load()
                break
