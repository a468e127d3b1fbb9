"""What governs each service: made when it is first called, bounded in number.

A service's breaker and budget live here. Where more services are called than the
limit, those that were idle longest make room; a circuit that is not closed is
never dropped, since it would be forgotten that the service is down.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.policies.adaptive import AdaptiveTimeout
from resilience_instrument.policies.breaker import Breaker
from resilience_instrument.policies.budget import budget_for
from resilience_instrument.policies.bulkhead import Bulkhead
from resilience_instrument.policies.latency import Latencies
from resilience_instrument.policies.throttle import Throttle
from resilience_instrument.policies.timeout import shorter

if TYPE_CHECKING:
    from collections.abc import Hashable

    from resilience_instrument.clock import Clock
    from resilience_instrument.config.model import BulkheadSettings, ServiceSettings

LIMIT: Final = 1024
"""Services kept at most; the same limit holds for the metrics' label."""


@final
class ServicePolicies:
    """The settings of one service and the state of its policies.

    What is None or false is off; `plain` says that a first attempt that succeeds
    concerns breaker, budget and `latencies` only. `adaptive` has one estimate for
    calls that may have an effect and one for those that may be repeated, in this order.
    """

    __slots__ = (
        "_clock",
        "adaptive",
        "breaker",
        "budget",
        "bulkhead",
        "gated",
        "hedges",
        "latencies",
        "plain",
        "revises",
        "service",
        "settings",
        "throttle",
        "used",
    )

    def __init__(self, service: str, settings: ServiceSettings, clock: Clock) -> None:
        self.service = service
        self._clock = clock
        self.breaker = Breaker(service, settings.breaker, clock.uniform)
        self.used = clock.monotonic()
        self._adopt(settings, None)

    def reconfigure(self, settings: ServiceSettings) -> None:
        """Go on by other settings. Calls under way end by those they began with."""
        before = self.settings
        if settings.breaker != before.breaker:
            self.breaker.reconfigure(settings.breaker, self._clock.monotonic())
        self._adopt(settings, before)

    def renew_locks(self) -> None:
        """Replace every lock, in a child that was just forked."""
        self.breaker.renew_lock()
        self.budget.renew_lock()
        if self.bulkhead is not None:
            self.bulkhead.renew_lock()
        if self.throttle is not None:
            self.throttle.renew_lock()
        for latencies in self.latencies:
            latencies.renew_lock()
        for adaptive in self.adaptive or ():
            adaptive.renew_lock()

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
            window = settings.adaptive.window
            self.latencies = (Latencies(window), Latencies(window))
        self.gated = self.bulkhead is not None or self.throttle is not None
        self.hedges = settings.hedge.enabled
        self.adaptive = self._adaptive(settings)
        self.plain = not (
            self.gated
            or self.hedges
            or self.revises
            or self.budget.settles
            or settings.adaptive.mode == "enforce"
        )
        self.settings = settings

    def _adaptive(
        self, settings: ServiceSettings
    ) -> tuple[AdaptiveTimeout, AdaptiveTimeout] | None:
        ceiling = shorter(settings.timeout.read, settings.timeout.total)
        off = settings.adaptive.mode == "off" and not settings.hedge.enabled
        if off or ceiling is None:
            return None
        effect, repeat = self.latencies
        return (
            AdaptiveTimeout(settings.adaptive, effect, ceiling),
            AdaptiveTimeout(settings.adaptive, repeat, ceiling),
        )


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

    __slots__ = ("_caches", "_clock", "_limit", "_lock", "_services", "settings")

    def __init__(
        self, settings: ServiceSettings, clock: Clock, limit: int = LIMIT
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._limit = limit
        self._lock = threading.Lock()
        self._services: dict[Hashable, ServicePolicies] = {}
        self._caches: list[dict[Any, Any]] = []

    def policies(
        self,
        service: str,
        route: Hashable = None,
        settings: ServiceSettings | None = None,
    ) -> ServicePolicies:
        """Return the policies of `service`, made at the first call.

        Args:
            service: The name of the service.
            route: How it is reached, such as a proxy. A dead proxy must not open
                the circuit of the service behind it.
            settings: What governs it, None for the registry's own settings.
        """
        key = (service, route)
        found = self._services.get(key)
        if found is None:
            with self._lock:
                found = self._services.get(key) or self._make_locked(
                    service, key, settings or self.settings
                )
        return found

    def known(self) -> list[ServicePolicies]:
        """Return the policies of every service that is kept at this moment."""
        return list(self._services.values())

    def cache(self) -> dict[Any, Any]:
        """Return a dictionary that is emptied whenever what is kept here changes.

        Services that make room, other settings and a fork empty it.
        """
        made: dict[Any, Any] = {}
        self._caches.append(made)
        return made

    def keeps(self, policies: ServicePolicies, route: Hashable = None) -> bool:
        """Tell whether these policies are the ones that hold for their service."""
        return self._services.get((policies.service, route)) is policies

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
