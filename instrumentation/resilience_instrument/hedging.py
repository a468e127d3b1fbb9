"""Race two attempts on asyncio: what an async `Io` offers so that calls are hedged."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")


async def race(
    primary: Coroutine[object, None, T],
    backup: Callable[[], Coroutine[object, None, T] | None],
    delay: float,
    accept: Callable[[T], bool],
) -> tuple[T, list[T]]:
    """Run `primary`, after `delay` seconds a second one too; cancel who is late.

    Under another event loop than asyncio's (trio) `primary` runs alone.

    Args:
        primary: The first attempt.
        backup: Makes the second one, or declines; asked only if the first is not over.
        delay: Seconds that the first has for itself.
        accept: Tells whether a result ends the race.

    Returns:
        The first result that is accepted, else the last; and those that lost.
    """
    if not _is_asyncio():
        return await primary, []
    tasks: list[asyncio.Future[T]] = [asyncio.ensure_future(primary)]
    try:
        await asyncio.wait(tasks, timeout=delay)
        second = None if tasks[0].done() else backup()
        if second is not None:
            tasks.append(asyncio.ensure_future(second))
        return await _winner(tasks, accept)
    finally:
        await _stop(tasks)


async def _winner(
    tasks: list[asyncio.Future[T]], accept: Callable[[T], bool]
) -> tuple[T, list[T]]:
    results: list[T] = []
    waiting = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in (task for task in tasks if task in done):
            results.append(task.result())
            if accept(results[-1]):
                waiting = set()
    won = next((each for each in results if accept(each)), results[-1])
    return won, [each for each in results if each is not won]


async def _stop(tasks: list[asyncio.Future[T]]) -> None:
    for task in tasks:
        task.cancel()  # who is done stays done
    # What a late attempt raises while it is cancelled is nobody's failure.
    await asyncio.gather(*tasks, return_exceptions=True)


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
