"""A thread of ours must not make Python warn an app that has none of its own.

From 3.12 on, `os.fork()` warns in a process of several threads. The one that serves
the metrics holds no lock that a child could miss. An app that has threads itself is
warned as ever.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

WARNS: Final = sys.version_info >= (3, 12)
"""Whether this Python warns at all."""

_MESSAGE: Final = "This process .* is multi-threaded, use of fork"


def excuse(threads: Callable[[], int], *, ours: bool) -> None:
    """Put a filter there if ours is the only thread too many, else take it away.

    Args:
        threads: Counts the threads of the process.
        ours: Whether one of them is ours.
    """
    if ours and threads() == 2:  # noqa: PLR2004 - the app's one and ours
        warnings.filterwarnings("ignore", _MESSAGE, DeprecationWarning)
        return
    mine = [f for f in warnings.filters if getattr(f[1], "pattern", "") == _MESSAGE]
    if mine:
        for item in mine:
            warnings.filters.remove(item)  # type: ignore[attr-defined]
        # As `warnings` does itself: what was seen is looked at anew.
        warnings._filters_mutated()  # type: ignore[attr-defined]  # noqa: SLF001


def count_threads() -> int:
    """Return how many threads the system sees in this process, 0 if it does not say."""
    try:
        return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - pathlib is not loaded
    except OSError:
        return 0
