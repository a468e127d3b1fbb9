"""The agent: it governs what was imported, and its faults are its own."""

from __future__ import annotations

import types
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from fakes import a_call, open_circuit
from resilience_instrument import _agent
from resilience_instrument._agent import Agent
from resilience_instrument.config.load import from_environment
from resilience_instrument.integrations import _http, _patch
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.signals import server

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
        if agent._server is not None:
            agent._server.close()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every setting out of the environment, and serve nothing."""
    import os

    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RESILIENCE_METRICS_PORT", "0")


def patches(agent: Agent) -> set[tuple[str, ...]]:
    """Return how the libraries stand."""
    return agent.metrics.infos["resilience_agent_patch_info"]


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

    agent.serve()
    agent.serve()

    (line,) = capsys.readouterr().err.splitlines()
    url = line.partition("metrics at ")[2]
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert b'resilience_inflight{service="payment-api"} 1.0' in answer.read()


def test_only_one_of_many_callers_serves(make: Make) -> None:
    """However many threads make the first call."""
    agent = make()

    assert [True, False, False] == [agent._claim_serving() for _ in range(3)]


def test_a_port_that_is_taken_is_said_once(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The app goes on without metrics; without ports nothing is said."""
    monkeypatch.setattr(server, "start", lambda *_: None)

    make(METRICS_PORT="9470-9471").serve()
    make().serve()

    line = "no free port in 9470-9471, metrics are not served\n"
    assert f"resilience-instrument: {line}" == capsys.readouterr().err


def test_a_snapshot_says_how_a_service_stands(make: Make) -> None:
    """State, budget and timeouts as they are now."""
    agent = make(TIMEOUT_READ="7")
    policies = agent.registry.policies("payment-api")
    open_circuit(policies.breaker, agent.clock.monotonic())

    (snapshot,) = agent.snapshots()

    assert ("payment-api", "open", 1.0) == snapshot[:3]
    assert 7.0 == snapshot.timeouts["read"]


def test_a_child_counts_for_itself(make: Make) -> None:
    """Fresh locks and counts, the parent's circuits, no server of its parent's."""
    agent = make(METRICS_PORT="9480-9499")
    agent.serve()
    agent.runtime.observer.call_started(a_call())
    served = agent._server
    assert served is not None

    agent._renew()

    assert (None, False) == (agent._server, agent._serving)
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
