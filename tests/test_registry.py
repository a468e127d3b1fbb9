"""What governs each service: made once, bounded, forgotten only when harmless."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from fakes import FakeClock, open_circuit, service_settings
from resilience_instrument.config.model import (
    AdaptiveSettings,
    BulkheadSettings,
    HedgeSettings,
    ThrottleSettings,
)
from resilience_instrument.policies.breaker import Permit
from resilience_instrument.registry import LIMIT, Registry, ServicePolicies
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.config.model import ServiceSettings


def make(limit: int = LIMIT, **environ: object) -> tuple[Registry, FakeClock]:
    """Return a registry and its clock."""
    clock = FakeClock()
    return Registry(service_settings(**environ), clock, limit), clock


def use(registry: Registry, clock: FakeClock, service: str) -> ServicePolicies:
    """Call a service, a second after whoever was called before."""
    policies = registry.policies(service)
    policies.used = clock.advance(1.0)
    return policies


def test_a_service_is_in_use_when_it_is_called() -> None:
    """Noted once a second, as its end, of what is kept, by whichever settings."""
    registry, clock = make()
    policies = registry.policies("a")
    view = policies.by(service_settings(BREAKER_CONSECUTIVE=3))
    begun = int(clock.now)
    used = []

    for now in (begun + 5.25, begun + 5.5, begun + 6.0):
        view.pay(now)
        used.append(policies.used - begun)

    assert [6.0, 6.0, 7.0] == used


@pytest.mark.parametrize("mode", ["grpc", "aws"])
def test_a_budget_that_counts_attempts_leaves_every_call_to_be_noted(mode: str) -> None:
    """Such a budget looks at no clock."""
    registry, clock = make(RETRY_BUDGET_MODE=mode)
    policies = registry.policies("a")

    policies.pay(clock.now + 0.25)

    assert clock.now + 0.25 == policies.used


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
    policies.budget._lock.acquire()  # type: ignore[attr-defined]

    registry.renew_locks()

    assert "open" == policies.breaker.state(clock.now)
    assert policies.budget.withdraw(clock.now)
    assert "new" == registry.policies("new").service


def everything() -> ServiceSettings:
    """Return settings with every policy switched on."""
    return dataclasses.replace(
        service_settings(),
        bulkhead=BulkheadSettings(5, adaptive="aimd"),
        throttle=ThrottleSettings(enabled=True),
        hedge=HedgeSettings(enabled=True),
    )


def test_what_is_off_is_not_there() -> None:
    """By default there is no bulkhead and no throttle, and the timeout observes."""
    registry, _ = make()

    policies = registry.policies("a")

    assert policies.bulkhead is None
    assert policies.throttle is None
    assert (False, False, False) == (
        policies.gated,
        policies.hedges,
        policies.revises,
    )
    assert policies.adaptive is not None
    assert "observe" == policies.settings.adaptive.mode


def test_a_reload_reaches_known_services_and_new_ones() -> None:
    """Everybody goes on by the new settings; what was learnt stays."""
    registry, clock = make()
    known = registry.policies("a")
    for _ in range(4):
        permit, _change = known.breaker.acquire(clock.now)
        assert isinstance(permit, Permit)
        known.breaker.record(permit, Evidence.FAILURE, clock.now)
    known.budget.withdraw(clock.now)
    budget = known.budget

    registry.reload(
        dataclasses.replace(
            everything(), breaker=service_settings(BREAKER_CONSECUTIVE=3).breaker
        )
    )

    assert known is registry.policies("a")
    assert known.bulkhead is not None
    assert known.throttle is not None
    assert known.gated
    assert known.hedges
    assert budget is known.budget
    open_circuit(known.breaker, clock.now)
    assert 5 == known.breaker._cause.row
    assert registry.policies("b").bulkhead is not None


def test_a_reload_that_changes_nothing_resets_nothing() -> None:
    """The same settings keep every object."""
    registry, _ = make()
    registry.reload(everything())
    policies = registry.policies("a")
    before = [policies.budget, policies.bulkhead, policies.throttle, policies.latencies]

    registry.reload(everything())

    assert before == [
        policies.budget,
        policies.bulkhead,
        policies.throttle,
        policies.latencies,
    ]


def test_a_reload_leaves_a_service_with_settings_of_its_own_alone() -> None:
    """What was decided for one service is not overruled for all."""
    registry, _ = make()
    own = service_settings(BREAKER_CONSECUTIVE=9)
    policies = registry.policies("a")
    policies.reconfigure(own)

    registry.reload(service_settings(BREAKER_CONSECUTIVE=3))

    assert own is policies.settings


def test_a_changed_budget_is_a_new_one() -> None:
    """Its units may differ, so it starts afresh."""
    registry, _ = make()
    policies = registry.policies("a")
    before = policies.budget

    registry.reload(service_settings(RETRY_BUDGET="0.1"))

    assert before is not policies.budget


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ({}, False),
        ({"on_statuses": frozenset({500})}, True),
        ({"on_errors": frozenset({"OSError"})}, True),
        ({"except_errors": frozenset({"OSError"})}, True),
    ],
)
def test_judgements_are_revised_only_where_settings_name_something(
    named: dict[str, frozenset[int]], *, expected: bool
) -> None:
    """The happy path does not look at sets that are empty."""
    settings = service_settings()
    retry = dataclasses.replace(settings.retry, **named)  # type: ignore[arg-type]
    registry, _ = make()

    registry.reload(dataclasses.replace(settings, retry=retry))

    assert expected is registry.policies("a").revises


@pytest.mark.parametrize(
    ("mode", "hedges", "there"),
    [("off", False, False), ("off", True, True), ("observe", False, True)],
)
def test_durations_are_kept_for_whoever_needs_them(
    mode: str, *, hedges: bool, there: bool
) -> None:
    """The adaptive timeout and hedging do; without both nothing is kept."""
    settings = dataclasses.replace(
        service_settings(),
        adaptive=AdaptiveSettings(mode=mode),  # type: ignore[arg-type]
        hedge=HedgeSettings(enabled=hedges),
    )
    registry, _ = make()
    registry.reload(settings)

    assert there is (registry.policies("a").adaptive is not None)


def test_without_a_timeout_none_adapts() -> None:
    """There is no ceiling to stay below."""
    settings = service_settings()
    timeout = dataclasses.replace(settings.timeout, read=None, total=None)
    registry, _ = make()
    registry.reload(dataclasses.replace(settings, timeout=timeout))

    assert registry.policies("a").adaptive is None


def test_every_lock_is_renewed_in_a_child() -> None:
    """None that a thread of the parent may hold is left."""
    registry, _ = make()
    registry.reload(everything())
    policies = registry.policies("a")
    assert policies.bulkhead is not None
    assert policies.throttle is not None
    assert policies.adaptive is not None
    owners = [
        policies.breaker,
        policies.budget,
        policies.bulkhead,
        policies.throttle,
        *policies.latencies,
        *policies.adaptive,
        policies.memory,
    ]
    before = [owner._lock for owner in owners]  # type: ignore[attr-defined]

    registry.renew_locks()

    after = [owner._lock for owner in owners]  # type: ignore[attr-defined]
    assert all(one is not other for one, other in zip(before, after, strict=True))


def test_a_child_without_optional_policies_renews_what_there_is() -> None:
    """Policies that are off have no lock."""
    registry, _ = make()
    registry.reload(
        dataclasses.replace(service_settings(), adaptive=AdaptiveSettings(mode="off"))
    )
    policies = registry.policies("a")
    before = policies.breaker._lock

    registry.renew_locks()

    assert before is not policies.breaker._lock


def test_what_was_kept_of_a_service_is_told_from_what_holds() -> None:
    """After a service made room, or where it was never kept, nothing of it holds."""
    registry, clock = make(limit=2)
    first = use(registry, clock, "a")
    view = first.by(dataclasses.replace(first.settings, endpoints=("/x/{id}",)))

    assert registry.keeps(first)
    assert registry.keeps(view)
    assert not registry.keeps(first, "http://proxy")
    use(registry, clock, "b")
    use(registry, clock, "c")
    assert not registry.keeps(first)
    registry.policies("a")
    assert not registry.keeps(first)


def test_caches_are_emptied_when_what_is_kept_changes() -> None:
    """By services that make room, by other settings and by a fork."""
    registry, clock = make(limit=1)
    cache = registry.cache()

    def is_emptied_by(change: Callable[[], object]) -> bool:
        cache["kept"] = registry
        change()
        return not cache

    use(registry, clock, "a")

    assert not is_emptied_by(lambda: use(registry, clock, "a"))
    assert is_emptied_by(lambda: use(registry, clock, "b"))
    assert is_emptied_by(lambda: registry.reload(service_settings()))
    assert is_emptied_by(registry.renew_locks)


def test_nobody_looks_where_there_is_no_file() -> None:
    """Who asks at each call would ask in vain."""
    registry, _ = make()
    seen: list[float] = []

    before = registry.watcher
    registry.look = seen.append
    registry.policies("a")

    assert (None, registry.look) == (before, registry.watcher)
    assert [1000.0] == seen


def test_what_most_services_never_need_is_made_once() -> None:
    """Answers and estimates, whoever asks first; a view has those answers, too."""
    registry, _ = make()
    policies = registry.policies("a")
    view = policies.by(dataclasses.replace(policies.settings, endpoints=("/x/{id}",)))

    assert view.memory is policies.memory
    assert policies.adaptive is policies.adaptive
