"""Retry budgets that count attempts and not calls: gRPC's tokens and AWS's quota.

They offer what `budget.RetryBudget` says. Each end of an attempt is settled here.
"""

from __future__ import annotations

import threading
from typing import Final, final

_NO_RETRY_INCREMENT: Final = 1
_NEVER: Final = float("-inf")


@final
class TokenBudget:
    """Tokens that failures take and successes give back: gRPC's retry throttling.

    Args:
        tokens: How many there are at most, and at the start.
        ratio: Part of a token that a success gives back.
    """

    __slots__ = ("_lock", "_most", "_refill", "_tokens")

    settles = True
    edge = _NEVER

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
        return 2 * self._tokens > self._most

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
    edge = _NEVER

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
