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
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, final
from weakref import ref

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


# Stands for the end of what was struck: never over, so that it is struck once.
_STRUCK: Final = inf


@final
class Turn:
    """Whose turn it is on one connection: what is watched most often, and cheapest.

    Whoever finds no `end` there puts the monotonic time of its own there. When it is
    done and finds that very object, it puts None back; else it asks `over`. Between
    looking and putting nothing may be called, so that no thread comes in between.

    Args:
        dog: Watches it.
        make: Makes a slot when the time is over, given the connection.
        connection: See above. It is not kept alive.
    """

    __slots__ = ("__weakref__", "connection", "dog", "end", "make")

    def __init__(
        self, dog: Watchdog, make: Callable[[Any], Watched], connection: Any
    ) -> None:
        self.end: float | None = None
        self.dog = dog
        self.make = make
        self.connection = ref(connection)
        dog.attend(self)

    def over(self, end: float) -> Watched | None:
        """Stop watching what is over by `end`; return its slot if it was struck.

        When this returns no strike is under way.
        """
        if self.end is end:
            self.end = None
            return None
        slot = self.dog.struck(id(self))
        # Nobody else takes what was struck; what another has taken since is its own.
        if self.end is _STRUCK:
            self.end = None
        return slot


@final
class Watchdog:
    """Strikes what is armed for too long.

    Args:
        fault: Takes what a strike raised.
    """

    __slots__ = (
        "_clock",
        "_fault",
        "_lock",
        "_struck",
        "_turns",
        "armed",
        "running",
        "timed",
    )

    def __init__(self, fault: Callable[[str, Exception], None]) -> None:
        self._fault = fault
        self._turns: dict[int, ref[Turn]] = {}
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
        for turn in self._known():
            turn.end = None

    def attend(self, turn: Turn) -> None:
        """Watch a turn from now on, as long as somebody else keeps it."""
        turns, key = self._turns, id(turn)
        turns[key] = ref(turn, lambda _: turns.pop(key, None))

    def _known(self) -> list[Turn]:
        found = [each() for each in self._turns.copy().values()]
        return [turn for turn in found if turn is not None]

    def _is_idle(self) -> bool:
        if self.armed or self.timed:
            return False
        return all(turn.end is None for turn in self._known())

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
        """Return the slot of what is not watched any more, None if there is none.

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
            looks = looks + 1 if self._is_idle() else 0
            native.sleep(self._look_safely(lock))
        with lock:
            self.running = False
        if not self._is_idle():
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
        return min(nearest, self._look_at_turns(lock, now)) - now

    def _look_at_turns(self, lock: threading.Lock, now: float) -> float:
        """Strike those that are over, and return when the next one may be."""
        nearest = inf
        for turn in self._known():
            end = turn.end
            if end is None:
                continue
            if end > now:
                nearest = min(nearest, end)
                continue
            with lock:
                # Whoever puts something else there first has decided.
                if turn.end is end:
                    turn.end = _STRUCK
                    slot = turn.make(turn.connection())
                    self._struck[id(turn)] = slot
                    self._strike(slot, now)
        return nearest

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
