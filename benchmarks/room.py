"""A room for plain functions, so that the agent itself can be measured.

It is what a room of the agent's is, without a library: it asks a lane, calls, and
leaves everything but a success to the engine.
"""

from __future__ import annotations

import functools
import os
from sys import modules
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument._agent import Agent
from resilience_instrument.call import Call
from resilience_instrument.config.load import from_environment
from resilience_instrument.fastpath import NO_WAY, Begun
from resilience_instrument.integrations._room import (
    deliver,
    govern,
    govern_sync,
    is_watched,
    remember,
    resume,
    resume_sync,
)
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.deadline import CURRENT
from resilience_instrument.verdict import Evidence, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.targets import Target
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.fastpath import Lane
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.observe import Would
    from resilience_instrument.outcome import Outcome

    Function = Callable[[], Any]

_FINE: Final = Judgement(Verdict.SUCCESS, Evidence.SUCCESS)
_BROKEN: Final = Judgement(Verdict.TRANSIENT, Evidence.FAILURE, reason="error")
SERVICE: Final = "api.example.test"
ENDPOINT: Final = "/orders/{id}"


def governed(function: Function, target: Target) -> Function:
    """Return the function with a new agent around it."""
    runtime = Agent(from_environment(os.environ)).runtime
    return around(runtime, function, is_async=target.is_async)


def around(
    runtime: Runtime,
    function: Function,
    *,
    is_async: bool = False,
    service: str = SERVICE,
    endpoint: str = ENDPOINT,
) -> Function:
    """Return the function governed as one endpoint of a service."""
    place = _Place(runtime, function, service, endpoint)
    return _async_way(place) if is_async else _way(place)


@final
class Places:
    """One function that is called with the name of whom it calls.

    As a library's method: there is one for all services, and what is known of one is
    found by what the call has.

    Args:
        runtime: What the agent gives to the room.
        function: What is called.
    """

    def __init__(self, runtime: Runtime, function: Function) -> None:
        self._runtime = runtime
        self._function = function
        self._places: dict[str, _Place] = {}
        lanes = self._lanes = runtime.registry.cache()
        monotonic, told = runtime.clock.monotonic, self._told

        def call(name: str) -> Any:
            lane = lanes.get(name)
            watched = "opentelemetry.context" in modules and is_watched()
            if lane is None or watched or CURRENT.get() is not None:
                return told(name)
            total = lane.plans[None]
            started = monotonic()
            generation = lane.enter(started)
            if generation == NO_WAY:
                return told(name)
            deadline = started + total
            made: Outcome | BaseException
            try:
                result = function()
            except Exception as error:
                made = Raised(error)
            except BaseException as error:
                made = error
            else:
                now = monotonic()
                if now < deadline:
                    lane.succeed(generation, started, now)
                    return result
                made = Returned(result)
            lane.tally.withdraw()
            begun = Begun(generation, started, made)
            del made
            call = self._places[name].call(started)
            return resume_sync(runtime, lane, call, _Io(function), begun)

        self.call = call

    def add(self, service: str, endpoint: str) -> str:
        """Return the name by which an endpoint of a service is called from now on."""
        name = f"{service} {endpoint}"
        self._places[name] = _Place(self._runtime, self._function, service, endpoint)
        return name

    def _told(self, name: str) -> Any:
        place = self._places[name]
        result = place.told(_Io(self._function))
        if place.lane is not None:
            place.lane.note(None, place.total)
            self._lanes[name] = place.lane
        return result


@final
class _Place:
    """What the calls of one function have in common."""

    def __init__(
        self, runtime: Runtime, function: Function, service: str, endpoint: str
    ) -> None:
        self.runtime = runtime
        self.function = function
        self.policies = runtime.registry.policies(service)
        self.total = self.policies.settings.timeout.total or 0.0
        self.lane: Lane | None = None
        self._labels = (service, endpoint)

    def io(self) -> _Io:
        """Return the `Io` of a call."""
        return _Io(self.function)

    def call(self, started: float) -> Call:
        """Return a call that began at `started`."""
        service, endpoint = self._labels
        return Call(
            library="bench",
            service=service,
            endpoint=endpoint,
            operation="call",
            repeatable=True,
            deadline=started + self.total,
        )

    def told(self, io: _Io) -> Any:
        """Make a call the long way, and remember the short one."""
        call = self.call(self.runtime.clock.monotonic())
        result = govern_sync(self.runtime, call, self.policies, io)
        self.lane = remember(self.runtime, call, self.policies)
        return result

    async def told_async(self, io: _AsyncIo) -> Any:
        """Do the same where it is awaited."""
        call = self.call(self.runtime.clock.monotonic())
        result = deliver(await govern(self.runtime, call, self.policies, io))
        self.lane = remember(self.runtime, call, self.policies)
        return result


def _way(place: _Place) -> Function:
    runtime, function, total = place.runtime, place.function, place.total
    monotonic = runtime.clock.monotonic

    @functools.wraps(function)
    def call() -> Any:
        lane = place.lane
        watched = "opentelemetry.context" in modules and is_watched()
        if lane is None or watched or CURRENT.get() is not None:
            return place.told(_Io(function))
        started = monotonic()
        generation = lane.enter(started)
        if generation == NO_WAY:
            return place.told(_Io(function))
        deadline = started + total
        made: Outcome | BaseException
        try:
            result = function()
        except Exception as error:
            made = Raised(error)
        except BaseException as error:
            made = error
        else:
            now = monotonic()
            if now < deadline:
                lane.succeed(generation, started, now)
                return result
            made = Returned(result)
        lane.tally.withdraw()
        begun = Begun(generation, started, made)
        del made
        return resume_sync(runtime, lane, place.call(started), _Io(function), begun)

    return call


def _async_way(place: _Place) -> Function:
    runtime, function, total = place.runtime, place.function, place.total
    monotonic = runtime.clock.monotonic

    @functools.wraps(function)
    async def call() -> Any:
        lane = place.lane
        watched = "opentelemetry.context" in modules and is_watched()
        if lane is None or watched or CURRENT.get() is not None:
            return await place.told_async(_AsyncIo(function))
        started = monotonic()
        generation = lane.enter(started)
        if generation == NO_WAY:
            return await place.told_async(_AsyncIo(function))
        deadline = started + total
        made: Outcome | BaseException
        try:
            result = await function()
        except Exception as error:
            made = Raised(error)
        except BaseException as error:
            made = error
        else:
            now = monotonic()
            if now < deadline:
                lane.succeed(generation, started, now)
                return result
            made = Returned(result)
        lane.tally.withdraw()
        begun = Begun(generation, started, made)
        del made
        io = _AsyncIo(function)
        return deliver(await resume(runtime, lane, place.call(started), io, begun))

    return call


class _Io:
    """The long way of a plain function."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self.last: Outcome | None = None
        self.would: Would | None = None

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Call the function."""
        del number, deadline
        self.last = await self.untouched()
        return self.last

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what came of it."""
        return _BROKEN if isinstance(outcome, Raised) else _FINE

    def reject(self, error: ResilienceError) -> Exception:
        """Return the error as it is."""
        return error

    async def discard(self, outcome: Outcome) -> None:
        """Do nothing: a function holds nothing."""

    async def sleep(self, seconds: float) -> None:
        """Do nothing: nobody waits here."""

    async def untouched(self) -> Outcome:
        """Call the function as if the agent were not there."""
        try:
            return Returned(self._function())
        except Exception as error:
            return Raised(error)


@final
class _AsyncIo(_Io):
    """The same where the function is awaited."""

    async def untouched(self) -> Outcome:
        """Await the function as if the agent were not there."""
        try:
            return Returned(await self._function())
        except Exception as error:
            return Raised(error)
