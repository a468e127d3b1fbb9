"""The short way where somebody records: a lane for one call that makes its spans.

What a room asks on the short way is the same with and without a tracer: a lane is
entered, and the call succeeds on it or is withdrawn. The spans themselves are made
by who observes; here it is seen to that the request carries them on.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeAlias, final

from resilience_instrument.fastpath import NO_WAY, Lane
from resilience_instrument.integrations._http import Carried
from resilience_instrument.integrations._room import suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, MutableMapping

    from resilience_instrument.events import Facts, Observer, Track, Trail
    from resilience_instrument.fastpath import Begun
    from resilience_instrument.integrations._dblane import Within

    AnyLane: TypeAlias = Lane | Within
    Headers = MutableMapping[str, str]


@final
class Traced:
    """A lane for one call of which spans are made.

    Args:
        lane: What calls of its kind have at hand.
        trail: Makes the spans of such calls.
        facts: What they say of this one.
        headers: Those that the attempt is sent with, None where it has none.
    """

    __slots__ = ("_carried", "_facts", "_headers", "_lane", "_track", "_trail")

    _carried: Carried | None
    _track: Track

    def __init__(
        self, lane: AnyLane, trail: Trail, facts: Facts, headers: Headers | None
    ) -> None:
        self._lane = lane
        self._trail = trail
        self._facts = facts
        self._headers = headers

    @property
    def asks(self) -> bool:
        """Whether anybody may refuse the call."""
        return self._lane.asks

    def enter(self, now: float) -> int:
        """Begin the call at `now`, and its spans if it may go the short way."""
        generation = self._lane.enter(now)
        if generation != NO_WAY:
            self._track = track = self._trail.open(self._facts)
            headers = self._headers
            if headers is None or not track.carrier:
                self._carried = None
            else:
                self._carried = Carried(headers, track.carrier)
        return generation

    def succeed(
        self, generation: int, begun: float, now: float, status: int | None = None
    ) -> None:
        """End the call, whose attempt succeeded, and its spans."""
        if self._carried is not None:
            self._carried.restore()
        lane, track = self._lane, self._track
        try:
            lane.succeed(generation, begun, now, status, track)
        finally:
            track.close(status)
        lane.tally.exemplify(track, now - begun)

    def withdraw(self, begun: Begun) -> AnyLane:
        """Take the call off the short way; its spans go on with it."""
        if self._carried is not None:
            self._carried.restore()
        self._track.leave()
        begun.track = self._track
        return self._lane.withdraw(begun)


def traced(
    observer: Observer,
    lane: Any,
    describe: Callable[..., Facts],
    key: tuple[Hashable, ...],
    headers: Headers | None = None,
) -> Any:
    """Return what stands for a lane during one call, if somebody records.

    None where the call has to go the long way: it is to be left alone, or who wants
    to hear of it wants to hear all.

    Args:
        observer: Who is told of calls.
        lane: What calls of its kind have at hand.
        describe: Returns what is the same for all calls with a key.
        key: What `describe` gets.
        headers: Those that the attempt is sent with, None where it has none.
    """
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or trace._TRACER_PROVIDER is None:  # noqa: SLF001 - asking for it would set it
        return None if suppressed() else lane
    trail = lane.trail
    if trail is None:
        make: Any = getattr(observer, "trail", None)
        trail = lane.trail = None if make is None else make(lane.call)
    if trail is None or _is_suppressed():
        return None
    facts = trail.known.get(key)
    if facts is None:
        facts = trail.learn(key, describe(*key))
    return Traced(lane, trail, facts, headers)


def _is_suppressed() -> bool:
    """Tell what `suppressed` tells, where the context is asked for once."""
    context = sys.modules["opentelemetry.context"]
    current = context.get_current()
    return bool(
        current
        and (
            current.get(context._SUPPRESS_INSTRUMENTATION_KEY)  # noqa: SLF001 - it has no other name
            or current.get("suppress_instrumentation")
        )
    )
