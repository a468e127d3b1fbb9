"""Time and chance as the policies get them: from outside, so tests can hold them.

Only `SystemClock` touches the real ones.
"""

from __future__ import annotations

import random
import time
from typing import Protocol


class Clock(Protocol):
    """Where the engine reads time and chance."""

    def monotonic(self) -> float:
        """Return seconds that never go back; only differences mean anything."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch, for dates in headers only."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""
        ...


class SystemClock:
    """The machine's own clock and the process's own random numbers."""

    __slots__ = ("_random",)

    def __init__(self) -> None:
        self._random = random.Random()  # noqa: S311 - jitter needs no secrecy

    # Nobody patches this one for good, and an app that holds its own clock still
    # must not hold ours. Each call asks it at least twice: no function around it.
    monotonic = staticmethod(time.monotonic)

    def wall(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`."""
        return self._random.uniform(low, high)

    def reseed(self) -> None:
        """Draw a new seed, so that a forked child does not jitter as its parent."""
        self._random = random.Random()  # noqa: S311 - jitter needs no secrecy
