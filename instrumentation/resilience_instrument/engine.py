"""The whole story of a call, told once, for sync and async alike.

`execute` asks the policies what to do and tells an observer what happened. It
touches the world only through an `Io`. An async wrapper awaits it; a sync one
finishes it with `run_sync`, since a sync `Io` never suspends.

Failures are data here. What `execute` itself raises is either a `BaseException`
that is nobody's failure (cancellation, Ctrl-C), which passes on, or a fault of
ours, after which the caller of `execute` lets the call go through untouched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, final

from resilience_instrument.errors import CircuitBreakerOpenError, DeadlineExceededError
from resilience_instrument.outcome import Raised
from resilience_instrument.policies.breaker import Rejection
from resilience_instrument.policies.deadline import MIN_USEFUL
from resilience_instrument.policies.retry import decide
from resilience_instrument.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from resilience_instrument.call import Call
    from resilience_instrument.clock import Clock
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.events import CallOutcome, Observer
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.policies.breaker import Permit
    from resilience_instrument.registry import ServicePolicies
    from resilience_instrument.verdict import Judgement

T = TypeVar("T")


class Io(Protocol):
    """The port through which one call touches the world."""

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Make attempt `number`, over by the monotonic time `deadline`."""
        ...

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the last attempt came to."""
        ...

    def reject(self, error: ResilienceError) -> Exception:
        """Return `error` as one that is also the library's own."""
        ...

    async def discard(self, outcome: Outcome) -> None:
        """Release what a response holds that will not reach the app."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


def run_sync(coroutine: Coroutine[object, None, T]) -> T:
    """Finish a coroutine whose `Io` never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    message = "a synchronous Io suspended"
    raise RuntimeError(message)


async def execute(
    call: Call, policies: ServicePolicies, io: Io, observer: Observer, clock: Clock
) -> Outcome:
    """Make the call: attempts, pauses and refusals, and tell how it ended."""
    return await _Execution(call, policies, io, observer, clock).run()


@final
class _Execution:
    """One call on its way. It lives as long as `execute` runs."""

    __slots__ = (
        "_attempts",
        "_call",
        "_clock",
        "_io",
        "_observer",
        "_policies",
        "_started",
    )

    def __init__(
        self,
        call: Call,
        policies: ServicePolicies,
        io: Io,
        observer: Observer,
        clock: Clock,
    ) -> None:
        self._call = call
        self._policies = policies
        self._io = io
        self._observer = observer
        self._clock = clock
        self._attempts = 0
        self._started = clock.monotonic()

    async def run(self) -> Outcome:
        self._policies.budget.deposit(self._started)
        self._observer.call_started(self._call)
        try:
            outcome, label = await self._loop()
        except Exception:
            # A fault of ours. The caller lets the call through and counts it.
            self._end("error")
            raise
        except BaseException:
            self._end("cancelled")
            raise
        self._end(label)
        return outcome

    def _end(self, label: CallOutcome) -> None:
        seconds = self._clock.monotonic() - self._started
        self._observer.call_ended(self._call, label, self._attempts, seconds)

    async def _loop(self) -> tuple[Outcome, CallOutcome]:
        """Attempt until an outcome stands; return it and how the call ended."""
        permit = self._admit()
        if not isinstance(permit, _Refusal):
            outcome, judgement = await self._attempt(permit)
        else:
            return Raised(permit.error), permit.label
        while judgement.verdict is Verdict.TRANSIENT:
            delay = self._pause(judgement)
            if delay is None:
                break
            await self._io.sleep(delay)
            again = self._readmit()
            if again is None:
                break
            await self._discard(outcome, again)
            outcome, judgement = await self._attempt(again)
        return self._annotated(outcome), judgement.outcome

    def _admit(self) -> Permit | _Refusal:
        """Ask deadline and breaker for the first attempt."""
        now = self._clock.monotonic()
        deadline = self._call.deadline
        service = self._call.service
        if deadline is not None and deadline - now < MIN_USEFUL:
            self._observer.rejected(self._call, "deadline")
            error = DeadlineExceededError(
                f"no time left for a call to {service}", service=service
            )
            return _Refusal(self._io.reject(error), "timeout")
        permit = self._acquire(now)
        if not isinstance(permit, Rejection):
            return permit
        self._observer.rejected(self._call, "breaker")
        return _Refusal(self._io.reject(_open_error(service, permit)), "rejected")

    def _readmit(self) -> Permit | None:
        """Ask the breaker for one attempt more; the deadline was asked already."""
        permit = self._acquire(self._clock.monotonic())
        if isinstance(permit, Rejection):
            self._observer.retry_skipped(self._call, "open")
            return None
        return permit

    def _acquire(self, now: float) -> Permit | Rejection:
        permit, transition = self._policies.breaker.acquire(now)
        if transition is not None:
            self._observer.transitioned(self._call, transition)
        return permit

    async def _attempt(self, permit: Permit) -> tuple[Outcome, Judgement]:
        self._attempts += 1
        number = self._attempts
        breaker = self._policies.breaker
        try:
            self._observer.attempt_started(self._call, number)
            begun = self._clock.monotonic()
            outcome = await self._io.attempt(number, self._call.deadline)
            judgement = self._io.judge(outcome)
        except BaseException:
            breaker.release(permit)
            self._observer.attempt_cancelled(self._call, number)
            raise
        now = self._clock.monotonic()
        transition = breaker.record(
            permit,
            judgement.evidence,
            now,
            judgement.reason,
            judgement.retry_after,
            slow=judgement.timeout is not None,
        )
        self._observer.attempt_ended(self._call, number, judgement, now - begun)
        if transition is not None:
            self._observer.transitioned(self._call, transition)
        return outcome, judgement

    def _pause(self, judgement: Judgement) -> float | None:
        """Return the seconds to wait before the next attempt, None for no more."""
        number = self._attempts
        settings = self._policies.settings.retry
        if self._policies.breaker.refuses(self._clock.monotonic()):
            self._observer.retry_skipped(self._call, "open")
            return None
        decision = decide(
            self._call, judgement, number, settings, self._policies.budget, self._clock
        )
        if isinstance(decision, str):
            self._observer.retry_skipped(self._call, decision)
            return None
        self._observer.retry_scheduled(
            self._call, number + 1, decision, judgement.reason
        )
        return decision

    async def _discard(self, outcome: Outcome, permit: Permit) -> None:
        try:
            await self._io.discard(outcome)
        except BaseException:
            self._policies.breaker.release(permit)
            raise

    def _annotated(self, outcome: Outcome) -> Outcome:
        if isinstance(outcome, Raised) and self._attempts > 1:
            outcome.error.add_note(f"resilience: {self._attempts} attempts were made")
        return outcome


@final
class _Refusal:
    """Why not even a first attempt was made."""

    __slots__ = ("error", "label")

    def __init__(self, error: Exception, label: CallOutcome) -> None:
        self.error = error
        self.label = label


def _open_error(service: str, rejection: Rejection) -> CircuitBreakerOpenError:
    if not rejection.cause:
        return CircuitBreakerOpenError(
            f"circuit of {service} was opened by order", service=service
        )
    after = f"next try in {rejection.retry_after:.1f} s"
    if rejection.retry_after <= 0:
        after = "a probe is under way"
    return CircuitBreakerOpenError(
        f"circuit of {service} is open after {rejection.cause}"
        f" (last: {rejection.last_error}); {after}",
        service=service,
        retry_after=rejection.retry_after,
        last_error=rejection.last_error,
    )
