"""Scenarios 16 to 19: other agents in the same process, in both orders.

No coverage is measured in them: what it writes at the end would be traced.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from agent.processes import (
    BIN,
    GOVERNED,
    Done,
    Service,
    bare,
    free_port,
    governed,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.scenario]

LAUNCHER = str(BIN / "resilience-instrument")
QUIET = {
    "EVENTLET_NO_GREENDNS": "yes",
    "DD_TRACE_STARTUP_LOGS": "false",
    "DD_TRACE_ENABLED": "true",
    "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    "DD_REMOTE_CONFIGURATION_ENABLED": "false",
    "DD_AGENT_PORT": "1",
    "DD_TRACE_LOG_LEVEL": "CRITICAL",
    "NEW_RELIC_LICENSE_KEY": "0" * 40,
    "NEW_RELIC_APP_NAME": "test",
    "NEW_RELIC_HOST": "127.0.0.1",
    "NEW_RELIC_LOG": "/dev/null",
    "NEW_RELIC_STARTUP_TIMEOUT": "0",
    "ELASTIC_APM_SERVER_URL": "http://127.0.0.1:1",
    "ELASTIC_APM_LOG_LEVEL": "off",
    "ELASTIC_APM_CENTRAL_CONFIG": "false",
    "OTEL_TRACES_EXPORTER": "none",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
}


def quick(**variables: str) -> dict[str, str]:
    """Return an environment with short pauses and a port that is free."""
    return bare(
        RESILIENCE_METRICS_PORT=str(free_port()),
        RESILIENCE_RETRY_BASE_DELAY="0.01",
        **variables,
    )


# -- 16: which agent comes first -----------------------------------------------

BOTH = f"""\
import sys
{GOVERNED}
print(sorted(
    name for name in ("opentelemetry.instrumentation.requests", "ddtrace",
        "newrelic.core", "elasticapm")
    if name in sys.modules))
print(requests.get(sys.argv[1]).status_code)
"""
OTHERS = {
    ("opentelemetry-instrument",): "opentelemetry.instrumentation.requests",
    ("ddtrace-run",): "ddtrace",
    ("newrelic-admin", "run-program"): "newrelic.core",
    ("elasticapm-run",): "elasticapm",
}


@pytest.mark.parametrize("ours_first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize("other", OTHERS, ids=lambda other: other[0])
def test_16_both_agents_are_active_in_either_order(
    tmp_path: Path, other: tuple[str, ...], *, ours_first: bool
) -> None:
    """The app is governed, the other agent is there, and the call is retried once."""
    app = tmp_path / "app.py"
    app.write_text(BOTH)
    words = [*other]
    words.insert(0 if ours_first else len(words), LAUNCHER)

    with Service(503, 200) as service:
        done = run(*words, "python", app, service.url, env=quick(**QUIET), cwd=tmp_path)

    assert 0 == done.code, done.err
    assert f"True\n['{OTHERS[other]}']\n200\n" == done.out
    assert 2 == len(service.asked)


# -- 17, 18: OpenTelemetry's own instrumentations ------------------------------

TRACED = """\
import json, sys
import httpx, requests
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
trace.set_tracer_provider(provider)
library, url, mode = sys.argv[1:]
instrumentors = {"requests": RequestsInstrumentor, "httpx": HTTPXClientInstrumentor}
instrumentor = instrumentors[library]()
if mode != "alone":
    instrumentor.instrument()
if mode == "below":
    import resilience_instrument.auto
if mode == "uninstrumented":
    instrumentor.uninstrument()
get = {"requests": requests.get, "httpx": httpx.get}[library]
with trace.get_tracer("app").start_as_current_span("app"):
    status = get(url).status_code
print(json.dumps({"status": status, "spans": [
    {"name": span.name, "kind": span.kind.name, "id": f"{span.context.span_id:016x}",
     "parent": span.parent and f"{span.parent.span_id:016x}",
     "scope": span.instrumentation_scope.name,
     "events": [event.name for event in span.events]}
    for span in spans.get_finished_spans()]}))
"""


def traced(library: str, mode: str, *statuses: int) -> tuple[dict[str, Any], list[str]]:
    """Make a call below the app's span; return its spans and the headers sent."""
    with Service(*statuses) as service:
        start = run if mode == "below" else governed
        done: Done = start(
            "python", "-c", TRACED, library, service.url, mode, env=quick()
        )
    assert (0, "") == (done.code, done.err)
    found: dict[str, Any] = json.loads(done.out)
    assert 200 == found["status"]
    headers = [{k.lower(): v for k, v in sent.items()} for _, sent in service.asked]
    return found, [sent.get("traceparent", "") for sent in headers]


@pytest.mark.parametrize("library", ["requests", "httpx"])
@pytest.mark.parametrize("mode", ["alone", "instrumented", "below"])
def test_17_three_attempts_are_three_client_spans_with_one_parent(
    library: str, mode: str
) -> None:
    """Each with a traceparent of its own, whoever else traces; never two for one."""
    found, parents = traced(library, mode, 503, 503, 200)

    client = [span for span in found["spans"] if span["kind"] == "CLIENT"]
    assert 3 == len(client) == len(set(parents))
    assert {span["id"] for span in client} == {p.split("-")[2] for p in parents}
    assert 1 == len({span["parent"] for span in client})
    (ours,) = (s for s in found["spans"] if s["name"].startswith("resilience GET"))
    assert ["resilience.retry", "resilience.retry"] == ours["events"]


@pytest.mark.parametrize("library", ["requests", "httpx"])
@pytest.mark.parametrize("mode", ["instrumented", "below"])
def test_17_an_uneventful_call_has_no_second_span(library: str, mode: str) -> None:
    """Where another instrumentation made its span there is nothing to add."""
    found, parents = traced(library, mode, 200)

    assert ["CLIENT", "INTERNAL"] == [span["kind"] for span in found["spans"]]
    assert "app" == found["spans"][-1]["name"]
    assert 1 == len(parents)


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_18_an_instrumentation_that_goes_takes_nothing_of_ours_along(
    library: str,
) -> None:
    """After `uninstrument` the calls are governed and traced by us."""
    found, parents = traced(library, "uninstrumented", 503, 200)

    assert 2 == len(parents)
    client = [span for span in found["spans"] if span["kind"] == "CLIENT"]
    assert ["resilience_instrument"] * 2 == [span["scope"] for span in client]


# -- 19: telemetry that goes nowhere -------------------------------------------

EXPORTS = """\
import sys, time
import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(
    SimpleSpanProcessor(OTLPSpanExporter("http://127.0.0.1:1/v1/traces", timeout=1)))
with provider.get_tracer("app").start_as_current_span("work"):
    pass
requests.get(sys.argv[1])
import http.client
metrics = http.client.HTTPConnection("127.0.0.1", int(sys.argv[2]))
metrics.request("GET", "/metrics")
print(sorted({line.partition("service=")[2].partition(chr(34) + "}")[0]
    for line in metrics.getresponse().read().decode().splitlines()
    if line.startswith("circuit_breaker_state{")}))
"""


def test_19_an_exporter_with_a_dead_collector_is_not_governed(
    service: Service, port: int
) -> None:
    """No circuit, no retry and no metric for it, only for the app's own call."""
    env = bare(RESILIENCE_METRICS_PORT=str(port))

    done = governed("python", "-c", EXPORTS, service.url, str(port), env=env)

    assert (0, f"['\"{service.name}']\n") == done[:2]


def test_19_where_only_variables_ask_for_spans_we_set_them_up(
    service: Service, port: int
) -> None:
    """To the console, say, without a line in the app. What lacks is told."""
    code = f"import requests; print(requests.get({service.url!r}).status_code)"
    env = bare(RESILIENCE_METRICS_PORT=str(port), OTEL_TRACES_EXPORTER="console")

    done = governed("python", "-c", code, env=env)
    lacking = governed(
        "python", "-c", code, env={**env, "OTEL_TRACES_EXPORTER": "zipkin"}
    )

    assert (0, "") == (done.code, done.err)
    assert 2 == done.out.count('"trace_id"')
    assert (0, "200\n") == lacking[:2]
    assert "no spans: no exporter is installed for zipkin" in lacking.err


def test_19_a_collector_that_is_not_there_delays_no_exit(
    service: Service, port: int
) -> None:
    """What we set up ends with the app."""
    code = f"import requests, time; requests.get({service.url!r}); print(time.time())"
    env = bare(
        RESILIENCE_METRICS_PORT=str(port),
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
    )

    done = governed("python", "-c", code, env=env)
    took = time.time() - float(done.out)

    assert 0 == done.code
    assert took < 5
