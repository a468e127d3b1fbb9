"""The time by which a whole call must be over.

It lies in a context variable as an absolute monotonic time, so that a nested
call inherits it; the nearer of two deadlines holds.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from contextvars import Token

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


@final
class Within:
    """A block in which every call must be over by `end`, or sooner.

    Args:
        end: The monotonic time.
    """

    __slots__ = ("_end", "_token")

    def __init__(self, end: float) -> None:
        self._end = end
        self._token: Token[float | None] | None = None

    def __enter__(self) -> None:
        self._token = CURRENT.set(nearer(self._end, CURRENT.get()))

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            CURRENT.reset(self._token)
            self._token = None
