"""Faults of the agent itself: counted each time, said once on stderr.

A fault never reaches the app. Each place that can fail has a short name, so that
one line a place is all that a log ever gets.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Callable


def say(line: str) -> None:
    """Print one line on stderr, if there is a stderr."""
    if sys.stderr is not None:
        sys.stderr.write(f"resilience-instrument: {line}\n")


def debug(line: str) -> None:
    """Print one line on stderr where `RESILIENCE_DEBUG=1` asks for it."""
    if os.environ.get("RESILIENCE_DEBUG") == "1":
        say(f"debug: process {os.getpid()}: {line}")


@final
class Faults:
    """Takes reports of faults.

    Args:
        count: Counts one fault in the place that it is given.
    """

    __slots__ = ("_count", "_said")

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._said: set[str] = set()

    def report(self, where: str, error: Exception) -> None:
        """Count a fault and, the first time in this place, say it."""
        self._count(where)
        if where not in self._said:
            self._said.add(where)
            kind = type(error).__name__
            say(f"a fault of the agent in {where}, the call goes on: {kind}: {error}")
