"""Beside OpenTelemetry's own instrumentation of a driver: one span for each call."""

from __future__ import annotations

import contextlib
import sqlite3
import sqlite3.dbapi2
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.psycopg2 import Psycopg2Instrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from resilience_instrument import _agent
from resilience_instrument._agent import Agent
from resilience_instrument.config.load import from_environment
from resilience_instrument.integrations import _patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.servers import Postgres

pytestmark = pytest.mark.slow

TESTED = ("sqlite3", "psycopg2")

MODULES: dict[str, Any] = {"sqlite3": sqlite3, "psycopg2": psycopg2}
INSTRUMENTORS: dict[str, Any] = {
    "sqlite3": SQLite3Instrumentor,
    "psycopg2": Psycopg2Instrumentor,
}


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Record spans as an app with an SDK does."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


class Both:
    """A driver with the agent and with the other instrumentation, on demand."""

    def __init__(self, name: str, connect: Callable[[], Any]) -> None:
        self.name = name
        self.connect = connect
        self.other = INSTRUMENTORS[name]()
        self.agent = Agent(from_environment({"RESILIENCE_METRICS_PORT": "0"}))

    def act(self, who: str) -> None:
        """Begin or end one of the two."""
        {
            "agent": lambda: self.agent.govern(self.name, MODULES[self.name]),
            "other": lambda: self.other.instrument(skip_dep_check=True),
            "no agent": lambda: _patch.remove(self.agent._targets[self.name]),
            "no other": self.other.uninstrument,
        }[who]()

    def run(self, *statements: str) -> None:
        """Connect and run statements, whatever they come to."""
        connection = self.connect()
        with contextlib.closing(connection):
            cursor = connection.cursor()
            for sql in statements:
                with contextlib.suppress(sqlite3.Error, psycopg2.Error):
                    cursor.execute(sql)
            cursor.close()


@pytest.fixture(params=sorted(MODULES))
def both(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Both]:
    """Each driver with neither yet."""
    monkeypatch.setattr(_agent._Process, "agent", None)
    # Whatever is left of a chain of wrappers is gone after the test.
    for owner in (sqlite3, sqlite3.dbapi2, psycopg2):
        monkeypatch.setattr(owner, "connect", owner.connect)
    if request.param == "sqlite3":
        made = Both("sqlite3", lambda: sqlite3.connect(":memory:"))
    else:
        server: Postgres = request.getfixturevalue("postgres")
        where = {"host": "127.0.0.1", "port": server.port, "user": "app"}
        made = Both("psycopg2", lambda: psycopg2.connect(**where, dbname="postgres"))
    yield made
    with contextlib.suppress(Exception):
        made.other.uninstrument()
    _patch.remove(made.agent._targets.get(made.name, ()))


def clients(exporter: InMemorySpanExporter) -> list[Any]:
    """Return the spans of statements that say that they are a client's."""
    spans = [span for span in exporter.get_finished_spans() if span.name != "CONNECT"]
    return [span for span in spans if span.kind is SpanKind.CLIENT]


@pytest.mark.parametrize("order", [("agent", "other"), ("other", "agent")])
def test_one_span_for_each_statement(
    both: Both, exporter: InMemorySpanExporter, order: tuple[str, ...]
) -> None:
    """Case 12: whoever came first, a statement that works or fails is one span."""
    for who in order:
        both.act(who)

    both.run("SELECT 1", "SELECT * FROM nowhere")

    assert ["SELECT", "SELECT"] == [span.name for span in clients(exporter)]
    assert not both.agent.traced_below(both.name)


@pytest.mark.parametrize("order", [("agent", "other"), ("other", "agent")])
def test_a_statement_that_the_other_does_not_see_is_ours(
    exporter: InMemorySpanExporter, both: Both, order: tuple[str, ...]
) -> None:
    """Case 12: a connection's own shortcut and its COMMIT have one as well."""
    for who in order:
        both.act(who)

    connection = both.connect()
    if both.name == "sqlite3":
        connection.execute("SELECT 1")
    else:
        connection.cursor().execute("SELECT 1")
        connection.commit()
    connection.close()

    names = [span.name for span in clients(exporter)]
    assert names == (["SELECT"] if both.name == "sqlite3" else ["SELECT", "COMMIT"])


@pytest.mark.parametrize("begun", [("agent", "other"), ("other", "agent")])
@pytest.mark.parametrize("ended", [("no agent", "no other"), ("no other", "no agent")])
def test_either_may_go_first(
    both: Both,
    exporter: InMemorySpanExporter,
    begun: tuple[str, ...],
    ended: tuple[str, ...],
) -> None:
    """Case 12: the driver is usable at each step, and nothing is told twice."""
    told = []
    for who in (*begun, *ended):
        both.act(who)
        exporter.clear()
        both.run("SELECT 1")
        told.append(len(clients(exporter)))

    assert [1, 1] == told[:2]
    assert set(told[2:]) <= {0, 1}


def test_a_failure_has_the_servers_code(
    both: Both, exporter: InMemorySpanExporter
) -> None:
    """Case 46: SQLSTATE or name, as the status and as the type of the error."""
    both.act("agent")

    both.run("SELECT * FROM nowhere")

    code = {"sqlite3": "SQLITE_ERROR", "psycopg2": "42P01"}[both.name]
    (span,) = clients(exporter)
    assert code == span.attributes["db.response.status_code"]
    assert code == span.attributes["error.type"]
    assert "SELECT nowhere" == span.name == span.attributes["db.query.summary"]
