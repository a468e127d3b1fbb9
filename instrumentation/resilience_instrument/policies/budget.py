"""The retry budget: retries never add more than a share of the calls.

A token bucket over a sliding window, as Finagle's `RetryBudget` keeps it: every
call deposits, every retry withdraws when it is decided (not when its pause is
over), and a small reserve lets a quiet service retry at all. Whole numbers only,
so that nothing is lost to rounding.
"""

from __future__ import annotations

import threading
from typing import Final, final

_DEPOSIT: Final = 1000
_SLICES: Final = 10


@final
class Budget:
    """The budget of one service.

    Args:
        ratio: Retries that one call pays for, 0.2 for one in five; 0 for none.
        minimum: Retries a second that are free.
        window: Seconds over which deposits and withdrawals count.
    """

    __slots__ = (
        "_cost",
        "_deposit",
        "_head",
        "_lock",
        "_reserve",
        "_slices",
        "_sum",
        "_width",
    )

    def __init__(self, ratio: float, minimum: float, window: float) -> None:
        self._deposit = _DEPOSIT if ratio > 0 else 0
        self._cost = round(_DEPOSIT / ratio) if ratio > 0 else 1
        self._reserve = round(minimum * window * self._cost)
        self._width = window / _SLICES
        self._slices = [0] * _SLICES
        self._sum = 0
        self._head: int | None = None
        self._lock = threading.Lock()

    def deposit(self, now: float) -> None:
        """Pay in for one call that starts at `now`."""
        with self._lock:
            self._add_locked(now, self._deposit)

    def withdraw(self, now: float) -> bool:
        """Take one retry out at `now`; False if the budget does not hold it."""
        with self._lock:
            self._roll_locked(now)
            if self._reserve + self._sum < self._cost:
                return False
            self._add_locked(now, -self._cost)
            return True

    def ratio_left(self, now: float) -> float:
        """Return what is left, from 0.0 (nothing) to 1.0 (nothing was taken)."""
        with self._lock:
            self._roll_locked(now)
            paid = self._reserve + sum(s for s in self._slices if s > 0)
            left = self._reserve + self._sum
        return min(1.0, max(0.0, left / paid)) if paid > 0 else 0.0

    def renew_lock(self) -> None:
        """Replace the lock and start afresh, in a child that was just forked."""
        self._lock = threading.Lock()
        self._slices = [0] * _SLICES
        self._sum = 0

    def _add_locked(self, now: float, amount: int) -> None:
        head = self._roll_locked(now)
        self._slices[head % _SLICES] += amount
        self._sum += amount

    def _roll_locked(self, now: float) -> int:
        entered = int(now // self._width)
        head = entered if self._head is None else self._head
        for index in range(head + 1, min(entered, head + _SLICES) + 1):
            self._sum -= self._slices[index % _SLICES]
            self._slices[index % _SLICES] = 0
        self._head = max(head, entered)
        return self._head
