"""The benchmarks themselves. Each makes sure that the work was really done."""

from __future__ import annotations

import gc
import importlib
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
from benchmarks.growth import agent_for, growth, successes
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
from benchmarks.misses import misses
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
        rounds = 160 if full else 24
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
    rounds = 240 if full else 80
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


# -- what it takes and loses ---------------------------------------------------------


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
    agent = agent_for(count)
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

    agent = agent_for(1024)
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
    agent = agent_for(1)
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
    found = successes(agent)
    assert found == width * each + 1, f"{found} of {width * each + 1} calls counted"
    assert careless.value < width * each, "the negative control lost nothing"
    lost = width * each - careless.value
    yield Result(
        f"{width} threads, {each} calls each",
        "calls lost",
        {BARE: sample([1.0]), "agent": sample([0.0]), "careless": sample([lost])},
    )


def _nothing() -> None:
    """Do nothing."""


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
    "misses": misses,
}
