"""Calls whose attempts a library's own loop makes: the engine follows.

Whether and when there is another attempt the library decides; policies and observer
hear of each as they do in `engine`, and an open circuit or a deadline ends the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, final

from resilience_instrument.engine import Entry, Execution
from resilience_instrument.policies.breaker import Rejection
from resilience_instrument.policies.deadline import MIN_USEFUL
from resilience_instrument.port import run_sync
from resilience_instrument.verdict import Verdict

if TYPE_CHECKING:
    from resilience_instrument.call import Call
    from resilience_instrument.clock import Clock
    from resilience_instrument.events import CallOutcome, Observer, SkipReason
    from resilience_instrument.outcome import Raised
    from resilience_instrument.port import Io
    from resilience_instrument.refusals import Refusal
    from resilience_instrument.registry import ServicePolicies


@final
class Followed(Execution):
    """A call whose attempts a loop of the library's own makes, one after the other.

    Policies and observer hear of it as they do in `execute`, but whether and when there
    is another attempt the library decides; an open circuit and a deadline end its loop.
    For an `Io` that never suspends.

    Args:
        call: What the app asked for.
        policies: What governs the service.
        io: Touches the world.
        observer: Is told what happens.
        clock: Time and chance.
    """

    __slots__ = ("_entry",)

    def __init__(
        self,
        call: Call,
        policies: ServicePolicies,
        io: Io,
        observer: Observer,
        clock: Clock,
    ) -> None:
        now = clock.monotonic()
        policies.pay(now)
        super().__init__(call, policies, io, observer, clock, now)
        self._entry: Entry | None = None

    def begin(self) -> Exception | None:
        """Tell that the call begins; return the error if it is refused."""
        self._observer.call_started(self._call)
        refusal = self._admit()
        if refusal is None:
            return None
        outcome, label = self._refuse(refusal)
        self._end(label, self._now)
        return cast("Raised", outcome).error

    def attempt(self) -> None:
        """Make the attempt that was let through; the `Io` has its outcome."""
        entry, self._entry = self._entry, None
        if entry is not None:
            run_sync(self._attempt(entry))

    def may_pause(self) -> bool:
        """Tell, after an attempt, whether the library may pause for another."""
        now, judgement, deadline = self._tick(), self._judgement, self._call.deadline
        if judgement is None or judgement.verdict is Verdict.SUCCESS:
            return True
        if self._policies.breaker.refuses(now):
            self._observer.retry_skipped(self._call, "open")
            return False
        if deadline is not None and deadline - now < MIN_USEFUL:
            self._observer.retry_skipped(self._call, "deadline")
            return False
        return True

    def has_time(self, pause: float) -> bool:
        """Tell whether an attempt after a pause of so many seconds is of use."""
        deadline = self._call.deadline
        if deadline is None or self._tick() + pause + MIN_USEFUL <= deadline:
            return True
        self._observer.retry_skipped(self._call, "deadline")
        return False

    def may_go_on(self) -> bool:
        """Tell, after the library's pause, whether it may make another attempt."""
        judgement, paused = self._judgement, self._now
        refusal = self._admit()
        if refusal is not None:
            skipped: SkipReason = refusal if isinstance(refusal, str) else "open"
            self._observer.retry_skipped(self._call, skipped)
            return False
        reason, number = judgement.reason if judgement else "", self._attempts + 1
        delay = self._now - paused
        self._observer.retry_scheduled(self._call, number, delay, reason)
        return True

    def give_up(self) -> bool:
        """Tell that the library makes no further attempt."""
        judgement = self._judgement
        if judgement is not None and judgement.verdict is Verdict.TRANSIENT:
            self._observer.retry_skipped(self._call, "app_retries")
        return False

    def end(self, label: CallOutcome | None) -> None:
        """Tell how the call ended: as its last attempt did, unless `label` says it."""
        entry, self._entry = self._entry, None
        if entry is not None:
            self._give_back(entry)
        if label is None:
            label = "success" if self._judgement is None else self._judgement.outcome
        self._end(label, self._tick())

    def _admit(self) -> Refusal | None:
        """Ask the gates for one attempt; keep what they give, return what they say."""
        now, deadline = self._tick(), self._call.deadline
        if deadline is not None and deadline - now < MIN_USEFUL:
            return "deadline"
        gated = self._policies.gated
        entry = run_sync(self._enter_gated()) if gated else self._enter()
        if isinstance(entry, (str, Rejection)):
            return entry
        self._entry = entry
        return None
