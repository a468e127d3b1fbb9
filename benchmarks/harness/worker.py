"""One stack on one target in a process of its own, driven over standard input.

Stacks change libraries for the whole process, so each has a process to itself and
they take turns. A line of JSON asks for some calls, a line of JSON says what they
took.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING, Any, final

from benchmarks.harness.crowd import in_threads
from benchmarks.harness.marks import marks
from benchmarks.stacks import STACKS
from benchmarks.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.stacks import Stack
    from benchmarks.targets import Target

WARM_UP = 200
"""Calls that are made before any is measured: caches fill, the interpreter adapts."""

_PAUSE = 0.5

TICK = 0.0005
"""Seconds that pass for the agent at each reading of its clock, while counting."""


@final
class Bench:
    """A target under a stack, ready to be called."""

    def __init__(self, target: Target, stack: Stack) -> None:
        self.target = target
        self.stack = stack
        target.prepare()
        stack.activate(target)
        self.call = stack.wrap(target.open(), target)
        self.loop = asyncio.new_event_loop() if target.is_async else None
        self.made = 0

    def run(self, calls: int) -> float:
        """Make some calls one after the other; return the seconds they took."""
        self.made += calls
        if self.loop is not None:
            return self.loop.run_until_complete(self._awaited(calls))
        call, clock = self.call, self.target.clock
        turns = itertools.repeat(None, calls)
        begun = clock()
        for _ in turns:
            result = call()
        seconds = clock() - begun
        self.target.check(result)
        return seconds

    async def _awaited(self, calls: int) -> float:
        call, clock = self.call, self.target.clock
        turns = itertools.repeat(None, calls)
        begun = clock()
        for _ in turns:
            result = await call()
        seconds = clock() - begun
        self.target.check(result)
        return seconds

    def crowd(self, width: int, calls: int) -> float:
        """Make `calls` calls in each of `width` threads or tasks; return seconds."""
        self.made += width * calls
        if self.loop is not None:
            return self.loop.run_until_complete(self._tasks(width, calls))
        return _threads(self.call, width, calls)

    async def _tasks(self, width: int, calls: int) -> float:
        async def work() -> None:
            for _ in itertools.repeat(None, calls):
                await self.call()

        begun = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(width)))
        return time.perf_counter() - begun

    def verify(self) -> dict[str, int | None]:
        """Return how many calls were asked for, arrived, and were counted."""
        return {
            "made": self.made,
            "arrived": self.target.arrived,
            "counted": self.stack.counted(),
        }


def _threads(call: Callable[[], Any], width: int, calls: int) -> float:
    def work() -> None:
        for _ in itertools.repeat(None, calls):
            call()

    return in_threads([work] * width)


def count(bench: Bench, calls: int) -> None:
    """Make the calls whose instructions are counted.

    The first part is `calls` long and the second twice as long, so that their
    difference is free of whatever surrounds the calls.
    """
    bench.run(WARM_UP)
    # Whatever the stack began in a thread is done before anything is counted.
    bench.stack.counted()
    time.sleep(_PAUSE)
    mark = marks()
    mark.begin()
    bench.run(calls)
    mark.cut()
    bench.run(2 * calls)
    mark.cut()


def hold_time() -> None:
    """Let the agent's clock go by readings, as valgrind makes seconds of moments.

    Else what happens once a second would happen every few calls, and not with the
    same ones in each run.
    """
    clock: Any = importlib.import_module("resilience_instrument.clock")
    ticks = itertools.count(1000.0, TICK)
    clock.SystemClock.monotonic = staticmethod(ticks.__next__)


def serve(bench: Bench) -> None:
    """Answer requests until there are no more."""
    bench.run(WARM_UP)
    answer: Any = {"ready": True}
    _say(answer)
    for line in sys.stdin:
        wish = json.loads(line)
        if wish["do"] == "run":
            answer = bench.run(wish["calls"])
        elif wish["do"] == "crowd":
            answer = bench.crowd(wish["width"], wish["calls"])
        else:
            answer = bench.verify()
        _say(answer)


def _say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("stack", choices=STACKS)
    parser.add_argument("--count", type=int)
    options = parser.parse_args()
    if options.count and options.stack.startswith("agent"):
        hold_time()
    bench = Bench(TARGETS[options.target](), STACKS[options.stack]())
    gc.collect()
    gc.disable()
    if options.count:
        count(bench, options.count)
    else:
        serve(bench)
    return 0


if __name__ == "__main__":
    sys.exit(main())
