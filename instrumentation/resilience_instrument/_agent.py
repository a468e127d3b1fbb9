"""The agent: the only module that knows every room, and wires them to the rest.

It is loaded when a library that it governs has just been imported, never before.
One agent serves a process; a forked child gets fresh locks and counts of its own.
"""

from __future__ import annotations

import importlib
import os
import platform
import threading
from typing import TYPE_CHECKING, Any, final

from resilience_instrument import __version__
from resilience_instrument.clock import SystemClock
from resilience_instrument.config.load import from_environment
from resilience_instrument.errors import ConfigError
from resilience_instrument.integrations import _patch
from resilience_instrument.integrations._room import Runtime
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.registry import Registry
from resilience_instrument.signals import server
from resilience_instrument.signals.exposition import Exposition
from resilience_instrument.signals.fanout import Fanout
from resilience_instrument.signals.faults import Faults, say
from resilience_instrument.signals.log import LogObserver
from resilience_instrument.signals.metrics import MetricsObserver
from resilience_instrument.signals.snapshot import ServiceSnapshot
from resilience_instrument.signals.spans import SpanObserver
from resilience_instrument.signals.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from resilience_instrument.config.model import AgentSettings


@final
class Agent:
    """Everything that one process has of the agent.

    Args:
        settings: What was configured.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._serving = False
        self._server: server.Server | None = None
        self._lock = threading.Lock()
        self.clock = SystemClock()
        self.registry = Registry(settings.defaults, self.clock)
        self.store = Store()
        self.metrics = MetricsObserver(self.store)
        self.faults = Faults(self.metrics.agent_error)
        observers = [self.metrics, LogObserver(), SpanObserver()]
        observer = Fanout(observers, self.faults.report)
        self.runtime = Runtime(
            self.registry, observer, self.clock, self.faults.report, self.serve
        )
        self.runtime.fast = True
        self.metrics.agent_info(__version__, "enforce", platform.python_version())
        os.register_at_fork(after_in_child=self._renew)

    def govern(self, library: str, module: ModuleType) -> None:
        """Wrap what has to be wrapped in `library`, all of it or nothing."""
        version = str(getattr(module, "__version__", ""))
        self.metrics.patch_info(library, version, self._wrap(library))

    def _wrap(self, library: str) -> str:
        """Wrap a library's functions and return how it stands then."""
        if library in self._settings.disabled:
            return "disabled"
        try:
            room = importlib.import_module(LIBRARIES[library])
            _patch.apply(room.targets(self.runtime))
        except Exception as error:
            # A library of another shape is left alone; the others are governed.
            self.faults.report(f"patch:{library}", error)
            return "failed"
        return "patched"

    def serve(self) -> None:
        """Serve the metrics, from the first call on and once a process."""
        if self._serving or not self._claim_serving():
            return
        exposition = Exposition(self.store, self.snapshots, self.metrics.infos)
        settings = self._settings
        self._server = server.start(
            settings.metrics_host, settings.metrics_ports, exposition.render
        )
        if self._server is None and settings.metrics_ports:
            ports = settings.metrics_ports
            say(f"no free port in {ports[0]}-{ports[-1]}, metrics are not served")
        elif self._server is not None and os.environ.get("RESILIENCE_BANNER") == "1":
            say(f"metrics at {self._server.url}")

    def _claim_serving(self) -> bool:
        """Return True to one caller only, however many come at once."""
        with self._lock:
            claimed, self._serving = not self._serving, True
        return claimed

    def snapshots(self) -> Iterator[ServiceSnapshot]:
        """Yield how every service stands at this moment."""
        now = self.clock.monotonic()
        for policies in self.registry.known():
            timeout = policies.settings.timeout
            kinds = ("connect", "read", "write", "pool", "total")
            yield ServiceSnapshot(
                policies.service,
                policies.breaker.state(now),
                policies.budget.ratio_left(now),
                {kind: getattr(timeout, kind) for kind in kinds},
            )

    def _renew(self) -> None:
        """Run in a child that was just forked: assignments only, nothing waits."""
        self._lock = threading.Lock()
        self._serving = False
        inherited, self._server = self._server, None
        self.registry.renew_locks()
        self.store.renew()
        self.clock.reseed()
        if inherited is not None:
            inherited.abandon()


@final
class _Process:
    """Whether this process has an agent, and whether it must do without."""

    agent: Agent | None = None
    inactive = False
    lock = threading.RLock()


def library_imported(library: str, module: ModuleType) -> None:
    """Govern a library that has just been imported.

    With settings that cannot be used the app runs ungoverned: that is said once.
    """
    with _Process.lock:
        agent = _Process.agent or _start()
        if agent is not None:
            agent.govern(library, module)


def _start() -> Agent | None:
    if _Process.inactive:
        return None
    try:
        agent = Agent(from_environment(os.environ))
    except ConfigError as error:
        _Process.inactive = True
        say(f"the app runs ungoverned: {error}")
        return None
    where = os.environ.get("RESILIENCE_TEST_FAULT")
    if where:
        _provoke(agent, where)
    _Process.agent = agent
    return agent


def _provoke(agent: Agent, where: str) -> None:
    """Make our own code fail on purpose, to see that the app wins.

    Args:
        agent: The agent that will fail.
        where: `describe`, `classify`, `observer` or `engine`.
    """

    def fail(*_: Any, **__: Any) -> Any:
        message = "provoked by RESILIENCE_TEST_FAULT"
        raise RuntimeError(message)

    class Failing:
        def __getattr__(self, name: str) -> Any:
            return fail

    runtime = agent.runtime
    # Else most calls would not pass the place that is to fail.
    runtime.fast = False
    if where == "describe":
        runtime.registry = Failing()  # type: ignore[assignment]
    elif where == "engine":
        runtime.observer = Failing()
    elif where == "observer":
        runtime.observer = Fanout([Failing(), agent.metrics], agent.faults.report)
    elif where == "classify":
        http = importlib.import_module("resilience_instrument.integrations._http")
        http.judge_status = fail  # type: ignore[attr-defined]
    else:
        say(f"RESILIENCE_TEST_FAULT={where!r} names no place that can fail")
