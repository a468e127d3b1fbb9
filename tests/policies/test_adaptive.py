"""The adaptive timeout: close to what attempts need, never above what was set."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fakes import FakeClock, World, breaks, service_settings, times_out, works
from resilience_instrument.config.model import AdaptiveSettings
from resilience_instrument.policies.adaptive import AdaptiveTimeout
from resilience_instrument.policies.latency import Latencies
from resilience_instrument.verdict import Evidence

OFF = 1e9


class Adaptive:
    """An adaptive timeout with a clock; valve and slow descent only if asked for."""

    def __init__(self, ceiling: float = 10.0, **settings: Any) -> None:
        given: dict[str, Any] = {"mode": "enforce", "max_decrease": 1.0}
        given |= {"valve_row": OFF, "valve_share": 1.0} | settings
        self.clock = FakeClock()
        self.policy = AdaptiveTimeout(
            AdaptiveSettings(**given), Latencies(300.0), ceiling
        )

    @property
    def timeout(self) -> float:
        """The timeout at this moment."""
        return self.policy.timeout(self.clock.now)

    def take(self, *seconds: float, timed_out: bool = False) -> None:
        """Take in attempts of so many seconds."""
        for each in seconds:
            self.policy.record(each, self.clock.now, timed_out=timed_out)


def test_half_as_much_again_as_the_99th_percentile() -> None:
    """A p99 of 450 ms makes 0.675 s."""
    adaptive = Adaptive()

    adaptive.take(*[0.12] * 90, *[0.30] * 8, *[0.45] * 2)

    assert 0.675 == pytest.approx(adaptive.timeout)


def test_below_a_hundred_attempts_the_configured_timeout_holds() -> None:
    """99 are too few to know a tail."""
    adaptive = Adaptive()

    adaptive.take(*[0.45] * 99)

    assert 10.0 == adaptive.timeout


def test_it_climbs_to_a_service_that_became_slower() -> None:
    """Attempts of 2 s are cut at first; each cut lets the next run longer."""
    adaptive = Adaptive()
    adaptive.take(*[0.12] * 90, *[0.30] * 8, *[0.45] * 2)

    seen = [adaptive.timeout]
    for _ in range(5):
        cut = seen[-1] < 2.0
        adaptive.take(*[min(2.0, seen[-1])] * 100, timed_out=cut)
        adaptive.clock.advance(10.0)
        seen.append(adaptive.timeout)

    assert [0.675, 1.0125, 1.5188, 2.2781, 3.0, 3.0] == [round(t, 4) for t in seen]


@pytest.mark.parametrize(("late", "timeout"), [(1, 0.5), (2, 1.0125)])
def test_one_late_attempt_in_a_hundred_is_the_tail(late: int, timeout: float) -> None:
    """One per cent of timeouts leaves 0.15 s, which the floor makes 0.5; two do not."""
    adaptive = Adaptive()

    adaptive.take(*[0.1] * (100 - late))
    adaptive.take(*[0.675] * late, timed_out=True)

    assert timeout == pytest.approx(adaptive.timeout)


@pytest.mark.parametrize(
    ("ceiling", "floor"), [(10.0, 0.5), (2.0, 0.25), (0.1, 0.1), (100.0, 5.0)]
)
def test_the_floor_is_a_twentieth_or_a_quarter_of_a_second(
    ceiling: float, floor: float
) -> None:
    """Never above the configured timeout itself."""
    assert floor == Adaptive(ceiling).policy.floor


def test_it_never_exceeds_what_was_configured() -> None:
    """However long attempts take."""
    adaptive = Adaptive(ceiling=2.0)

    adaptive.take(*[5.0] * 100)

    assert 2.0 == adaptive.timeout


def test_it_changes_every_ten_seconds_and_not_more_often() -> None:
    """What comes in between waits."""
    adaptive = Adaptive()
    adaptive.take(*[1.0] * 100)
    assert 1.5 == adaptive.timeout

    adaptive.take(*[2.0] * 100)
    adaptive.clock.advance(9.9)
    assert 1.5 == adaptive.timeout
    adaptive.clock.advance(0.1)

    assert 3.0 == adaptive.timeout


def test_it_falls_by_a_fifth_at_most() -> None:
    """From 10 s to 8 and to 6.4, though 1.5 would do; it rises at once."""
    adaptive = Adaptive(max_decrease=0.2)
    adaptive.take(*[1.0] * 100)
    assert 8.0 == adaptive.timeout

    adaptive.clock.advance(10.0)
    assert 6.4 == pytest.approx(adaptive.timeout)
    adaptive.take(*[6.0] * 100)
    adaptive.clock.advance(10.0)

    assert 9.0 == adaptive.timeout


def test_frequent_timeouts_open_the_valve() -> None:
    """More than one in ten within ten seconds: a minute of the configured timeout."""
    adaptive = Adaptive(valve_share=0.1)
    adaptive.take(*[1.0] * 180)
    assert 1.5 == adaptive.timeout

    adaptive.take(*[1.5] * 20, timed_out=True)
    assert 1.5 == adaptive.timeout
    adaptive.take(1.5, timed_out=True)

    assert 10.0 == adaptive.timeout
    adaptive.clock.advance(59.9)
    assert 10.0 == adaptive.timeout
    adaptive.clock.advance(0.1)
    assert 2.25 == adaptive.timeout


def test_eleven_in_a_hundred_open_the_valve() -> None:
    """Timeouts that come one by one are a share, too."""
    adaptive = Adaptive(valve_share=0.1)

    adaptive.take(*[1.0] * 89)
    adaptive.take(*[1.5] * 11, timed_out=True)

    assert 10.0 == adaptive.timeout


def test_old_timeouts_do_not_open_the_valve() -> None:
    """Only the last ten seconds count."""
    adaptive = Adaptive(valve_share=0.1)
    adaptive.take(*[1.0] * 100)
    adaptive.take(*[1.5] * 11, timed_out=True)
    adaptive.clock.advance(20.0)
    adaptive.take(*[1.0] * 100)

    adaptive.take(*[1.5] * 11, timed_out=True)

    assert 2.25 == adaptive.timeout


def test_three_timeouts_in_a_row_open_the_valve() -> None:
    """A success in between starts the count anew."""
    adaptive = Adaptive(valve_row=3)
    adaptive.take(*[1.0] * 100)

    for _ in range(2):
        adaptive.take(1.5, 1.5, timed_out=True)
        adaptive.take(1.0)
    assert adaptive.timeout < 10.0
    adaptive.take(1.5, 1.5, 1.5, timed_out=True)

    assert 10.0 == adaptive.timeout


def test_while_it_only_observes_nothing_is_cut_too_often() -> None:
    """It shows what it would be, whatever times out."""
    adaptive = Adaptive(mode="observe", valve_row=3)
    adaptive.take(*[1.0] * 100)

    adaptive.take(10.0, 10.0, 10.0, timed_out=True)

    assert 10.0 == adaptive.timeout
    assert OFF > adaptive.policy._due > adaptive.clock.now


def test_a_child_gets_a_lock_that_nobody_holds() -> None:
    """After a fork it goes on."""
    adaptive = Adaptive()
    adaptive.policy._lock.acquire()

    adaptive.policy.renew_lock()

    assert 10.0 == adaptive.timeout


def adaptive_world(mode: str) -> World:
    """Return a service that answered a hundred calls within a second."""
    settings = dataclasses.replace(
        service_settings(BREAKER_CONSECUTIVE=1, RETRY_MAX_ATTEMPTS=1),
        adaptive=AdaptiveSettings(
            mode=mode,  # type: ignore[arg-type]
            max_decrease=1.0,
        ),
    )
    world = World(settings)
    for _ in range(100):
        world.play(works(seconds=1.0))
    return world


def test_observing_cuts_nobody() -> None:
    """By default it is worked out and shown."""
    world = adaptive_world("observe")
    io = world.script(works())

    world.call(io)

    assert [None] == io.deadlines
    assert world.policies.adaptive is not None
    assert 1.5 == world.policies.adaptive[True].timeout(world.clock.now)


def test_enforcing_shortens_attempts() -> None:
    """The attempt is told the nearer of its timeout's end and the deadline."""
    world = adaptive_world("enforce")
    for deadline, end in ((None, 1.5), (5.0, 1.5), (1.0, 1.0)):
        io = world.script(works())
        now = world.clock.now

        world.call(io, deadline=None if deadline is None else now + deadline)

        assert [now + end] == io.deadlines


def test_reads_and_writes_are_told_apart() -> None:
    """What a repeatable call takes says nothing about one with an effect."""
    world = adaptive_world("enforce")
    io = world.script(works())
    now = world.clock.now

    world.call(io, repeatable=False)

    assert [now + 10.0] == io.deadlines


def test_uploads_and_streams_are_not_measured() -> None:
    """Their duration is their size, not the service's speed."""
    world = adaptive_world("enforce")
    for _ in range(20):
        world.play(works(seconds=5.0), measured=False)
    world.clock.advance(10.0)
    io = world.script(works())
    now = world.clock.now

    world.call(io)

    assert io.deadlines[0] is not None
    assert io.deadlines[0] < now + 2.0


def test_failures_are_not_measured() -> None:
    """An error that comes quickly says nothing about how long work takes."""
    world = adaptive_world("observe")
    for _ in range(300):
        world.policies.breaker.reconfigure(
            dataclasses.replace(world.policies.settings.breaker, mode="disabled"),
            world.clock.now,
        )
        world.play(breaks(seconds=0.001))

    assert world.policies.adaptive is not None
    assert 1.5 == world.policies.adaptive[True].timeout(world.clock.now)


def test_a_timeout_of_ours_speaks_against_the_service() -> None:
    """What the adaptive limit cut is evidence, though the app's own was longer."""
    world = adaptive_world("enforce")

    world.play(times_out(5.0, Evidence.NEUTRAL))

    assert "open" == world.policies.breaker.state(world.clock.now)


def test_a_timeout_of_the_app_is_still_no_evidence() -> None:
    """It was shorter than the limit, so it proves nothing."""
    world = adaptive_world("enforce")

    world.play(times_out(1.0, Evidence.NEUTRAL))

    assert "closed" == world.policies.breaker.state(world.clock.now)


def test_a_late_success_stays_one() -> None:
    """An answer that comes at the last moment is an answer."""
    world = adaptive_world("enforce")

    world.play(works(seconds=5.0))

    assert "closed" == world.policies.breaker.state(world.clock.now)
