"""What the last attempts came to: the last N of them, or those of the last seconds.

A window holds marks. It keeps running totals, so that a rate costs a division, and
it knows neither locks nor clocks: whoever owns it holds a lock and brings the time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, final

GOOD: Final = 0
FAILED: Final = 1
SLOW: Final = 2
"""Marks of an attempt; failed and slow may be combined."""

BUCKETS: Final = 10
"""Parts of a time window: it forgets a tenth of its length at a time."""


@lru_cache(256)
def part(number: int, width: float) -> tuple[int, float]:
    """Return a part of time, of parts `width` seconds long: its number and its end.

    Every call looks at the end of one. Services that are called in the same part have
    one object for it, which is at hand, and not one each, which is not.
    """
    return number, (number + 1) * width


@lru_cache(256)
def width_of(seconds: float, parts: int) -> float:
    """Return the seconds of each part: one object for all windows alike."""
    return seconds / parts


def emptied(parts: list[int], head: int, entered: int) -> int:
    """Empty the parts of a ring that are too old; return what was in them.

    Args:
        parts: What each holds; part N lies at N modulo how many there are.
        head: The newest one so far.
        entered: The one that begins.
    """
    size, gone = len(parts), 0
    if entered - head > size:
        head = entered - size
    while head < entered:
        head += 1
        at = head % size
        gone += parts[at]
        parts[at] = 0
    return gone


@final
class CountWindow:
    """The last `size` attempts.

    Args:
        size: How many are kept.
    """

    __slots__ = ("_marks", "_next", "failures", "size", "slow", "total")

    def __init__(self, size: int) -> None:
        self.size = size
        self._marks = bytearray(size)
        self._next = 0
        self.total = 0
        self.failures = 0
        self.slow = 0

    def add(self, mark: int, count: int = 1) -> None:
        """Take in `count` attempts of one kind; as many of the oldest drop out."""
        for _ in range(min(count, self.size)):
            if self.total == self.size:
                gone = self._marks[self._next]
                self.failures -= gone & FAILED
                self.slow -= (gone & SLOW) >> 1
            else:
                self.total += 1
            self._marks[self._next] = mark
            self._next = (self._next + 1) % self.size
            self.failures += mark & FAILED
            self.slow += (mark & SLOW) >> 1

    def resized(self, size: int) -> CountWindow:
        """Return a window of another size that remembers the newest attempts."""
        other = CountWindow(size)
        for age in range(self.total, 0, -1):
            other.add(self._marks[(self._next - age) % self.size])
        return other


@final
class TimeWindow:
    """The attempts of the last `seconds`, forgotten a tenth of that at a time.

    So it covers between nine tenths of its length and all of it.

    Args:
        seconds: The length.
        buckets: Its parts.
    """

    __slots__ = (
        "_bad",
        "_buckets",
        "_counts",
        "_head",
        "_width",
        "edge",
        "failures",
        "slow",
        "total",
    )

    def __init__(self, seconds: float, buckets: int = BUCKETS) -> None:
        self._buckets = buckets
        self._width = width_of(seconds, buckets)
        self._counts = [0] * buckets
        # How many of them failed and how many were slow, in each bucket.
        # Made at the first: there are as many windows as services, most spotless.
        self._bad: tuple[list[int], list[int]] | None = None
        self._head = 0
        self.edge = float("-inf")
        """The time at which the newest bucket ends."""
        self.total = 0
        self.failures = 0
        self.slow = 0

    def roll(self, now: float, good: int = 0) -> None:
        """Forget what is too old at `now`. Time that goes back changes nothing.

        Args:
            now: The monotonic time.
            good: Successes of the time before it.
        """
        counts, head, total = self._counts, self._head, self.total
        if good:
            counts[head % self._buckets] += good
            total += good
        if now >= self.edge:
            width = self._width
            entered = int(now // width)
            total -= emptied(counts, head, entered)
            if self._bad is not None:
                failures, slow = self._bad
                self.failures -= emptied(failures, head, entered)
                self.slow -= emptied(slow, head, entered)
            self._head, self.edge = part(max(head, entered), width)
        self.total = total

    def add(self, mark: int, count: int = 1) -> None:
        """Take in `count` attempts of one kind, in the newest bucket."""
        failures, slow = count * (mark & FAILED), count * ((mark & SLOW) >> 1)
        self._put(self._head, count, failures, slow)

    def resized(self, seconds: float, now: float) -> TimeWindow:
        """Return a window of another length that remembers what fits into it."""
        self.roll(now)
        other = TimeWindow(seconds, self._buckets)
        other.roll(now)
        for index in range(self._head - self._buckets + 1, self._head + 1):
            # Where the bucket lies is known to its own width: take its end.
            end = min(now, (index + 1) * self._width)
            place = int(end // other._width)
            if place > other._head - self._buckets:
                at = index % self._buckets
                bad = [each[at] for each in self._bad] if self._bad else (0, 0)
                other._put(place, self._counts[at], *bad)
        return other

    def _put(self, index: int, total: int, failures: int, slow: int) -> None:
        at = index % self._buckets
        self._counts[at] += total
        if failures or slow:
            if self._bad is None:
                self._bad = [0] * self._buckets, [0] * self._buckets
            failed, slowed = self._bad
            failed[at] += failures
            slowed[at] += slow
        self.total += total
        self.failures += failures
        self.slow += slow
