"""Exemplars: for each bucket the last sampled trace that fell into it.

They lie in blocks of their own, made when there is a trace, so that the process which
serves the metrics shows those of all processes. The time is set last and taken away
first: a reader that finds the same time before and after has no mixture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from collections.abc import MutableSequence, Sequence

_HALF: Final = 1 << 64
_SIGN: Final = 1 << 63


class Exemplar(NamedTuple):
    """One observation and the trace that it belongs to."""

    trace_id: str
    span_id: str
    value: float
    time: float


def note(  # noqa: PLR0913 - one observation, every part of it by name
    counts: MutableSequence[int],
    sums: MutableSequence[float],
    bucket: int,
    *,
    trace_id: int,
    span_id: int,
    value: float,
    time: float,
) -> None:
    """Keep an observation as the exemplar of its bucket."""
    write(counts, sums, 3 * bucket, 2 * bucket, (trace_id, span_id), value, time)


def write(  # noqa: PLR0913, PLR0917 - on the short way of every traced call
    counts: MutableSequence[int] | memoryview[int],
    sums: MutableSequence[float] | memoryview[float],
    ids: int,
    facts: int,
    trace: tuple[int, int],
    value: float,
    time: float,
) -> None:
    """Keep an observation in cells of which it is known where they lie.

    Args:
        counts: Where the three for the ids are.
        sums: Where the two for value and time are.
        ids: The first of the three.
        facts: The first of the two.
        trace: The ids of the trace and of the span.
        value: What was observed.
        time: When that was.
    """
    high, low = divmod(trace[0], _HALF)
    span = trace[1]
    sums[facts + 1] = 0.0
    # The whole number with a sign that a cell holds.
    counts[ids] = high - _HALF if high >= _SIGN else high
    counts[ids + 1] = low - _HALF if low >= _SIGN else low
    counts[ids + 2] = span - _HALF if span >= _SIGN else span
    sums[facts] = value
    sums[facts + 1] = time


def read(counts: Sequence[int], sums: Sequence[float], bucket: int) -> Exemplar | None:
    """Return the exemplar of a bucket, None if it has none."""
    ids, facts = 3 * bucket, 2 * bucket
    time = sums[facts + 1]
    if not time:
        return None
    high, low, span = (number % _HALF for number in counts[ids : ids + 3])
    found = Exemplar(f"{high:016x}{low:016x}", f"{span:016x}", sums[facts], time)
    return found if sums[facts + 1] == time else None


def keep_latest(
    counts: MutableSequence[int],
    sums: MutableSequence[float],
    other_counts: Sequence[int],
    other_sums: Sequence[float],
) -> None:
    """Replace what another process observed later, bucket by bucket."""
    for bucket in range(len(catalog.BUCKETS) + 1):
        ids, facts = 3 * bucket, 2 * bucket
        if other_sums[facts + 1] > sums[facts + 1]:
            counts[ids : ids + 3] = other_counts[ids : ids + 3]
            sums[facts : facts + 2] = other_sums[facts : facts + 2]
