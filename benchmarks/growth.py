"""What a call costs while there is more of everything that there can be more of.

Twice: calls a second as an app sees them, by a library, beside the same calls without
the agent; and one call of a function that does nothing, where nothing hides what the
agent does.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import itertools
import random
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from benchmarks.harness.crowd import in_threads
from benchmarks.harness.figure import CONTROL
from benchmarks.harness.interleave import interleave, throughput
from benchmarks.harness.report import Result
from benchmarks.harness.statistics import AGAIN, BARE, BARE_AGAIN
from benchmarks.harness.workers import Worker
from benchmarks.targets import TARGETS
from resilience_instrument.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.harness.statistics import Sample

_MOST: Final = 10_000
_SIZES: Final[Mapping[str, tuple[int, ...]]] = {
    "services": (1, 10, 100, 1000, _MOST),
    "endpoints": (1, 10, 100, 200),
    "open circuits": (0, 10, 100, 1000),
}
_QUICK_SIZES: Final[Mapping[str, tuple[int, ...]]] = {
    "services": (1, 100, 1000),
    "endpoints": (1, 200),
    "open circuits": (0, 1000),
}
_TURN: Final = 125
_QUICK_TURN: Final = 80
"""Calls by a library that a contestant makes before it is the next one's turn.

Few, as what else the machine does comes in bursts: some turns are free of it.
"""

_ROUNDS: Final = 80
_QUICK_ROUNDS: Final = 10

_OF_A_TASK: Final = 5
"""Calls that each task makes at least: most of what it costs is not its beginning."""

_READING: Final = 60e-6
"""Seconds that pass for the agent at each reading of its clock, by a library.

About as long as it takes, were there only the calls of one contestant: what a service
does once a second is done as often as it would be.
"""

_TELLING: Final = 0.1
"""With more noise than this nothing is said."""

_AT_ONCE: Final = 1e-7
"""The same where a function does nothing; what is done once a second is left out."""


def growth(*, full: bool) -> Iterator[Result]:
    """Measure calls while there is more of everything that there can be more of."""
    rounds, turn = (_ROUNDS, _TURN) if full else (_QUICK_ROUNDS, _QUICK_TURN)
    for what in _SIZES:
        sizes = (_SIZES if full else _QUICK_SIZES)[what]
        yield _by_requests(what, sizes, rounds, turn)
    # Longer, as threads take turns of five milliseconds of their own.
    yield _in_threads((1, 4, 16), rounds // 2, 12 * turn)
    yield _in_tasks((1, 200), rounds // 2, turn)
    for what in _SIZES:
        yield _of_nothing(what, full=full, rounds=3 * rounds)
    yield _costs("more calls at once", interleave(rounds, _tasks_at_once()))


def agent_for(services: int, reading: float = _AT_ONCE) -> Any:
    """Return a new agent that tells this many services apart.

    Args:
        services: As many as an app calls at most. There are fewer by default.
        reading: Seconds that pass at each reading of its clock.
    """
    from resilience_instrument._agent import Agent  # noqa: PLC0415
    from resilience_instrument.config.load import from_environment  # noqa: PLC0415

    agent = Agent(from_environment({"RESILIENCE_METRICS_PORT": "0"}))
    clock = _HeldClock(reading)
    agent.clock = agent.runtime.clock = agent.registry._clock = clock  # noqa: SLF001
    agent.registry._limit = services + 1  # noqa: SLF001
    agent.store._limit = services + 1  # noqa: SLF001
    return agent


class _HeldClock(SystemClock):
    """Time that passes by readings, for each agent as if there were no other."""

    def __init__(self, reading: float) -> None:
        super().__init__()
        self.monotonic = itertools.count(1000.0, reading).__next__


def _rates(name: str, samples: Mapping[str, Sample]) -> Result:
    """Return calls a second as a result."""
    return _judged(Result(name, "calls a second", samples, higher_is_better=True))


def _costs(name: str, samples: Mapping[str, Sample]) -> Result:
    """Return what a call that does nothing takes as a result."""
    return _judged(Result(f"{name}, no library", "ns a call", samples))


def _judged(result: Result) -> Result:
    """Return the result with notes that say how flat it is."""
    ours, control = (_times(result, control=which) for which in (False, True))
    least = ours[next(iter(ours))]
    changes = {
        "agent": _changes(ours, least),
        "control": _changes(control, next(iter(control.values()), least)),
        # What the same growth costs without the agent is none of the agent's.
        "agent beyond the control": _changes(
            {size: took - control[size] for size, took in ours.items()}, least
        )
        if control
        else {},
    }
    notes = result.notes
    notes.append(
        f"what a call takes beside the smallest size, with noise of {result.band:.1%}:"
    )
    for kind, found in changes.items():
        if found:
            told = ", ".join(f"{size} {by:+.1%}" for size, by in found.items())
            notes.append(f"{kind}: {told}")
    notes.append(_verdict(result.band, changes))
    return result


def _verdict(band: float, changes: Mapping[str, Mapping[str, float]]) -> str:
    """Say whether changes are within the noise."""
    if band > _TELLING:
        return "too much noise to tell whether it is flat"
    for kind, ending in (
        ("agent", ""),
        ("agent beyond the control", ", beyond the control"),
    ):
        found = changes[kind].values()
        if found and all(abs(by) <= band for by in found):
            return f"flat within noise{ending}"
        if found and all(by <= band for by in found):
            return f"takes no longer within noise{ending}"
    return "NOT flat within noise"


def _times(result: Result, *, control: bool) -> dict[str, float]:
    """Return what a call takes at each size: the less of two of the same."""
    times: dict[str, float] = {}
    for row in result.rows:
        stack = row.stack.removesuffix(AGAIN)
        if stack != BARE and stack.endswith(CONTROL) is control:
            size = stack.split()[0]
            took = 1 / row.best if result.higher_is_better else row.best
            times[size] = min(took, times.get(size, took))
    return times


def _changes(times: Mapping[str, float], whole: float) -> dict[str, float]:
    """Return by what share of the whole each differs from the first one."""
    first = next(iter(times.values()), 0.0)
    return {size: (took - first) / whole for size, took in list(times.items())[1:]}


def _settle() -> None:
    """Let the garbage collector have nothing to do with what was prepared."""
    gc.collect()
    gc.freeze()


# -- by a library ---------------------------------------------------------------------


def _by_requests(what: str, sizes: Sequence[int], rounds: int, turn: int) -> Result:
    """Measure calls a second by `requests`, with the agent and without."""
    target = TARGETS["requests"]()
    target.prepare()
    contestants: dict[str, Callable[[], float]] = {}
    for size, again in itertools.product(sizes, ("", AGAIN)):
        urls = _urls(what, size)
        agent = agent_for(_MOST + 1000, _READING)
        if what == "open circuits":
            open_circuits(agent, size)
        contestants[f"{size}{CONTROL}{again}"] = bare = _Visits(None, urls, turn)
        contestants[f"{size} {what}{again}"] = _Visits(agent, urls, turn)
        contestants.setdefault(BARE, bare)
    contestants[BARE_AGAIN] = contestants[BARE]
    _settle()
    before = target.arrived or 0
    samples = interleave(rounds, contestants)
    assert (target.arrived or 0) - before == rounds * len(contestants) * turn
    for each in contestants.values():
        assert isinstance(each, _Visits)
        each.verify()
    return _rates(f"more {what}, by requests", samples)


def _urls(what: str, size: int) -> list[str]:
    """Return what is called in turn."""
    if what == "services":
        return [f"http://s{index}.example.test/orders" for index in range(size)]
    if what == "endpoints":
        # Letters only: a number would be read as somebody's.
        pairs = itertools.product("bcdfghjklmnpqrstvwxz", "aeiouy", "bcdfgklmnr")
        words = itertools.islice(pairs, size)
        return [f"http://api.example.test/{''.join(word)}" for word in words]
    return ["http://api.example.test/orders"]


@final
class _Visits:
    """Calls by `requests` to URLs in turn; calling it measures some.

    Args:
        agent: Who governs them, None for nobody. Each has classes of its own, so
            that several can be measured in one process.
        urls: What is called.
        turn: How many calls are measured at a time.
    """

    def __init__(self, agent: Any, urls: list[str], turn: int) -> None:
        requests: Any = importlib.import_module("requests")
        session, adapter = requests.Session, requests.adapters.HTTPAdapter
        if agent is not None:
            session, adapter = _governed(agent, session), _governed(agent, adapter)
        self._agent = agent
        self._turn = turn
        self._session = session()
        # Else requests looks through every variable of the environment each time.
        self._session.trust_env = False
        self._session.mount("http://", adapter())
        # As an app would call them: what comes next cannot be fetched in advance.
        random.Random(0).shuffle(urls)
        self._urls = itertools.cycle(urls)
        self.made = 0
        # The long way first, then the short one.
        for _ in range(2):
            self.visit(len(urls))

    def visit(self, calls: int) -> None:
        """Make some calls."""
        get = self._session.get
        for url in itertools.islice(self._urls, calls):
            get(url)
        self.made += calls

    def __call__(self) -> float:
        """Return how many calls there are in a second."""
        begun = time.process_time()
        self.visit(self._turn)
        return self._turn / (time.process_time() - begun)

    def verify(self) -> None:
        """Make sure that the agent counted every call."""
        if self._agent is not None:
            found = successes(self._agent)
            assert found == self.made, f"{found} of {self.made} calls counted"


def _governed(agent: Any, owner: type) -> type:
    """Return a class like `owner` whose methods are replaced as the agent would."""
    room = agent.__dict__.setdefault("requests", None)
    if room is None:
        module = importlib.import_module("resilience_instrument.integrations.requests")
        room = agent.__dict__["requests"] = module.targets(agent.runtime)
    replaced = {
        each.name: each.make(getattr(owner, each.name))
        for each in room
        if each.owner is owner
    }
    assert replaced
    return type(owner.__name__, (owner,), replaced)


def _in_threads(widths: Sequence[int], rounds: int, turn: int) -> Result:
    """Measure calls a second by `requests` from more threads."""
    TARGETS["requests"]().prepare()
    agent = agent_for(1, _READING)
    contestants: dict[str, Callable[[], float]] = {}
    for width in widths:
        crowd = _Crowd(width, None, turn)
        contestants[f"{width}{CONTROL}"] = crowd
        contestants[f"{width} threads"] = _Crowd(width, agent, turn)
        contestants.setdefault(BARE, crowd)
    contestants[BARE_AGAIN] = contestants[BARE]
    samples = interleave(rounds, contestants)
    made = sum(c.made for c in contestants.values() if isinstance(c, _Crowd) and c.ours)
    assert successes(agent) == made
    return _rates("more threads, by requests", samples)


@final
class _Crowd:
    """Calls by `requests` from several threads; calling it measures some."""

    def __init__(self, width: int, agent: Any, turn: int) -> None:
        self.ours = agent is not None
        self._each = turn // width
        self._visits = [
            _Visits(agent, _urls("threads", 1), self._each) for _ in range(width)
        ]

    @property
    def made(self) -> int:
        """How many calls there were."""
        return sum(each.made for each in self._visits)

    def __call__(self) -> float:
        """Return how many calls there are in a second."""
        calls = self._each
        works = [partial(each.visit, calls) for each in self._visits]
        return calls * len(works) / in_threads(works, time.process_time)


def _in_tasks(widths: Sequence[int], rounds: int, turn: int) -> Result:
    """Measure calls a second by `httpx` from more tasks."""
    with contextlib.ExitStack() as stack:
        bare, ours, again = (
            stack.enter_context(Worker("async httpx", name))
            for name in (BARE, "agent", BARE)
        )
        contestants: dict[str, Callable[[], float]] = {}
        for width in widths:
            measure = throughput(width, max(_OF_A_TASK, turn // width))
            contestants[f"{width}{CONTROL}"] = measure(bare)
            contestants[f"{width} tasks"] = measure(ours)
        first = throughput(widths[0], turn)
        contestants[BARE], contestants[BARE_AGAIN] = first(bare), first(again)
        samples = interleave(rounds, contestants)
        for worker in (bare, ours, again):
            worker.verify()
    return _rates("more tasks, by httpx", samples)


# -- of a function that does nothing --------------------------------------------------


def _nothing() -> None:
    """Do nothing."""


class _Number:
    """One number and as much beside it as the agent has beside each of its own."""

    __slots__ = ("beside", "value")

    def __init__(self) -> None:
        self.value = 1000
        self.beside = bytes(_BESIDE)


_TOUCHED: Final = 40
_BESIDE: Final = 200


def _touching(keys: Sequence[str]) -> Callable[[str], None]:
    """Return the control: what adds to numbers that only a key has.

    They are about as many as the agent touches in a call, and spread as widely.
    """
    numbers = {key: tuple(_Number() for _ in range(_TOUCHED)) for key in keys}

    def touch(key: str) -> None:
        for number in numbers[key]:
            number.value += 1

    return touch


def _of_nothing(what: str, *, full: bool, rounds: int) -> Result:
    """Measure one call of a function that does nothing."""
    from benchmarks.room import Places  # noqa: PLC0415

    contestants: dict[str, Callable[[], float]] = {BARE: _round(_call_bare, ["bare"])}
    for size in _SIZES[what] if full else _QUICK_SIZES[what]:
        agent = agent_for(_MOST + 1000)
        if what == "open circuits":
            open_circuits(agent, size)
        keys = [
            ("one", f"/{index}") if what == "endpoints" else (f"s{index}", "/")
            for index in range(1 if what == "open circuits" else size)
        ]
        places = Places(agent.runtime, _nothing)
        names = [places.add(*key) for key in keys]
        for name in names:
            places.call(name)
        contestants[f"{size} {what}"] = _round(places.call, names)
        if what == "services":
            contestants[f"{size}{CONTROL}"] = _round(_touching(names), names)
    contestants[BARE_AGAIN] = contestants[BARE]
    _settle()
    return _costs(f"more {what}", interleave(rounds, contestants))


def _call_bare(_key: str) -> None:
    _nothing()


def _round(function: Callable[[str], object], keys: list[str]) -> Callable[[], float]:
    """Return what takes nanoseconds a call over all of these keys."""
    # As an app would call them: what comes next cannot be fetched in advance.
    random.Random(0).shuffle(keys)
    calls = 3000
    # Alike for one and for many: a loop of its own for each round takes longer.
    turns = itertools.cycle(keys)

    def run() -> float:
        begun = time.process_time()
        for key in itertools.islice(turns, calls):
            function(key)
        return (time.process_time() - begun) / calls * 1e9

    return run


async def _pause() -> None:
    """Let every other task run."""
    await asyncio.sleep(0)


def _tasks_at_once() -> dict[str, Callable[[], float]]:
    """Return what takes a call's time while others are under way, and the control."""
    from benchmarks.room import around  # noqa: PLC0415

    governed = around(agent_for(1).runtime, _pause, is_async=True)
    contestants: dict[str, Callable[[], float]] = {BARE: _tasks(_pause, 1)}
    for size in (1, 10, 100, 1000):
        contestants[f"{size} calls at once"] = _tasks(governed, size)
        contestants[f"{size}{CONTROL}"] = _tasks(_pause, size)
    contestants[BARE_AGAIN] = contestants[BARE]
    return contestants


def _tasks(function: Callable[[], Any], width: int) -> Callable[[], float]:
    """Return what takes nanoseconds a call where `width` are under way."""
    turns = 5000 // width

    async def work() -> None:
        for _ in range(turns):
            await function()

    async def crowd() -> float:
        begun = time.process_time()
        await asyncio.gather(*(work() for _ in range(width)))
        return (time.process_time() - begun) / turns / width * 1e9

    return lambda: asyncio.run(crowd())


# -- what both have -------------------------------------------------------------------


def open_circuits(agent: Any, count: int) -> None:
    """Open the circuits of `count` services."""
    from resilience_instrument.verdict import Evidence  # noqa: PLC0415

    for index in range(count):
        breaker = agent.registry.policies(f"dead{index}").breaker
        now = agent.clock.monotonic()
        for _ in range(5):
            permit, _ = breaker.acquire(now)
            breaker.record(permit, Evidence.FAILURE, now, "error")
        assert breaker.state(now) == "open"


def successes(agent: Any) -> int:
    """Return how many calls succeeded by the agent's own count."""
    from resilience_instrument.signals import catalog  # noqa: PLC0415
    from resilience_instrument.signals.gather import gather  # noqa: PLC0415
    from resilience_instrument.signals.layout import LAYOUTS  # noqa: PLC0415

    cell = LAYOUTS[catalog.API_REQUEST.scope].at(catalog.API_REQUEST, "success")
    return sum(
        block.counts[cell]
        for block in gather(agent.store, None).blocks
        if block.layout.scope == catalog.API_REQUEST.scope
    )
