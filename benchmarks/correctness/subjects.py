"""Each library behind one interface, with settings that are as equal as can be.

A breaker opens at three failures in a row and closes at one success; a retrier makes
three attempts without a pause. What a library cannot be told stays at its default.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES = 3
ATTEMPTS = 3


class FailedError(Exception):
    """What the service's failure looks like."""


class Gone(BaseException):
    """An interruption that is nobody's failure, as KeyboardInterrupt is."""


class Body:
    """One attempt: how long it takes and what it comes to."""

    def __init__(
        self, seconds: float = 0.0, error: type[BaseException] | None = None
    ) -> None:
        self.seconds = seconds
        self.error = error
        self.started = 0
        self.ended = 0
        self.crowd: Crowd | None = None

    def run(self) -> str:
        """Make the attempt as a thread does."""
        self.started += 1
        time.sleep(self.seconds)
        return self._end()

    async def arun(self) -> str:
        """Make the attempt as a coroutine does."""
        self.started += 1
        await asyncio.sleep(self.seconds)
        return self._end()

    def _end(self) -> str:
        self.ended += 1
        if self.crowd is not None:
            self.crowd.one_ended()
        if self.error is not None:
            raise self.error
        return "ok"


class Crowd:
    """Bodies of which it is known how many had started when the first one ended."""

    def __init__(self, count: int, seconds: float) -> None:
        self.bodies = [Body(seconds) for _ in range(count)]
        self.together: int | None = None
        for body in self.bodies:
            body.crowd = self

    def one_ended(self) -> None:
        """Note how many run, the first time."""
        if self.together is None:
            self.together = sum(body.started for body in self.bodies)


class Guarded:
    """A breaker of a library; `call` says `ok`, `failed`, `refused` or `gone`."""

    is_async = False
    package = ""

    def __init__(self, open_for: float) -> None:
        self.pool = ThreadPoolExecutor(64)
        self.refusals: tuple[type[BaseException], ...] = ()
        self.make(open_for)

    def make(self, open_for: float) -> None:
        """Make the breaker."""
        raise NotImplementedError

    def guard(self, body: Body) -> Any:
        """Run the body under the breaker, or return a coroutine that does."""
        raise NotImplementedError

    async def call(self, body: Body) -> str:
        """Run the body under the breaker, beside whatever else runs."""
        if self.is_async:
            try:
                await self.guard(body)
            except BaseException as error:
                return self.said(error)
            return "ok"
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.pool, self.call_here, body)

    def call_here(self, body: Body) -> str:
        """Run the body under the breaker, in this thread."""
        try:
            found = self.guard(body)
            if self.is_async:
                asyncio.run(found)
        except BaseException as error:
            return self.said(error)
        return "ok"

    def said(self, error: BaseException) -> str:
        """Say in a word what was raised."""
        if isinstance(error, self.refusals):
            return "refused"
        return "failed" if isinstance(error, FailedError) else "gone"

    async def trip(self) -> None:
        """Open the circuit."""
        for _ in range(FAILURES):
            await self.call(Body(error=FailedError))


class Pybreaker(Guarded):
    """pybreaker."""

    package = "pybreaker"

    def make(self, open_for: float) -> None:
        library = importlib.import_module("pybreaker")
        self.refusals = (library.CircuitBreakerError,)
        self.breaker = library.CircuitBreaker(FAILURES, open_for)

    def guard(self, body: Body) -> Any:
        return self.breaker.call(body.run)


class Circuitbreaker(Guarded):
    """circuitbreaker, whose coroutine support is the one that is asked here."""

    package = "circuitbreaker"
    is_async = True

    def make(self, open_for: float) -> None:
        library = importlib.import_module("circuitbreaker")
        self.refusals = (library.CircuitBreakerError,)
        breaker = library.CircuitBreaker(FAILURES, open_for, name="svc")

        async def run(body: Body) -> str:
            return await body.arun()

        self.run = breaker.decorate(run)

    def guard(self, body: Body) -> Any:
        return self.run(body)


class Aiobreaker(Guarded):
    """aiobreaker."""

    package = "aiobreaker"
    is_async = True

    def make(self, open_for: float) -> None:
        library = importlib.import_module("aiobreaker")
        duration = importlib.import_module("datetime").timedelta(seconds=open_for)
        self.refusals = (library.CircuitBreakerError,)
        self.breaker = library.CircuitBreaker(FAILURES, duration)

    def guard(self, body: Body) -> Any:
        return self.breaker.call_async(body.arun)


class Purgatory(Guarded):
    """purgatory."""

    package = "purgatory"
    is_async = True

    def make(self, open_for: float) -> None:
        library = importlib.import_module("purgatory")
        model = importlib.import_module("purgatory.domain.model")
        self.refusals = (model.OpenedState,)
        self.factory = library.AsyncCircuitBreakerFactory(FAILURES, open_for)

    async def guard(self, body: Body) -> str:
        async with await self.factory.get_breaker("svc"):
            return await body.arun()


class Hyx(Guarded):
    """hyx."""

    package = "hyx"
    is_async = True

    def make(self, open_for: float) -> None:
        library = importlib.import_module("hyx.circuitbreaker")
        exceptions = importlib.import_module("hyx.circuitbreaker.exceptions")
        self.refusals = (exceptions.BreakerFailing,)
        self.breaker = library.consecutive_breaker(
            failure_threshold=FAILURES,
            recovery_time_secs=open_for,
            recovery_threshold=1,
        )

    async def guard(self, body: Body) -> str:
        async with self.breaker:
            return await body.arun()


class Interlock(Guarded):
    """interlock-cb, whose rate is set so that three failures open it."""

    package = "interlock"

    def make(self, open_for: float) -> None:
        library = importlib.import_module("interlock")
        self.refusals = (library.CircuitOpenError,)
        self.breaker = library.CircuitBreaker(
            name="svc",
            config=library.Config(
                minimum_number_of_calls=FAILURES,
                window_size=FAILURES,
                failure_rate_threshold=1.0,
                permitted_calls_in_half_open=1,
                wait_duration_in_open=open_for,
            ),
        )

    def guard(self, body: Body) -> Any:
        return self.breaker.call(body.run)


class Ours(Guarded):
    """This project: the engine with its breaker, one attempt a call."""

    package = "resilience_instrument"

    def make(self, open_for: float) -> None:
        heart = importlib.import_module("heart")
        self.refusals = (heart.CircuitBreakerOpenError,)
        self.caller = heart.Caller(
            attempts=1, consecutive=FAILURES, open_for=open_for, lease=1.0
        )

    def guard(self, body: Body) -> Any:
        return self.caller.call(body.run)


BREAKERS: dict[str, type[Guarded]] = {
    "pybreaker": Pybreaker,
    "circuitbreaker": Circuitbreaker,
    "aiobreaker": Aiobreaker,
    "purgatory": Purgatory,
    "hyx": Hyx,
    "interlock-cb": Interlock,
    "ours": Ours,
}


def tenacity(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Retry by tenacity."""
    library = importlib.import_module("tenacity")
    stop = library.stop_after_attempt(ATTEMPTS)
    retry: Callable[[Any], Any] = library.retry(
        stop=stop, wait=library.wait_none(), reraise=True
    )(function)
    return retry


def stamina(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Retry by stamina."""
    library = importlib.import_module("stamina")
    retry: Callable[[Any], Any] = library.retry(
        on=Exception, attempts=ATTEMPTS, wait_initial=0, wait_max=0, wait_jitter=0
    )(function)
    return retry


def hyx(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Retry by hyx."""
    library = importlib.import_module("hyx.retry")

    async def afunction(argument: Any) -> Any:
        return function(argument)

    retry = library.retry(attempts=ATTEMPTS, backoff=0.0)(afunction)
    return lambda argument: asyncio.run(retry(argument))


def ours(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Retry by this project."""
    heart = importlib.import_module("heart")
    caller = heart.Caller(attempts=ATTEMPTS, consecutive=None, open_for=30.0)

    def retry(argument: Any) -> Any:
        return caller.call(lambda: function(argument))

    return retry


RETRIERS: dict[str, Callable[[Callable[[Any], Any]], Callable[[Any], Any]]] = {
    "tenacity": tenacity,
    "stamina": stamina,
    "hyx": hyx,
    "ours": ours,
}
