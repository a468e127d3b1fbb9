"""The agent and its configuration: mode, tracing, and a file that changes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from resilience_instrument import _agent
from resilience_instrument._agent import Agent
from resilience_instrument.call import Call
from resilience_instrument.config.load import from_environment
from resilience_instrument.config.match import Destination
from resilience_instrument.signals import catalog, standing
from resilience_instrument.signals.spans import SpanObserver

if TYPE_CHECKING:
    from collections.abc import Callable

TO = Destination("http", "pay")


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Agent]:
    """Start agents with a file."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RESILIENCE_METRICS_PORT", "0")
    monkeypatch.setenv("RESILIENCE_CONFIG", "r.toml")

    def started(text: str) -> Agent:
        write(text)
        return Agent(from_environment(os.environ))

    return started


def write(text: str) -> None:
    """Put the file there."""
    Path("new").write_text(text, encoding="utf-8")
    Path("new").replace("r.toml")


def read(agent: Agent) -> float | None:
    """Return the read timeout of a call some time later."""
    assert agent._watch is not None
    agent._watch._next = 0.0
    return agent.registry.policies("pay", to=TO).settings.timeout.read


def reloads(agent: Agent) -> dict[str, int]:
    """Return how many changes were applied and refused."""
    metric = catalog.CONFIG_RELOAD
    block = agent.store.block(metric.scope)
    return {
        outcome: block.counts[block.layout.at(metric, outcome)]
        for outcome in metric.labels["outcome"]
    }


def mode(agent: Agent) -> str:
    """Return the mode that is stated."""
    scope = catalog.AGENT_INFO.scope
    blocks = [block for block in agent.store.blocks() if block.layout.scope == scope]
    ((_, stated, _),) = [block.labels for block in blocks if block.counts[0]]
    return stated


def test_a_changed_file_is_applied_and_counted(start: Callable[[str], Agent]) -> None:
    """The mode that is stated is the one that holds."""
    agent = start("[defaults]\ntimeout.read = 1\n")
    assert ("enforce", 1.0) == (mode(agent), read(agent))

    write('[defaults]\ntimeout.read = 2\nmode = "observe"\n')

    assert 2.0 == read(agent)
    assert "observe" == agent.registry.settings.mode
    assert "observe" == mode(agent)
    assert {"applied": 1, "refused": 0} == reloads(agent)


def timeouts(agent: Agent, service: str) -> tuple[float | None, ...]:
    """Return connect, read and total timeout as they are stated."""
    block = agent.store.calm(service)
    now = agent.clock.monotonic()
    stated = standing.read(service, block.counts, block.sums, now)
    assert stated is not None
    return tuple(stated.timeouts[kind] for kind in ("connect", "read", "total"))


def test_a_changed_file_states_the_timeouts_anew(
    start: Callable[[str], Agent],
) -> None:
    """Of every service that is known, whoever calls next; also where it has a name."""
    named = '[services.shop]\nmatch = "shop.internal"\ntimeout.connect = '
    agent = start(f"[defaults]\ntimeout.read = 1\n{named}0.5\n")
    shop = Destination("http", "shop.internal")
    for to in (TO, shop):
        policies = agent.registry.policies("pay", to=to)
        call = Call(
            library="requests",
            service=policies.service,
            endpoint="/",
            operation="GET",
            repeatable=True,
        )
        agent.metrics.call_started(call)
    assert (3.0, 1.0) == timeouts(agent, "pay")[:2]
    assert (0.5, 1.0) == timeouts(agent, "shop")[:2]

    write(f"[defaults]\ntimeout.read = 2\n{named}0.7\n")
    read(agent)

    assert (3.0, 2.0) == timeouts(agent, "pay")[:2]
    assert (0.7, 2.0) == timeouts(agent, "shop")[:2]


def test_a_bad_change_is_said_and_counted(
    start: Callable[[str], Agent], capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line; the app goes on."""
    agent = start("[defaults]\ntimeout.read = 1\n")

    write("[defaults]\ntimeout.reed = 2\n")

    assert (1.0, 1.0) == (read(agent), read(agent))
    assert {"applied": 0, "refused": 1} == reloads(agent)
    said = 'r.toml:2: defaults.timeout.reed: unknown; did you mean "read"?'
    line = f"resilience-instrument: the changed configuration is not used: {said}\n"
    assert line == capsys.readouterr().err


@pytest.mark.parametrize("text", ["[agent]\nreload = false\n", None])
def test_without_a_file_to_watch_nobody_looks(
    start: Callable[[str], Agent], monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """None is named, or it shall not be read again."""
    if text is None:
        monkeypatch.delenv("RESILIENCE_CONFIG")

    assert start(text or "[agent]\n")._watch is None


def test_the_kill_switch_works_while_the_app_runs(
    start: Callable[[str], Agent],
) -> None:
    """The next call passes untouched, and the one after the next change does not."""
    agent = start("[defaults]\nenabled = true\n")
    first = agent.registry.policies("pay", to=TO)

    write("[defaults]\nenabled = false\n")
    read(agent)

    assert first.settings.enabled
    assert not agent.registry.policies("pay", to=TO).settings.enabled


def test_spans_can_be_switched_off(start: Callable[[str], Agent]) -> None:
    """By the section that is named after them."""
    traced: Any = start("[tracing]\n").runtime.observer
    untraced: Any = start("[tracing]\nenabled = false\n").runtime.observer

    assert any(isinstance(each, SpanObserver) for each in traced.observers)
    assert not any(isinstance(each, SpanObserver) for each in untraced.observers)


def test_a_child_looks_for_itself(start: Callable[[str], Agent]) -> None:
    """A fork while another thread looks does not end all looking."""
    agent = start("[defaults]\ntimeout.read = 1\n")
    assert agent._watch is not None
    agent._watch._lock.acquire()
    write("[defaults]\ntimeout.read = 2\n")

    agent._renew()

    assert 2.0 == read(agent)


def test_a_bad_file_at_the_start_is_said_once(
    start: Callable[[str], Agent],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The app runs ungoverned."""
    start("[agent]\n")
    write("[agent\n")
    monkeypatch.setattr(_agent._Process, "agent", None)
    monkeypatch.setattr(_agent._Process, "inactive", False)

    assert _agent._start() is None
    assert _agent._start() is None

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("resilience-instrument: the app runs ungoverned: r.toml:1:")
