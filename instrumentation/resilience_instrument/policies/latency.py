"""How long attempts took lately: quantiles over a sliding window.

Durations fall into buckets that grow by two per cent. Each keeps the longest it has
seen, so a quantile is a duration that really was, at most two per cent too long. What
comes in is only appended; it is sorted in when a part of the window ends.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from itertools import accumulate
from typing import Final, final

from resilience_instrument.policies.window import part

_PARTS: Final = 10
_GROWTH: Final = math.log(1.02)
_SHORTEST: Final = 1e-6
_LONG_AGO: Final = -math.inf
MANY: Final = 2048
"""How many are only appended before they are sorted in."""

# What a service has that was never measured; nothing is ever put into it.
_NONE_COUNTED: Final[list[tuple[int, dict[int, list[float]]]]] = []


@final
class Latencies(list[float]):
    """The durations of one kind of attempts: a list of those not sorted in yet.

    It is that list and does not have it, as every call appends to it: one object less
    to be found.

    Args:
        window: Seconds that are looked back.
        lock: Guards it and others that are as quickly done with; by default its own.
    """

    __slots__ = ("_counts", "_lock", "_window", "edge")

    def __init__(self, window: float, lock: threading.Lock | None = None) -> None:
        super().__init__()
        self._window = window
        self.renew_lock(lock)

    def add(self, seconds: float, now: float) -> None:
        """Take in one duration. Appending needs no lock."""
        if now >= self.edge or len(self) >= MANY:
            with self._lock:
                self._roll_locked(now)
        self.append(seconds)

    def quantile(self, share: float, least: int, now: float) -> float | None:
        """Return the duration that `share` of all did not exceed (nearest rank).

        Args:
            share: 0.99 for the 99th percentile.
            least: How many there must be; None is returned if there are fewer.
            now: The monotonic time.
        """
        with self._lock:
            self._roll_locked(now)
            merged: dict[int, list[float]] = {}
            for _, counts in self._counts:
                for bucket, (count, longest) in counts.items():
                    _put(merged, bucket, count, longest)
        total = sum(count for count, _ in merged.values())
        if total < max(1, least):
            return None
        # A share such as 0.99 is no binary fraction: 0.99 * 100 must not be 99.0...01.
        rank = math.ceil(round(share * total, 6))
        buckets = sorted(merged)
        seen = list(accumulate(merged[bucket][0] for bucket in buckets))
        return merged[buckets[bisect_left(seen, rank)]][1]

    def renew_lock(self, lock: threading.Lock | None = None) -> None:
        """Replace the lock and start afresh, in a child that was just forked."""
        self._lock = lock or threading.Lock()
        self.clear()
        self.edge = _LONG_AGO
        # Part by part, newest last: bucket -> [how many, the longest].
        self._counts = _NONE_COUNTED

    def _roll_locked(self, now: float) -> None:
        width = self._window / _PARTS
        entered = int(now // width)
        if not self._counts:
            self._counts = [(entered, {})]
        newest, counts = self._counts[-1]
        # What is appended meanwhile comes behind what is taken.
        fresh = self[:]
        del self[: len(fresh)]
        fresh.sort()
        start, end = 0, len(fresh)
        # Sorted, a whole bucket is found at a time: its logarithm is taken once.
        while start < end:
            bucket = int(math.log(max(fresh[start], _SHORTEST)) // _GROWTH)
            stop = bisect_left(fresh, math.exp((bucket + 1) * _GROWTH), start + 1)
            _put(counts, bucket, stop - start, fresh[stop - 1])
            start = stop
        if entered > newest:
            self._counts.append((entered, {}))
            newest = entered
        while self._counts[0][0] <= newest - _PARTS:
            del self._counts[0]
        _, self.edge = part(newest, width)


def _put(
    counts: dict[int, list[float]], bucket: int, count: float, longest: float
) -> None:
    found = counts.get(bucket)
    if found is None:
        counts[bucket] = [count, longest]
    else:
        found[0] += count
        found[1] = max(found[1], longest)
