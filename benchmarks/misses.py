"""How many cache lines of its service a call finds in no cache.

What one of many services costs that are called in turn is waiting for memory. How often
it waits can be counted, as instructions can, whatever else the machine does.
"""

from __future__ import annotations

import gc
import random
import sys
import tempfile
from typing import TYPE_CHECKING, Final

from benchmarks.growth import agent_for
from benchmarks.harness import instructions
from benchmarks.harness.marks import marks
from benchmarks.harness.report import Result
from benchmarks.harness.statistics import BARE, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIZES: Final = (10, 3000)
_CALLS: Final = 3000


def misses(*, full: bool) -> Iterator[Result]:
    """Count what calls of a function that does nothing wait for, service by service."""
    if not instructions.is_available():
        sys.stderr.write("misses: valgrind is not installed\n")
        return
    rows = {BARE: -max(_SIZES)}
    rows |= {f"{n} services": n for n in (*_SIZES, *([10_000] if full else []))}
    samples = {}
    for name, size in rows.items():
        words = [sys.executable, "-m", "benchmarks.misses", str(size)]
        calls = max(_CALLS, abs(size))
        samples[name] = sample([100 * instructions.misses_per_call(words, calls)])
    yield Result("cache lines not at hand, no library", "in 100 calls", samples)


def _bare(_name: str) -> None:
    """Do nothing."""


def _prepared(size: int) -> tuple[Callable[[str], object], list[str]]:
    """Return a function and the names that it is called with, one for each service."""
    from benchmarks.room import Places  # noqa: PLC0415
    from resilience_instrument.signals.ledger import Ledger  # noqa: PLC0415

    agent = agent_for(size)
    # The mapping outlives the file's name.
    with tempfile.NamedTemporaryFile() as file:
        agent.store.settle(Ledger(file.name).allocate)
        places = Places(agent.runtime, lambda: None)
        names = [places.add(f"s{index}", "/") for index in range(size)]
        for _ in range(2):
            for name in names:
                places.call(name)
    return places.call, names


def main() -> None:
    """Call as many services as the argument says; below 0, without the agent."""
    size = int(sys.argv[1])
    if size > 0:
        call, names = _prepared(size)
    else:
        call, names = _bare, [f"s{index} /" for index in range(-size)]
    random.Random(0).shuffle(names)
    turns = max(1, _CALLS // len(names))
    gc.collect()
    gc.disable()
    mark = marks()
    mark.begin()
    for times in (1, 1, 2):
        for _ in range(times * turns):
            for name in names:
                call(name)
        mark.cut()


if __name__ == "__main__":
    main()
