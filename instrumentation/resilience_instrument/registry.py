"""What governs each service: made when it is first called, bounded in number.

A service's breaker and budget live here. Where more services are called than the
limit, those that were idle longest make room; a circuit that is not closed is
never dropped, since it would be forgotten that the service is down.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, final

from resilience_instrument.policies.breaker import Breaker
from resilience_instrument.policies.budget import Budget

if TYPE_CHECKING:
    from collections.abc import Hashable

    from resilience_instrument.clock import Clock
    from resilience_instrument.config.model import ServiceSettings

LIMIT: Final = 1024
"""Services kept at most; the same limit holds for the metrics' label."""


@final
class ServicePolicies:
    """The settings of one service and the state of its policies."""

    __slots__ = ("breaker", "budget", "service", "settings", "used")

    def __init__(self, service: str, settings: ServiceSettings, clock: Clock) -> None:
        retry = settings.retry
        self.service = service
        self.settings = settings
        self.breaker = Breaker(service, settings.breaker, clock.uniform)
        self.budget = Budget(retry.budget, retry.budget_min, retry.budget_window)
        self.used = clock.monotonic()


@final
class Registry:
    """Finds or makes the policies of a service.

    Args:
        settings: What governs a service that has no settings of its own.
        clock: Time and chance for the policies.
        limit: How many services are kept.
    """

    __slots__ = ("_clock", "_limit", "_lock", "_services", "settings")

    def __init__(
        self, settings: ServiceSettings, clock: Clock, limit: int = LIMIT
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._limit = limit
        self._lock = threading.Lock()
        self._services: dict[Hashable, ServicePolicies] = {}

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
        found.used = self._clock.monotonic()
        return found

    def known(self) -> list[ServicePolicies]:
        """Return the policies of every service that is kept at this moment."""
        return list(self._services.values())

    def renew_locks(self) -> None:
        """Replace every lock, in a child that was just forked."""
        self._lock = threading.Lock()
        for policies in self._services.values():
            policies.breaker.renew_lock()
            policies.budget.renew_lock()

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
