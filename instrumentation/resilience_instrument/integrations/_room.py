"""What every room shares: the way into the engine, and the way around it.

A room must never break a call. What our own code raises is reported, and the
call goes through untouched: once, unless an attempt was made already.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, final

from resilience_instrument import engine
from resilience_instrument.call import Call
from resilience_instrument.engine import Io, execute, run_sync
from resilience_instrument.fastpath import Lane, ResumedIo
from resilience_instrument.observe import observe
from resilience_instrument.outcome import Raised, Returned

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.clock import Clock
    from resilience_instrument.events import Observer
    from resilience_instrument.fastpath import Begun
    from resilience_instrument.observe import Would
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.registry import Registry, ServicePolicies


S = TypeVar("S")


@final
class Runtime:
    """What the agent gives to a room.

    Args:
        registry: Finds the policies of a service.
        observer: Is told what happens.
        clock: Time and chance.
        fault: Takes a fault of ours: where it happened and what it was.
        begin: Is told before each call; the first one starts the metrics server.

    `fast` says whether calls of which there is nothing to tell may go the short way.
    """

    __slots__ = ("begin", "clock", "fast", "fault", "observer", "registry")

    def __init__(
        self,
        registry: Registry,
        observer: Observer,
        clock: Clock,
        fault: Callable[[str, Exception], None],
        begin: Callable[[], None],
    ) -> None:
        self.registry = registry
        self.observer = observer
        self.clock = clock
        self.fault = fault
        self.begin = begin
        self.fast = False


class GovernedIo(Io, Protocol):
    """An `Io` that can also let its call through untouched."""

    last: Outcome | None
    """What the last attempt came to, None if there is none to hand on."""
    would: Would | None
    """In observe mode, the limits that the call would have had."""

    async def untouched(self) -> Outcome:
        """Make the call as if the agent were not there."""
        ...


async def govern(
    runtime: Runtime, call: Call, policies: ServicePolicies, io: GovernedIo
) -> Outcome:
    """Run the call through the engine, or around it when the engine fails."""
    if not policies.settings.enabled:
        return await io.untouched()
    try:
        runtime.begin()
        if policies.settings.mode == "observe":
            return await observe(call, policies, io, runtime.observer, runtime.clock)
        return await execute(call, policies, io, runtime.observer, runtime.clock)
    except Exception as fault:
        runtime.fault("engine", fault)
        return await io.untouched() if io.last is None else io.last
    finally:
        # An error's traceback holds the Io; the Io must not hold the error.
        io.last = None


def govern_sync(
    runtime: Runtime, call: Call, policies: ServicePolicies, io: GovernedIo
) -> object:
    """Run a synchronous call; return its value or raise its error."""
    return deliver(run_sync(govern(runtime, call, policies, io)))


async def resume(
    runtime: Runtime, lane: Lane, call: Call, io: GovernedIo, begun: Begun
) -> Outcome:
    """Let the engine go on with a call that began on the short way."""
    begun.hand_over(call)
    try:
        return await engine.resume(
            call,
            lane.policies,
            ResumedIo(io, begun),
            runtime.observer,
            runtime.clock,
            begun.started,
            begun.generation,
        )
    except Exception as fault:
        runtime.fault("engine", fault)
        return await io.untouched() if io.last is None else io.last
    finally:
        io.last = None


def resume_sync(
    runtime: Runtime, lane: Lane, call: Call, io: GovernedIo, begun: Begun
) -> object:
    """Go on with a synchronous call; return its value or raise its error."""
    return deliver(run_sync(resume(runtime, lane, call, io, begun)))


def deliver_as_made(begun: Begun) -> object:
    """Return or raise what the attempt came to, though nothing can be told of it."""
    if begun.track is not None:
        begun.track.abandon()
    made = begun.take()
    if made is None:
        message = "an attempt ended without an outcome"
        raise RuntimeError(message)
    if isinstance(made, (Returned, Raised)):
        return deliver(made)
    try:
        raise made
    finally:
        del made


def remember(runtime: Runtime, call: Call, policies: ServicePolicies) -> Lane | None:
    """Return a lane for further calls like this one, None if there can be none."""
    make: Any = getattr(runtime.observer, "tally", None)
    if make is None or not (runtime.fast and policies.plain):
        return None
    kind = Call(
        library=call.library,
        service=call.service,
        endpoint=call.endpoint,
        operation=call.operation,
        repeatable=call.repeatable,
        unbounded=call.unbounded,
        measured=call.measured,
        brief=call.brief,
    )
    tally = make(kind)
    if tally is None:
        return None
    look = runtime.registry.watcher
    return Lane(kind, policies, tally, runtime.observer, look)


def deliver(outcome: Outcome) -> object:
    """Turn an outcome back into a returned value or a raised error."""
    if not isinstance(outcome, Raised):
        return outcome.value
    try:
        raise outcome.error
    finally:
        # The traceback holds this frame; what the frame holds must not hold it.
        del outcome


def described(runtime: Runtime, make: Callable[..., S | None], *args: Any) -> S | None:
    """Return the `Io` of a call, None where the call is to pass untouched.

    Args:
        runtime: Takes the fault if `make` has one.
        make: Makes the `Io` and states the facts of the call, or makes none.
        args: What `make` gets.
    """
    try:
        return None if suppressed() else make(*args)
    except Exception as fault:
        runtime.fault("describe", fault)
        return None


def is_watched() -> bool:
    """Tell whether a telemetry library wants to hear of each call, or of none."""
    trace = sys.modules.get("opentelemetry.trace")
    recorded = trace is not None and trace._TRACER_PROVIDER is not None  # noqa: SLF001 - asking for it would set it
    return recorded or suppressed()


def suppressed() -> bool:
    """Tell whether a telemetry library asks that its own calls be left alone."""
    context = sys.modules.get("opentelemetry.context")
    if context is None:
        return False
    value = context.get_value
    return bool(
        value(context._SUPPRESS_INSTRUMENTATION_KEY)  # noqa: SLF001 - it has no other name
        or value("suppress_instrumentation")
    )
