"""The benchmarks themselves. Each makes sure that the work was really done."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.harness import instructions
from benchmarks.harness.installed import installed
from benchmarks.harness.interleave import (
    alternate,
    interleave,
    nanoseconds,
    throughput,
)
from benchmarks.harness.report import Result
from benchmarks.harness.statistics import BARE, BARE_AGAIN, WRAPT, sample
from benchmarks.harness.workers import environment
from benchmarks.stacks import STACKS, is_installed
from benchmarks.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_CALLED: Final = (
    "nothing",
    "async nothing",
    "requests",
    "httpx",
    "async httpx",
    "sqlite3",
)
_OVER_LOOPBACK: Final = ("requests loopback", "httpx loopback", "psycopg2")


def stacks_for(target: str) -> list[str]:
    """Return the stacks that suit a target and are installed, the bare call first."""
    made = TARGETS[target]()
    return [
        name
        for name, stack in STACKS.items()
        if is_installed(name) and stack().suits(made)
    ]


def calls(*, full: bool) -> Iterator[Result]:
    """Measure what one call takes, target by target."""
    targets = list(_CALLED)
    if full:
        targets += _OVER_LOOPBACK
    for target in targets:
        if target == "psycopg2" and "BENCHMARK_POSTGRESQL" not in os.environ:
            continue
        rounds = 40 if full else 8
        stacks = stacks_for(target)
        samples = alternate(target, stacks, rounds, nanoseconds)
        yield Result(target, "ns a call", samples)


def counted(*, full: bool) -> Iterator[Result]:
    """Count the instructions of one call, target by target."""
    if not instructions.is_available():
        sys.stderr.write("instructions: valgrind is not installed\n")
        return
    few = {BARE, WRAPT, "agent", "agent off", "opentelemetry", "tenacity", "by hand"}
    for target in _CALLED:
        lengths = 400 if "nothing" in target else 100
        samples = {
            stack: sample([instructions.per_call(target, stack, lengths)])
            for stack in stacks_for(target)
            if full or stack in few
        }
        yield Result(target, "instructions a call", samples)


def crowds(*, full: bool) -> Iterator[Result]:
    """Measure calls a second from many threads and from many tasks."""
    rounds = 20 if full else 5
    stacks = [
        s
        for s in stacks_for("nap")
        if full or s in {BARE, "agent", "pybreaker", "by hand"}
    ]
    for width in (1, 4, 16):
        made = alternate("nap", stacks, rounds, throughput(width, 50))
        name = f"calls of 1 ms from {width} threads"
        yield Result(name, "calls a second", made, higher_is_better=True)
    tasks = [
        s for s in stacks_for("async nap") if full or s in {BARE, "agent", "tenacity"}
    ]
    for width in (1, 200):
        made = alternate("async nap", tasks, rounds, throughput(width, 2000 // width))
        name = f"calls from {width} tasks"
        yield Result(name, "calls a second", made, higher_is_better=True)


# -- start-up -------------------------------------------------------------------

_AGENT: Final = "resilience-instrument"
_LAUNCHERS: Final[Mapping[str, tuple[str, dict[str, str]]]] = {
    BARE: ("", {}),
    "agent off": (_AGENT, {"RESILIENCE_ENABLED": "0"}),
    "agent": (_AGENT, {}),
    "agent, with a setting": (_AGENT, {"RESILIENCE_TIMEOUT_READ": "5"}),
    "opentelemetry": ("opentelemetry-instrument", {}),
    "ddtrace": ("ddtrace-run", {"DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false"}),
    BARE_AGAIN: ("", {}),
}


def start_up(*, full: bool) -> Iterator[Result]:
    """Measure how long Python takes to start below each launcher.

    With a setting the agent has something to read, and does so at the import.
    """
    with installed() as programs:
        for code in ("pass", "import requests", "import httpx"):
            contestants: dict[str, Callable[[], float]] = {}
            for name, (launcher, variables) in _LAUNCHERS.items():
                words = _launcher(launcher, programs)
                if words is not None:
                    python = [str(programs / "python"), "-c", code]
                    contestants[name] = _start([*words, *python], variables)
            samples = interleave(30 if full else 8, contestants)
            yield Result(f"python -c '{code}'", "us of processor time", samples)


def _launcher(name: str, programs: Path) -> list[str] | None:
    """Return a launcher's command, None where it is not installed."""
    for directory in (programs, Path(sys.executable).parent):
        if (directory / name).is_file():
            return [str(directory / name)]
    return None if name else []


def _start(words: list[str], variables: Mapping[str, str]) -> Callable[[], float]:
    environ = {**environment(), **variables}
    # As for an app: nothing of this directory on its path, and what is compiled stays.
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        environ.pop(name, None)

    def run() -> float:
        before = _processor_time()
        subprocess.run(words, env=environ, check=True, capture_output=True)
        return (_processor_time() - before) * 1e6

    return run


def _processor_time() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# -- as work grows ----------------------------------------------------------------


def _agent(services: int) -> Any:
    """Return a new agent's runtime that tells this many services apart."""
    from resilience_instrument._agent import Agent  # noqa: PLC0415
    from resilience_instrument.config.load import from_environment  # noqa: PLC0415

    agent = Agent(from_environment({"RESILIENCE_METRICS_PORT": "0"}))
    agent.registry._limit = services + 1  # noqa: SLF001
    agent.store._limit = services + 1  # noqa: SLF001
    return agent


def _nothing() -> None:
    """Do nothing."""


def _round_trip(functions: list[Callable[[], Any]]) -> Callable[[], float]:
    """Return what takes nanoseconds a call over all of these functions."""
    turns = max(1, 20_000 // len(functions))

    def run() -> float:
        begun = time.process_time()
        for _ in range(turns):
            for function in functions:
                function()
        return (time.process_time() - begun) / turns / len(functions) * 1e9

    return run


def growth(*, full: bool) -> Iterator[Result]:
    """Measure one call while there are more services, endpoints and open circuits."""
    from benchmarks.room import around  # noqa: PLC0415

    rounds = 20 if full else 5
    for what, sizes in {
        "services": (1, 100, 1000, 10_000),
        "endpoints": (1, 10, 100, 200),
        "open circuits": (0, 10, 100, 1000),
    }.items():
        contestants = {BARE: _round_trip([_nothing] * 1000)}
        for size in sizes:
            agent = _agent(10_001)
            names = [
                ("one", f"/{index}") if what == "endpoints" else (f"s{index}", "/")
                for index in range(size if what != "open circuits" else 1)
            ]
            functions = [
                around(agent.runtime, _nothing, service=service, endpoint=endpoint)
                for service, endpoint in names
            ]
            if what == "open circuits":
                _open(agent, size)
            for function in functions:
                function()
            contestants[f"{size} {what}"] = _round_trip(functions)
        contestants[BARE_AGAIN] = contestants[BARE]
        gc.collect()
        gc.freeze()
        yield Result(f"more {what}", "ns a call", interleave(rounds, contestants))


def _open(agent: Any, count: int) -> None:
    """Open the circuits of `count` services."""
    from resilience_instrument.verdict import Evidence  # noqa: PLC0415

    for index in range(count):
        breaker = agent.registry.policies(f"dead{index}").breaker
        now = agent.clock.monotonic()
        for _ in range(5):
            permit, _ = breaker.acquire(now)
            breaker.record(permit, Evidence.FAILURE, now, "error")
        assert breaker.state(now) == "open"


def memory(*, full: bool) -> Iterator[Result]:
    """Measure the memory of one more service with one endpoint."""
    from benchmarks.room import around  # noqa: PLC0415

    count = 10_000 if full else 2000
    agent = _agent(count)
    around(agent.runtime, _nothing, service="first")()
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for index in range(count):
        around(agent.runtime, _nothing, service=f"s{index}")()
    gc.collect()
    taken = (tracemalloc.get_traced_memory()[0] - before) / count
    tracemalloc.stop()
    assert len(agent.registry.known()) == count + 1
    yield Result(
        f"{count} services",
        "bytes each",
        {BARE: sample([1.0]), "agent": sample([taken])},
    )


def exactness(*, full: bool) -> Iterator[Result]:
    """Count in eight threads at once, beside a counter that loses some."""
    from benchmarks.room import around  # noqa: PLC0415

    width, each = 8, 100_000 if full else 20_000
    agent = _agent(1)
    function = around(agent.runtime, _nothing)
    function()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        _in_threads(width, each, function)
        careless = _Careless()
        _in_threads(width, each, careless.count)
    finally:
        sys.setswitchinterval(before)
    found = _successes(agent)
    assert found == width * each + 1, f"{found} of {width * each + 1} calls counted"
    assert careless.value < width * each, "the negative control lost nothing"
    lost = width * each - careless.value
    yield Result(
        f"{width} threads, {each} calls each",
        "calls lost",
        {BARE: sample([1.0]), "agent": sample([0.0]), "careless": sample([lost])},
    )


class _Careless:
    """A counter that reads, lets others run, and writes: the negative control."""

    def __init__(self) -> None:
        self.value = 0

    def count(self) -> None:
        """Add one, unless somebody came in between."""
        value = self.value
        _nothing()
        self.value = value + 1


def _in_threads(width: int, each: int, function: Callable[[], Any]) -> None:
    def work() -> None:
        for _ in range(each):
            function()

    threads = [threading.Thread(target=work) for _ in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _successes(agent: Any) -> int:
    from resilience_instrument.signals import catalog  # noqa: PLC0415
    from resilience_instrument.signals.layout import LAYOUTS  # noqa: PLC0415

    cell = LAYOUTS[catalog.API_REQUEST.scope].at(catalog.API_REQUEST, "success")
    return sum(
        block.counts[cell]
        for block in agent.store.blocks()
        if block.layout.scope == catalog.API_REQUEST.scope
    )


SUITES: Final[dict[str, Callable[..., Iterator[Result]]]] = {
    "calls": calls,
    "crowds": crowds,
    "start-up": start_up,
    "growth": growth,
    "memory": memory,
    "exactness": exactness,
    "instructions": counted,
}
