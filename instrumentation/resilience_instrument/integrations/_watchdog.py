"""End what blocks for too long inside a C library, from a thread beside it.

One thread looks at what is armed every tenth of a second, and at the very moment
where a limit is nearer. Arming and disarming cost no lock. The thread ends when
nothing was armed for a while, and a forked child starts without one.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Final, final

from resilience_instrument import native
from resilience_instrument.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable

TICK: Final = 0.1
"""Seconds between two looks at what is armed."""

IDLE: Final = 50
"""Looks at nothing after which the thread ends."""


@final
class Slot:
    """Something that must be over at a certain time.

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

    __slots__ = ("_armed", "_clock", "_fault", "_lock", "_running")

    def __init__(self, fault: Callable[[str, Exception], None]) -> None:
        self._fault = fault
        self._clock = SystemClock()
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._armed: dict[int, Slot] = {}
        self._running = False

    def arm(self, end: float, strike: Callable[[int], float | None]) -> Slot:
        """Watch until `disarm`; strike at the monotonic time `end`."""
        slot = Slot(end, strike)
        # First armed, then looked whether the thread is there: it looks the other
        # way round before it ends, so one of both notices.
        self._armed[id(slot)] = slot
        if not self._running:
            self._start()
        return slot

    def disarm(self, slot: Slot) -> bool:
        """Stop watching, and tell whether it was struck.

        When this returns no strike is under way.
        """
        if self._armed.pop(id(slot), None) is None or slot.strikes:
            with self._lock:
                self._armed.pop(id(slot), None)
        return slot.strikes > 0

    def _start(self) -> None:
        with self._lock:
            if self._running:
                return
            self._running = True
        native.start_thread(self._watch, (self._lock,))

    def _watch(self, lock: threading.Lock) -> None:
        looks = 0
        # After a fork the lock is another one, and this thread is not there.
        while looks < IDLE:
            looks = 0 if self._armed else looks + 1
            native.sleep(self._look(lock))
        with lock:
            self._running = False
        if self._armed:
            self._start()

    def _look(self, lock: threading.Lock) -> float:
        """Strike whatever is over, and return how long to sleep."""
        now = self._clock.monotonic()
        nearest = now + TICK
        for key, slot in list(self._armed.items()):
            if slot.end > now:
                nearest = min(nearest, slot.end)
                continue
            with lock:
                # Popping decides: either the call is over or it is struck.
                if self._armed.pop(key, None) is not None:
                    self._strike(key, slot, now)
        return nearest - now

    def _strike(self, key: int, slot: Slot, now: float) -> None:
        slot.strikes += 1
        try:
            again = slot.strike(slot.strikes)
        except Exception as error:
            self._fault("watchdog", error)
            return
        if again is not None:
            slot.end = now + again
            self._armed[key] = slot


def cut(descriptor: int) -> None:
    """Shut a socket: whoever waits on it returns at once, and closes it."""
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.shutdown(socket.SHUT_RDWR)
