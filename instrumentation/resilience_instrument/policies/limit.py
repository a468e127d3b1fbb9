"""How many attempts may be under way at once: a number, or one that is learnt.

A learnt limit falls when the service is late or refuses, and rises while it is well
and the limit is really used. Pure arithmetic; the bulkhead asks and tells.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol, final

if TYPE_CHECKING:
    from resilience_instrument.config.model import BulkheadSettings

_BACKOFF: Final = 0.9
_TOLERANCE: Final = 1.5
_SMOOTHING: Final = 0.2
_HEADROOM: Final = 4.0
_LONG_SAMPLES: Final = 600
_WARM_UP: Final = 10
_DRIFT: Final = 2.0
_DECAY: Final = 0.95


class Limit(Protocol):
    """A limit of concurrency."""

    @property
    def value(self) -> int:
        """How many may be under way."""
        ...

    def learn(self, seconds: float, inflight: int, *, dropped: bool) -> None:
        """Take in one attempt: how long it took, how many were under way with it."""
        ...


def limit_for(settings: BulkheadSettings, start: int) -> Limit:
    """Return the limit that the settings ask for."""
    if settings.adaptive == "aimd":
        return Aimd(start, settings.limit_max)
    if settings.adaptive == "gradient2":
        return Gradient2(start, settings.limit_max)
    return Fixed(start)


@final
class Fixed:
    """The same number for ever."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def learn(self, seconds: float, inflight: int, *, dropped: bool) -> None:
        """Learn nothing."""


@final
class Aimd:
    """Up by one while all is well, down by a tenth when a call is lost.

    Args:
        value: Where it starts.
        most: Where it ends.
    """

    __slots__ = ("_most", "value")

    def __init__(self, value: int, most: int) -> None:
        self.value = value
        self._most = most

    def learn(self, seconds: float, inflight: int, *, dropped: bool) -> None:
        """Take in one attempt. A limit that is hardly used does not rise."""
        del seconds
        if dropped:
            self.value = max(1, math.floor(self.value * _BACKOFF))
        elif inflight * 2 >= self.value:
            self.value = min(self._most, self.value + 1)


@final
class Gradient2:
    """Follows the ratio of the usual to the latest duration (Netflix's Gradient2).

    Args:
        value: Where it starts.
        most: Where it ends.
    """

    __slots__ = ("_limit", "_long", "_most", "_seen")

    def __init__(self, value: int, most: int) -> None:
        self._limit = float(value)
        self._most = float(most)
        self._long = 0.0
        self._seen = 0

    @property
    def value(self) -> int:
        """How many may be under way."""
        return int(self._limit)

    def learn(self, seconds: float, inflight: int, *, dropped: bool) -> None:
        """Take in one attempt; only those that succeeded have a duration."""
        if dropped or seconds <= 0:
            return
        self._seen += 1
        if self._seen <= _WARM_UP:
            self._long += (seconds - self._long) / self._seen
        else:
            self._long += (seconds - self._long) * 2.0 / (_LONG_SAMPLES + 1)
        # A service that has become fast again is not held to its bad days.
        if self._long / seconds > _DRIFT:
            self._long *= _DECAY
        after = gradient_step(self._limit, self._long, seconds, inflight)
        self._limit = min(self._most, max(1.0, after))


def gradient_step(limit: float, long: float, short: float, inflight: int) -> float:
    """Return the limit after an attempt of `short` seconds where `long` is usual."""
    if inflight < limit / 2.0:
        return limit
    gradient = min(1.0, max(0.5, _TOLERANCE * long / short))
    aim = limit * gradient + _HEADROOM
    return limit * (1.0 - _SMOOTHING) + aim * _SMOOTHING
