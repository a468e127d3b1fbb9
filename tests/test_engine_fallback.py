"""What the engine does when a call failed and something may stand in."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from fakes import (
    Script,
    Step,
    World,
    breaks,
    is_refused,
    open_circuit,
    service_settings,
    works,
)
from resilience_instrument.config.model import (
    CacheFallback,
    FallbackSettings,
    StaticFallback,
)
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.verdict import Evidence, Judgement, Verdict

if TYPE_CHECKING:
    from fakes import FakeClock
    from resilience_instrument.outcome import Outcome


class StandingIn(Script):
    """An `Io` that has other answers, by kind."""

    def __init__(self, clock: FakeClock, answers: dict[str, Any], *steps: Step) -> None:
        super().__init__(clock, *steps)
        self.answers = answers
        self.remembered: list[object] = []
        self.may_be_sent: list[bool] = []

    def remember(self, outcome: Outcome, settings: FallbackSettings) -> None:
        """Note what would be kept."""
        assert settings.cache is not None
        self.remembered.append(outcome)

    async def stand_in(
        self,
        kind: str,
        settings: FallbackSettings,
        outcome: Outcome,
        *,
        may_be_sent: bool,
    ) -> Outcome | None:
        """Give the answer of this kind."""
        assert getattr(settings, kind) is not None
        assert outcome is not None
        self.may_be_sent.append(may_be_sent)
        self.clock.advance(1.0)
        found: Outcome | None = self.answers.get(kind)
        return found


def falling_back() -> World:
    """Return a world whose service has fallbacks of every kind."""
    fallback = FallbackSettings(
        CacheFallback(1.0, 1, 1), "https://b", "m:f", StaticFallback(200, (), b"")
    )
    settings = service_settings(RETRY_MAX_ATTEMPTS=1)
    return World(dataclasses.replace(settings, fallback=fallback))


def test_the_first_kind_that_has_an_answer_gives_it() -> None:
    """One that fails is told; one that has nothing is not."""
    world = falling_back()
    answers = {"service": Raised(OSError()), "call": Returned("other")}
    io = StandingIn(world.clock, answers, breaks())

    outcome = world.call(io)

    assert "other" == outcome.value  # type: ignore[union-attr]
    assert [("service", "error"), ("call", "success")] == world.observer.of("fell_back")
    assert [("fallback", 1, 3.0)] == world.observer.of("call_ended")
    assert 1 == len(io.discarded)


def test_without_any_answer_the_failure_stands() -> None:
    """It is the app's own error, and the wait counts."""
    world = falling_back()
    error = ConnectionResetError("reset")
    io = StandingIn(world.clock, {}, breaks(error))

    outcome = world.call(io)

    assert error is outcome.error  # type: ignore[union-attr]
    assert [("error", 1, 4.0)] == world.observer.of("call_ended")
    assert [] == io.discarded


def test_a_good_answer_is_remembered() -> None:
    """Nothing stands in for it."""
    world = falling_back()
    io = StandingIn(world.clock, {"static": Returned("other")}, works("own"))

    outcome = world.call(io)

    assert "own" == outcome.value  # type: ignore[union-attr]
    assert [outcome] == io.remembered
    assert [] == world.observer.of("fell_back")


@pytest.mark.parametrize(
    ("step", "facts", "safe"),
    [
        (breaks(), {}, True),
        (breaks(), {"repeatable": False}, False),
        (breaks(sent=False), {"repeatable": False}, True),
        (breaks(sent=False), {"replayable": False}, False),
    ],
)
def test_what_may_be_sent_elsewhere_is_known(
    step: Step,
    facts: dict[str, Any],
    safe: bool,
) -> None:
    """By what is known of the call, not by hope."""
    world = falling_back()
    io = StandingIn(world.clock, {}, step)

    world.call(io, **facts)

    assert {safe} == set(io.may_be_sent)


def test_a_refused_call_may_be_sent_elsewhere() -> None:
    """Nothing of it was sent, and its body is untouched."""
    world = falling_back()
    open_circuit(world.policies.breaker, world.clock.now)
    io = StandingIn(world.clock, {"service": Returned("other")}, works())

    outcome = world.call(io, repeatable=False, replayable=False)

    assert "other" == outcome.value  # type: ignore[union-attr]
    assert [True, True] == io.may_be_sent


def test_an_io_without_other_answers_goes_without() -> None:
    """A database has no fallback yet."""
    world = falling_back()

    world.play(breaks())
    world.play(is_refused(400))

    assert ["error", "error"] == [e[0] for e in world.observer.of("call_ended")]


def test_what_says_nothing_about_the_service_is_the_apps() -> None:
    """Such as an address that cannot be."""
    world = falling_back()
    judgement = Judgement(Verdict.PERMANENT, Evidence.NEUTRAL)
    step = Step(Raised(ValueError("bad")), judgement)
    io = StandingIn(world.clock, {"static": Returned("other")}, step)

    assert isinstance(world.call(io), Raised)
