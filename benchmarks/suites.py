"""The benchmarks themselves. Each makes sure that the work was really done."""

from __future__ import annotations

import asyncio
import gc
import importlib
import itertools
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks import databases
from benchmarks.harness import instructions
from benchmarks.harness.figure import CONTROL
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
from resilience_instrument.clock import SystemClock

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
_OVER_LOOPBACK: Final = ("requests loopback", "httpx loopback")
_DATABASES: Final = ("sqlite3", "psycopg2", "psycopg", "pymysql")
_RECORDING: Final = frozenset({"agent + spans", "opentelemetry + spans"})
_COMPARED: Final[tuple[str, ...]] = (
    BARE,
    "agent",
    "agent + spans",
    "opentelemetry",
    "opentelemetry + spans",
)
# Starting the process of a stack takes longer than measuring it.
_QUICKLY: Final = frozenset(
    {BARE, WRAPT, "agent", "agent off", "opentelemetry", "tenacity", "by hand"}
)


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
        rounds = 40 if full else 6
        stacks = [s for s in stacks_for(target) if full or s in _QUICKLY]
        samples = alternate(target, stacks, rounds, nanoseconds)
        yield Result(target, "ns a call", samples)


def counted(*, full: bool) -> Iterator[Result]:
    """Count the instructions of one call, target by target."""
    if not instructions.is_available():
        sys.stderr.write("instructions: valgrind is not installed\n")
        return
    for target in _CALLED:
        lengths = 400 if "nothing" in target else 100
        samples = {
            stack: sample([instructions.per_call(target, stack, lengths)])
            for stack in stacks_for(target)
            if full
            or stack in _QUICKLY
            or (stack in _RECORDING and TARGETS[target].library)
        }
        yield Result(target, "instructions a call", samples)


def query(*, full: bool) -> Iterator[Result]:
    """Measure what one `SELECT 1` takes, driver by driver, against real servers."""
    rounds = 60 if full else 20
    with databases.running():
        for target in _DATABASES:
            stacks = [s for s in stacks_for(target) if full or s in _COMPARED]
            samples = alternate(target, stacks, rounds, nanoseconds)
            yield Result(f"SELECT 1 by {target}", "ns a call", samples)
        if not instructions.is_available():
            return
        for target in _DATABASES:
            counts = {
                stack: sample([instructions.per_call(target, stack, 100)])
                for stack in _COMPARED
                if stack in stacks_for(target)
            }
            yield Result(f"SELECT 1 by {target}", "instructions a call", counts)


def crowds(*, full: bool) -> Iterator[Result]:
    """Measure calls a second from many threads and from many tasks."""
    rounds, calls = (20, 50) if full else (4, 20)
    stacks = [
        s
        for s in stacks_for("nap")
        if full or s in {BARE, "agent", "pybreaker", "by hand"}
    ]
    for width in (1, 4, 16):
        made = alternate("nap", stacks, rounds, throughput(width, calls))
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
        codes = ["pass", "import requests", *(["import httpx"] if full else [])]
        for code in codes:
            contestants: dict[str, Callable[[], float]] = {}
            for name, (launcher, variables) in _LAUNCHERS.items():
                words = _launcher(launcher, programs)
                if words is not None:
                    python = [str(programs / "python"), "-c", code]
                    contestants[name] = _start([*words, *python], variables)
            samples = interleave(30 if full else 5, contestants)
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
    agent.clock = agent.runtime.clock = agent.registry._clock = _HeldClock()  # noqa: SLF001
    agent.registry._limit = services + 1  # noqa: SLF001
    agent.store._limit = services + 1  # noqa: SLF001
    return agent


class _HeldClock(SystemClock):
    """Time that passes by readings.

    What a service does once a second would be done at nearly each of its calls where
    ten thousand are called in turn, and hardly ever where there is one.
    """

    __slots__ = ()

    monotonic = staticmethod(itertools.count(1000.0, 1e-7).__next__)


def _nothing() -> None:
    """Do nothing."""


class _Number:
    """One number and as much beside it as the agent has beside each of its own."""

    __slots__ = ("beside", "value")

    def __init__(self) -> None:
        self.value = 1000
        self.beside = bytes(_BESIDE)


def _touching() -> Callable[[], None]:
    """Return the control: a function that adds to numbers that only it has.

    They are about as many as the agent touches in a call, and spread as widely.
    """
    numbers = tuple(_Number() for _ in range(_TOUCHED))

    def touch() -> None:
        for number in numbers:
            number.value += 1

    return touch


_TOUCHED: Final = 40
_BESIDE: Final = 200


def _round_trip(functions: list[Callable[[], Any]]) -> Callable[[], float]:
    """Return what takes nanoseconds a call over all of these functions."""
    turns = max(1, 20_000 // len(functions))
    # As an app would call them: what comes next cannot be fetched in advance.
    random.Random(0).shuffle(functions)

    def run() -> float:
        begun = time.process_time()
        for _ in range(turns):
            for function in functions:
                function()
        return (time.process_time() - begun) / turns / len(functions) * 1e9

    return run


def growth(*, full: bool) -> Iterator[Result]:
    """Measure one call while there is more of everything that there can be more of."""
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
            if what == "services":
                control = [_touching() for _ in names]
                contestants[f"{size}{CONTROL}"] = _round_trip(control)
        contestants[BARE_AGAIN] = contestants[BARE]
        gc.collect()
        gc.freeze()
        yield Result(f"more {what}", "ns a call", interleave(rounds, contestants))
    yield Result("more calls at once", "ns a call", interleave(rounds, _at_once()))


async def _pause() -> None:
    """Let every other task run."""
    await asyncio.sleep(0)


def _at_once() -> dict[str, Callable[[], float]]:
    """Return what takes a call's time while others are under way, and the control."""
    from benchmarks.room import around  # noqa: PLC0415

    governed = around(_agent(1).runtime, _pause, is_async=True)
    contestants: dict[str, Callable[[], float]] = {BARE: _tasks(_pause, 1)}
    for size in (1, 10, 100, 1000):
        contestants[f"{size} calls at once"] = _tasks(governed, size)
        contestants[f"{size}{CONTROL}"] = _tasks(_pause, size)
    contestants[BARE_AGAIN] = contestants[BARE]
    return contestants


def _tasks(function: Callable[[], Any], width: int) -> Callable[[], float]:
    """Return what takes nanoseconds a call where `width` are under way."""
    turns = 10_000 // width

    async def work() -> None:
        for _ in range(turns):
            await function()

    async def crowd() -> float:
        begun = time.process_time()
        await asyncio.gather(*(work() for _ in range(width)))
        return (time.process_time() - begun) / turns / width * 1e9

    return lambda: asyncio.run(crowd())


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
    """Measure the memory of one more service with one endpoint, by requests.

    As under the launcher the numbers lie in a file, whose bytes are added.
    """
    from resilience_instrument.integrations import _patch  # noqa: PLC0415
    from resilience_instrument.integrations import requests as room  # noqa: PLC0415
    from resilience_instrument.signals.ledger import Ledger  # noqa: PLC0415

    count = 10_000 if full else 1000
    target = TARGETS["requests"]()
    target.prepare()
    agent = _agent(count)
    done = _patch.apply(room.targets(agent.runtime))
    with tempfile.NamedTemporaryFile() as file:
        agent.store.settle(Ledger(file.name).allocate)
        _visit(-1)
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0], _mapped(agent)
        for index in range(count):
            _visit(index)
        gc.collect()
        traced = (tracemalloc.get_traced_memory()[0] - before[0]) / count
        mapped = (_mapped(agent) - before[1]) / count
        tracemalloc.stop()
    _patch.remove(done)
    assert len(agent.registry.known()) == count + 1
    rows = {BARE: 1.0, "objects": traced, "mapped file": mapped}
    rows["agent"] = traced + mapped
    yield Result(
        f"{count} services",
        "bytes each",
        {name: sample([value]) for name, value in rows.items()},
    )


def _visit(index: int) -> None:
    """Call one endpoint of a service the long way, then the short one."""
    requests: Any = importlib.import_module("requests")
    with requests.Session() as session:
        for _ in range(2):
            session.get(f"http://s{index}.example.test/orders/4711")


def _mapped(agent: Any) -> int:
    """Return how many bytes of its file the agent uses."""
    return sum(
        8 * (block.layout.counts + block.layout.sums + 3)
        + len("".join(block.labels))
        + 8
        for block in agent.store.blocks()
    )


def scraped(*, full: bool) -> Iterator[Result]:
    """Measure how long calls take while 10,000 series are scraped, and while not."""
    from benchmarks.room import around  # noqa: PLC0415
    from resilience_instrument.signals.exposition import Exposition  # noqa: PLC0415
    from resilience_instrument.signals.gather import gather  # noqa: PLC0415

    agent = _agent(1024)
    call = around(agent.runtime, _nothing)
    for index in range(100):
        around(agent.runtime, _nothing, service=f"s{index}")()
    exposition = Exposition(lambda: gather(agent.store, None))
    text = exposition.render("")[0]
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    assert series >= 10_000, series
    scrapes = 20 if full else 5
    alone = _delays(call, lambda: time.sleep(0.2), scrapes)
    during = _delays(call, lambda: exposition.render(""), scrapes)
    limit = sys.getswitchinterval() * 1e6
    notes = [f"{series} series; one switch interval is {limit:,.0f} us"]
    for name, found in (("alone", alone), ("scraped", during)):
        worst = sorted(found)[int(len(found) * 0.999)]
        notes.append(f"{name}: {len(found)} calls, p99.9 {worst:,.0f} us")
    samples = {BARE: sample(alone), "during a scrape": sample(during)}
    delay = samples["during a scrape"].median - samples[BARE].median
    notes.append(f"the median call is delayed by {delay:,.1f} us")
    yield Result("calls during a scrape", "us a call", samples, notes=notes)


def _delays(
    call: Callable[[], Any], scrape: Callable[[], object], times: int
) -> list[float]:
    """Return the microseconds that each call took while another thread scraped."""
    over = threading.Event()

    def scraper() -> None:
        for _ in range(times):
            scrape()
        over.set()

    thread = threading.Thread(target=scraper)
    found = []
    thread.start()
    while not over.is_set():
        begun = time.perf_counter()
        call()
        found.append((time.perf_counter() - begun) * 1e6)
    thread.join()
    return found


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
    # Together, else the first may be done before the last is there.
    gate = threading.Barrier(width)

    def work() -> None:
        gate.wait()
        for _ in range(each):
            function()

    threads = [threading.Thread(target=work) for _ in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _successes(agent: Any) -> int:
    from resilience_instrument.signals import catalog  # noqa: PLC0415
    from resilience_instrument.signals.gather import gather  # noqa: PLC0415
    from resilience_instrument.signals.layout import LAYOUTS  # noqa: PLC0415

    cell = LAYOUTS[catalog.API_REQUEST.scope].at(catalog.API_REQUEST, "success")
    return sum(
        block.counts[cell]
        for block in gather(agent.store, None).blocks
        if block.layout.scope == catalog.API_REQUEST.scope
    )


SUITES: Final[dict[str, Callable[..., Iterator[Result]]]] = {
    "calls": calls,
    "crowds": crowds,
    "start-up": start_up,
    "growth": growth,
    "memory": memory,
    "scrape": scraped,
    "exactness": exactness,
    "databases": query,
    "instructions": counted,
}
