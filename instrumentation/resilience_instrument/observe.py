"""Observe mode: the call is plain, and the engine is told about it afterwards.

The engine plays the call that was made, with a clock of its own and policies that
nobody else sees. What it would have done is counted; nothing is done. Of a retry
it assumes that it would have met what the first attempt met.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, final

from resilience_instrument.engine import execute, run_sync
from resilience_instrument.outcome import Returned
from resilience_instrument.policies.bulkhead import Slot, Ticket
from resilience_instrument.policies.retry import revised
from resilience_instrument.policies.throttle import is_overload
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

if TYPE_CHECKING:
    from resilience_instrument.call import Call
    from resilience_instrument.clock import Clock
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.events import (
        ActingPolicy,
        CallOutcome,
        FallbackKind,
        FallbackOutcome,
        Observer,
        RejectingPolicy,
        SkipReason,
        Transition,
    )
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.registry import ServicePolicies

_CUT: Final = Judgement(
    Verdict.TRANSIENT, Evidence.FAILURE, timeout=Phase.READ, reason="timeout"
)
_PLAYED: Final = Returned(None)


class Would(NamedTuple):
    """The limits that a call would have had.

    Attributes:
        total: Seconds for all of it, None for no limit.
        attempt: Seconds for the answer to one attempt, None for no limit of ours.
    """

    total: float | None
    attempt: float | None


class ObservedIo(Protocol):
    """An `Io` that can make its call plainly."""

    would: Would | None
    """The limits that it would have had; None where it can only pass untouched."""

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Make the attempt; with limits of the app's own only."""
        ...

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what it came to."""
        ...


async def observe(
    call: Call,
    policies: ServicePolicies,
    io: ObservedIo,
    observer: Observer,
    clock: Clock,
) -> Outcome:
    """Make the call plainly, measure it, and tell what would have been done."""
    begun = clock.monotonic()
    observer.call_started(call)
    place = _enter(call, policies, observer, begun)
    try:
        observer.attempt_started(call, 1)
        outcome = await io.attempt(1, None)
        judgement = io.judge(outcome)
    except Exception:
        _leave(place)
        observer.call_ended(call, "error", 1, clock.monotonic() - begun)
        raise
    except BaseException:
        _leave(place)
        observer.attempt_cancelled(call, 1)
        observer.call_ended(call, "cancelled", 1, clock.monotonic() - begun)
        raise
    now = clock.monotonic()
    if place is not None:
        success = judgement.verdict is Verdict.SUCCESS
        place.home.record(place, now, dropped=is_overload(judgement), success=success)
    observer.attempt_ended(call, 1, judgement, now - begun)
    observer.call_ended(call, judgement.outcome, 1, now - begun)
    if policies.revises:
        judgement = revised(judgement, outcome, policies.settings.retry)
    seen = _Seen(judgement, now - begun, io.would)
    _predict(call, policies, seen, observer, _PlayedClock(clock, begun))
    return outcome


def _enter(
    call: Call, policies: ServicePolicies, observer: Observer, now: float
) -> Slot | None:
    """Take a place in the bulkhead, if there is one; say so if there is none."""
    bulkhead = policies.shadow.places
    if bulkhead is None:
        return None
    place = bulkhead.enter(now)
    if isinstance(place, Slot):
        return place
    if isinstance(place, Ticket):
        bulkhead.leave(place)
    observer.would_act(call, "bulkhead", 0.0, 0)
    return None


def _leave(place: Slot | None) -> None:
    if place is not None:
        place.home.release(place)


class _Seen(NamedTuple):
    """What really happened, and the limits that there would have been."""

    judgement: Judgement
    seconds: float
    would: Would | None


def _predict(
    call: Call,
    policies: ServicePolicies,
    seen: _Seen,
    observer: Observer,
    clock: _PlayedClock,
) -> None:
    """Play the call again by the rules, and tell what would have been done."""
    replay = _Replay(seen, clock)
    notes = _Notes(replay)
    before, call.deadline = call.deadline, replay.deadline
    try:
        # The bulkhead was asked when the call began, when its places counted.
        run_sync(execute(call, policies.shadow.policies, replay, notes, clock))
    finally:
        call.deadline = before
    saved = max(0.0, seen.seconds - notes.seconds)
    good = seen.judgement.verdict is Verdict.SUCCESS
    lost = int(good and notes.label != "success")
    for policy in notes.acts:
        observer.would_act(call, policy, saved, lost)
        # Each second is saved once, each call lost once: by what struck first.
        saved, lost = 0.0, 0
    if notes.label != "success" and policies.settings.fallback is not None:
        observer.would_act(call, "fallback", 0.0, 0)


@final
class _PlayedClock:
    """Time that starts where the call began, and moves as the play goes on."""

    def __init__(self, real: Clock, begun: float) -> None:
        self._real = real
        self.now = begun

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self._real.wall()

    def uniform(self, low: float, high: float) -> float:
        return self._real.uniform(low, high)


@final
class _Replay:
    """An `Io` whose every attempt meets what the real one met."""

    def __init__(self, seen: _Seen, clock: _PlayedClock) -> None:
        would = seen.would or Would(None, None)
        self._seen = seen
        self._clock = clock
        self._limit = math.inf if would.attempt is None else would.attempt
        self.deadline = None if would.total is None else clock.now + would.total
        self.cut = False

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002 - they are all the same
        left = math.inf if deadline is None else deadline - self._clock.now
        limit = min(self._limit, left)
        self.cut = self._seen.seconds >= limit
        self._clock.now += min(limit, self._seen.seconds)
        # Not the app's error: the engine would write a note on it.
        return _PLAYED

    def judge(self, outcome: Outcome) -> Judgement:  # noqa: ARG002 - it is known
        return _CUT if self.cut else self._seen.judgement

    def reject(self, error: ResilienceError) -> Exception:
        return error

    async def discard(self, outcome: Outcome) -> None:
        """Do nothing: the app has the outcome."""

    async def sleep(self, seconds: float) -> None:
        self._clock.now += seconds


@final
class _Notes:
    """Listens to the play and notes which policies would have acted, in order."""

    def __init__(self, replay: _Replay) -> None:
        self._replay = replay
        self.acts: list[ActingPolicy] = []
        self.label: CallOutcome = "success"
        self.seconds = 0.0

    def _note(self, policy: ActingPolicy) -> None:
        if policy not in self.acts:
            self.acts.append(policy)

    def call_started(self, call: Call) -> None:
        """Note nothing."""

    def attempt_started(self, call: Call, number: int) -> None:
        """Note nothing."""

    def attempt_ended(
        self,
        call: Call,  # noqa: ARG002 - the shape of an observer
        number: int,  # noqa: ARG002 - as above
        judgement: Judgement,  # noqa: ARG002 - as above
        seconds: float,  # noqa: ARG002 - as above
    ) -> None:
        if self._replay.cut:
            self._note("timeout")

    def attempt_cancelled(self, call: Call, number: int) -> None:
        """Note nothing: a play is not cancelled."""

    def retry_scheduled(
        self,
        call: Call,  # noqa: ARG002 - the shape of an observer
        number: int,  # noqa: ARG002 - as above
        delay: float,  # noqa: ARG002 - as above
        reason: str,  # noqa: ARG002 - as above
    ) -> None:
        self._note("retry")

    def retry_skipped(self, call: Call, reason: SkipReason) -> None:
        """Note nothing: nothing would have been done."""

    def rejected(self, call: Call, policy: RejectingPolicy) -> None:  # noqa: ARG002 - the shape of an observer
        self._note("timeout" if policy == "deadline" else policy)

    def transitioned(self, call: Call, transition: Transition) -> None:
        """Note nothing: the circuit is one of the play."""

    def would_act(
        self, call: Call, policy: ActingPolicy, saved: float, lost: int
    ) -> None:
        """Note nothing: a play holds no play."""

    def fell_back(
        self, call: Call, kind: FallbackKind, outcome: FallbackOutcome
    ) -> None:
        """Note nothing: a play has no fallback."""

    def call_ended(
        self,
        call: Call,  # noqa: ARG002 - the shape of an observer
        outcome: CallOutcome,
        attempts: int,  # noqa: ARG002 - as above
        seconds: float,
    ) -> None:
        self.label = outcome
        self.seconds = seconds
