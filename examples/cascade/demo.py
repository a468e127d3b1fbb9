"""The cascade: C gets slow, then fails, then recovers. What becomes of A?

Starts a.py, b.py and c.py, lets people come to A, makes C ill and well again; first
plain, then with each service under `resilience-instrument`. Prints what it measured
and ends with 0 only if the difference was there to see.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from figures import Figures, Window, missing, summarize, table, tell
from measure import HOST, Load, Watch, get
from stage import ENDINGS, START_UP, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GRACE: Final = 1.0
# C calls nobody, so the agent has nothing to do there.
CIRCUITS: Final = {"a": "A to B", "b": "B to C"}


class Phase(NamedTuple):
    """A part of the story.

    Attributes:
        name: How C is.
        lasts: Seconds.
        query: What a query of C's database takes and gives, see c.py.
    """

    name: str
    lasts: float
    query: str


class Plan(NamedTuple):
    """How long all is, and what the agent is told."""

    phases: tuple[Phase, Phase, Phase, Phase]
    settings: Mapping[str, Mapping[str, str]]
    span: float


def settings(read: float, open_for: float) -> dict[str, str]:
    """Return what the agent is told: to give up and to look again sooner."""
    return {
        "RESILIENCE_TIMEOUT_READ": f"{read:g}",
        "RESILIENCE_BREAKER_OPEN_FOR": f"{open_for:g}",
        "RESILIENCE_BREAKER_OPEN_MAX": f"{open_for:g}",
    }


INTRODUCTION: Final = """\
A, a shop, asks B about orders, and B asks C about the stock. 32 people a second come
to A: 24 want to see an order, 8 want products, for which A asks nobody. They give up
after 5 s. C gets slow, then fails, then is well again.

The agent is told to act sooner than by default, and A to be more patient than B:"""

# Who is asked by others gives up before they do. C asks nobody.
FULL: Final = Plan(
    (
        Phase("well", 4, "0.1 fine"),
        Phase("slow", 7, "3 fine"),
        Phase("failing", 5, "0.3 broken"),
        Phase("well again", 8, "0.1 fine"),
    ),
    {"a": settings(0.8, 2), "b": settings(0.5, 1), "c": {}},
    span=1.0,
)
QUICK: Final = Plan(
    (
        Phase("well", 0.8, "0.1 fine"),
        Phase("slow", 1.0, "1.3 fine"),
        Phase("failing", 2.5, "0.4 broken"),
        Phase("well again", 3, "0.1 fine"),
    ),
    {"a": settings(0.7, 0.4), "b": settings(0.5, 0.2), "c": {}},
    span=0.5,
)


class Run(NamedTuple):
    """What one telling of the story left behind."""

    figures: Figures
    watches: Mapping[str, Watch]


async def tell_story(title: str, stage: Stage, plan: Plan) -> Run:
    """Let people come to A while C falls ill and recovers."""
    status, body = await get(stage.port, "/orders/0", START_UP)
    if status != 200:
        raise SystemExit(f"A does not work although C is well: {status} {body}")
    async with asyncio.TaskGroup() as group:
        load = Load(stage.port, group)
        watches = {n: Watch(p, load) for n, p in stage.metrics_ports.items()}
        tasks = [group.create_task(w.follow()) for w in watches.values()]
        tasks.append(group.create_task(load.send()))
        turns = await change_weather(title, stage, plan, load)
        tasks.pop().cancel()
        await asyncio.sleep(GRACE)
        load.close()
        for watch, task in zip(watches.values(), tasks, strict=True):
            task.cancel()
            await watch.look()
    window = Window(start=turns[1], end=turns[3], story_end=turns[4])
    calls = [moment - load.began for moment in stage.calls()]
    return Run(summarize(load.answers, calls, window, plan.span), watches)


async def change_weather(
    title: str, stage: Stage, plan: Plan, load: Load
) -> list[float]:
    """Go through the phases and return when each began and the last one ended."""
    turns: list[float] = []
    until = 0.0
    for phase in plan.phases:
        stage.query(phase.query)
        turns.append(load.elapsed())
        print(f"  {title:<16}{until:>4.0f} s   C is {phase.name}", flush=True)
        until += phase.lasts
        await show_progress(title, phase, load, until)
    return [*turns, load.elapsed()]


async def show_progress(title: str, phase: Phase, load: Load, until: float) -> None:
    """Wait until then, and on a terminal say how it goes meanwhile."""
    while (left := until - load.elapsed()) > 0:
        if sys.stdout.isatty():
            now = load.elapsed()
            line = f"  {title:<16}{now:>4.0f} s   C is {phase.name:<12}{load.pulse()}"
            print(f"\r{line}\033[K", end="", flush=True)
        await asyncio.sleep(min(left, 0.25))
    if sys.stdout.isatty():
        print("\r\033[K", end="")


def play(title: str, plan: Plan, *, governed: bool) -> Run:
    """Tell the story once; nothing that it started is left running."""
    with tempfile.TemporaryDirectory(prefix="cascade-") as directory:
        stage = Stage(Path(directory), plan.settings if governed else None)
        try:
            stage.open()
            return asyncio.run(tell_story(title, stage, plan))
        finally:
            stage.close()


def report(plain: Run, governed: Run, plan: Plan) -> list[str]:
    """Print what was measured and return what should have been seen and was not."""
    print()
    rest = plan.phases[-1].lasts
    print("\n".join(table(plain.figures, governed.figures, rest)))
    print("\nThe circuits, in seconds of the story, as the metrics ports told:")
    unseen = missing(plain.figures, governed.figures)
    for name, circuit in CIRCUITS.items():
        watch = governed.watches[name]
        print(f"  {circuit}   {tell(watch.steps)}")
        if not watch.did_its_work:
            unseen.append(f"the circuit from {circuit} did not open and close")
    where = [
        f"http://{HOST}:{watch.port}/metrics ({name.upper()})"
        for name, watch in governed.watches.items()
        if watch.answered
    ]
    print(f"The metrics were at {' and '.join(where) or 'no port'}.")
    return unseen


def demonstrate(plan: Plan) -> int:
    """Tell the story twice and return the exit code."""
    print(INTRODUCTION)
    for name, told in plan.settings.items():
        for variable, value in told.items():
            print(f"  {name.upper()}   {variable}={value}")
    print(flush=True)
    plain = play("plain", plan, governed=False)
    governed = play("with the agent", plan, governed=True)
    unseen = report(plain, governed, plan)
    for claim in unseen:
        print(f"Not seen this time: {claim}.")
    return 1 if unseen else 0


def heed_endings() -> None:
    """Let whatever asks the demo to end do so as Ctrl-C does.

    asyncio ends its tasks in order at Ctrl-C, and only then.
    """
    ctrl_c = signal.SIGINT
    signal.signal(ctrl_c, signal.default_int_handler)
    for number in ENDINGS:
        if number != ctrl_c and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(ctrl_c))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, and leave nothing behind however it ends."""
    parser = argparse.ArgumentParser(description="Watch a cascade and its end.")
    parser.add_argument("--quick", action="store_true", help="18 s instead of 55")
    plan = QUICK if parser.parse_args(arguments).quick else FULL
    # A without the agent holds many connections that nobody waits for any more.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    heed_endings()
    try:
        return demonstrate(plan)
    except KeyboardInterrupt:
        print("\nended early; nothing is left running", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
