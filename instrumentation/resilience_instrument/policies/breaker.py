"""The circuit breaker: refuse calls to a service that is down until it is back.

It counts failed attempts in a row. It never calls, waits, logs or reads a clock:
the time comes in with every question, and a change of state goes out as data.
One lock guards a few lines and is never held across anybody else's code.

    closed --N failures in a row--> open --time is up--> half_open
    half_open --a probe fails--> open        half_open --S succeed--> closed

Every change of state starts a new generation. What an attempt of an older
generation reports is stale and moves nothing.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple, final

from resilience_instrument.events import Transition
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.config.model import BreakerSettings
    from resilience_instrument.events import State


@final
class Permit:
    """The right to make one attempt. It is used once: recorded or released."""

    __slots__ = ("done", "generation", "issued", "probe")

    def __init__(self, generation: int, issued: float, *, probe: bool) -> None:
        self.generation = generation
        self.issued = issued
        self.probe = probe
        self.done = False


class Rejection(NamedTuple):
    """No attempt may be made now.

    Attributes:
        retry_after: Seconds until the next probe may be let through, 0.0 where a
            probe is under way and its answer decides.
        failures: Failures in a row that opened the circuit.
        last_error: A word for the last of them.
    """

    retry_after: float
    failures: int
    last_error: str


@final
class Breaker:
    """The circuit of one service.

    Args:
        service: The name that transitions carry.
        settings: When it opens, for how long, and what closes it.
        uniform: Draws a number between its two arguments, for the open time.
    """

    __slots__ = (
        "_failures",
        "_generation",
        "_last_error",
        "_lock",
        "_openings",
        "_probes",
        "_service",
        "_settings",
        "_state",
        "_successes",
        "_trip_failures",
        "_uniform",
        "_until",
        "stale",
    )

    def __init__(
        self,
        service: str,
        settings: BreakerSettings,
        uniform: Callable[[float, float], float],
    ) -> None:
        self._service = service
        self._settings = settings
        self._uniform = uniform
        self._lock = threading.Lock()
        self._state: State = "closed"
        self._generation = 0
        self._failures = 0
        self._successes = 0
        self._openings = 0
        self._until = 0.0
        self._probes: list[Permit] = []
        self._trip_failures = 0
        self._last_error = ""
        self.stale = 0

    @property
    def until(self) -> float:
        """The monotonic time at which the last opening ends."""
        return self._until

    def state(self, now: float) -> State:
        """Return the state as it is at `now`, computed: nobody has to call first.

        An open circuit whose time is up reads `half_open`, also without traffic.
        """
        if self._state == "open" and now >= self._until:
            return "half_open"
        return self._state

    def acquire(self, now: float) -> tuple[Permit | Rejection, Transition | None]:
        """Ask for one attempt at `now`.

        Returns:
            A permit or a rejection, and the transition to half-open if this very
            question caused it.
        """
        # Read in this order, a permit of a circuit that opens meanwhile is stale.
        generation = self._generation
        if self._state == "closed":
            return Permit(generation, now, probe=False), None
        with self._lock:
            return self._acquire_locked(now)

    def _acquire_locked(
        self, now: float
    ) -> tuple[Permit | Rejection, Transition | None]:
        transition = None
        if self._state == "closed":
            return Permit(self._generation, now, probe=False), None
        if self._state == "open":
            if now < self._until:
                return self._rejection_locked(self._until - now), None
            transition = self._enter_locked("half_open")
        self._expire_probes_locked(now)
        if len(self._probes) >= self._settings.probes:
            return self._rejection_locked(0.0), transition
        permit = Permit(self._generation, now, probe=True)
        self._probes.append(permit)
        return permit, transition

    def record(
        self,
        permit: Permit,
        evidence: Evidence,
        now: float,
        reason: str = "",
        retry_after: float | None = None,
    ) -> Transition | None:
        """Take what the attempt of `permit` said, and say if the state changed.

        Args:
            permit: What `acquire` gave; a second use has no effect.
            evidence: What the attempt says about the service.
            now: The monotonic time at which it ended.
            reason: A short word for the failure.
            retry_after: Seconds the service asked to be left alone.
        """
        with self._lock:
            if permit.done:
                return None
            permit.done = True
            if permit.generation != self._generation:
                self.stale += 1
                return None
            if permit.probe:
                if permit not in self._probes:
                    self.stale += 1
                    return None
                self._probes.remove(permit)
                return self._record_probe_locked(evidence, now, reason, retry_after)
            return self._record_closed_locked(evidence, now, reason, retry_after)

    def release(self, permit: Permit) -> None:
        """Hand the permit back unused: the attempt counts as nothing."""
        with self._lock:
            if not permit.done:
                permit.done = True
                if permit in self._probes:
                    self._probes.remove(permit)

    def refuses(self, now: float) -> bool:
        """Tell whether an attempt at `now` would be refused. It changes nothing."""
        return self._state == "open" and now < self._until

    def renew_lock(self) -> None:
        """Replace the lock and forget probes, in a child that was just forked."""
        self._lock = threading.Lock()
        self._generation += 1
        self._probes = []

    # -- under the lock -----------------------------------------------------

    def _record_closed_locked(
        self, evidence: Evidence, now: float, reason: str, retry_after: float | None
    ) -> Transition | None:
        if evidence is Evidence.SUCCESS:
            self._failures = 0
        elif evidence is Evidence.FAILURE:
            self._failures += 1
            self._last_error = reason
            if self._failures >= self._settings.consecutive:
                self._trip_failures = self._failures
                return self._open_locked(now, retry_after)
        return None

    def _record_probe_locked(
        self, evidence: Evidence, now: float, reason: str, retry_after: float | None
    ) -> Transition | None:
        if evidence is Evidence.SUCCESS:
            self._successes += 1
            if self._successes >= self._settings.successes_to_close:
                self._openings = 0
                return self._enter_locked("closed")
        elif evidence is not Evidence.NEUTRAL:
            self._last_error = reason
            return self._open_locked(now, retry_after)
        return None

    def _open_locked(self, now: float, retry_after: float | None) -> Transition:
        settings = self._settings
        growth = settings.open_growth ** min(self._openings, 62)
        length = min(settings.open_max, settings.open_for * growth)
        length *= 1.0 + self._uniform(0.0, settings.open_jitter)
        if retry_after is not None:
            length = max(length, min(retry_after, settings.open_max))
        self._openings += 1
        self._until = now + length
        return self._enter_locked("open", length)

    def _enter_locked(self, state: State, length: float = 0.0) -> Transition:
        transition = Transition(
            self._service,
            self._state,
            state,
            self._trip_failures if state == "open" else 0,
            self._last_error if state == "open" else "",
            length,
        )
        self._state = state
        self._generation += 1
        self._failures = 0
        self._successes = 0
        self._probes = []
        return transition

    def _expire_probes_locked(self, now: float) -> None:
        lease = self._settings.probe_lease
        self._probes = [p for p in self._probes if now - p.issued < lease]

    def _rejection_locked(self, retry_after: float) -> Rejection:
        return Rejection(retry_after, self._trip_failures, self._last_error)
