"""End what blocks for too long inside a C library, from a thread beside it.

One thread looks at what is armed every tenth of a second, and at the very moment
where a limit is nearer. Arming and disarming cost no lock. The thread ends when
nothing was armed for a while, and a forked child starts without one.
"""

from __future__ import annotations

import _socket
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final

from resilience_instrument import native
from resilience_instrument.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

TICK: Final = 0.1
"""Seconds between two looks at what is armed."""

IDLE: Final = 50
"""Looks at nothing after which the thread ends."""


class Watched(Protocol):
    """Something that must be over at a certain time."""

    end: float
    """The monotonic time."""
    strikes: int
    """How often it was struck, 0 when it is armed."""

    @property
    def strike(self) -> Callable[[int], float | None]:
        """What ends it: see `Slot`."""
        ...


Timed: TypeAlias = tuple[float, "Callable[[Any], Watched]", Any]
"""The monotonic time, and what makes a slot when it is over, given the last."""


@final
class Slot:
    """Something that must be over at a certain time, and what to do then.

    Args:
        end: The monotonic time.
        strike: Ends it; called with 1, 2 and so on, returns the seconds after
            which it wants to be called again, None for not again.
    """

    __slots__ = ("end", "strike", "strikes")

    def __init__(self, end: float, strike: Callable[[int], float | None]) -> None:
        self.end = end
        self.strike = strike
        self.strikes = 0


@final
class Watchdog:
    """Strikes what is armed for too long.

    Args:
        fault: Takes what a strike raised.
    """

    __slots__ = ("_clock", "_fault", "_lock", "_struck", "armed", "running", "timed")

    def __init__(self, fault: Callable[[str, Exception], None]) -> None:
        self._fault = fault
        self._clock = SystemClock()
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self.armed: dict[int, Watched] = {}
        """What is watched, by its identity."""
        self.timed: dict[int, Timed] = {}
        """What is watched of which only the end is known yet, likewise.

        Whoever puts it here takes it out again, and asks `struck` if it is not there.
        """
        self._struck: dict[int, Watched] = {}
        self.running = False
        """Whether the thread is there."""

    def arm(self, slot: Watched) -> None:
        """Watch it until `disarm`."""
        # First armed, then looked whether the thread is there: it looks the other
        # way round before it ends, so one of both notices.
        self.armed[id(slot)] = slot
        if not self.running:
            self.start()

    def disarm(self, slot: Watched) -> bool:
        """Stop watching, and tell whether it was struck.

        When this returns no strike is under way.
        """
        if self.armed.pop(id(slot), None) is None or slot.strikes:
            with self._lock:
                self.armed.pop(id(slot), None)
        return slot.strikes > 0

    def struck(self, key: int) -> Watched | None:
        """Return the slot of what is no more in `timed`, None if there is none.

        When this returns no strike is under way.
        """
        with self._lock:
            slot = self._struck.pop(key, None)
            self.armed.pop(id(slot), None)
        return slot

    def start(self) -> None:
        """Start the thread, unless it is there."""
        with self._lock:
            if self.running:
                return
            self.running = True
        native.start_thread(self._watch, (self._lock,))

    def _watch(self, lock: threading.Lock) -> None:
        looks = 0
        # After a fork the lock is another one, and this thread is not there.
        while looks < IDLE:
            looks = 0 if self.armed or self.timed else looks + 1
            native.sleep(self._look_safely(lock))
        with lock:
            self.running = False
        if self.armed or self.timed:
            self.start()

    def _look_safely(self, lock: threading.Lock) -> float:
        """Look; what goes wrong once must not leave everybody else unwatched."""
        try:
            return self._look(lock)
        except Exception as error:
            self._fault("watchdog", error)
            return TICK

    def _look(self, lock: threading.Lock) -> float:
        """Strike whatever is over, and return how long to sleep."""
        now = self._clock.monotonic()
        nearest = now + TICK
        # A list of the items is made of tuples, so that the garbage collector may run
        # in the middle, and other threads with it; a copy is made in one go.
        for key, slot in self.armed.copy().items():
            if slot.end > now:
                nearest = min(nearest, slot.end)
                continue
            with lock:
                # Popping decides: either the call is over or it is struck.
                if self.armed.pop(key, None) is not None:
                    self._strike(slot, now)
        for key, timed in self.timed.copy().items():
            if timed[0] > now:
                nearest = min(nearest, timed[0])
                continue
            with lock:
                if self.timed.pop(key, None) is not None:
                    slot = self._struck[key] = timed[1](timed[2])
                    self._strike(slot, now)
        return nearest - now

    def _strike(self, slot: Watched, now: float) -> None:
        slot.strikes += 1
        try:
            again = slot.strike(slot.strikes)
        except Exception as error:
            self._fault("watchdog", error)
            return
        if again is not None:
            slot.end = now + again
            self.armed[id(slot)] = slot


def cut(descriptor: int) -> None:
    """Shut a socket: whoever waits on it returns at once, and closes it."""
    # The interpreter's own kind: one of gevent's would begin a loop in this thread.
    same = _socket.socket(fileno=os.dup(descriptor))
    try:
        same.shutdown(socket.SHUT_RDWR)
    finally:
        same.close()
