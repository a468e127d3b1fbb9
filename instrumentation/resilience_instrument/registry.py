"""What governs each service: made when it is first called, bounded in number.

A service's breaker and budget live here. Where more services are called than the
limit, those that were idle longest make room; a circuit that is not closed is
never dropped, since it would be forgotten that the service is down.
"""

from __future__ import annotations

import copy
import threading
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from resilience_instrument.config.match import Destination, destination
from resilience_instrument.config.model import BulkheadSettings, Timeouts
from resilience_instrument.frozen import replace
from resilience_instrument.policies.adaptive import AdaptiveTimeout
from resilience_instrument.policies.breaker import Breaker
from resilience_instrument.policies.budget import budget_for
from resilience_instrument.policies.bulkhead import Bulkhead
from resilience_instrument.policies.fallback import Memory
from resilience_instrument.policies.latency import Latencies
from resilience_instrument.policies.throttle import Throttle
from resilience_instrument.policies.timeout import shorter

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from resilience_instrument.call import Call
    from resilience_instrument.clock import Clock
    from resilience_instrument.config.model import (
        AgentSettings,
        ServiceSettings,
    )
    from resilience_instrument.config.plan import Plan
    from resilience_instrument.policies.budget import RetryBudget

LIMIT: Final = 1024
"""Services kept at most; the same limit holds for the metrics' label."""

NO_LIMITS: Final = Timeouts(None, None, None, None, None)

_NO_VIEWS: Final[Mapping[tuple[int, str], ServicePolicies]] = MappingProxyType({})


class Shadow(NamedTuple):
    """What a call that is only observed is played with.

    Attributes:
        policies: Circuit, budget and the rest, but no bulkhead.
        places: The bulkhead, whose places count while the call is under way.
    """

    policies: ServicePolicies
    places: Bulkhead | None


class _Paying:
    """What a call touches of a service that is the first one in a second.

    Attributes:
        _base: What is kept of the service, None where this is it.
        budget: The retry budget.
        used: When it was in use, within a second: the end of one of its budget's.
    """

    __slots__ = ("_base", "budget", "used")

    _base: ServicePolicies | None
    budget: RetryBudget
    used: float


@final
class ServicePolicies(_Paying):
    """The settings of one service and the state of its policies.

    A call keeps the object that it began with. Objects of one service differ in
    their settings (a health check, another library, a newer file) and share state.

    What is None or false is off; `plain` says that a first attempt that succeeds
    concerns breaker, budget and `latencies` only. `adaptive` has one estimate for
    calls that may have an effect and one for those that may be repeated, in this order;
    `measures` says whether there are any. What most services never need is made when
    it is asked for, as there may be thousands of them.
    """

    __slots__ = (
        "_adaptive",
        "_clock",
        "_memory",
        "_shadow",
        "breaker",
        "bulkhead",
        "gated",
        "hedges",
        "latencies",
        "measures",
        "plain",
        "plan",
        "revises",
        "service",
        "settings",
        "throttle",
        "to",
        "views",
    )

    def __init__(self, service: str, settings: ServiceSettings, clock: Clock) -> None:
        self.service = service
        self._clock = clock
        draw = _uniform_of(clock)  # type: ignore[arg-type] # a protocol, yet hashable
        self.breaker = Breaker(service, settings.breaker, draw)
        self.used = clock.monotonic()
        self.plan: Plan | None = None
        """The plan that the settings come from."""
        self.to: Destination | None = None
        """Where its first call went, None where there is no plan."""
        self.views = _NO_VIEWS
        """The same service by other settings of the same plan."""
        self._memory: Memory[Any] | None = None
        self._adaptive: tuple[AdaptiveTimeout, AdaptiveTimeout] | None = None
        self._base = None
        self._shadow: Shadow | None = None
        self._adopt(settings, None)

    def reconfigure(self, settings: ServiceSettings) -> None:
        """Go on by other settings. Calls under way end by those they began with."""
        before = self.settings
        if settings.breaker != before.breaker:
            self.breaker.reconfigure(settings.breaker, self._clock.monotonic())
        self._adopt(settings, before)

    def renewed(self, settings: ServiceSettings, plan: Plan) -> ServicePolicies:
        """Return the same service by the settings of a newer plan, state kept."""
        new = copy.copy(self)
        new.plan = plan
        new.views = _NO_VIEWS
        new.reconfigure(settings)
        if self._shadow is not None:
            policies, places = self._shadow
            policies.reconfigure(_played(settings))
            if settings.bulkhead != self.settings.bulkhead:
                places = _bulkhead(settings.bulkhead)
            new._shadow = Shadow(policies, places)  # noqa: SLF001 - its own class
        return new

    @property
    def base(self) -> ServicePolicies:
        """What is kept of the service, of which this may be a view."""
        return self if self._base is None else self._base

    @property
    def memory(self) -> Memory[Any]:
        """Good answers that may stand in for others."""
        base = self.base
        found = base._memory  # noqa: SLF001 - its own class
        if found is None:
            found = base._memory = Memory()  # noqa: SLF001 - its own class
        return found

    @property
    def adaptive(self) -> tuple[AdaptiveTimeout, AdaptiveTimeout] | None:
        """The estimates, None where nothing is measured."""
        ceiling = self._ceiling()
        if self._adaptive is None and ceiling is not None:
            settings, (effect, repeat) = self.settings.adaptive, self.latencies
            self._adaptive = (
                AdaptiveTimeout(settings, effect, ceiling),
                AdaptiveTimeout(settings, repeat, ceiling),
            )
        return self._adaptive

    def pay(self, now: float) -> None:
        """Pay into the retry budget for a call that starts at `now`.

        That the service is in use is noted where the budget looks at the time, which
        it does at least once a second: who was idle longest needs no more, and what
        every call writes is one object less.
        """
        budget = self.budget
        looks = now >= budget.edge
        budget.deposit(now)
        if looks:
            base, edge = self._base, budget.edge
            # Everybody's who was called in the same second, and so at hand.
            (self if base is None else base).used = max(now, edge)

    def took(self, call: Call, seconds: float, now: float, *, timed_out: bool) -> None:
        """Take in an attempt that succeeded or timed out, where this `measures`."""
        estimates = self.adaptive if self.settings.adaptive.mode == "enforce" else None
        if estimates is None:
            # Nobody is cut by an estimate: durations are all that it needs.
            self.latencies[call.repeatable].add(seconds, now)
        else:
            estimates[call.repeatable].record(seconds, now, timed_out=timed_out)

    @property
    def shadow(self) -> Shadow:
        """What a call that is only observed is played with. It is never shown."""
        found = self._shadow
        if found is None:
            if self._base is None:
                played = _played(self.settings)
                policies = ServicePolicies(self.service, played, self._clock)
                found = Shadow(policies, _bulkhead(self.settings.bulkhead))
            else:
                policies, places = self._base.shadow
                found = Shadow(policies.by(_played(self.settings)), places)
            self._shadow = found
        return found

    def by(self, settings: ServiceSettings) -> ServicePolicies:
        """Return the same service, state and all, for calls by other settings."""
        twin = copy.copy(self)
        twin.views = _NO_VIEWS
        twin._base, twin._shadow = self, None  # noqa: SLF001 - its own class
        shared = self.budget, self.bulkhead, self.throttle, self.gated
        twin._adopt(settings, self.settings)  # noqa: SLF001 - its own class
        # One budget, one bulkhead and, as it was copied, one circuit for all calls.
        twin.budget, twin.bulkhead, twin.throttle, twin.gated = shared
        twin.plain = twin._is_plain()  # noqa: SLF001 - its own class
        return twin

    def renew_locks(self) -> None:
        """Replace every lock, in a child that was just forked."""
        self.breaker.renew_lock()
        self.budget.renew_lock()
        if self.bulkhead is not None:
            self.bulkhead.renew_lock()
        if self.throttle is not None:
            self.throttle.renew_lock()
        shared = threading.Lock()
        for latencies in self.latencies:
            latencies.renew_lock(shared)
        for adaptive in self._adaptive or ():
            adaptive.renew_lock()
        if self._memory is not None:
            self._memory.renew_lock()
        # What was played is forgotten: a child observes afresh.
        self._shadow = None

    def _adopt(self, settings: ServiceSettings, before: ServiceSettings | None) -> None:
        """Make anew what `settings` change; the rest keeps what it knows."""
        retry = settings.retry
        if before is None or retry != before.retry:
            self.budget = budget_for(retry)
            named = retry.on_statuses is not None
            self.revises = named or bool(retry.on_errors or retry.except_errors)
        if before is None or settings.bulkhead != before.bulkhead:
            self.bulkhead = _bulkhead(settings.bulkhead)
        if before is None or settings.throttle != before.throttle:
            wanted = settings.throttle.enabled
            self.throttle = Throttle(settings.throttle, self._clock) if wanted else None
        if before is None or settings.adaptive.window != before.adaptive.window:
            window, lock = settings.adaptive.window, threading.Lock()
            self.latencies = (Latencies(window, lock), Latencies(window, lock))
        self.gated = self.bulkhead is not None or self.throttle is not None
        self.hedges = settings.hedge.enabled
        self.settings = settings
        self._adaptive = None
        self.measures = self._ceiling() is not None
        self.plain = self._is_plain()
        # Whoever calls at once must find the same: else it is made when it is needed.
        if settings.adaptive.mode == "enforce":
            self._adaptive = self.adaptive
        if settings.fallback is not None:
            self._memory = self.memory

    def _is_plain(self) -> bool:
        """Tell whether a first attempt that succeeds is nobody else's business."""
        settings = self.settings
        return (
            settings.enabled
            and settings.mode == "enforce"
            and settings.fallback is None
            and settings.idempotency_key is None
            and settings.adaptive.mode != "enforce"
            and not (self.gated or self.hedges or self.revises or self.budget.settles)
        )

    def _ceiling(self) -> float | None:
        """Return what an adaptive timeout stays below, None where there is none."""
        settings = self.settings
        if settings.adaptive.mode == "off" and not settings.hedge.enabled:
            return None
        return shorter(settings.timeout.read, settings.timeout.total)


def _bulkhead(settings: BulkheadSettings) -> Bulkhead | None:
    return None if settings.limit is None else Bulkhead(settings, settings.limit)


@final
class Registry:
    """Finds or makes the policies of a service.

    Args:
        settings: What governs a service that has no settings of its own.
        clock: Time and chance for the policies.
        limit: How many services are kept.
    """

    __slots__ = (
        "_caches",
        "_clock",
        "_destinations",
        "_limit",
        "_lock",
        "_services",
        "_whole",
        "look",
        "settings",
    )

    def __init__(
        self, settings: ServiceSettings, clock: Clock, limit: int = LIMIT
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._limit = limit
        self._lock = threading.Lock()
        self._services: dict[Hashable, ServicePolicies] = {}
        self._caches: list[dict[Any, Any]] = []
        self._whole: AgentSettings | None = None
        self._destinations: dict[str, Destination] = {}
        self.look: Callable[[float], None] = _look_away
        """Is told the time before each call, to see whether the file has changed."""

    def adopt(self, whole: AgentSettings) -> None:
        """Let these settings hold from the next call on; circuits are kept."""
        self.settings = whole.defaults
        self._whole = whole
        self._empty_caches()

    def policies(  # noqa: PLR0913 - what a room knows about a call
        self,
        service: str,
        route: Hashable = None,
        settings: ServiceSettings | None = None,
        *,
        to: Destination | None = None,
        library: str = "",
        upload: bool = False,
    ) -> ServicePolicies:
        """Return the policies of a call, made at the first one to its service.

        Args:
            service: The name of the service, where none is configured.
            route: How it is reached, such as a proxy. A dead proxy must not open
                the circuit of the service behind it.
            settings: What governs it where there is no plan.
            to: Where the call goes; without it, `service` is read as a URL.
            library: The library through which it goes.
            upload: Whether its body makes it an upload.
        """
        now = self._clock.monotonic()
        self.look(now)
        whole = self._whole
        if whole is None:
            return self._state(service, route, settings or self.settings, None)
        plan = whole.plan
        to = to or self._destination(service)
        match = plan.find(to, upload=upload)
        service = match.service or service
        found = self._state(service, route, match.settings, plan)
        if found.to is None:
            found.to = to
        if found.plan is not plan:
            found = self._renewed(found, _key(service, route), match.settings, plan)
        found.used = now
        if match.own is found.settings and not (whole.left_out or whole.disabled):
            return found
        return self._view(found, match.own, library, whole)

    def newest(self, policies: ServicePolicies) -> ServiceSettings:
        """Return what will govern a service from its next call on."""
        whole, to = self._whole, policies.to
        if whole is None or to is None or policies.plan is whole.plan:
            return policies.settings
        return whole.plan.find(to).settings

    def is_upload(self, headers: Mapping[str, str]) -> bool:
        """Tell whether a request with these headers sends a large body."""
        whole = self._whole
        if whole is None:
            return False
        length = _text(headers.get("Content-Length", ""))
        size = int(length) if length.isdecimal() else None
        kind = _text(headers.get("Content-Type", ""))
        return whole.plan.rules.is_upload(size, kind)

    def _state(
        self,
        service: str,
        route: Hashable,
        settings: ServiceSettings,
        plan: Plan | None,
    ) -> ServicePolicies:
        """Return what is kept of a service."""
        key = _key(service, route)
        found = self._services.get(key)
        if found is None:
            with self._lock:
                found = self._services.get(key)
                if found is None:
                    found = self._make_locked(service, key, settings)
                    found.plan = plan
        return found

    def _renewed(
        self,
        old: ServicePolicies,
        key: Hashable,
        settings: ServiceSettings,
        plan: Plan,
    ) -> ServicePolicies:
        """Return a service by the settings of a new plan, its circuit kept."""
        with self._lock:
            current = self._services.get(key, old)
            newest = self._whole is not None and self._whole.plan is plan
            if current.plan is plan or not newest:
                # Somebody else was faster, or there is a newer plan by now.
                return current
            new = current.renewed(settings, plan)
            if key in self._services:
                self._services[key] = new
        return new

    def _view(
        self,
        found: ServicePolicies,
        settings: ServiceSettings,
        library: str,
        whole: AgentSettings,
    ) -> ServicePolicies:
        """Return the same service by other settings, made once."""
        # The plan keeps its settings, so that an identity stays one.
        key = (id(settings), library)
        view = found.views.get(key)
        if view is None:
            left_out = {policy for name, policy in whole.left_out if name == library}
            if library in whole.disabled:
                settings = replace(settings, enabled=False)
            view = found.by(_without(settings, left_out))
            if "breaker" in left_out:
                breaker = replace(settings.breaker, mode="disabled")
                view.breaker = Breaker(found.service, breaker, self._clock.uniform)
            with self._lock:
                view = found.views.get(key, view)
                found.views = {**found.views, key: view}
        return view

    def _destination(self, service: str) -> Destination:
        """Return where a service is, by the name that a room gave it."""
        found = self._destinations.get(service)
        if found is None:
            if len(self._destinations) >= self._limit:
                self._destinations.clear()
            try:
                found = destination(service)
            except ValueError:
                # A name that leads nowhere; no pattern fits it.
                found = Destination("", service)
            self._destinations[service] = found
        return found

    def known(self) -> list[ServicePolicies]:
        """Return the policies of every service that is kept at this moment."""
        return list(self._services.values())

    @property
    def watcher(self) -> Callable[[float], None] | None:
        """Who looks whether the file has changed, None if nobody does."""
        return None if self.look is _look_away else self.look

    def cache(self, made: dict[Any, Any] | None = None) -> dict[Any, Any]:
        """Return a dictionary that is emptied whenever what is kept here changes.

        Services that make room, other settings and a fork empty it.

        Args:
            made: One that does more than that when it is emptied.
        """
        made = {} if made is None else made
        self._caches.append(made)
        return made

    def keeps(self, policies: ServicePolicies, route: Hashable = None) -> bool:
        """Tell whether these policies are among those that hold for their service."""
        found = self._services.get(_key(policies.service, route))
        if found is None or policies.base is not found:
            return False
        return self._whole is None or found.plan is self._whole.plan

    def reload(self, settings: ServiceSettings) -> None:
        """Go on by other settings, for known services and new ones.

        A service that has settings of its own keeps them.
        """
        with self._lock:
            before, self.settings = self.settings, settings
            known = self.known()
        for policies in known:
            if policies.settings is before:
                policies.reconfigure(settings)
        self._empty_caches()

    def renew_locks(self) -> None:
        """Replace every lock, in a child that was just forked."""
        self._lock = threading.Lock()
        for policies in self._services.values():
            policies.renew_locks()
            policies.views = _NO_VIEWS
        self._empty_caches()

    def _empty_caches(self) -> None:
        for cache in self._caches:
            cache.clear()

    def _make_locked(
        self, service: str, key: Hashable, settings: ServiceSettings
    ) -> ServicePolicies:
        made = ServicePolicies(service, settings, self._clock)
        if len(self._services) >= self._limit:
            self._evict_locked()
        if len(self._services) < self._limit:
            self._services[key] = made
        # Else every circuit is open: this call gets policies that nobody keeps.
        return made

    def _evict_locked(self) -> None:
        now = self._clock.monotonic()
        idle = sorted(
            (policies.used, index, key)
            for index, (key, policies) in enumerate(self._services.items())
            if policies.breaker.state(now) == "closed"
        )
        # An eighth at a time, so that a crowd of new services does not sort each.
        for _, _, key in idle[: max(1, self._limit // 8)]:
            del self._services[key]
        self._empty_caches()


@lru_cache(8)
def _uniform_of(clock: Clock) -> Callable[[float, float], float]:
    """Return how a clock draws; asked for at each service, it is a new object."""
    return clock.uniform


def _key(service: str, route: Hashable) -> Hashable:
    """Return by what a service is found; nearly all are reached directly."""
    return service if route is None else (service, route)


def _look_away(now: float) -> None:
    """Do nothing: there is no file."""


def _played(settings: ServiceSettings) -> ServiceSettings:
    """Return the settings by which a call that is only observed is played."""
    bulkhead = BulkheadSettings()
    return replace(settings, mode="enforce", bulkhead=bulkhead, fallback=None)


def _without(settings: ServiceSettings, policies: set[str]) -> ServiceSettings:
    """Return settings by which the given policies do nothing."""
    if "timeout" in policies:
        settings = replace(settings, timeout=NO_LIMITS)
    if "retry" in policies:
        once = replace(settings.retry, max_attempts=1)
        settings = replace(settings, retry=once)
    if "fallback" in policies:
        settings = replace(settings, fallback=None)
    return settings


def _text(value: str | bytes) -> str:
    """Return a header as text; an app may give bytes."""
    return value.decode("latin-1") if isinstance(value, bytes) else value
