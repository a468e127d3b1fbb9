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
    ids, facts = 3 * bucket, 2 * bucket
    sums[facts + 1] = 0.0
    counts[ids] = _signed(trace_id // _HALF)
    counts[ids + 1] = _signed(trace_id % _HALF)
    counts[ids + 2] = _signed(span_id)
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


def _signed(number: int) -> int:
    """Return 64 bits as the whole number with a sign that a cell holds."""
    return number - _HALF if number >= _SIGN else number
