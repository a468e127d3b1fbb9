"""The cascade: C gets slow, then fails, then recovers. What becomes of A?

Starts a.py, b.py and c.py, lets people come to A, makes C ill and well again; first
plain, then with each service under `resilience-instrument`. Prints what it measured
and ends with 0 only if the difference was there to see.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from figures import Figures, Window, missing, summarize, table, tell
from measure import HOST, Load, Watch, get

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE: Final = Path(__file__).resolve().parent
FIRST_METRICS_PORT: Final = 9469
GRACE: Final = 1.0
START_UP: Final = 20.0


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

    @property
    def window(self) -> Window:
        """When in the story C is not well."""
        well, slow, failing, again = (phase.lasts for phase in self.phases)
        ill = well + slow + failing
        return Window(well, ill, ill + again)


def settings(read: float, open_for: float) -> dict[str, str]:
    """Return what the agent is told: to give up and to look again sooner."""
    return {
        "RESILIENCE_TIMEOUT_READ": f"{read:g}",
        "RESILIENCE_BREAKER_OPEN_FOR": f"{open_for:g}",
        "RESILIENCE_BREAKER_OPEN_MAX": f"{open_for:g}",
    }


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
        Phase("well", 0.7, "0.1 fine"),
        Phase("slow", 1.8, "1.5 fine"),
        Phase("failing", 1.5, "0.3 broken"),
        Phase("well again", 2, "0.1 fine"),
    ),
    {"a": settings(0.6, 0.6), "b": settings(0.4, 0.3), "c": {}},
    span=0.5,
)


class Run(NamedTuple):
    """What one telling of the story left behind."""

    figures: Figures
    watches: tuple[Watch, ...]


class Stage:
    """The three services in processes of their own, and C's database.

    Args:
        directory: For their logs and the database.
        settings: What the agent is told in each, None for no agent.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, Mapping[str, str]] | None
    ) -> None:
        self.port = 0
        self.metrics_ports: dict[str, int] = {}
        self._directory = directory
        self._settings = settings
        self._processes: list[subprocess.Popen[bytes]] = []

    def open(self) -> None:
        """Start C, then B, then A, each knowing the one before."""
        if self._settings is not None:
            self.metrics_ports = dict(zip("abc", free_ports(), strict=False))
        self.query("0.1 fine")
        database = {"DATABASE": str(self._directory / "database")}
        stock = self._start("c", database)
        orders = self._start("b", {"STOCK_URL": f"http://{HOST}:{stock}"})
        self.port = self._start("a", {"ORDERS_URL": f"http://{HOST}:{orders}"})

    def query(self, weather: str) -> None:
        """Say what C's database takes and gives from now on."""
        fresh = self._directory / "database.new"
        fresh.write_text(weather, encoding="utf-8")
        fresh.replace(self._directory / "database")

    def calls(self) -> list[float]:
        """Return when C was called, in seconds since the epoch, out of its log."""
        words = [line.split() for line in self._log("c").splitlines()]
        return [float(line[0]) for line in words if line[1:2] == ["GET"]]

    def close(self) -> None:
        """End what was started, with force what does not end."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, name: str, neighbours: Mapping[str, str]) -> int:
        env = clean(os.environ) | neighbours | {"PORT": "0", "no_proxy": HOST}
        command = [sys.executable, str(HERE / f"{name}.py")]
        if self._settings is not None:
            port = str(self.metrics_ports[name])
            env |= self._settings[name] | {"RESILIENCE_METRICS_PORT": port}
            command = [launcher(), *command]
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._processes.append(process)
        return self._port_of(name, process)

    def _port_of(self, name: str, process: subprocess.Popen[bytes]) -> int:
        last = time.monotonic() + START_UP
        while process.poll() is None and time.monotonic() < last:
            for line in self._log(name).splitlines():
                if line.startswith("listening on port "):
                    return int(line.split()[-1])
            time.sleep(0.02)
        raise SystemExit(f"{name}.py does not start:\n{self._log(name)}")

    def _log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text("utf-8", "replace")


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings of the agent that hold out here."""
    return {k: v for k, v in environ.items() if not k.startswith("RESILIENCE_")}


def launcher() -> str:
    """Return the command of this environment, or else the first on the path."""
    own = Path(sysconfig.get_path("scripts")) / "resilience-instrument"
    return str(own) if own.exists() else shutil.which(own.name) or own.name


def free_ports() -> Iterator[int]:
    """Yield the free ports from the agent's first one on."""
    for port in range(FIRST_METRICS_PORT, 65536):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            yield port


async def tell_story(title: str, stage: Stage, plan: Plan) -> Run:
    """Let people come to A while C falls ill and recovers."""
    status, body = await get(stage.port, "/orders/0", START_UP)
    if status != 200:
        raise SystemExit(f"A does not work although C is well: {status} {body}")
    load = Load(stage.port)
    began = time.time() - load.elapsed()
    watches = tuple(Watch(stage.metrics_ports[n], load) for n in stage.metrics_ports)
    tasks = [asyncio.create_task(w.follow()) for w in watches]
    sending = asyncio.create_task(load.send())
    until = 0.0
    for phase in plan.phases:
        stage.query(phase.query)
        print(f"  {title:<16}{until:>4.0f} s   C is {phase.name}", flush=True)
        until += phase.lasts
        await show_progress(title, phase, load, until)
    sending.cancel()
    await asyncio.sleep(GRACE)
    load.close()
    for watch, task in zip(watches, tasks, strict=True):
        task.cancel()
        await watch.look()
    calls = [moment - began for moment in stage.calls()]
    return Run(summarize(load.answers, calls, plan.window, plan.span), watches)


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
    rest = plan.window.story_end - plan.window.end
    print()
    print("\n".join(table(plain.figures, governed.figures, rest)))
    print("\nThe circuits, in seconds of the story, as the metrics ports told:")
    unseen = missing(plain.figures, governed.figures)
    for name, watch in zip(("A to B", "B to C"), governed.watches, strict=False):
        print(f"  {name}   {tell(watch.steps)}")
        if not watch.did_its_work:
            unseen.append(f"the circuit from {name} did not open and close")
    where = [
        f"http://{HOST}:{w.port}/metrics ({n})"
        for n, w in zip("ABC", governed.watches, strict=True)
        if w.answered
    ]
    print(f"The metrics were at {' and '.join(where) or 'no port'}.")
    return unseen


def demonstrate(plan: Plan) -> int:
    """Tell the story twice and return the exit code."""
    print("A asks B, B asks C. People come to A, 32 a second; 8 of them")
    print("want what A can give without C. Each waits 5 s at most.")
    print("\nThe agent is told to be faster than it is by default:")
    for name, told in plan.settings.items():
        if told:
            print(f"  {name.upper()}", *(f"{k}={v}" for k, v in told.items()))
    print()
    plain = play("plain", plan, governed=False)
    governed = play("with the agent", plan, governed=True)
    unseen = report(plain, governed, plan)
    for claim in unseen:
        print(f"Not seen this time: {claim}.")
    return 1 if unseen else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo, and leave nothing behind however it ends."""
    parser = argparse.ArgumentParser(description="Watch a cascade and its end.")
    parser.add_argument("--quick", action="store_true", help="12 s instead of 50")
    plan = QUICK if parser.parse_args(arguments).quick else FULL
    # A without the agent holds many connections that nobody waits for any more.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.default_int_handler)
    try:
        return demonstrate(plan)
    except KeyboardInterrupt:
        print("\nended early; nothing is left running", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
