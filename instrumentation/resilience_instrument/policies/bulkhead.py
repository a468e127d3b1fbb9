"""The bulkhead: one slow service must not hold all threads of the app.

At most so many attempts are under way at once. Whoever finds it full is refused, or
takes a place in a short queue; the bulkhead itself never waits.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, final

from resilience_instrument.policies.limit import limit_for

if TYPE_CHECKING:
    from resilience_instrument.config.model import BulkheadSettings


@final
class Slot:
    """The right to be under way. It is given back once, to where it came from."""

    __slots__ = ("begun", "done", "home")

    def __init__(self, home: Bulkhead, begun: float) -> None:
        self.home = home
        self.begun = begun
        self.done = False


@final
class Ticket:
    """A place in the queue.

    Args:
        until: The monotonic time until which its holder waits.
    """

    __slots__ = ("until",)

    def __init__(self, until: float) -> None:
        self.until = until


@final
class Bulkhead:
    """The bulkhead of one service.

    Args:
        settings: How many, and how many may queue for how long.
        limit: How many may be under way, or where learning it starts.
    """

    __slots__ = ("_inflight", "_limit", "_lock", "_queue", "_settings", "_start")

    def __init__(self, settings: BulkheadSettings, limit: int) -> None:
        self._settings = settings
        self._start = limit
        self._limit = limit_for(settings, limit)
        self._lock = threading.Lock()
        self._inflight = 0
        self._queue: deque[Ticket] = deque()

    @property
    def limit(self) -> int:
        """How many may be under way at this moment."""
        return self._limit.value

    def enter(self, now: float) -> Slot | Ticket | None:
        """Ask for a slot: get one, or a place in the queue, or neither."""
        with self._lock:
            if not self._queue and self._inflight < self._limit.value:
                return self._slot_locked(now)
            if len(self._queue) >= self._settings.queue:
                return None
            ticket = Ticket(now + self._settings.wait)
            self._queue.append(ticket)
            return ticket

    def call_up(self, ticket: Ticket, now: float) -> Slot | None:
        """Ask again with a ticket: a slot if it is first in line and one is free."""
        with self._lock:
            first = bool(self._queue) and self._queue[0] is ticket
            if not first or self._inflight >= self._limit.value:
                return None
            self._queue.popleft()
            return self._slot_locked(now)

    def leave(self, ticket: Ticket) -> None:
        """Give up the place in the queue."""
        with self._lock:
            if ticket in self._queue:
                self._queue.remove(ticket)

    def release(self, slot: Slot) -> None:
        """Give the slot back: nothing is learnt from it."""
        with self._lock:
            self._release_locked(slot)

    def record(self, slot: Slot, now: float, *, dropped: bool, success: bool) -> None:
        """Give the slot back and learn from how its attempt ended.

        Args:
            slot: What `enter` or `call_up` gave.
            now: The monotonic time.
            dropped: Whether the service did not take the attempt on.
            success: Whether it did what it was asked.
        """
        with self._lock:
            inflight = self._inflight
            self._release_locked(slot)
            if dropped or success:
                self._limit.learn(now - slot.begun, inflight, dropped=dropped)

    def renew_lock(self) -> None:
        """Replace the lock and start afresh, in a child that was just forked."""
        self._lock = threading.Lock()
        self._inflight = 0
        self._queue = deque()
        self._limit = limit_for(self._settings, self._start)

    def _slot_locked(self, now: float) -> Slot:
        self._inflight += 1
        return Slot(self, now)

    def _release_locked(self, slot: Slot) -> None:
        if not slot.done:
            slot.done = True
            # A slot of the parent is given back in a forked child, too.
            self._inflight = max(0, self._inflight - 1)
