"""The short way of a call of which there is nothing to tell: it succeeds at once.

Nearly all calls are of this kind, so they take no coroutine, no lock, no look-up
by label and no object that is not needed. A `Lane` has at hand what such a call
touches; a room asks it before the attempt and after. Whatever else happens is
told in full by the engine, which goes on from the attempt that was made.

Both ways come to the same: the same policies hear it and the same is counted.
"""

from __future__ import annotations

from collections import deque
from copy import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.events import numbers_of
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.latency import MANY
from resilience_instrument.signals.plain import QUICK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from resilience_instrument.call import Call
    from resilience_instrument.engine import Io
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.events import Observer, Tally, Track, Trail
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.registry import ServicePolicies
    from resilience_instrument.verdict import Judgement

NO_WAY: Final = -1
"""What `Lane.enter` returns where the story has to be told in full."""

_NO_PLANS: Final[Mapping[Any, Any]] = MappingProxyType({})
# What lanes know lately; nobody changes these, as many lanes have the same.
_ALIKE: Final[deque[Mapping[Any, Any]]] = deque(maxlen=64)


@final
class Lane:
    """What calls of one kind to one endpoint have at hand.

    Args:
        call: One of them, for its labels; nothing of its request is kept.
        policies: What governs the service.
        tally: Counts them.
        observer: Is told if a success changes the circuit.
        look: Is told the time before each call, None where nobody wants to know.
    """

    __slots__ = (
        "_block",
        "_breaker",
        "_budget",
        "_latencies",
        "_look",
        "_observer",
        "call",
        "plain",
        "plans",
        "policies",
        "tally",
        "trail",
    )

    asks = True
    """Whether anybody may refuse a call."""

    def __init__(
        self,
        call: Call,
        policies: ServicePolicies,
        tally: Tally,
        observer: Observer,
        look: Callable[[float], None] | None = None,
    ) -> None:
        self.call = call
        self.policies = policies
        self.tally = tally
        self.plans: Mapping[Any, Any] = _NO_PLANS
        """What a room found out about the timeouts that the app gives."""
        self.trail: Trail | None = None
        """What follows its calls, once one of them was recorded."""
        # Adding here costs half of what a call of the tally does.
        self._block = numbers_of(tally)
        self._breaker = policies.breaker
        self.plain = policies.plain
        """As the policies are, which are dropped with the lane when they change."""
        self._look = look
        # Only of a `Budget` it is ever earlier than its edge.
        self._budget: Any = policies.budget
        self._latencies = None
        if policies.measures and call.measured:
            self._latencies = policies.latencies[call.repeatable]
        self._observer = observer

    def note(self, given: object, plan: object) -> None:
        """Keep what a room found out about timeouts: once for all lanes alike."""
        plans = {**self.plans, given: plan}
        # A copy, as another lane may add to them meanwhile.
        self.plans = next((each for each in tuple(_ALIKE) if each == plans), plans)
        if self.plans is plans:
            _ALIKE.append(plans)

    def enter(self, now: float) -> int:
        """Begin a call at `now`; return the breaker's generation, or `NO_WAY`."""
        # One after the other: what is fetched from memory meanwhile overlaps.
        breaker = self._breaker
        budget = self._budget
        block = self._block
        # Read in this order, what a circuit that opens meanwhile is told is stale.
        generation = breaker.generation
        if not (breaker.free and self.plain):
            return NO_WAY
        if self._look is not None:
            self._look(now)
        if now < budget.edge:
            budget.calls += 1
        else:
            self.policies.pay(now)
        if block is None:
            self.tally.begin()
        else:
            block.whole[block.first] += 1
        return generation

    def succeed(
        self,
        generation: int,
        begun: float,
        now: float,
        status: int | None = None,  # noqa: ARG002 - for those who record it
        track: Track | None = None,
    ) -> None:
        """End a call whose attempt succeeded."""
        breaker, latencies, seconds = self._breaker, self._latencies, now - begun
        change, good = None, MANY
        if (
            breaker.calm
            and generation == breaker.generation
            and now < breaker.edge
            and seconds < breaker.slow_after
        ):
            breaker.good += 1
            good = breaker.good
        else:
            change = breaker.succeed(generation, begun, now)
        if latencies is not None:
            # As long as few successes wait to be folded, few durations do, and the
            # number of these is at hand.
            if now < latencies.edge and (good < MANY or len(latencies) < MANY):
                latencies.append(seconds)
            else:
                latencies.add(seconds, now)
        block = self._block
        if block is None or seconds > QUICK:
            self.tally.succeed(seconds)
        else:
            # At once, as all of it may be laid elsewhere while another thread runs.
            ended, spent, first = block.ended, block.spent, block.first
            ended[first] += 1
            spent[first] += seconds
        if change is not None:
            call = self.call
            if track is not None:
                # That of the lane is everybody's.
                call = copy(call)
                call.span = track
            self._observer.transitioned(call, change)

    def withdraw(self, begun: Begun) -> Lane:  # noqa: ARG002 - as who records
        """Take a call off the short way; return the lane that it was on."""
        self.tally.withdraw()
        return self


@final
class Begun:
    """A call on the short way that turns out to have something to tell.

    Args:
        generation: What `Lane.enter` returned.
        started: The monotonic time that it was given.
        made: What the attempt came to.
    """

    __slots__ = ("generation", "made", "started", "track")

    def __init__(
        self, generation: int, started: float, made: Outcome | BaseException
    ) -> None:
        self.track: Track | None = None
        """What was recorded of it, until somebody goes on with that."""
        self.generation = generation
        self.started = started
        self.made: Outcome | BaseException | None = made

    def take(self) -> Outcome | BaseException | None:
        """Return what the attempt came to, once: nobody must keep it alive."""
        made, self.made = self.made, None
        return made

    def hand_over(self, call: Call) -> None:
        """Let what was recorded go on as the span of `call`."""
        call.span, self.track = self.track, None


@final
class ResumedIo:
    """An `Io` whose first attempt was made already.

    Args:
        io: Touches the world from the second attempt on.
        begun: What the first one came to.
    """

    __slots__ = ("_begun", "_io")

    def __init__(self, io: Io, begun: Begun) -> None:
        self._io = io
        self._begun = begun

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Give what the first attempt came to, make the others."""
        made = self._begun.take()
        if made is None:
            return await self._io.attempt(number, deadline)
        if isinstance(made, (Returned, Raised)):
            return made
        try:
            raise made
        finally:
            # The traceback holds this frame; what the frame holds must not hold it.
            del made

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the last attempt came to."""
        return self._io.judge(outcome)

    def reject(self, error: ResilienceError) -> Exception:
        """Return `error` as one that is also the library's own."""
        return self._io.reject(error)

    async def discard(self, outcome: Outcome) -> None:
        """Release what a response holds that will not reach the app."""
        await self._io.discard(outcome)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._io.sleep(seconds)
