"""The cases: each is right or wrong for a library, and says so by true or false."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import importlib
import os
import select
import signal
import sys
import threading
import time
import traceback
import tracemalloc
import weakref
from typing import TYPE_CHECKING, Any

from subjects import (
    ATTEMPTS,
    BREAKERS,
    FAILURES,
    RETRIERS,
    Body,
    Crowd,
    FailedError,
    Gone,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from subjects import Guarded

OPEN_FOR = 0.2
WAIT = 0.3
HOUR = 3600.0
REFUSALS = 5000
FORKS = 40


async def calls_run_beside_each_other(guarded: Guarded) -> bool:
    """Ten calls of 0.1 s take 0.1 s, not one."""
    began = time.monotonic()
    await asyncio.gather(*(guarded.call(Body(0.1)) for _ in range(10)))
    return time.monotonic() - began < 0.5


async def one_of_fifty_is_the_probe(guarded: Guarded) -> bool:
    """Nobody else runs while the first probe does."""
    await guarded.trip()
    await asyncio.sleep(WAIT)
    crowd = Crowd(50, 0.2)
    await asyncio.gather(*(guarded.call(body) for body in crowd.bodies))
    return crowd.together == 1


async def a_cancelled_probe_is_neutral(guarded: Guarded) -> bool:
    """It neither closes, nor opens again, nor wedges: the next one is a probe."""
    await guarded.trip()
    await asyncio.sleep(WAIT)
    if guarded.is_async:
        probe = asyncio.ensure_future(guarded.call(Body(5.0)))
        await asyncio.sleep(0.05)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
    else:
        await guarded.call(Body(error=Gone))
    probing = Body(error=FailedError)
    await guarded.call(probing)
    after = Body()
    return probing.started == 1 and await guarded.call(after) == "refused"


async def a_hung_probe_loses_its_place(guarded: Guarded) -> bool:
    """After a while somebody else may ask."""
    await guarded.trip()
    await asyncio.sleep(WAIT)
    hung = asyncio.ensure_future(guarded.call(Body(4.0)))
    await asyncio.sleep(1.5)
    second = Body()
    await asyncio.wait([asyncio.ensure_future(guarded.call(second))], timeout=1.0)
    started = second.started == 1
    await asyncio.wait([hung])
    return started


async def late_results_move_nothing(guarded: Guarded) -> bool:
    """A late success does not close, late failures do not open again."""
    slow = asyncio.ensure_future(guarded.call(Body(0.1)))
    late = [
        asyncio.ensure_future(guarded.call(Body(1.0, FailedError)))
        for _ in range(FAILURES)
    ]
    await asyncio.sleep(0.05)
    await guarded.trip()
    await slow
    if await guarded.call(Body()) != "refused":
        return False
    await asyncio.sleep(WAIT)
    for _ in range(3):
        await guarded.call(Body())
    await asyncio.gather(*late)
    return await guarded.call(Body()) == "ok"


async def the_wall_clock_does_not_matter(guarded: Guarded) -> bool:
    """An hour forth does not end the open time, an hour back does not freeze it."""
    replace_wall_clock(guarded.package)
    await guarded.trip()
    WallClock.offset = HOUR
    early = await guarded.call(Body())
    WallClock.offset = -HOUR
    await asyncio.sleep(WAIT)
    return (early, await guarded.call(Body())) == ("refused", "ok")


class WallClock:
    """A wall clock that can be moved."""

    offset = 0.0
    real = staticmethod(time.time)

    @classmethod
    def time(cls) -> float:
        """Return the seconds since the epoch, as they are shown."""
        return cls.real() + cls.offset


class Shifted(dt.datetime):
    """A `datetime` that reads the moved clock."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        """Return the date as it is shown."""
        return dt.datetime.fromtimestamp(WallClock.time(), tz)

    @classmethod
    def utcnow(cls) -> Any:
        """Return the date in UTC as it is shown."""
        return dt.datetime.fromtimestamp(WallClock.time(), dt.UTC).replace(tzinfo=None)


def replace_wall_clock(package: str) -> None:
    """Give a library the clock that can be moved, wherever it imported its own from."""
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package:
            for attribute, value in list(vars(module).items()):
                if value is dt.datetime:
                    setattr(module, attribute, Shifted)
                elif value is WallClock.real:
                    setattr(module, attribute, WallClock.time)
    time.time = WallClock.time


async def refusals_do_not_grow(guarded: Guarded) -> bool:
    """Five thousand refusals: less than a megabyte, and no traceback that grows."""
    await guarded.trip()
    tracemalloc.start()
    lengths = set()
    before = 0
    for number in range(REFUSALS):
        if number == 100:
            before, _ = tracemalloc.get_traced_memory()
        try:
            found = guarded.guard(Body())
            if guarded.is_async:
                await found
        except guarded.refusals as error:
            lengths.add(len(list(traceback.walk_tb(error.__traceback__))))
        if len(lengths) > 1:
            return False
    after, _ = tracemalloc.get_traced_memory()
    return after - before < 1_000_000


async def the_tripping_call_raises_its_own_error(guarded: Guarded) -> bool:
    """The failure that opens the circuit is the app's to see."""
    said = [await guarded.call(Body(error=FailedError)) for _ in range(FAILURES)]
    return said == ["failed"] * FAILURES


def no_forked_child_hangs(guarded: Guarded) -> bool:
    """While four threads call, children are forked and call too."""
    stop = threading.Event()

    def hammer() -> None:
        while not stop.is_set():
            guarded.call_here(Body(error=FailedError))
            guarded.call_here(Body())

    threads = [threading.Thread(target=hammer, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    hung = sum(not child_answers(guarded) for _ in range(FORKS))
    stop.set()
    return hung == 0


def child_answers(guarded: Guarded) -> bool:
    """Fork a child that makes one call; tell whether it came back."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        guarded.call_here(Body())
        os.write(writing, b".")
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], 3.0)
    answered = bool(ready) and os.read(reading, 1) == b"."
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    return answered


class Argument:
    """What a caller hands in and wants to be rid of."""


def retried_arguments_are_freed(name: str) -> bool:
    """Three failed attempts keep nothing alive once the error was handled."""

    def fail(argument: Argument) -> None:
        del argument
        raise FailedError

    retry = RETRIERS[name](fail)
    return is_freed(retry)


def is_freed(use: Callable[[Argument], object]) -> bool:
    """Tell whether an argument dies with the call that failed, without a collection."""
    gc.collect()
    gc.disable()

    def handled() -> weakref.ref[Argument]:
        argument = Argument()
        watched = weakref.ref(argument)
        try:
            use(argument)
        except Exception:
            return watched
        return watched

    return handled()() is None


def an_outage_is_not_trebled(name: str) -> bool:
    """Of 500 failing calls at most 25 % more attempts are made."""
    made = [0]

    def fail(_: object) -> None:
        made[0] += 1
        raise FailedError

    retry = RETRIERS[name](fail)
    for _ in range(500):
        try:
            retry(None)
        except Exception:
            continue
    return made[0] <= 500 * 1.25


def an_hour_is_not_slept(name: str) -> bool:
    """A service that asks for an hour gets no sleeping thread."""
    if name == "urllib3":
        slept: list[float] = []
        time.sleep = slept.append  # type: ignore[assignment]
        retry = importlib.import_module("urllib3").Retry(3)
        retry.sleep(urllib3_response("3600"))
        return not any(slept)
    heart = importlib.import_module("heart")
    judgement = heart.BAD.revised()
    judgement = type(judgement)(
        judgement.verdict, judgement.evidence, retry_after=3600.0
    )
    caller = heart.Caller(attempts=ATTEMPTS, consecutive=None, open_for=30.0)
    io = heart.Io(failing, judgement)
    try:
        caller.run(io, repeatable=True)
    except FailedError:
        return not io.slept
    return False


def failing() -> None:
    """Fail."""
    raise FailedError


def urllib3_response(retry_after: str) -> Any:
    """Return a response of urllib3 with this header."""
    library = importlib.import_module("urllib3")
    return library.HTTPResponse(status=503, headers={"Retry-After": retry_after})


def a_bad_retry_after_breaks_nothing(name: str) -> bool:
    """Nonsense in a header is no exception for the app."""
    if name == "urllib3":
        retry = importlib.import_module("urllib3").Retry(3)
        try:
            retry.get_retry_after(urllib3_response("soon"))
        except Exception:
            return False
        return True
    reading = importlib.import_module("resilience_instrument.policies.retry_after")
    return all(reading.parse(text, None, 0.0) is None for text in ("soon", "-5", "1.5"))


def a_post_is_sent_once(name: str) -> bool:
    """What may have had an effect is not repeated by default."""
    if name == "urllib3":
        retry = importlib.import_module("urllib3").Retry(3)
        return "POST" not in retry.allowed_methods
    heart = importlib.import_module("heart")
    caller = heart.Caller(attempts=ATTEMPTS, consecutive=None, open_for=30.0)
    sent = []

    def fail() -> None:
        sent.append(1)
        raise FailedError

    try:
        caller.run(heart.Io(fail, heart.BAD), repeatable=False)
    except FailedError:
        return len(sent) == 1
    return False


def of_breakers(case: Callable[[Guarded], Any], open_for: float) -> Any:
    """Return a case as one that takes a library's name."""

    def judge(name: str) -> bool:
        guarded = BREAKERS[name](open_for)
        found: bool | Awaitable[bool] = case(guarded)
        if isinstance(found, bool):
            return found
        return asyncio.run(wait_for(found))

    return judge


async def wait_for(found: Awaitable[bool]) -> bool:
    """Await."""
    return await found


HEADERS = ("urllib3", "ours")
CASES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "calls run beside each other": (
        of_breakers(calls_run_beside_each_other, OPEN_FOR),
        (*BREAKERS,),
    ),
    "of fifty callers one is the probe": (
        of_breakers(one_of_fifty_is_the_probe, OPEN_FOR),
        (*BREAKERS,),
    ),
    "a cancelled probe is neutral": (
        of_breakers(a_cancelled_probe_is_neutral, OPEN_FOR),
        (*BREAKERS,),
    ),
    "a hung probe loses its place": (
        of_breakers(a_hung_probe_loses_its_place, OPEN_FOR),
        (*BREAKERS,),
    ),
    "late results move nothing": (
        of_breakers(late_results_move_nothing, OPEN_FOR),
        (*BREAKERS,),
    ),
    "the wall clock does not matter": (
        of_breakers(the_wall_clock_does_not_matter, OPEN_FOR),
        (*BREAKERS,),
    ),
    "the tripping call raises its own error": (
        of_breakers(the_tripping_call_raises_its_own_error, OPEN_FOR),
        (*BREAKERS,),
    ),
    "refusals do not grow": (of_breakers(refusals_do_not_grow, 300.0), (*BREAKERS,)),
    "no forked child hangs": (of_breakers(no_forked_child_hangs, 0.01), (*BREAKERS,)),
    "retried arguments are freed": (retried_arguments_are_freed, (*RETRIERS,)),
    "an outage is not trebled": (an_outage_is_not_trebled, (*RETRIERS,)),
    "an hour is not slept": (an_hour_is_not_slept, HEADERS),
    "a bad Retry-After breaks nothing": (a_bad_retry_after_breaks_nothing, HEADERS),
    "a POST is sent once": (a_post_is_sent_once, HEADERS),
}
