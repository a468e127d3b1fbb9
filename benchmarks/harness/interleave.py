"""Let the stacks take turns, A B C A B C, so that a busy moment strikes them all."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from benchmarks.harness.statistics import BARE, BARE_AGAIN, sample
from benchmarks.harness.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from benchmarks.harness.statistics import Sample

_SLICE: Final = 0.005
"""Seconds that a stack runs before it is the next one's turn: about a turn of the
system's own, so that bursts of whatever else runs spare some.
"""


def interleave(
    rounds: int, contestants: Mapping[str, Callable[[], float]]
) -> dict[str, Sample]:
    """Measure each contestant `rounds` times, one after the other."""
    values: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            values[name].append(measure())
    return {name: sample(found) for name, found in values.items()}


def alternate(
    target: str,
    stacks: Sequence[str],
    rounds: int,
    measure: Callable[[Worker], Callable[[], float]],
) -> dict[str, Sample]:
    """Measure stacks on a target, each in its process, with a second bare row.

    Args:
        target: What is called.
        stacks: What stands around it, the bare call first.
        rounds: How many times each has its turn.
        measure: Prepares a worker; returns what takes one value of it.
    """
    with contextlib.ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(target, _real(name)))
            for name in (*stacks, BARE_AGAIN)
        }
        contestants = {name: measure(worker) for name, worker in workers.items()}
        samples = interleave(rounds, contestants)
        for worker in workers.values():
            worker.verify()
    return samples


def nanoseconds(worker: Worker) -> Callable[[], float]:
    """Prepare to measure what one call takes, in nanoseconds."""
    calls = 10
    while worker.run(calls) < _SLICE:
        calls *= 2
    return lambda: worker.run(calls) / calls * 1e9


def throughput(width: int, calls: int) -> Callable[[Worker], Callable[[], float]]:
    """Return what prepares to measure calls a second in `width` threads or tasks."""
    return lambda worker: lambda: width * calls / worker.crowd(width, calls)


def _real(name: str) -> str:
    return BARE if name == BARE_AGAIN else name
