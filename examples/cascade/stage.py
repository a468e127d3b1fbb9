"""Starts the three services in processes of their own, and ends them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from measure import HOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HERE: Final = Path(__file__).resolve().parent
FIRST_METRICS_PORT: Final = 9469
START_UP: Final = 20.0
ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
        with undisturbed():
            for process in self._processes:
                process.terminate()
            for process in self._processes:
                try:
                    process.wait(timeout=3)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def _start(self, name: str, neighbours: Mapping[str, str]) -> int:
        env = {**clean(os.environ), **neighbours, "PORT": "0", "no_proxy": HOST}
        command = [sys.executable, str(HERE / f"{name}.py")]
        if self._settings is not None:
            port = str(self.metrics_ports[name])
            env |= {**self._settings[name], "RESILIENCE_METRICS_PORT": port}
            command = [launcher(), *command]
        with (self._directory / f"{name}.log").open("wb") as log, undisturbed():
            process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
            self._processes.append(process)
        return self._port_of(name, process)

    def _port_of(self, name: str, process: subprocess.Popen[bytes]) -> int:
        last = time.monotonic() + START_UP
        while is_running(process) and time.monotonic() < last:
            for line in self._log(name).splitlines():
                if line.startswith("listening on port "):
                    return int(line.split()[-1])
            time.sleep(0.02)
        raise SystemExit(f"{name}.py does not start:\n{self._log(name)}")

    def _log(self, name: str) -> str:
        return (self._directory / f"{name}.log").read_text("utf-8", "replace")


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Put off Ctrl-C and its like until the block is done.

    A process that is interrupted while it starts another cannot end it, and one that
    is interrupted in `poll` may hold the lock of that process for ever.
    """
    came: list[int] = []
    numbers = [n for n in ENDINGS if signal.getsignal(n) is not signal.SIG_IGN]
    before = [signal.signal(n, lambda number, _: came.append(number)) for n in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def is_running(process: subprocess.Popen[bytes]) -> bool:
    """Say whether the process has not ended."""
    with undisturbed():
        return process.poll() is None


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings of the agent that hold out here."""
    return {k: v for k, v in environ.items() if not k.startswith("RESILIENCE_")}


def launcher() -> str:
    """Return the command of this environment."""
    own = Path(sysconfig.get_path("scripts")) / "resilience-instrument"
    if own.exists():
        return str(own)
    raise SystemExit(f"{own} is missing; pip install -e '.[demo]' brings it")


def free_ports() -> Iterator[int]:
    """Yield the free ports from the agent's first one on."""
    for port in range(FIRST_METRICS_PORT, 65536):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            yield port
