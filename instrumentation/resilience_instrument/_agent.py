"""The agent: the only module that knows every room, and wires them to the rest.

It is loaded when a library that it governs has just been imported, never before.
One agent serves a process; a forked child gets fresh locks and counts of its own.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument import __version__, _fork
from resilience_instrument.clock import SystemClock
from resilience_instrument.config.load import (
    agent_settings,
    file_of,
    from_environment,
)
from resilience_instrument.config.reload import Watch
from resilience_instrument.errors import ConfigError
from resilience_instrument.integrations import _patch
from resilience_instrument.integrations._room import Runtime
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.native import allocate_lock
from resilience_instrument.registry import Registry
from resilience_instrument.signals import catalog, tracing
from resilience_instrument.signals.fanout import Fanout
from resilience_instrument.signals.faults import Faults, debug, say
from resilience_instrument.signals.log import LogObserver
from resilience_instrument.signals.metrics import MetricsObserver
from resilience_instrument.signals.port import Port
from resilience_instrument.signals.spans import SpanObserver
from resilience_instrument.signals.standing import Standing
from resilience_instrument.signals.store import Store

if TYPE_CHECKING:
    from types import ModuleType

    from resilience_instrument.config.model import AgentSettings
    from resilience_instrument.config.plan import Plan


@final
class Agent:
    """Everything that one process has of the agent.

    Args:
        settings: What was configured.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._begun = False
        self._lock = allocate_lock()
        self._targets: dict[str, list[_patch.Target]] = {}
        self.clock = SystemClock()
        self.registry = Registry(settings.defaults, self.clock)
        self.registry.adopt(settings)
        self.store = Store()
        self.metrics = MetricsObserver(self.store, self.standing)
        self.port = Port(
            self.store,
            settings.metrics_host,
            settings.metrics_ports,
            os.environ,
            banner=settings.banner,
        )
        self.faults = Faults(self.metrics.agent_error)
        observers: list[object] = [self.metrics, LogObserver()]
        if settings.tracing:
            observers.append(SpanObserver(self.traced_below))
        observer = Fanout(observers, self.faults.report)
        self.runtime = Runtime(
            self.registry, observer, self.clock, self.faults.report, self.begin
        )
        self.runtime.fast = True
        self._state_mode(settings)
        self._watch = self._watched()
        os.register_at_fork(before=self._excuse, after_in_child=self._renew)

    def _state_mode(self, settings: AgentSettings) -> None:
        mode = settings.defaults.mode
        self.metrics.agent_info(__version__, mode, sys.version.partition(" ")[0])

    def _watched(self) -> Watch | None:
        """Look at the configuration's file before calls, if there is one."""
        file, settings = file_of(os.environ), self._settings
        if file is None or not settings.reload:
            return None
        checksum, environ = settings.plan.checksum, dict(os.environ)
        watch = Watch(file, checksum, environ, self._reload, self._refuse)
        self.registry.look = watch.look
        return watch

    def _reload(self, plan: Plan) -> None:
        """Go on by a changed file; the metrics' port stays where it is."""
        settings = agent_settings(plan)
        self.registry.adopt(settings)
        self._state_mode(settings)
        self.metrics.config_reloaded("applied")
        for policies in self.registry.known():
            if self.registry.newest(policies).timeout != policies.settings.timeout:
                # Else they would be stated when something happens to a call.
                self.metrics.restate(policies.service)

    def _refuse(self, error: Exception) -> None:
        """Go on as before: the changed file cannot be used."""
        self.metrics.config_reloaded("refused")
        say(f"the changed configuration is not used: {error}")

    def govern(self, library: str, module: ModuleType) -> None:
        """Wrap what has to be wrapped in `library`, all of it or nothing."""
        version = str(getattr(module, "__version__", ""))
        status = self._wrap(library)
        self.metrics.patch_info(library, version, status)
        debug(f"{library} {version} is {status}")
        if self.port.is_wanted():
            self.begin()

    def _wrap(self, library: str) -> str:
        """Wrap a library's functions and return how it stands then."""
        if library in self._settings.disabled:
            return "disabled"
        try:
            room = importlib.import_module(LIBRARIES[library])
            targets = room.targets(self.runtime)
            _patch.apply(targets)
            self._targets[library] = targets
        except AttributeError as error:
            # Another shape than we know, such as a later version or a stub.
            debug(f"{library} has another shape: {error}")
            return "skipped"
        except Exception as error:
            if isinstance(error, ImportError) and _is_part(error.name, library):
                debug(f"{library} has another shape: {error}")
                return "skipped"
            # It is left alone; the others are governed.
            self.faults.report(f"patch:{library}", error)
            return "failed"
        return "patched"

    def begin(self) -> None:
        """Keep and serve the metrics, from the first call on and once a process."""
        if self._begun:
            return
        with self._lock:
            if not self._begun:
                try:
                    self.metrics.repeat_infos()
                    self.port.open()
                    if tracing.is_asked_for(os.environ):
                        tracing.set_up(os.environ)
                except Exception as fault:
                    # Without metrics the calls are governed all the same.
                    self.faults.report("metrics", fault)
                self._begun = True

    def traced_below(self, library: str) -> bool:
        """Tell whether OpenTelemetry's instrumentation of a library is below us."""
        if f"opentelemetry.instrumentation.{library}" not in sys.modules:
            return False
        import wrapt  # noqa: PLC0415 - the other one has loaded it

        return any(
            _patch.is_ours(found)
            and isinstance(_patch.original_of(found), wrapt.FunctionWrapper)
            for target in self._targets.get(library, ())
            # Those of databases wrap a connect to get hold of the connection, and
            # trace its statements from around it.
            if target.name != "connect"
            for found in [vars(target.owner).get(target.name)]
        )

    def standing(self, service: str) -> Standing | None:
        """Return how a service stands at this moment, by the worst way to it."""
        now = self.clock.monotonic()
        routes = [p for p in self.registry.known() if p.service == service]
        if not routes:
            return None
        states = [policies.breaker.state(now) for policies in routes]
        worst = states.index(max(states, key=_BADNESS.__getitem__))
        ratio = min(policies.budget.ratio_left(now) for policies in routes)
        settings = self.registry.newest(routes[0])
        retry = settings.retry
        timeouts = {k: getattr(settings.timeout, k) for k in catalog.TIMEOUT_KINDS}
        # What was taken is forgotten after a window; where nothing may ever be
        # taken, nothing will be left at any time.
        allowed = retry.budget or retry.budget_min
        forgotten = now + retry.budget_window if allowed else math.inf
        until = routes[worst].breaker.until
        return Standing(states[worst], until, ratio, forgotten, timeouts)

    def _excuse(self) -> None:
        """Run before a fork: the app is not warned of a thread that is ours."""
        if _fork.WARNS:
            _fork.excuse(_fork.count_threads, ours=self.port.has_thread)

    def _renew(self) -> None:
        """Run in a child that was just forked: assignments only, nothing waits."""
        _Process.lock = threading.RLock()
        self._lock = allocate_lock()
        self._begun = False
        self.registry.renew_locks()
        if self._watch is not None:
            self._watch.renew_lock()
        self.store.renew()
        self.metrics.renew()
        self.clock.reseed()
        self.port.leave_to_parent()


def _is_part(name: str | None, library: str) -> bool:
    return name is not None and name.partition(".")[0] == library.partition(".")[0]


_BADNESS: Final = {"closed": 0, "half_open": 1, "open": 2}


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

    class Unknowing:
        """A registry that rooms can be made with, and that knows no service."""

        policies = staticmethod(fail)

        def __getattr__(self, name: str) -> Any:
            return getattr(agent.registry, name)

    runtime = agent.runtime
    # Else most calls would not pass the place that is to fail.
    runtime.fast = False
    if where == "describe":
        runtime.registry = Unknowing()  # type: ignore[assignment]
    elif where == "engine":
        runtime.observer = Failing()
    elif where == "observer":
        runtime.observer = Fanout([Failing(), agent.metrics], agent.faults.report)
    elif where == "classify":
        http = importlib.import_module("resilience_instrument.integrations._http")
        http.judge_status = fail  # type: ignore[attr-defined]
    else:
        say(f"RESILIENCE_TEST_FAULT={where!r} names no place that can fail")
