"""The time by which a whole call must be over.

It lies in a context variable as an absolute monotonic time, so that a nested
call inherits it; the nearer of two deadlines holds.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

MIN_USEFUL: Final = 0.05
"""Seconds below which an attempt is not worth starting."""

CURRENT: Final[ContextVar[float | None]] = ContextVar(
    "resilience_deadline", default=None
)


def nearer(first: float | None, second: float | None) -> float | None:
    """Return the nearer of two deadlines; None stands for no deadline."""
    if first is None:
        return second
    return first if second is None else min(first, second)
