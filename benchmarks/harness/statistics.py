"""Numbers out of many rounds: the least, the middle and how far they spread.

A duration on a busy machine is its true value plus whatever else was running, so
the least of many is what to compare; the middle and the spread say how far it can
be trusted.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

BARE: Final = "bare"
BARE_AGAIN: Final = "bare again"
WRAPT: Final = "wrapt no-op"
TOLERANCE: Final = 0.05
"""How far two rows of the same code may differ before a result is void."""


@dataclass(frozen=True)
class Sample:
    """What one stack needed, in the unit that its table names.

    Attributes:
        least: The smallest value.
        median: The middle one.
        spread: The middle half of the values, as a share of the median.
        rounds: How many values there were.
    """

    least: float
    median: float
    spread: float
    rounds: int


def sample(values: Sequence[float]) -> Sample:
    """Sum up the values of one stack."""
    median = statistics.median(values)
    spread = 0.0
    if len(values) > 1 and median:
        low, _, high = statistics.quantiles(values, n=4)
        spread = (high - low) / median
    return Sample(min(values), median, spread, len(values))


@dataclass(frozen=True)
class Row:
    """One stack beside the bare call of the same run.

    Attributes:
        stack: The name of the stack.
        sample: What it needed.
        ratio: The same as a multiple of the bare call.
        added: What it adds to the bare call.
        in_w: What it adds as a multiple of what a no-op wrapt wrapper adds, None
            where there is no such wrapper to compare with.
    """

    stack: str
    sample: Sample
    ratio: float
    added: float
    in_w: float | None


def compare(samples: Mapping[str, Sample]) -> list[Row]:
    """Put every stack beside the bare call."""
    bare = samples[BARE].least
    wrapt = samples[WRAPT].least - bare if WRAPT in samples else 0.0
    return [
        Row(
            stack,
            taken,
            taken.least / bare,
            taken.least - bare,
            (taken.least - bare) / wrapt if wrapt > 0 else None,
        )
        for stack, taken in samples.items()
    ]


def noise(samples: Mapping[str, Sample]) -> float | None:
    """Return how far two rows of the bare call differ, None without a second one."""
    if BARE_AGAIN not in samples:
        return None
    first, second = samples[BARE].least, samples[BARE_AGAIN].least
    return abs(first - second) / min(first, second)
