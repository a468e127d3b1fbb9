"""The client's own throttle: less is sent to whoever answers less."""

from __future__ import annotations

import dataclasses

import pytest

from fakes import FakeClock, World, answers, service_settings, works
from resilience_instrument.config.model import ThrottleSettings
from resilience_instrument.errors import RateLimitedError
from resilience_instrument.outcome import Raised
from resilience_instrument.policies.throttle import Throttle, chance, is_overload
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

ON = ThrottleSettings(enabled=True)
BUSY = Judgement(Verdict.TRANSIENT, Evidence.THROTTLED, status=429)
GOOD = Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=200)


@pytest.mark.parametrize(
    ("requests", "accepted", "expected"),
    [
        (100, 100, 0.0),
        (100, 50, 0.0),
        (101, 50, 0.009804),
        (200, 50, 0.497512),
        (10, 0, 0.9),
        (1000, 0, 0.9),
        (9, 0, 0.0),
    ],
)
def test_the_chance_grows_with_what_is_not_accepted(
    requests: int, accepted: int, expected: float
) -> None:
    """Twice what is accepted passes; nine in ten are held back at most."""
    assert expected == round(chance(requests, accepted, ON), 6)


@pytest.mark.parametrize(("requests", "expected"), [(10, 0.909091), (1000, 0.999001)])
def test_without_its_cap_nearly_all_are_held_back(
    requests: int, expected: float
) -> None:
    """The cap keeps one in ten going, to find out whether it is over."""
    uncapped = dataclasses.replace(ON, cap=1.0)

    assert expected == round(chance(requests, 0, uncapped), 6)


@pytest.mark.parametrize(
    ("judgement", "expected"),
    [
        (BUSY, True),
        (GOOD, False),
        (Judgement(Verdict.TRANSIENT, Evidence.FAILURE, status=503), True),
        (Judgement(Verdict.TRANSIENT, Evidence.FAILURE, status=502), False),
        (Judgement(Verdict.PERMANENT, Evidence.FAILURE, status=500), False),
        (Judgement(Verdict.TRANSIENT, Evidence.FAILURE), True),
        (Judgement(Verdict.TRANSIENT, Evidence.NEUTRAL, timeout=Phase.READ), True),
        (Judgement(Verdict.PERMANENT, Evidence.NEUTRAL), False),
    ],
)
def test_overload_is_a_call_that_was_not_taken_on(
    judgement: Judgement, *, expected: bool
) -> None:
    """Too many, unavailable, refused, reset or late; any other answer is accepted."""
    assert expected is is_overload(judgement)


def test_it_holds_calls_back_by_chance() -> None:
    """Ten calls were not accepted: nine of ten are held back, which counts too."""
    clock = FakeClock(share=0.89)
    throttle = Throttle(ON, clock)
    for _ in range(9):
        throttle.record(BUSY, clock.now)
        assert throttle.admits(clock.now)
    throttle.record(BUSY, clock.now)

    assert not throttle.admits(clock.now)
    clock.share = 0.9
    assert throttle.admits(clock.now)
    assert 11 == throttle._window.total


def test_accepted_calls_open_it_again() -> None:
    """Half of what is sent may be lost without being held back."""
    clock = FakeClock(share=0.0)
    throttle = Throttle(ON, clock)
    for judgement in [BUSY] * 10 + [GOOD] * 10:
        throttle.record(judgement, clock.now)

    assert throttle.admits(clock.now)


def test_it_forgets_after_two_minutes() -> None:
    """In twelve steps of ten seconds."""
    clock = FakeClock(share=0.0)
    throttle = Throttle(ON, clock)
    for _ in range(10):
        throttle.record(BUSY, clock.now)

    assert not throttle.admits(clock.advance(100.0))
    assert throttle.admits(clock.advance(120.0))


def test_a_child_starts_with_an_open_throttle() -> None:
    """After a fork nothing was refused yet, and no lock is held."""
    clock = FakeClock(share=0.0)
    throttle = Throttle(ON, clock)
    for _ in range(10):
        throttle.record(BUSY, clock.now)
    throttle._lock.acquire()

    throttle.renew_lock()

    assert throttle.admits(clock.now)


def throttled_world() -> World:
    """Return a service that refused ten calls."""
    settings = dataclasses.replace(
        service_settings(RETRY_MAX_ATTEMPTS=1, BREAKER_FAILURE_RATE="off"), throttle=ON
    )
    world = World(settings)
    for _ in range(10):
        world.play(answers(429))
    return world


def test_a_call_that_is_held_back_is_not_attempted() -> None:
    """The app gets an error that says so, and the metrics count a rejection."""
    world = throttled_world()
    io = world.script(works())

    outcome = world.call(io)

    assert isinstance(outcome, Raised)
    assert isinstance(outcome.error, RateLimitedError)
    assert "payment-api is overloaded, calls to it are held back" == str(outcome.error)
    assert [] == io.attempts
    assert [("throttle",)] == world.observer.of("rejected")


def test_a_retry_that_is_held_back_is_not_made() -> None:
    """The failure that the call has already is what the app gets."""
    world = throttled_world()
    world.policies.settings = service_settings()
    world.clock.share = 0.95
    io = world.script(answers(503), works())
    io.during_sleep = lambda _: setattr(world.clock, "share", 0.1)

    world.call(io)

    assert 1 == len(io.attempts)
    assert ("throttle",) == world.observer.of("retry_skipped")[-1]
