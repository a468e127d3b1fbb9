"""Observe mode: nothing is done, and what would have been done is told rightly."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from fakes import (
    FakeClock,
    RecordingObserver,
    Script,
    Step,
    a_call,
    answers,
    breaks,
    interrupts,
    is_refused,
    service_settings,
    times_out,
    works,
)
from resilience_instrument.engine import execute, run_sync
from resilience_instrument.observe import Would, _PlayedClock, observe
from resilience_instrument.outcome import Raised
from resilience_instrument.policies.bulkhead import Slot
from resilience_instrument.registry import ServicePolicies

if TYPE_CHECKING:
    from resilience_instrument.outcome import Outcome


class Observed:
    """One service that is only observed."""

    def __init__(self, **environ: object) -> None:
        self.clock = FakeClock()
        self.observer = RecordingObserver()
        settings = service_settings(MODE="observe", RETRY_BASE_DELAY=0, **environ)
        self.policies = ServicePolicies("payment-api", settings, self.clock)

    def call(self, step: Step, would: Would | None = None, **facts: Any) -> Outcome:
        """Make one call."""
        io: Any = Script(self.clock, step)
        io.would = would or Would(30.0, 10.0)
        return run_sync(
            observe(a_call(**facts), self.policies, io, self.observer, self.clock)
        )

    @property
    def acts(self) -> list[tuple[str, float, int]]:
        """What would have been done."""
        return [facts[:3] for facts in self.observer.of("would_act")]


def test_a_call_that_works_is_measured_and_nothing_else() -> None:
    """Once, as a call and as an attempt."""
    world = Observed()

    outcome = world.call(works("ok", seconds=0.5))

    assert "ok" == outcome.value  # type: ignore[union-attr]
    names = ["call_started", "attempt_started", "attempt_ended", "call_ended"]
    assert names == world.observer.names
    assert [("success", 1, 0.5)] == world.observer.of("call_ended")


def test_a_failure_is_handed_on_and_would_have_been_retried() -> None:
    """The very same error, without a note; one attempt; no pause."""
    world = Observed()
    error = ConnectionResetError("reset")

    outcome = world.call(breaks(error))

    assert isinstance(outcome, Raised)
    assert error is outcome.error
    assert not hasattr(error, "__notes__")
    assert [("retry", 0.0, 0)] == world.acts
    assert 1000.0 == world.clock.now


@pytest.mark.parametrize(
    ("step", "facts"),
    [
        (breaks(), {"repeatable": False}),
        (breaks(), {"app_retries": True}),
        (is_refused(500), {}),
        (answers(503, retry_after=3600.0), {}),
    ],
)
def test_what_would_not_have_been_retried_is_not_told(
    step: Step, facts: dict[str, Any]
) -> None:
    """The same rules decide."""
    world = Observed()

    world.call(step, **facts)

    assert [] == world.acts


def test_a_slow_success_would_have_been_cut() -> None:
    """It would have saved seconds and cost an answer; a retry would have come too."""
    world = Observed(RETRY_MAX_ATTEMPTS=1)

    world.call(works(seconds=25.0))

    assert [("timeout", 15.0, 1)] == world.acts


def test_the_whole_call_would_have_been_cut() -> None:
    """Also where the app gave the attempt's timeouts itself."""
    world = Observed(RETRY_MAX_ATTEMPTS=1)

    world.call(works(seconds=40.0), Would(30.0, None))
    world.call(works(seconds=40.0), Would(None, None))

    assert [("timeout", 10.0, 1)] == world.acts


def test_a_room_that_knows_no_limits_has_none() -> None:
    """Then no cut is told."""
    world = Observed()
    io: Any = Script(world.clock, works(seconds=1000.0))
    io.would = None

    run_sync(observe(a_call(), world.policies, io, world.observer, world.clock))

    assert [] == world.acts


def test_an_open_circuit_would_have_refused() -> None:
    """What it would have saved, and what it would have cost; the gauge is closed."""
    world = Observed(RETRY_MAX_ATTEMPTS=1)
    for _ in range(5):
        world.call(breaks())

    world.call(breaks(seconds=2.0))
    world.call(works(seconds=1.0))

    assert [("breaker", 2.0, 0), ("breaker", 1.0, 1)] == world.acts
    assert "closed" == world.policies.breaker.state(world.clock.now)
    assert [] == world.observer.of("transitioned")


def test_a_full_bulkhead_is_told_when_the_call_begins() -> None:
    """Its places count while calls are under way."""
    world = Observed(BULKHEAD_LIMIT=1)
    places = world.policies.shadow.places
    assert places is not None
    held = places.enter(world.clock.now)
    assert isinstance(held, Slot)

    world.call(works())
    places.release(held)
    world.call(works())

    assert [("bulkhead", 0.0, 0)] == world.acts


def test_a_place_in_line_is_left_at_once() -> None:
    """Nobody waits in observe mode."""
    world = Observed(BULKHEAD_LIMIT=1, BULKHEAD_QUEUE=5, BULKHEAD_WAIT=10)
    places = world.policies.shadow.places
    assert places is not None
    held = places.enter(world.clock.now)

    world.call(works())

    assert [("bulkhead", 0.0, 0)] == world.acts
    assert isinstance(held, Slot)
    places.release(held)
    assert isinstance(places.enter(world.clock.now), Slot)


def test_the_play_has_a_clock_of_its_own() -> None:
    """Only dates are those of the world."""
    clock = FakeClock()

    played = _PlayedClock(clock, 5.0)

    assert (5.0, clock.epoch, 1.5) == (
        played.monotonic(),
        played.wall(),
        played.uniform(1.0, 2.0),
    )


def test_a_throttle_would_have_held_calls_back() -> None:
    """By the same formula, and the same chance."""
    world = Observed(THROTTLE=1, RETRY_MAX_ATTEMPTS=1, BREAKER_MODE="disabled")

    for _ in range(40):
        world.call(answers(503))

    assert "throttle" in {act[0] for act in world.acts}


def test_a_fallback_would_have_answered() -> None:
    """Where the call would have failed by the rules, too."""
    world = Observed(RETRY_MAX_ATTEMPTS=1)
    something: Any = object()
    settings = dataclasses.replace(world.policies.settings, fallback=something)
    policies = world.policies.by(settings)
    world.policies = policies

    world.call(breaks())
    world.call(works())

    assert [("fallback", 0.0, 0)] == world.acts


@pytest.mark.parametrize(
    ("error", "label", "events"),
    [
        (KeyboardInterrupt(), "cancelled", ["attempt_cancelled"]),
        (RuntimeError("a fault of ours"), "error", []),
    ],
)
def test_an_interrupted_call_is_told_and_passes_on(
    error: BaseException, label: str, events: list[str]
) -> None:
    """Its place in the bulkhead is free again, and nothing is predicted."""
    world = Observed(BULKHEAD_LIMIT=1)

    with pytest.raises(type(error)):
        world.call(interrupts(error, seconds=1.0))
    world.call(works())

    assert (label, 1, 1.0) == world.observer.of("call_ended")[0]
    assert events == [n for n in world.observer.names if n == "attempt_cancelled"]
    assert [] == world.acts


def test_an_interrupted_call_without_a_bulkhead_passes_on() -> None:
    """There is nothing to give back."""
    world = Observed()

    with pytest.raises(KeyboardInterrupt):
        world.call(interrupts(KeyboardInterrupt()))

    assert ["cancelled"] == [facts[0] for facts in world.observer.of("call_ended")]


def test_views_of_a_service_are_played_with_one_circuit() -> None:
    """As they would share one."""
    world = Observed()
    view = world.policies.by(dataclasses.replace(world.policies.settings, profile="x"))

    assert world.policies.shadow is world.policies.shadow
    assert world.policies.shadow.policies.breaker is view.shadow.policies.breaker
    assert world.policies.shadow.policies.breaker is not world.policies.breaker


def test_a_newer_plan_keeps_what_was_played() -> None:
    """The circuit of the play goes on, by the new settings."""
    world = Observed(BULKHEAD_LIMIT=1)
    before = world.policies.shadow
    plan: Any = object()
    settings = service_settings(MODE="observe", BULKHEAD_LIMIT=1, TIMEOUT_READ=3)
    other = service_settings(MODE="observe", BULKHEAD_LIMIT=2)

    same = world.policies.renewed(settings, plan)
    changed = world.policies.renewed(other, plan)

    assert before.policies.breaker is same.shadow.policies.breaker
    assert before.places is same.shadow.places
    assert before.places is not changed.shadow.places
    assert plan is changed.plan


def test_a_child_observes_afresh() -> None:
    """Locks of what was played may be held for ever."""
    world = Observed()
    before = world.policies.shadow

    world.policies.renew_locks()

    assert before is not world.policies.shadow


def test_named_errors_would_have_been_tried_again() -> None:
    """What the settings say about classes and statuses holds in the play too."""
    world = Observed(RETRY_ON_STATUSES="500", RETRY_EXCEPT_ERRORS="ConnectionError")

    world.call(is_refused(500))
    world.call(breaks())
    world.call(answers(503))

    assert [("retry", 0.0, 0)] == world.acts


# -- predictions ------------------------------------------------------------

OUTAGE = [works(seconds=0.1)] * 6 + [answers(503, seconds=0.1)] * 40
SCRIPTS: dict[str, list[Step]] = {
    "healthy": [works(seconds=0.1)] * 40,
    "flaky": [answers(503), works(), works(), works(), breaks(), works()] * 8,
    "outage": [*OUTAGE, *[works(seconds=0.1)] * 60],
    "slow": [works(seconds=20.0), works(), works(), works(), works()] * 6,
    "hanging": [*[works()] * 4, *[works(seconds=60.0)] * 12, *[works()] * 30],
    "unsafe": [is_refused(500), works(), is_refused(500)] * 8,
    "timeouts": [times_out(10.0), works(), works()] * 8,
}


def enforced(script: list[Step]) -> tuple[int, int]:
    """Play a script for real; return how many calls were retried and refused."""
    clock = FakeClock()
    observer = RecordingObserver()
    settings = service_settings(RETRY_BASE_DELAY=0)
    policies = ServicePolicies("payment-api", settings, clock)
    for number, step in enumerate(script):
        clock.now = 1000.0 + 100.0 * number / 10
        io = Limited(clock, step)
        call = a_call(deadline=clock.now + 30.0)
        run_sync(execute(call, policies, io, observer, clock))
    numbers = [facts[0] for facts in observer.of("retry_scheduled")]
    return numbers.count(2), len(observer.of("rejected"))


class Limited(Script):
    """A script whose attempts meet the same each time, ten seconds at most."""

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002
        step = self.steps[0]
        assert not isinstance(step.outcome, BaseException)
        left = 10.0 if deadline is None else min(10.0, deadline - self.clock.now)
        self.cut = step.seconds >= left and step.judgement.timeout is None
        self.attempts.append(min(step.seconds, left))
        self.clock.advance(min(step.seconds, left))
        return Raised(TimeoutError()) if self.cut else step.outcome

    def judge(self, outcome: Outcome) -> Any:  # noqa: ARG002
        return times_out(10.0).judgement if self.cut else self.steps[0].judgement


@pytest.mark.parametrize("name", SCRIPTS)
def test_predictions_agree_with_what_is_then_done(name: str) -> None:
    """Calls retried and calls refused, number for number."""
    world = Observed()

    for number, step in enumerate(SCRIPTS[name]):
        world.clock.now = 1000.0 + 100.0 * number / 10
        world.call(step)

    acts = [act[0] for act in world.acts]
    retried, refused = enforced(SCRIPTS[name])
    assert (retried, refused) == (acts.count("retry"), acts.count("breaker"))
