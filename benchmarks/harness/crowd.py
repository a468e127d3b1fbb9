"""Several threads that begin at the same moment."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def in_threads(
    works: Sequence[Callable[[], object]],
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Do each work in a thread of its own; return the seconds until all is done.

    Args:
        works: What is done.
        clock: Says what time it is. While nobody waits for anything but the
            interpreter, the time of the processor is the same with less noise.
    """
    gate = threading.Barrier(len(works) + 1)

    def begin(work: Callable[[], object]) -> None:
        gate.wait()
        work()

    threads = [threading.Thread(target=begin, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    gate.wait()
    begun = clock()
    for thread in threads:
        thread.join()
    return clock() - begun
