"""The whole story of a call, told once, for sync and async alike.

`execute` asks the policies what to do and tells an observer what happened. It
touches the world only through an `Io`. An async wrapper awaits it; a sync one
finishes it with `run_sync`, since a sync `Io` never suspends.

Failures are data here. What `execute` itself raises is either a `BaseException`
that is nobody's failure (cancellation, Ctrl-C), which passes on, or a fault of
ours, after which the caller of `execute` lets the call go through untouched.

An error's traceback holds the frames that led to it, and these hold the ones above
them: no frame of ours may end while it still holds the error, or the two would keep
each other, and the response, alive. Hence the `del`s after each `return`.

The module is long because the story is one: every step knows the call, its policies
and the time, and a reader sees in one place in which order they are asked.
"""

from __future__ import annotations

import contextlib
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    TypeAlias,
    cast,
)

from resilience_instrument.outcome import Raised
from resilience_instrument.policies.breaker import Permit, Rejection
from resilience_instrument.policies.bulkhead import Slot, Ticket
from resilience_instrument.policies.deadline import MIN_USEFUL, nearer
from resilience_instrument.policies.fallback import is_wanted, kinds
from resilience_instrument.policies.hedge import hedge_delay
from resilience_instrument.policies.permit import GHOST
from resilience_instrument.policies.retry import Retries, revised
from resilience_instrument.policies.throttle import is_overload
from resilience_instrument.port import Attempting, Io, RacingIo, run_sync
from resilience_instrument.refusals import Refusal, error_for
from resilience_instrument.verdict import Evidence, Verdict

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from resilience_instrument.call import Call
    from resilience_instrument.clock import Clock
    from resilience_instrument.events import (
        CallOutcome,
        Observer,
        RejectingPolicy,
        SkipReason,
    )
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.policies.bulkhead import Bulkhead
    from resilience_instrument.registry import ServicePolicies
    from resilience_instrument.verdict import Judgement


__all__ = ["Io", "RacingIo", "execute", "run_sync"]


def execute(
    call: Call, policies: ServicePolicies, io: Io, observer: Observer, clock: Clock
) -> Coroutine[object, None, Outcome]:
    """Make the call: attempts, pauses and refusals, and tell how it ended."""
    now = clock.monotonic()
    policies.pay(now)
    # Returned and not awaited here: a coroutine less on every call.
    return Execution(call, policies, io, observer, clock, now).run()


def resume(  # noqa: PLR0913, PLR0917 - as `execute`, and how it began
    call: Call,
    policies: ServicePolicies,
    io: Io,
    observer: Observer,
    clock: Clock,
    started: float,
    generation: int,
) -> Coroutine[object, None, Outcome]:
    """Go on with a call whose first attempt was made without a word.

    It paid into the budget and asked the breaker already; everything else is told
    now as if it happened here. `io` gives the outcome when it is asked to attempt.

    Args:
        call: What the app asked for.
        policies: What governs the service.
        io: Touches the world.
        observer: Is told what happens.
        clock: Time and chance.
        started: The monotonic time at which the call began.
        generation: The breaker's generation at that time.
    """
    execution = Execution(call, policies, io, observer, clock, started)
    return execution.run(Permit(generation, started, probe=False))


Entry: TypeAlias = tuple[Permit, Slot | None]

# How often a queue for a place is looked at; nobody is woken up.
_QUEUE_STEP: Final = 0.01

# Timers fire a little early on some systems.
_NEARLY: Final = 0.98


class Execution:
    """One call on its way. It lives as long as `execute` runs, or who follows it."""

    __slots__ = (
        "_attempts",
        "_call",
        "_clock",
        "_io",
        "_judgement",
        "_looked_on",
        "_now",
        "_observer",
        "_policies",
        "_retries",
        "_sent",
        "_started",
    )

    def __init__(  # noqa: PLR0913, PLR0917 - as `resume`
        self,
        call: Call,
        policies: ServicePolicies,
        io: Io,
        observer: Observer,
        clock: Clock,
        started: float,
    ) -> None:
        self._call = call
        self._policies = policies
        self._io = io
        self._observer = observer
        self._clock = clock
        self._attempts = 0
        self._retries: Retries | None = None
        self._judgement: Judgement | None = None
        self._sent = False
        # When a circuit that only looks on would have refused, None if it would not.
        self._looked_on: float | None = None
        # The time as it was last read; the happy path reads it twice.
        self._now = self._started = started

    async def run(self, permit: Permit | None = None) -> Outcome:
        """Tell the story; from a `permit` on that the call has already, if any."""
        self._observer.call_started(self._call)
        try:
            outcome, label = await self._loop(permit)
            if self._policies.settings.fallback is not None:
                outcome, label = await self._stand_in(outcome, label)
        except Exception:
            # A fault of ours. The caller lets the call through and counts it.
            self._end("error", self._tick())
            raise
        except BaseException:
            self._end("cancelled", self._tick())
            raise
        self._end(label, self._now)
        try:
            return outcome
        finally:
            del outcome

    def _end(self, label: CallOutcome, now: float) -> None:
        self._observer.call_ended(
            self._call, label, self._attempts, now - self._started
        )
        if self._looked_on is not None:
            saved, lost = now - self._looked_on, int(label == "success")
            self._observer.would_act(self._call, "breaker", saved, lost)

    def _tick(self) -> float:
        self._now = now = self._clock.monotonic()
        return now

    async def _loop(self, permit: Permit | None) -> tuple[Outcome, CallOutcome]:
        """Attempt until an outcome stands; return it and how the call ended."""
        deadline = self._call.deadline
        entry: Entry | Refusal
        if permit is not None:
            entry = permit, None
        elif deadline is not None and deadline - self._now < MIN_USEFUL:
            entry = "deadline"
        else:
            entry = await self._enter_gated() if self._policies.gated else self._enter()
        if isinstance(entry, (str, Rejection)):
            return self._refuse(entry)
        first = self._hedged if self._policies.hedges else self._attempt
        outcome, judgement = await first(entry)
        while judgement.verdict is Verdict.TRANSIENT:
            delay = self._pause(judgement)
            if delay is None:
                break
            await self._wait(delay, outcome)
            self._tick()
            again = await self._enter_gated() if self._policies.gated else self._enter()
            if isinstance(again, (str, Rejection)):
                reason: SkipReason = again if isinstance(again, str) else "open"
                self._observer.retry_skipped(self._call, reason)
                break
            await self._discard(outcome, again)
            self._tick()
            outcome, judgement = await self._attempt(again)
        try:
            return self._annotated(outcome), judgement.outcome
        finally:
            del outcome

    # -- the fallback -------------------------------------------------------

    async def _stand_in(
        self, outcome: Outcome, label: CallOutcome
    ) -> tuple[Outcome, CallOutcome]:
        """Return another answer for a call that failed, if there is one."""
        io: Any = self._io
        settings = self._policies.settings.fallback
        if settings is None or not hasattr(io, "stand_in"):
            return outcome, label
        if label == "success":
            io.remember(outcome, settings)
            return outcome, label
        if not is_wanted(self._judgement):
            return outcome, label
        for kind in kinds(settings):
            safe = self._may_be_sent()
            answer = await io.stand_in(kind, settings, outcome, may_be_sent=safe)
            if answer is None:
                continue
            failed = isinstance(answer, Raised)
            self._observer.fell_back(self._call, kind, "error" if failed else "success")
            if not failed:
                await io.discard(outcome)
                self._tick()
                return answer, "fallback"
        self._tick()
        return outcome, label

    def _may_be_sent(self) -> bool:
        """Tell whether sending the call once more, elsewhere, does no harm."""
        call = self._call
        again = call.replayable or not self._attempts
        return again and (call.repeatable or not self._sent)

    # -- the gates ----------------------------------------------------------

    async def _enter_gated(self) -> Entry | Refusal:
        """Ask throttle, bulkhead and breaker for one attempt, in this order."""
        throttle, bulkhead = self._policies.throttle, self._policies.bulkhead
        if throttle is not None and not throttle.admits(self._now):
            return "throttle"
        if bulkhead is None:
            return self._enter(None)
        slot = bulkhead.enter(self._now)
        if isinstance(slot, Ticket):
            slot = await self._queue(bulkhead, slot)
        return "bulkhead" if slot is None else self._enter(slot)

    async def _queue(self, bulkhead: Bulkhead, ticket: Ticket) -> Slot | None:
        """Wait in line for a slot, never beyond the ticket's time or the deadline."""
        deadline = self._call.deadline
        until = ticket.until
        if deadline is not None:
            until = min(until, deadline - MIN_USEFUL)
        slot = None
        try:
            while slot is None and self._now < until:
                await self._io.sleep(min(_QUEUE_STEP, until - self._now))
                slot = bulkhead.call_up(ticket, self._tick())
        finally:
            bulkhead.leave(ticket)
        return slot

    def _enter(self, slot: Slot | None = None) -> Entry | Refusal:
        """Ask the breaker; a slot of the bulkhead goes back if it refuses."""
        permit, transition = self._policies.breaker.acquire(self._now)
        if transition is not None:
            self._observer.transitioned(self._call, transition)
        if not isinstance(permit, Rejection):
            if permit.generation == GHOST:
                self._look_on()
            return permit, slot
        if slot is not None:
            slot.home.release(slot)
        return permit

    def _look_on(self) -> None:
        """Remember when the circuit let an attempt through only because it looks on."""
        shadows = self._policies.breaker.mode == "shadow"
        if shadows and self._looked_on is None:
            self._looked_on = self._now

    def _refuse(self, refusal: Refusal) -> tuple[Outcome, CallOutcome]:
        policy: RejectingPolicy = refusal if isinstance(refusal, str) else "breaker"
        self._observer.rejected(self._call, policy)
        error = self._io.reject(error_for(self._call.service, refusal))
        return Raised(error), "timeout" if refusal == "deadline" else "rejected"

    def _give_back(self, entry: Entry) -> None:
        permit, slot = entry
        self._policies.breaker.release(permit)
        if slot is not None:
            slot.home.release(slot)

    # -- one attempt --------------------------------------------------------

    async def _hedged(self, entry: Entry) -> tuple[Outcome, Judgement]:
        """Make the first attempt, with a second one beside it if it is slow."""
        can_race = hasattr(self._io, "race")
        delay = self._hedge_delay() if can_race else None
        if delay is None:
            return await self._attempt(entry)
        won, lost = await cast("RacingIo", self._io).race(
            self._attempt(entry),
            self._hedge,
            delay,
            lambda result: result[1].verdict is not Verdict.TRANSIENT,
        )
        while lost:
            await self._io.discard(lost.pop()[0])
        try:
            return won
        finally:
            del won

    def _hedge_delay(self) -> float | None:
        policies, call = self._policies, self._call
        return hedge_delay(
            call,
            policies.settings.hedge,
            policies.latencies[call.repeatable],
            policies.breaker,
            self._now,
        )

    def _hedge(self) -> Coroutine[object, None, tuple[Outcome, Judgement]] | None:
        """Return a second attempt if circuit, bulkhead and budget have one to give."""
        now, policies = self._tick(), self._policies
        twin = cast("RacingIo", self._io).twin()
        if twin is None or policies.breaker.state(now) != "closed":
            return None
        slot = None
        if policies.bulkhead is not None:
            place = policies.bulkhead.enter(now)
            if isinstance(place, Ticket):
                policies.bulkhead.leave(place)
            if not isinstance(place, Slot):
                return None
            slot = place
        entry = self._enter(slot)
        if isinstance(entry, (str, Rejection)):
            return None
        if not policies.budget.withdraw(now):
            self._give_back(entry)
            return None
        return self._attempt(entry, twin)

    def _adaptive_limit(self) -> float | None:
        """Return the seconds that an attempt may take at most, None for no limit."""
        call, policies = self._call, self._policies
        if policies.settings.adaptive.mode != "enforce" or not call.measured:
            return None
        adaptive = policies.adaptive
        if adaptive is None:
            return None
        return adaptive[call.repeatable].timeout(self._now)

    async def _attempt(
        self, entry: Entry, io: Attempting | None = None
    ) -> tuple[Outcome, Judgement]:
        self._attempts += 1
        number, begun = self._attempts, self._now
        call, policies = self._call, self._policies
        io = io or self._io
        deadline, limit = call.deadline, self._adaptive_limit()
        if limit is not None:
            deadline = nearer(deadline, begun + limit)
        try:
            self._observer.attempt_started(call, number)
            outcome = await io.attempt(number, deadline)
            judgement = io.judge(outcome)
            if policies.revises:
                judgement = revised(judgement, outcome, policies.settings.retry)
        except BaseException:
            self._give_back(entry)
            self._observer.attempt_cancelled(call, number)
            raise
        seconds = self._tick() - begun
        if limit is not None and seconds >= limit * _NEARLY:
            judgement = _as_evidence(judgement)
        self._settle(entry, number, judgement, seconds)
        try:
            return outcome, judgement
        finally:
            del outcome

    def _settle(
        self, entry: Entry, number: int, judgement: Judgement, seconds: float
    ) -> None:
        """Let every policy know how the attempt ended, then the observer."""
        self._judgement = judgement
        self._sent = self._sent or judgement.sent
        now, call, policies = self._now, self._call, self._policies
        permit, slot = entry
        timed_out = judgement.timeout is not None
        transition = policies.breaker.record(
            permit,
            judgement.evidence,
            now,
            judgement.reason,
            judgement.retry_after,
            slow=timed_out,
        )
        success = judgement.verdict is Verdict.SUCCESS
        if slot is not None:
            dropped = is_overload(judgement)
            slot.home.record(slot, now, dropped=dropped, success=success)
        if policies.throttle is not None:
            policies.throttle.record(judgement, now)
        if policies.budget.settles:
            policies.budget.settle(number, success=success)
        if policies.measures and call.measured and (success or timed_out):
            policies.took(call, seconds, now, timed_out=timed_out)
        self._observer.attempt_ended(call, number, judgement, seconds)
        if transition is not None:
            self._observer.transitioned(call, transition)

    # -- between attempts ---------------------------------------------------

    def _pause(self, judgement: Judgement) -> float | None:
        """Return the seconds to wait before the next attempt, None for no more."""
        call, policies, number = self._call, self._policies, self._attempts
        if policies.breaker.refuses(self._now):
            self._observer.retry_skipped(call, "open")
            return None
        if self._retries is None:
            self._retries = Retries(
                call,
                policies.settings.retry,
                policies.budget,
                self._clock,
                self._started,
            )
        decision = self._retries.decide(judgement, number)
        if isinstance(decision, str):
            self._observer.retry_skipped(call, decision)
            return None
        self._observer.retry_scheduled(call, number + 1, decision, judgement.reason)
        return decision

    async def _wait(self, delay: float, outcome: Outcome) -> None:
        try:
            await self._io.sleep(delay)
        except BaseException as interruption:
            # Nobody will see this outcome; a coroutine that is closed cannot wait.
            if not isinstance(interruption, GeneratorExit):
                with contextlib.suppress(Exception):
                    await self._io.discard(outcome)
            raise

    async def _discard(self, outcome: Outcome, entry: Entry) -> None:
        try:
            await self._io.discard(outcome)
        except BaseException:
            self._give_back(entry)
            raise

    def _annotated(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Raised) and self._attempts > 1:
            outcome.error.add_note(f"resilience: {self._attempts} attempts were made")
        return outcome


def _as_evidence(judgement: Judgement) -> Judgement:
    """Let a timeout that the adaptive limit made speak against the service."""
    if judgement.timeout is None or judgement.evidence is not Evidence.NEUTRAL:
        return judgement
    return judgement.revised(evidence=Evidence.FAILURE)
