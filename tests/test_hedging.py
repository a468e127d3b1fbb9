"""Hedging: a second attempt for one that is slow, on a loop whose time is ours."""

from __future__ import annotations

import asyncio
import dataclasses
import selectors
from typing import TYPE_CHECKING, Any

import pytest

from fakes import World, a_call, answers, breaks, service_settings, works
from resilience_instrument.config.model import BulkheadSettings, HedgeSettings
from resilience_instrument.engine import execute
from resilience_instrument.hedging import race
from resilience_instrument.outcome import Returned

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fakes import FakeClock, Step
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Judgement


class Skipping(selectors.DefaultSelector):
    """Does not wait: it moves the clock on to where it would have waited to."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> Any:
        """Let time pass, and see what is ready."""
        if timeout:
            self._clock.advance(timeout)
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """An event loop by a fake clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(Skipping(clock))
        self._fake = clock
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """Return the fake time."""
        return self._fake.now


class RacingScript:
    """An `Io` whose attempts take their time beside each other."""

    def __init__(self, *steps: Step) -> None:
        self.steps = steps
        self.started = 0
        self.discarded: list[Outcome] = []
        self.race = race

    def twin(self) -> RacingScript:
        """Return what makes an attempt beside another: attempts share nothing here."""
        return self

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Take the step's time."""
        del deadline
        self.started += 1
        step = self.steps[number - 1]
        await asyncio.sleep(step.seconds)
        assert not isinstance(step.outcome, BaseException)
        return step.outcome

    def judge(self, outcome: Outcome) -> Judgement:
        """Read an outcome by what it is, whoever else is under way."""
        (step,) = (step for step in self.steps if step.outcome is outcome)
        return step.judgement

    async def discard(self, outcome: Outcome) -> None:
        """Note what will not reach the app."""
        self.discarded.append(outcome)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class HedgedWorld(World):
    """A service whose usual call takes 100 ms at the 95th percentile."""

    def __init__(self, samples: int = 100, **settings: Any) -> None:
        base = dataclasses.replace(
            service_settings(), hedge=HedgeSettings(enabled=True), **settings
        )
        super().__init__(base)
        self.policies.latencies[True].renew_lock()
        for _ in range(samples):
            self.policies.latencies[True].add(0.1, self.clock.now)

    def run(self, io: Any, **facts: Any) -> tuple[Outcome, float]:
        """Make one call; return what it came to and how long it took."""
        begun = self.clock.now
        story = execute(a_call(**facts), self.policies, io, self.observer, self.clock)
        with asyncio.Runner(loop_factory=lambda: Loop(self.clock)) as runner:
            outcome = runner.run(story)
        return outcome, round(self.clock.now - begun, 6)


def value(outcome: Outcome) -> object:
    """Return what the outcome returned."""
    assert isinstance(outcome, Returned)
    return outcome.value


def test_a_slow_call_is_hedged() -> None:
    """300 ms against a second attempt after 100 ms that takes 50: 150 ms."""
    world = HedgedWorld()
    io = RacingScript(works("slow", 0.3), works("quick", 0.05))
    left = world.policies.budget.ratio_left(world.clock.now)

    outcome, seconds = world.run(io)

    assert ("quick", 0.15) == (value(outcome), seconds)
    assert [("success", 2, 0.15)] == [
        (label, attempts, round(took, 6))
        for label, attempts, took in world.observer.of("call_ended")
    ]
    assert [(1,)] == world.observer.of("attempt_cancelled")
    assert [2] == [number for number, *_ in world.observer.of("attempt_ended")]
    assert world.policies.budget.ratio_left(world.clock.now) < left


def test_without_budget_nothing_is_hedged() -> None:
    """The first attempt goes on alone, for its 300 ms."""
    world = HedgedWorld()
    while world.policies.budget.withdraw(world.clock.now):
        pass
    io = RacingScript(works("slow", 0.3))

    outcome, seconds = world.run(io)

    assert ("slow", 0.3, 1) == (value(outcome), seconds, io.started)
    assert "closed" == world.policies.breaker.state(world.clock.now)


def test_a_quick_call_is_not_hedged() -> None:
    """Whoever answers in its time stays alone."""
    world = HedgedWorld()
    io = RacingScript(works("quick", 0.09))

    assert ("quick", 0.09) == (value(world.run(io)[0]), 0.09)
    assert 1 == io.started


@pytest.mark.parametrize(
    "facts",
    [{"repeatable": False}, {"replayable": False}, {"app_retries": True}],
)
def test_only_what_may_be_sent_twice_is_hedged(facts: dict[str, bool]) -> None:
    """The same proof as for a retry, but that a first one is still under way."""
    world = HedgedWorld()
    io = RacingScript(works("slow", 0.3))

    assert ("slow", 0.3) == (value(world.run(io, **facts)[0]), 0.3)


def test_below_a_hundred_samples_nothing_is_slow() -> None:
    """Nobody knows yet what is usual."""
    world = HedgedWorld(samples=99)
    io = RacingScript(works("slow", 0.3))

    assert 0.3 == world.run(io)[1]


def test_a_circuit_that_is_not_closed_gets_no_second_attempt() -> None:
    """A probe is one attempt, and one that opens meanwhile gets no more."""
    world = HedgedWorld()
    for _ in range(5):
        world.play(breaks(), repeatable=False)
    world.clock.advance(60.0)
    io = RacingScript(works("slow", 0.3))

    assert 0.3 == world.run(io)[1]


def test_a_circuit_that_opens_meanwhile_gets_no_second_attempt() -> None:
    """It is asked again at the moment the second attempt is due."""
    world = HedgedWorld()

    class Opening(RacingScript):
        async def attempt(self, number: int, deadline: float | None) -> Outcome:
            for _ in range(5):
                world.play(breaks(), repeatable=False)
            return await super().attempt(number, deadline)

    io = Opening(works("slow", 0.3))

    assert (0.3, 1) == (world.run(io)[1], io.started)


@pytest.mark.parametrize(
    ("limit", "queue", "started"), [(1, 0, 1), (1, 1, 1), (2, 0, 2)]
)
def test_a_second_attempt_needs_a_place_of_its_own(
    limit: int, queue: int, started: int
) -> None:
    """It neither exceeds the bulkhead nor queues for it, and gives its slot back."""
    world = HedgedWorld(bulkhead=BulkheadSettings(limit, queue, 1.0))
    io = RacingScript(works("slow", 0.3), works("quick", 0.05))

    world.run(io)

    assert started == io.started
    assert world.policies.bulkhead is not None
    assert 0 == world.policies.bulkhead._inflight


def test_a_place_is_given_back_where_the_budget_says_no() -> None:
    """A hedge that is not sent leaves no trace in the bulkhead."""
    world = HedgedWorld(bulkhead=BulkheadSettings(2))
    while world.policies.budget.withdraw(world.clock.now):
        pass

    world.run(RacingScript(works("slow", 0.3)))

    assert world.policies.bulkhead is not None
    assert 0 == world.policies.bulkhead._inflight


def test_a_circuit_that_recovers_may_refuse_the_second() -> None:
    """Closed but on its ramp, it lets a part of the traffic through only."""
    breaker = dataclasses.replace(service_settings().breaker, ramp_steps=10)
    world = HedgedWorld(breaker=breaker)
    world.policies.breaker._ramp_began = world.clock.now
    world.policies.breaker._raise_flags_locked()
    world.clock.share = 0.05

    class Unlucky(RacingScript):
        async def attempt(self, number: int, deadline: float | None) -> Outcome:
            world.clock.share = 1.0
            return await super().attempt(number, deadline)

    io = Unlucky(works("slow", 0.3))

    assert (0.3, 1) == (world.run(io)[1], io.started)


def test_a_failed_second_attempt_does_not_end_the_race() -> None:
    """The first may still succeed; the failure is discarded."""
    world = HedgedWorld()
    failed = answers(503, 0.05)
    io = RacingScript(works("slow", 0.3), failed)

    outcome, seconds = world.run(io)

    assert ("slow", 0.3) == (value(outcome), seconds)
    assert [failed.outcome] == io.discarded


def test_two_failures_are_one_failure() -> None:
    """The last of them stands, and the call may still be retried."""
    world = HedgedWorld()
    io = RacingScript(answers(503, 0.3), answers(502, 0.05), works("third"))

    outcome, _ = world.run(io)

    assert "third" == value(outcome)
    assert [3] == [number for number, *_ in world.observer.of("retry_scheduled")]


def test_a_hedged_call_that_is_cancelled_leaves_nothing_behind() -> None:
    """Both attempts are cancelled and hand their permits back."""
    world = HedgedWorld()
    io = RacingScript(works("slow", 3.0), works("slow too", 3.0))

    async def impatient() -> None:
        story = execute(a_call(), world.policies, io, world.observer, world.clock)  # type: ignore[arg-type]
        async with asyncio.timeout(1.0):
            await story

    with (
        asyncio.Runner(loop_factory=lambda: Loop(world.clock)) as runner,
        pytest.raises(TimeoutError),
    ):
        runner.run(impatient())

    assert [(1,), (2,)] == sorted(world.observer.of("attempt_cancelled"))
    assert "cancelled" == world.observer.of("call_ended")[0][0]


def test_an_io_that_cannot_race_is_not_asked_to() -> None:
    """A synchronous call makes its attempts one after the other."""
    world = HedgedWorld()
    io = world.script(works(seconds=0.3))

    world.call(io)

    assert [0.3] == io.attempts


def test_two_that_end_together_have_one_winner() -> None:
    """The other one lost, though it is over."""

    async def story() -> tuple[str, list[str]]:
        gate = asyncio.Event()

        async def waits(name: str) -> str:
            await gate.wait()
            return name

        def second() -> Coroutine[object, None, str]:
            gate.set()
            return waits("second")

        return await race(waits("first"), second, 0.0, lambda _: True)

    won, lost = asyncio.run(story())

    assert "first" == won
    assert lost in ([], ["second"])
