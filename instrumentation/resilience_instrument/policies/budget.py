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

import sys
import threading
from typing import TYPE_CHECKING, Final, Protocol, final

if TYPE_CHECKING:
    from resilience_instrument.config.model import RetrySettings

_ADDS_ARE_WHOLE: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
_DEPOSIT: Final = 1000
_SLICES: Final = 10
_LONG_AGO: Final = float("-inf")
_NO_RETRY_INCREMENT: Final = 1


class RetryBudget(Protocol):
    """What the engine asks of a budget."""

    settles: bool
    """Whether it wants to hear how attempts ended."""

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


@final
class Budget:
    """A share of the calls of the last seconds, and a reserve.

    Args:
        ratio: Retries that one call pays for, 0.2 for one in five; 0 for none.
        minimum: Retries a second that are free.
        window: Seconds over which deposits and withdrawals count.
    """

    __slots__ = (
        "_cost",
        "_deposit",
        "_folded",
        "_head",
        "_lock",
        "_reserve",
        "_slices",
        "_sum",
        "_width",
        "calls",
        "edge",
    )

    settles = False

    def __init__(self, ratio: float, minimum: float, window: float) -> None:
        self._deposit = _DEPOSIT if ratio > 0 else 0
        self._cost = round(_DEPOSIT / ratio) if ratio > 0 else 1
        self._reserve = round(minimum * window * self._cost)
        self._width = window / _SLICES
        self.calls = 0
        self._folded = 0
        self._slices = [0] * _SLICES
        self._sum = 0
        self._head: int | None = None
        self.edge = _LONG_AGO
        self._lock = threading.Lock()

    def deposit(self, now: float) -> None:
        """Pay in for one call that starts at `now`."""
        if now < self.edge and _ADDS_ARE_WHOLE:
            self.calls += 1
            return
        with self._lock:
            self._roll_locked(now)
            self.calls += 1

    def withdraw(self, now: float, *, timeout: bool = False) -> bool:
        """Take one retry out at `now`; False if the budget does not hold it."""
        del timeout  # every retry costs the same here
        with self._lock:
            head = self._roll_locked(now)
            if self._reserve + self._sum < self._cost:
                return False
            self._add_locked(head, -self._cost)
            return True

    def settle(self, number: int, *, success: bool) -> None:
        """Do nothing: only calls and retries count here."""

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
        self._folded = self.calls

    def _roll_locked(self, now: float) -> int:
        """Take in what was paid since the last time, forget what is too old."""
        calls = self.calls
        head = int(now // self._width) if self._head is None else self._head
        self._add_locked(head, (calls - self._folded) * self._deposit)
        self._folded = calls
        if now >= self.edge:
            entered = int(now // self._width)
            for index in range(max(head + 1, entered - _SLICES + 1), entered + 1):
                self._sum -= self._slices[index % _SLICES]
                self._slices[index % _SLICES] = 0
            self._head = head = max(head, entered)
            self.edge = (head + 1) * self._width
        return head

    def _add_locked(self, head: int, amount: int) -> None:
        self._slices[head % _SLICES] += amount
        self._sum += amount


@final
class TokenBudget:
    """Tokens that failures take and successes give back: gRPC's retry throttling.

    Args:
        tokens: How many there are at most, and at the start.
        ratio: Part of a token that a success gives back.
    """

    __slots__ = ("_lock", "_most", "_refill", "_tokens")

    settles = True

    def __init__(self, tokens: int, ratio: float) -> None:
        # Thousandths, as gRPC counts them.
        self._most = tokens * 1000
        self._refill = round(ratio * 1000)
        self._tokens = self._most
        self._lock = threading.Lock()

    def deposit(self, now: float) -> None:
        """Do nothing: only ends of attempts count here."""

    def withdraw(self, now: float, *, timeout: bool = False) -> bool:
        """Tell whether more than half of the tokens are there."""
        del now, timeout
        return self._tokens > self._most // 2

    def settle(self, number: int, *, success: bool) -> None:
        """Take a token for a failure, give a part of one back for a success."""
        del number
        with self._lock:
            if success:
                self._tokens = min(self._most, self._tokens + self._refill)
            else:
                self._tokens = max(0, self._tokens - 1000)

    def ratio_left(self, now: float) -> float:
        """Return how many of the tokens are there, as a share."""
        del now
        return self._tokens / self._most

    def renew_lock(self) -> None:
        """Replace the lock and start afresh, in a child that was just forked."""
        self._lock = threading.Lock()
        self._tokens = self._most


@final
class QuotaBudget:
    """A quota that retries use up and successes refill: the one of AWS's SDKs.

    Args:
        quota: What there is at most, and at the start.
        cost: What a retry takes.
        timeout_cost: What a retry after a timeout takes.
    """

    __slots__ = ("_cost", "_left", "_lock", "_quota", "_timeout_cost")

    settles = True

    def __init__(self, quota: int, cost: int, timeout_cost: int) -> None:
        self._quota = quota
        self._cost = cost
        self._timeout_cost = timeout_cost
        self._left = quota
        self._lock = threading.Lock()

    def deposit(self, now: float) -> None:
        """Do nothing: only retries and successes count here."""

    def withdraw(self, now: float, *, timeout: bool = False) -> bool:
        """Take the cost of one retry; False if that much is not left."""
        del now
        cost = self._timeout_cost if timeout else self._cost
        with self._lock:
            if self._left < cost:
                return False
            self._left -= cost
            return True

    def settle(self, number: int, *, success: bool) -> None:
        """Give back what a retry took that succeeded, or one for a first attempt."""
        if success:
            back = _NO_RETRY_INCREMENT if number == 1 else self._cost
            with self._lock:
                self._left = min(self._quota, self._left + back)

    def ratio_left(self, now: float) -> float:
        """Return how much of the quota is left, as a share."""
        del now
        return self._left / self._quota

    def renew_lock(self) -> None:
        """Replace the lock and start afresh, in a child that was just forked."""
        self._lock = threading.Lock()
        self._left = self._quota
