"""What governs each service: made once, bounded, forgotten only when harmless."""

from __future__ import annotations

from fakes import FakeClock, open_circuit, service_settings
from resilience_instrument.registry import LIMIT, Registry, ServicePolicies


def make(limit: int = LIMIT, **environ: object) -> tuple[Registry, FakeClock]:
    """Return a registry and its clock."""
    clock = FakeClock()
    return Registry(service_settings(**environ), clock, limit), clock


def use(registry: Registry, clock: FakeClock, service: str) -> ServicePolicies:
    """Call a service, a second after whoever was called before."""
    policies = registry.policies(service)
    policies.used = clock.advance(1.0)
    return policies


def test_a_service_keeps_its_policies() -> None:
    """The same service and route get the same object, others their own."""
    registry, _ = make()

    first = registry.policies("a")

    assert first is registry.policies("a")
    assert first is not registry.policies("b")
    assert first is not registry.policies("a", "http://proxy")
    assert ["a", "b", "a"] == [each.service for each in registry.known()]


def test_whoever_loses_the_race_gets_what_the_winner_made() -> None:
    """Two first calls at once make one set of policies."""
    registry, _ = make()

    class Late(dict):  # type: ignore[type-arg]
        """Finds nothing at the first look, as if somebody was just faster."""

        looks = 0

        def get(self, key: object, default: object = None) -> object:
            self.looks += 1
            return default if self.looks == 1 else super().get(key, default)

    winner = registry.policies("a")
    registry._services = Late(registry._services)

    assert winner is registry.policies("a")


def test_two_hundred_hosts_have_two_hundred_breakers() -> None:
    """Every service stands for itself."""
    registry, _ = make()

    breakers = {id(registry.policies(f"host-{n}").breaker) for n in range(200)}

    assert 200 == len(breakers)
    assert 200 == len(registry.known())


def test_the_idle_longest_make_room() -> None:
    """At the limit an eighth goes, and who was called lately stays."""
    registry, clock = make(limit=8)
    kept = [use(registry, clock, f"s{n}") for n in range(8)]
    use(registry, clock, "s0")

    use(registry, clock, "new")

    names = [policies.service for policies in registry.known()]
    assert ["s0", "s2", "s3", "s4", "s5", "s6", "s7", "new"] == names
    assert kept[0] is registry.policies("s0")


def test_an_open_circuit_is_never_forgotten() -> None:
    """Only closed circuits make room, however long the others were idle."""
    registry, clock = make(limit=2, BREAKER_CONSECUTIVE=1)
    open_circuit(use(registry, clock, "down").breaker, clock.now)
    use(registry, clock, "up")

    use(registry, clock, "new")

    assert ["down", "new"] == [policies.service for policies in registry.known()]


def test_a_registry_full_of_open_circuits_keeps_nothing_new() -> None:
    """A call beyond the limit is governed, by policies that nobody keeps."""
    registry, clock = make(limit=1, BREAKER_CONSECUTIVE=1)
    open_circuit(use(registry, clock, "down").breaker, clock.now)

    unkept = registry.policies("new")

    assert "new" == unkept.service
    assert ["down"] == [policies.service for policies in registry.known()]


def test_a_child_gets_locks_that_nobody_holds() -> None:
    """After a fork every lock is fresh, and an open circuit is still open."""
    registry, clock = make(BREAKER_CONSECUTIVE=1)
    policies = registry.policies("down")
    open_circuit(policies.breaker, clock.now)
    registry._lock.acquire()
    policies.breaker._lock.acquire()
    policies.budget._lock.acquire()

    registry.renew_locks()

    assert "open" == policies.breaker.state(clock.now)
    assert policies.budget.withdraw(clock.now)
    assert "new" == registry.policies("new").service
