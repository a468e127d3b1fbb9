"""The circuit breaker: refuse calls to a service that is down until it is back.

It never calls, waits, logs or reads a clock: the time comes in with every question,
and a change of state goes out as data. Which way leads to which state stands in
`transitions`, when to open in `ledger`; here is what callers may do meanwhile.

Every change of state starts a new generation. What an attempt of an older
generation reports is stale and moves nothing.

One lock guards a few lines and is never held across anybody else's code. A closed
circuit that has seen no failure is asked and told without it: two flags say so, and
successes are counted by one addition that nothing can interrupt under the global
interpreter lock. They enter the ledger with the next attempt that takes the lock.

The module is long because one lock guards one state: whatever reads or writes it under
that lock stands here, so that it can be read in one go.
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Final, final

from resilience_instrument.events import Transition
from resilience_instrument.policies.ledger import Cause, Ledger
from resilience_instrument.policies.permit import GHOST, Permit, Rejection
from resilience_instrument.policies.transitions import TRANSITIONS
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.config.model import BreakerMode, BreakerSettings
    from resilience_instrument.events import State
    from resilience_instrument.policies.transitions import Event

__all__ = ["Breaker", "Permit", "Rejection"]

# Without the global interpreter lock every question takes the breaker's own.
_ADDS_ARE_WHOLE: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()

_SUCCESS: Final = Evidence.SUCCESS
_NEVER: Final = float("inf")
_TOO_SLOW: Final = "slow"
# What most circuits have at any time, as they are closed and nobody counts what is
# under way. Nothing is ever put into these.
_NO_CAUSE: Final = Cause("")
_NO_PROBES: Final[list[Permit]] = []
_NONE_INFLIGHT: Final[dict[Permit, None]] = {}


class _Asked:
    """What every call touches of a circuit: first in it, and so on one cache line.

    Attributes:
        calm: Whether a success may be added without the lock.
        edge: The time up to which it may.
        free: Whether an attempt may begin without the lock.
        generation: How often the state has changed.
        good: Successes that are not in the ledger yet. A small number is at hand, a
            large one is an object of its own each time.
        slow_after: Seconds from which on a success is slow.
    """

    __slots__ = ("calm", "edge", "free", "generation", "good", "slow_after")

    calm: bool
    edge: float
    free: bool
    generation: int
    good: int
    slow_after: float


@final
class Breaker(_Asked):
    """The circuit of one service.

    Args:
        service: The name that transitions carry.
        settings: When it opens, for how long, and what closes it.
        uniform: Draws a number between its two arguments, for the open time.
    """

    __slots__ = (
        "_cause",
        "_inflight",
        "_last_error",
        "_ledger",
        "_lock",
        "_openings",
        "_probes",
        "_ramp_began",
        "_service",
        "_settings",
        "_state",
        "_successes",
        "_uniform",
        "_until",
        "stale",
        "would_reject",
    )

    def __init__(
        self,
        service: str,
        settings: BreakerSettings,
        uniform: Callable[[float, float], float],
    ) -> None:
        self._service = service
        self._uniform = uniform
        self._lock = threading.Lock()
        self._state: State = "closed"
        self.generation = 0
        self._successes = 0
        self._openings = 0
        self._until = 0.0
        self._probes = _NO_PROBES
        self._inflight = _NONE_INFLIGHT
        self._ramp_began: float | None = None
        self._cause = _NO_CAUSE
        self._last_error = ""
        self.good = 0
        self._ledger = Ledger(settings)
        self.stale = 0
        """Results that came from an older generation."""
        self.would_reject = 0
        """Attempts that were let through only because it looks on (`shadow`)."""
        self._adopt_locked(settings)

    @property
    def mode(self) -> BreakerMode:
        """Whether it acts (`enforce`), looks on, or stays as it was ordered."""
        return self._settings.mode

    @property
    def until(self) -> float:
        """The monotonic time at which the last opening ends."""
        return self._until

    def state(self, now: float) -> State:
        """Return the state as it is at `now`, computed: nobody has to call first.

        An open circuit whose time is up reads `half_open`, also without traffic.
        """
        mode = self._settings.mode
        if mode != "enforce":
            return "open" if mode == "forced_open" else "closed"
        if self._state == "open" and now >= self._until:
            return "half_open"
        return self._state

    def acquire(self, now: float) -> tuple[Permit | Rejection, Transition | None]:
        """Ask for one attempt at `now`.

        Returns:
            A permit or a rejection, and the transition if this very question
            caused one.
        """
        # Read in this order, a permit of a circuit that opens meanwhile is stale.
        generation = self.generation
        if self.free:
            return Permit(generation, now, probe=False), None
        with self._lock:
            return self._acquire_locked(now)

    def record(  # noqa: PLR0913 - what an attempt can say
        self,
        permit: Permit,
        evidence: Evidence,
        now: float,
        reason: str = "",
        retry_after: float | None = None,
        *,
        slow: bool = False,
    ) -> Transition | None:
        """Take what the attempt of `permit` said, and say if the state changed.

        Args:
            permit: What `acquire` gave; a second use has no effect.
            evidence: What the attempt says about the service.
            now: The monotonic time at which it ended.
            reason: A short word for the failure.
            retry_after: Seconds the service asked to be left alone.
            slow: Whether it was slow whatever it took: a timeout is.
        """
        if (
            self.calm
            and evidence is _SUCCESS
            and permit.generation == self.generation
            and now < self.edge
            and now - permit.issued < self.slow_after
        ):
            if not permit.done:
                permit.done = True
                self.good += 1
            return None
        with self._lock:
            if permit.done:
                return None
            self._finish_locked(permit)
            if not self._is_current_locked(permit):
                return None
            slow = slow or now - permit.issued >= self.slow_after
            if permit.probe:
                change = self._record_probe_locked(
                    evidence, now, reason, retry_after, slow=slow
                )
            else:
                change = self._record_closed_locked(
                    permit, evidence, now, reason, retry_after, slow=slow
                )
            return self._told_locked(change)

    def succeed(self, generation: int, issued: float, now: float) -> Transition | None:
        """Take a success of an attempt that was `free` to begin without a permit.

        Args:
            generation: What it was when the attempt began, read before `free`.
            issued: The monotonic time at which the attempt began.
            now: The monotonic time at which it ended.
        """
        with self._lock:
            if (
                self.calm
                and generation == self.generation
                and now - issued < self.slow_after
            ):
                # Nothing but time has passed: it belongs to the part that begins.
                good = self.good
                self.good = 1
                self.edge = self._ledger.add_good(good, now)
                return None
        return self.record(Permit(generation, issued, probe=False), _SUCCESS, now)

    def release(self, permit: Permit) -> None:
        """Hand the permit back unused: the attempt counts as nothing."""
        with self._lock:
            if not permit.done:
                self._finish_locked(permit)
                if permit in self._probes:
                    self._probes.remove(permit)

    def refuses(self, now: float) -> bool:
        """Tell whether an attempt at `now` would be refused. It changes nothing."""
        mode = self._settings.mode
        if mode != "enforce":
            return mode == "forced_open"
        return self._state == "open" and now < self._until

    def reconfigure(self, settings: BreakerSettings, now: float) -> None:
        """Go on by other settings: nothing that was seen is forgotten.

        An open circuit stays open as long as it was told.
        """
        with self._lock:
            self._fold_locked(now)
            self._ledger = self._ledger.reconfigured(settings, now)
            self._adopt_locked(settings)

    def renew_lock(self) -> None:
        """Start afresh in a child that was just forked, but keep an open circuit.

        Assignments only: the lock may be held by a thread that is not here.
        """
        self._lock = threading.Lock()
        self.generation += 1
        self._probes = _NO_PROBES
        self._inflight = _NONE_INFLIGHT
        self._successes = 0
        self.good = 0
        self._ledger = Ledger(self._settings)
        self._adopt_locked(self._settings)

    # -- under the lock: asking ---------------------------------------------

    def _acquire_locked(
        self, now: float
    ) -> tuple[Permit | Rejection, Transition | None]:
        mode = self._settings.mode
        if mode == "disabled":
            return Permit(GHOST, now, probe=False), None
        if mode == "forced_open":
            return Rejection(0.0, 0, "", ""), None
        answer, change = self._answer_locked(now)
        if mode == "shadow" and isinstance(answer, Rejection):
            self.would_reject += 1
            answer = Permit(GHOST, now, probe=False)
        return answer, self._told_locked(change)

    def _answer_locked(
        self, now: float
    ) -> tuple[Permit | Rejection, Transition | None]:
        change = self._look_after_overdue_locked(now)
        if self._state == "closed":
            return self._admit_locked(now), None
        if self._state == "open":
            if now < self._until:
                return self._rejection_locked(self._until - now), change
            change = self._go_locked("time_is_up")
        lease = self._settings.probe_lease
        self._probes = [p for p in self._probes if now - p.issued < lease]
        if len(self._probes) >= self._settings.probes:
            return self._rejection_locked(0.0), change
        permit = Permit(self.generation, now, probe=True)
        self._probes.append(permit)
        return permit, change

    def _admit_locked(self, now: float) -> Permit | Rejection:
        """Let one through a closed circuit, by chance while it recovers."""
        began, settings = self._ramp_began, self._settings
        if began is not None:
            step = int((now - began) / settings.ramp_step)
            if step >= settings.ramp_steps:
                self._ramp_began = None
                self._raise_flags_locked()
            elif self._uniform(0.0, 1.0) >= (step + 1) / settings.ramp_steps:
                return self._rejection_locked(
                    began + (step + 1) * settings.ramp_step - now
                )
        permit = Permit(self.generation, now, probe=False)
        if settings.slow_inflight:
            self._inflight[permit] = None
        return permit

    def _look_after_overdue_locked(self, now: float) -> Transition | None:
        """Count attempts that are slow though they have not ended: once each."""
        change = None
        while self._inflight:
            permit = next(iter(self._inflight))
            if now - permit.issued < self.slow_after:
                break
            del self._inflight[permit]
            if permit.generation == self.generation:
                permit.counted = True
                self._last_error = _TOO_SLOW
                self._fold_locked(now)
                self._ledger.add_overdue()
                change = self._open_if_due_locked(now, None) or change
        return change

    def _rejection_locked(self, retry_after: float) -> Rejection:
        cause = self._cause
        return Rejection(retry_after, cause.row, self._last_error, cause.text)

    # -- under the lock: telling --------------------------------------------

    def _finish_locked(self, permit: Permit) -> None:
        permit.done = True
        self._inflight.pop(permit, None)

    def _is_current_locked(self, permit: Permit) -> bool:
        """Tell whether the permit's result still counts, and count it if not."""
        if permit.generation == GHOST:
            return False
        current = permit.generation == self.generation
        if current and permit.probe:
            current = permit in self._probes
        if not current:
            self.stale += 1
        return current

    def _record_closed_locked(  # noqa: PLR0913 - as `record`
        self,
        permit: Permit,
        evidence: Evidence,
        now: float,
        reason: str,
        retry_after: float | None,
        *,
        slow: bool,
    ) -> Transition | None:
        if evidence is Evidence.NEUTRAL:
            return None
        self._fold_locked(now)
        if evidence is not _SUCCESS:
            self._last_error = reason
        elif slow:
            self._last_error = _TOO_SLOW
        if permit.counted:
            self._ledger.count_in_row(evidence)
        else:
            self._ledger.add(evidence, slow=slow)
        change = self._look_after_overdue_locked(now)
        return change or self._open_if_due_locked(now, retry_after)

    def _record_probe_locked(
        self,
        evidence: Evidence,
        now: float,
        reason: str,
        retry_after: float | None,
        *,
        slow: bool,
    ) -> Transition | None:
        self._probes = [p for p in self._probes if not p.done]
        if evidence is Evidence.NEUTRAL:
            return None
        if evidence is _SUCCESS and not slow:
            self._successes += 1
            if self._successes < self._settings.successes_to_close:
                return None
            return self._close_locked(now)
        self._last_error = _TOO_SLOW if evidence is _SUCCESS else reason
        return self._open_locked("probe_failed", now, retry_after)

    def _open_if_due_locked(
        self, now: float, retry_after: float | None
    ) -> Transition | None:
        cause = self._ledger.cause()
        if cause is None:
            self._raise_flags_locked()
            return None
        self._cause = cause
        return self._open_locked("rule_met", now, retry_after)

    def _open_locked(
        self, event: Event, now: float, retry_after: float | None
    ) -> Transition:
        settings = self._settings
        growth = settings.open_growth ** min(self._openings, 62)
        length = min(settings.open_max, settings.open_for * growth)
        length *= 1.0 + self._uniform(0.0, settings.open_jitter)
        if retry_after is not None:
            length = max(length, min(retry_after, settings.open_max))
        self._openings += 1
        self._until = now + length
        return self._go_locked(event, length)

    def _close_locked(self, now: float) -> Transition:
        self._openings = 0
        self.good = 0
        self._ledger = Ledger(self._settings)
        ramp = now if self._settings.ramp_steps else None
        return self._go_locked("probes_succeeded", ramp=ramp)

    def _go_locked(
        self, event: Event, length: float = 0.0, ramp: float | None = None
    ) -> Transition:
        """Go where the table says that `event` leads: a new generation."""
        before, after = self._state, TRANSITIONS[self._state, event]
        cause = self._cause if after == "open" else _NO_CAUSE
        last_error = self._last_error if after == "open" else ""
        self._state = after
        self.generation += 1
        self._successes = 0
        self._probes = _NO_PROBES
        self._ramp_began = ramp
        self._raise_flags_locked()
        return Transition(
            self._service, before, after, cause.row, last_error, length, cause.text
        )

    def _told_locked(self, change: Transition | None) -> Transition | None:
        """Return a change of state, unless nobody must see one."""
        return change if self._settings.mode == "enforce" else None

    def _fold_locked(self, now: float) -> None:
        """Let the successes that were counted without the lock enter the ledger."""
        # Nobody can come in between these two, as between the halves of an addition.
        good = self.good
        self.good = 0
        self._ledger.add_good(good, now)

    def _adopt_locked(self, settings: BreakerSettings) -> None:
        self._settings = settings
        slow = settings.slow_after
        self.slow_after = _NEVER if slow is None else slow
        if settings.slow_inflight and self._inflight is _NONE_INFLIGHT:
            self._inflight = {}
        self._raise_flags_locked()

    def _raise_flags_locked(self) -> None:
        """Say what may be done without the lock from now on."""
        settings = self._settings
        plain = self._state == "closed" and _ADDS_ARE_WHOLE
        plain = plain and settings.mode in {"enforce", "shadow"}
        plain = plain and not settings.slow_inflight
        self.edge = self._ledger.edge
        self.free = plain and self._ramp_began is None
        self.calm = plain and self._ledger.is_spotless
