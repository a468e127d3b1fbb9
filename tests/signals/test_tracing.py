"""The SDK of OpenTelemetry: set up only where variables ask and nobody else did."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from resilience_instrument.signals import tracing

if TYPE_CHECKING:
    from collections.abc import Callable

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, False),
        ({"OTEL_TRACES_EXPORTER": "none"}, False),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({ENDPOINT: "http://collector:4318"}, True),
        ({ENDPOINT: "http://collector:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
        ({ENDPOINT: "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_spans_are_wanted_where_variables_say_so(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], *, expected: bool
) -> None:
    """As for OpenTelemetry itself."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)

    assert expected == tracing.is_asked_for(environ)


def test_the_apps_own_provider_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the variables say."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())

    assert not tracing.is_asked_for({"OTEL_TRACES_EXPORTER": "console"})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, ["ConsoleSpanExporter"]),
        ({ENDPOINT: "http://127.0.0.1:1"}, ["OTLPSpanExporter"]),
        (
            {ENDPOINT: "x", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            ["OTLPSpanExporter"],
        ),
        ({"OTEL_TRACES_EXPORTER": "console, zipkin"}, ["ConsoleSpanExporter"]),
        ({ENDPOINT: "x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, []),
    ],
)
def test_the_exporter_that_is_installed_is_taken(
    environ: dict[str, str], expected: list[str]
) -> None:
    """By the protocol that is asked for, if any is."""
    assert expected == [kind.__name__ for kind in tracing._exporters(environ)]


def test_a_provider_is_set_up_and_gets_a_moment_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not wait by itself when the process ends."""
    providers: list[Any] = []
    parting: list[Callable[[], None]] = []
    monkeypatch.setattr(trace, "set_tracer_provider", providers.append)
    monkeypatch.setattr(
        threading, "_register_atexit", lambda *call: parting.append(call), raising=False
    )

    tracing.set_up({"OTEL_TRACES_EXPORTER": "console"})

    (provider,) = providers
    ((part, same),) = parting  # type: ignore[misc]
    assert provider is same  # type: ignore[has-type]
    part(provider)  # type: ignore[has-type]
    provider.shutdown()


def test_an_exporter_that_lacks_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Spans that were asked for and cannot be had are no secret."""
    tracing.set_up({"OTEL_TRACES_EXPORTER": "zipkin"})

    line = "resilience-instrument: no spans: no exporter is installed for zipkin\n"
    assert line == capsys.readouterr().err
