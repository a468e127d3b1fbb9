"""The agent: it governs what was imported, and its faults are its own."""

from __future__ import annotations

import math
import sys
import threading
import time
import types
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
import wrapt

from fakes import a_call, open_circuit
from resilience_instrument import _agent, _fork
from resilience_instrument._agent import Agent
from resilience_instrument.config.load import from_environment
from resilience_instrument.integrations import _http, _patch
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.signals import catalog, server, tracing
from resilience_instrument.signals.port import Port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[..., Agent]

REQUESTS = types.SimpleNamespace(__version__="2.0")


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make agents whose wrappers and servers are gone after the test."""
    agents: list[Agent] = []
    applied: list[Any] = []
    apply = _patch.apply
    monkeypatch.setattr(_patch, "apply", lambda targets: applied.append(apply(targets)))
    monkeypatch.setattr(_agent._Process, "agent", None)
    monkeypatch.setattr(_agent._Process, "inactive", False)

    def made(**settings: str) -> Agent:
        environ = {f"RESILIENCE_{k}": v for k, v in settings.items()}
        agents.append(
            Agent(from_environment({"RESILIENCE_METRICS_PORT": "0"} | environ))
        )
        return agents[-1]

    yield made
    for done in applied:
        _patch.remove(done)
    for agent in agents:
        if agent.port.server is not None:
            agent.port.server.close()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every setting out of the environment, and serve nothing."""
    import os

    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RESILIENCE_METRICS_PORT", "0")


def patches(agent: Agent) -> set[tuple[str, ...]]:
    """Return how the libraries stand."""
    scope = catalog.PATCH_INFO.scope
    blocks = [b for b in agent.store.blocks() if b.layout.scope == scope]
    return {block.labels for block in blocks}


def test_a_library_is_wrapped(make: Make) -> None:
    """And that is stated, with its version."""
    agent = make()

    agent.govern("requests", REQUESTS)  # type: ignore[arg-type]

    assert {("requests", "2.0", "patched")} == patches(agent)


def test_a_library_may_be_left_alone(make: Make) -> None:
    """`RESILIENCE_DISABLE` names it."""
    agent = make(DISABLE="requests, httpx")

    agent.govern("requests", REQUESTS)  # type: ignore[arg-type]

    assert {("requests", "2.0", "disabled")} == patches(agent)


def test_a_library_of_another_shape_is_left_alone(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fault is counted and said; the others are governed."""
    monkeypatch.setitem(LIBRARIES, "odd", "no.such.room")
    agent = make()

    agent.govern("odd", types.ModuleType("odd"))
    agent.govern("requests", REQUESTS)  # type: ignore[arg-type]

    assert {("odd", "", "failed"), ("requests", "2.0", "patched")} == patches(agent)
    assert "fault of the agent in patch:odd" in capsys.readouterr().err


def test_the_metrics_are_served_from_the_first_call_on(
    make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once; the banner says where, for who asked for it."""
    agent = make(METRICS_PORT="9480-9499", BANNER="1")
    agent.runtime.observer.call_started(a_call())

    agent.begin()
    agent.begin()

    line = said(capsys)
    url = line.partition("metrics at ")[2]
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert b'resilience_inflight{service="payment-api"} 1.0' in answer.read()


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line that the thread which serves has to say."""
    end = time.monotonic() + 30
    lines: list[str] = []
    while not lines and time.monotonic() < end:
        time.sleep(0.01)
        lines = capsys.readouterr().err.splitlines()
    (line,) = lines
    return line


def test_only_one_of_many_callers_begins(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many threads make the first call, and none goes on before it is done."""
    agent = make()
    opened: list[bool] = []

    def slowly() -> None:
        time.sleep(0.05)
        opened.append(agent._begun)

    monkeypatch.setattr(Port, "open", lambda _: slowly())
    threads = [threading.Thread(target=agent.begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [False] == opened
    assert agent._begun


def test_metrics_that_cannot_begin_leave_the_calls_governed(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is a fault of ours: counted, said, and not tried again."""

    def fail(_: Port) -> None:
        message = "no room"
        raise RuntimeError(message)

    monkeypatch.setattr(Port, "open", fail)
    agent = make()

    agent.begin()
    agent.begin()

    assert 1 == capsys.readouterr().err.count("fault of the agent in metrics")


def test_a_port_that_is_taken_is_said_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The app goes on without metrics; without ports nothing is said."""
    monkeypatch.setattr(server, "bind", lambda *_: None)

    make(METRICS_PORT="9470-9471").begin()
    make().begin()

    line = "no free port in 9470-9471, metrics are not served"
    assert f"resilience-instrument: {line}" == said(capsys)


def test_a_standing_says_how_a_service_stands(make: Make) -> None:
    """State, budget and timeouts as they are now."""
    agent = make(TIMEOUT_READ="7")
    policies = agent.registry.policies("payment-api")
    open_circuit(policies.breaker, agent.clock.monotonic())

    standing = agent.standing("payment-api")

    assert standing is not None
    assert ("open", policies.breaker.until, 1.0) == standing[:3]
    assert 7.0 == standing.timeouts["read"]
    assert agent.standing("nobody") is None


def test_a_budget_of_nothing_is_never_forgotten(make: Make) -> None:
    """Nothing is left of it, now and in any time to come."""
    agent = make(RETRY_BUDGET="0", RETRY_BUDGET_MIN="0")
    agent.registry.policies("payment-api")

    standing = agent.standing("payment-api")

    assert standing is not None
    assert (0.0, math.inf) == (standing.budget_ratio, standing.budget_until)


def test_a_child_counts_for_itself(make: Make) -> None:
    """Fresh locks and counts, the parent's circuits, no server of its parent's."""
    agent = make(METRICS_PORT="9480-9499")
    agent.begin()
    agent.runtime.observer.call_started(a_call())
    while agent.port.server is None:
        time.sleep(0.01)

    agent._renew()

    left: Any = agent.port.server
    assert left is None
    assert not agent._begun
    assert "payment-api" not in str([b.labels for b in agent.store.blocks()])
    agent._renew()


@pytest.mark.usefixtures("quiet", "make")
def test_an_imported_library_starts_the_agent_once() -> None:
    """The second library finds the agent of the first."""
    import httpx
    import requests

    _agent.library_imported("requests", requests)
    first = _agent._Process.agent
    _agent.library_imported("httpx", httpx)

    assert first is not None
    assert first is _agent._Process.agent
    assert {"requests", "httpx"} == {library for library, _, _ in patches(first)}


@pytest.mark.usefixtures("quiet", "make")
def test_settings_that_cannot_be_used_leave_the_app_ungoverned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """That is said in one line, once."""
    monkeypatch.setenv("RESILIENCE_TIMEOUT_READ", "soon")

    _agent.library_imported("requests", REQUESTS)  # type: ignore[arg-type]
    _agent.library_imported("httpx", REQUESTS)  # type: ignore[arg-type]

    assert _agent._Process.agent is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "the app runs ungoverned: RESILIENCE_TIMEOUT_READ='soon'" in line


def first_observer(agent: Agent) -> Any:
    """Return who is told first."""
    fanout: Any = agent.runtime.observer
    return fanout.observers[0]


@pytest.mark.usefixtures("quiet", "make")
@pytest.mark.parametrize("where", ["describe", "engine", "observer", "classify"])
def test_every_place_that_can_fail_can_be_made_to(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """What is provoked raises where it was asked to."""
    monkeypatch.setattr(_http, "judge_status", _http.judge_status)
    monkeypatch.setenv("RESILIENCE_TEST_FAULT", where)

    agent = _agent._start()

    assert agent is not None
    places: dict[str, Callable[..., object]] = {
        "describe": lambda: agent.runtime.registry.policies("x"),
        "engine": lambda: agent.runtime.observer.call_started(a_call()),
        "observer": lambda: first_observer(agent).any_event(),
        "classify": _http.judge_status,
    }
    with pytest.raises(RuntimeError, match="provoked"):
        places[where]()


@pytest.mark.usefixtures("quiet", "make")
def test_a_place_that_does_not_exist_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A typing error does not look like a fault that was survived."""
    monkeypatch.setenv("RESILIENCE_TEST_FAULT", "nowhere")

    _agent._start()

    assert "'nowhere' names no place that can fail" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (AttributeError("no send"), "skipped"),
        (ImportError("no adapters", name="requests.adapters"), "skipped"),
        (ImportError("no wrapt", name="wrapt"), "failed"),
        (TypeError("odd"), "failed"),
    ],
)
def test_another_shape_is_skipped_and_a_fault_is_a_failure(
    make: Make, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    """What the library does not have is no fault of anybody's."""

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(_patch, "apply", fail)
    agent = make()

    agent.govern("requests", REQUESTS)  # type: ignore[arg-type]

    assert {("requests", "2.0", expected)} == patches(agent)


@pytest.mark.usefixtures("quiet")
def test_a_process_that_joins_others_begins_at_its_first_library(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the only one left that can show what they counted."""
    agent = make()
    monkeypatch.setattr(Port, "is_wanted", lambda _: True)

    agent.govern("requests", REQUESTS)  # type: ignore[arg-type]

    assert agent._begun


def test_spans_are_set_up_where_only_variables_ask_for_them(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the first call."""
    asked: list[object] = []
    monkeypatch.setattr(tracing, "is_asked_for", lambda _: True)
    monkeypatch.setattr(tracing, "set_up", asked.append)

    make().begin()

    assert 1 == len(asked)


@pytest.mark.parametrize("warns", [True, False])
def test_before_a_fork_our_thread_is_excused_where_python_warns(
    make: Make, monkeypatch: pytest.MonkeyPatch, *, warns: bool
) -> None:
    """It is not asked elsewhere."""
    asked: list[bool] = []
    monkeypatch.setattr(_fork, "WARNS", warns)
    monkeypatch.setattr(_fork, "excuse", lambda _, ours: asked.append(ours))

    make()._excuse()

    assert [False] * warns == asked


def test_another_tracer_below_is_seen(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapper that is not ours, of an instrumentation that is loaded."""

    class Owner:
        def send(self) -> None:
            """Stand for a function of a library."""

    def through(wrapped: Any, *_: object) -> Any:
        return wrapped()

    theirs: Any = wrapt.FunctionWrapper(vars(Owner)["send"], through)
    setattr(Owner, "send", theirs)  # noqa: B010 - mypy
    agent = make()
    targets = [_patch.Target(Owner, "send", through)]
    _patch.apply(targets)
    agent._targets["lib"] = targets

    assert not agent.traced_below("lib")
    monkeypatch.setitem(sys.modules, "opentelemetry.instrumentation.lib", types)
    assert agent.traced_below("lib")
    assert not agent.traced_below("requests")
