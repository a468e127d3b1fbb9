"""How long each part of one attempt may take.

What the app gave wins, also where it said "no limit"; where it gave nothing, the
service's settings hold. A deadline may only shorten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from resilience_instrument.verdict import Phase

if TYPE_CHECKING:
    from resilience_instrument.config.model import Timeouts


# A socket that may wait for 0 s does not wait and fails in words of its own, which
# nobody takes for a timeout.
_LEAST: Final = 0.001


class Limits(NamedTuple):
    """The limits of one attempt.

    Attributes:
        connect: Seconds to reach the service, None for no limit.
        read: Seconds between two pieces of the answer.
        write: Seconds between two pieces of the request.
        pool: Seconds for a free connection.
        start: The monotonic time at which the attempt begins.
        end: The monotonic time by which it must be over, None for none.
    """

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None
    start: float
    end: float | None

    def remaining(self, now: float) -> float | None:
        """Return the seconds left at `now`, never below 0; None for no limit."""
        return None if self.end is None else max(0.0, self.end - now)


def limits(given: Timeouts, deadline: float | None, now: float) -> Limits:
    """Return the limits of an attempt that starts at `now`.

    Args:
        given: What holds for this call: the app's own timeouts or the settings.
        deadline: The monotonic time by which the whole call must end.
        now: The monotonic time.
    """
    left = None if deadline is None else max(_LEAST, deadline - now)
    return Limits(
        shorter(given.connect, left),
        shorter(given.read, left),
        shorter(given.write, left),
        shorter(given.pool, left),
        now,
        deadline,
    )


def shorter(first: float | None, second: float | None) -> float | None:
    """Return the shorter of two limits in seconds; None stands for no limit."""
    if first is None:
        return second
    return first if second is None else min(first, second)


def call_deadline(given: Timeouts, settings: Timeouts, now: float) -> float | None:
    """Return the monotonic time by which a call that starts at `now` must end.

    The service's `total` holds, but never less than one whole attempt by the
    app's own timeouts; an app that asked for no read limit gets no deadline.
    """
    if settings.total is None or given.read is None or given.connect is None:
        return None
    return now + max(settings.total, given.connect + given.read)


def is_evidence(phase: Phase, waited: float, settings: Timeouts) -> bool:
    """Tell whether a timeout after `waited` seconds speaks against the service.

    A wait that the app or a deadline cut shorter than the service's own settings
    allow proves nothing: one caller with a tiny timeout must not open the circuit
    for all. A full pool is this process's own trouble.
    """
    if phase is Phase.POOL:
        return False
    own = settings.connect if phase is Phase.CONNECT else settings.read
    if phase is Phase.WRITE:
        own = settings.write
    bound = shorter(own, settings.total)
    # A clock tick of tolerance: waits end a little early on some systems.
    return bound is not None and waited >= bound * 0.98
