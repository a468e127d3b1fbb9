"""The retry budget: retries never add more than a share of the calls.

Three ways to keep one, all of them of whole numbers, so that nothing is lost to
rounding, and all of them paid when a retry is decided, not when its pause is over:

- `Budget`, the default, is Finagle's `RetryBudget`: a token bucket over a sliding
  window. Every call deposits and every retry withdraws; a small reserve lets a quiet
  service retry at all.
- `TokenBudget` is gRPC's throttle (proposal A6): failures take a token, successes give
  a fraction of one back, and below half nobody retries.
- `QuotaBudget` is what AWS's SDKs keep: a fixed quota that retries use up and
  successes refill.

A call that starts pays in without a lock: one addition that nothing can interrupt
under the global interpreter lock. It enters the window at the next edge or withdrawal.
"""

from __future__ import annotations

import math
import sys
import threading
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, final

from resilience_instrument.policies.tokens import QuotaBudget, TokenBudget
from resilience_instrument.policies.window import emptied, part

if TYPE_CHECKING:
    from resilience_instrument.config.model import RetrySettings

_ADDS_ARE_WHOLE: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
_DEPOSIT: Final = 1000
_SLICES: Final = 10
_LONG_AGO: Final = float("-inf")
_MOMENT: Final = 1.0
"""Seconds after which a budget looks at the time: so exactly it is known when it was
used last."""


class RetryBudget(Protocol):
    """What the engine asks of a budget."""

    settles: bool
    """Whether it wants to hear how attempts ended."""
    edge: float
    """The time up to which a deposit is but an addition."""

    def deposit(self, now: float) -> None:
        """Pay in for one call that starts at `now`."""
        ...

    def withdraw(self, now: float, *, timeout: bool = False) -> bool:
        """Take one retry out at `now`; False if the budget does not hold it."""
        ...

    def settle(self, number: int, *, success: bool) -> None:
        """Hear how attempt `number` of a call ended."""
        ...

    def ratio_left(self, now: float) -> float:
        """Return what is left, from 0.0 (nothing) to 1.0 (nothing was taken)."""
        ...

    def renew_lock(self) -> None:
        """Replace the lock and start afresh, in a child that was just forked."""
        ...


def budget_for(settings: RetrySettings) -> RetryBudget:
    """Return the budget that the settings ask for."""
    if settings.budget_mode == "grpc":
        return TokenBudget(settings.budget_tokens, settings.budget_token_ratio)
    if settings.budget_mode == "aws":
        return QuotaBudget(
            settings.budget_quota, settings.budget_cost, settings.budget_timeout_cost
        )
    return Budget(settings.budget, settings.budget_min, settings.budget_window)


class _Terms(NamedTuple):
    """What follows from the settings: one for all budgets that have the same.

    Attributes:
        deposit: What a call pays in.
        cost: What a retry takes out.
        reserve: What is always there.
        width: Seconds of one part of the window.
    """

    deposit: int
    cost: int
    reserve: int
    width: float


@lru_cache(64)
def _terms(ratio: float, minimum: float, window: float) -> _Terms:
    deposit = _DEPOSIT if ratio > 0 else 0
    cost = round(_DEPOSIT / ratio) if ratio > 0 else 1
    reserve = round(minimum * window * cost)
    # The same in the smallest numbers that there are: these are objects at hand.
    unit = math.gcd(deposit, cost, reserve)
    return _Terms(deposit // unit, cost // unit, reserve // unit, window / _SLICES)


class _Paid:
    """What every call touches of a budget: first in it, and so on one cache line.

    Attributes:
        calls: How many paid since these were last taken into the window. A small
            number is at hand, a large one is an object of its own each time.
        edge: The time from which on they have to be.
    """

    __slots__ = ("calls", "edge")

    calls: int
    edge: float


@final
class Budget(_Paid):
    """A share of the calls of the last seconds, and a reserve.

    Args:
        ratio: Retries that one call pays for, 0.2 for one in five; 0 for none.
        minimum: Retries a second that are free.
        window: Seconds over which deposits and withdrawals count.
    """

    __slots__ = ("_head", "_lock", "_slices", "_sum", "_terms")

    settles = False

    def __init__(self, ratio: float, minimum: float, window: float) -> None:
        self._terms = _terms(ratio, minimum, window)
        self.calls = 0
        self._slices = [0] * _SLICES
        self._sum = 0
        self._head = 0
        self.edge = _LONG_AGO
        self._lock = threading.Lock()

    def deposit(self, now: float) -> None:
        """Pay in for one call that starts at `now`."""
        if now < self.edge and _ADDS_ARE_WHOLE:
            self.calls += 1
            return
        with self._lock:
            self.edge = self._roll_locked(now)
            self.calls += 1
            if self._terms.width > _MOMENT:
                _, moment = part(int(now // _MOMENT), _MOMENT)
                self.edge = min(self.edge, moment)

    def withdraw(self, now: float, *, timeout: bool = False) -> bool:
        """Take one retry out at `now`; False if the budget does not hold it."""
        del timeout  # every retry costs the same here
        with self._lock:
            self._roll_locked(now)
            terms = self._terms
            if terms.reserve + self._sum < terms.cost:
                return False
            self._slices[self._head % _SLICES] -= terms.cost
            self._sum -= terms.cost
            return True

    def settle(self, number: int, *, success: bool) -> None:
        """Do nothing: only calls and retries count here."""

    def ratio_left(self, now: float) -> float:
        """Return what is left, from 0.0 (nothing) to 1.0 (nothing was taken)."""
        with self._lock:
            self._roll_locked(now)
            reserve = self._terms.reserve
            paid = reserve + sum(s for s in self._slices if s > 0)
            left = reserve + self._sum
        return max(0.0, left / paid) if paid > 0 else 0.0

    def renew_lock(self) -> None:
        """Replace the lock and start afresh, in a child that was just forked."""
        self._lock = threading.Lock()
        self._slices = [0] * _SLICES
        self._sum = 0
        self.calls = 0

    def _roll_locked(self, now: float) -> float:
        """Take in what was paid since the last time, forget what is too old.

        Returns:
            When the newest part of the window ends.
        """
        # Nobody can come in between these two, as between the halves of an addition.
        calls = self.calls
        self.calls = 0
        deposit, _, _, width = self._terms
        slices, head, left = self._slices, self._head, self._sum
        if calls:
            paid = calls * deposit
            slices[head % _SLICES] += paid
            left += paid
        entered = int(now // width)
        self._sum = left - emptied(slices, head, entered)
        self._head, end = part(max(head, entered), width)
        return end
