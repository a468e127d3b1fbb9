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
AGAIN: Final = " again"
"""What the name of a second one of the same ends with."""

BARE_AGAIN: Final = BARE + AGAIN
WRAPT: Final = "wrapt no-op"
TOLERANCE: Final = 0.05
"""How far two rows of the same code may differ before a result is void."""


@dataclass(frozen=True)
class Sample:
    """What one stack needed, in the unit that its table names.

    Attributes:
        least: The smallest value.
        most: The largest one.
        median: The middle one.
        spread: The middle half of the values, as a share of the median.
        rounds: How many values there were.
        halves: The smallest and the largest of every other value, and of the rest.
    """

    least: float
    most: float
    median: float
    spread: float
    rounds: int
    halves: tuple[tuple[float, float], ...] = ()

    def best(self, *, higher_is_better: bool) -> float:
        """Return the value that the least of what else was running has spoilt."""
        return self.most if higher_is_better else self.least

    def repeats(self, *, higher_is_better: bool) -> float:
        """Return by what share the best of half the rounds differs from the rest's."""
        found = [half[higher_is_better] for half in self.halves]
        return max(found) / min(found) - 1 if found else 0.0


def sample(values: Sequence[float]) -> Sample:
    """Sum up the values of one stack."""
    median = statistics.median(values)
    spread = 0.0
    if len(values) > 1 and median:
        low, _, high = statistics.quantiles(values, n=4)
        spread = (high - low) / median
    halves = [values[0::2], values[1::2]] if len(values) > 1 else []
    extremes = tuple((min(half), max(half)) for half in halves)
    return Sample(min(values), max(values), median, spread, len(values), extremes)


@dataclass(frozen=True)
class Row:
    """One stack beside the bare call of the same run.

    Attributes:
        stack: The name of the stack.
        sample: What it needed.
        best: The value of that to compare.
        ratio: The same as a multiple of the bare call.
        added: What it adds to the bare call.
        in_w: What it adds as a multiple of what a no-op wrapt wrapper adds, None
            where there is no such wrapper to compare with.
    """

    stack: str
    sample: Sample
    best: float
    ratio: float
    added: float
    in_w: float | None


def compare(
    samples: Mapping[str, Sample], *, higher_is_better: bool = False
) -> list[Row]:
    """Put every stack beside the bare call."""
    best = {
        name: taken.best(higher_is_better=higher_is_better)
        for name, taken in samples.items()
    }
    bare = best[BARE]
    wrapt = best[WRAPT] - bare if WRAPT in best else 0.0
    return [
        Row(
            stack,
            taken,
            best[stack],
            best[stack] / bare,
            best[stack] - bare,
            (best[stack] - bare) / wrapt if wrapt > 0 else None,
        )
        for stack, taken in samples.items()
    ]


def noise(
    samples: Mapping[str, Sample], *, higher_is_better: bool = False
) -> float | None:
    """Return how far two rows of the bare call differ, None without a second one."""
    if BARE_AGAIN not in samples:
        return None
    first, second = (
        samples[name].best(higher_is_better=higher_is_better)
        for name in (BARE, BARE_AGAIN)
    )
    return abs(first - second) / min(first, second)


def band(samples: Mapping[str, Sample], *, higher_is_better: bool = False) -> float:
    """Return within what share of a value nothing can be told from noise.

    What is compared is the best of many rounds. So that is how far the best of every
    other round differs from the best of the rest, for the row that does so most, or
    how far two rows of the same differ, which may lie elsewhere in memory: whichever
    is more.
    """
    best = {
        name: each.best(higher_is_better=higher_is_better)
        for name, each in samples.items()
    }
    found = [
        each.repeats(higher_is_better=higher_is_better) for each in samples.values()
    ]
    pairs = [
        (best[name], best[name.removesuffix(AGAIN)])
        for name in samples
        if name.endswith(AGAIN)
    ]
    return max(found + [max(pair) / min(pair) - 1 for pair in pairs])
