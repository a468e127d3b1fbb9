"""The processes in which the stacks run, as seen from the one that compares them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, final

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = Path(__file__).resolve().parents[2]
# With a fixed seed a dictionary lies the same way in every run.
_STEADY: Final = {"PYTHONHASHSEED": "0"}


def command(target: str, stack: str, *options: str) -> list[str]:
    """Return the command line of a worker."""
    return [
        sys.executable,
        "-m",
        "benchmarks.harness.worker",
        target,
        stack,
        *options,
    ]


def environment(source: Path | None = None) -> dict[str, str]:
    """Return a worker's environment.

    Args:
        source: Where the agent's package lies, None for the one that is installed.
    """
    environ = {**os.environ, **_STEADY}
    environ = {k: v for k, v in environ.items() if not k.startswith("RESILIENCE_")}
    path = [str(source)] if source is not None else []
    environ["PYTHONPATH"] = os.pathsep.join([*path, str(ROOT)])
    return environ


@final
class Worker:
    """A process that makes calls when it is asked to."""

    def __init__(self, target: str, stack: str) -> None:
        self._process = subprocess.Popen(
            command(target, stack),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd=ROOT,
        )
        self._name = f"{stack} on {target}"
        self._hear()

    def run(self, calls: int) -> float:
        """Make calls one after the other; return the seconds they took."""
        return float(self._ask({"do": "run", "calls": calls}))

    def crowd(self, width: int, calls: int) -> float:
        """Make calls in several threads or tasks; return the seconds they took."""
        return float(self._ask({"do": "crowd", "width": width, "calls": calls}))

    def verify(self) -> None:
        """Make sure that every call arrived and was counted, once.

        Raises:
            AssertionError: Some did not.
        """
        found = self._ask({"do": "verify"})
        for what in ("arrived", "counted"):
            if found[what] is not None and found[what] != found["made"]:
                message = f"{self._name}: {found['made']} calls, {found[what]} {what}"
                raise AssertionError(message)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, wish: Mapping[str, Any]) -> Any:
        if self._process.stdin is None:
            raise RuntimeError(self._name)
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        return self._hear()

    def _hear(self) -> Any:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            message = f"{self._name} ended with {self._process.wait()}"
            raise RuntimeError(message)
        return json.loads(line)
