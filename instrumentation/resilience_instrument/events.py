"""What the engine tells, and to whom: events go sideways, calls go down.

An observer is told everything and decides nothing. What it raises is counted as
a fault of ours and never reaches a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.call import AttributeValue, Call
    from resilience_instrument.verdict import Judgement

    Facts = tuple[str, Mapping[str, AttributeValue]]
    """The protocol's word for a call, and the span attributes of its attempt."""

State: TypeAlias = Literal["closed", "open", "half_open"]
"""States of a breaker, in metrics 0, 1 and 2 in this order."""

SkipReason: TypeAlias = Literal[
    "not_idempotent",
    "body",
    "budget",
    "deadline",
    "retry_after",
    "app_retries",
    "transaction",
    "attempts",
    "open",
    "bulkhead",
    "throttle",
]
"""Why a transient failure was not retried."""

RejectingPolicy: TypeAlias = Literal["breaker", "bulkhead", "throttle", "deadline"]
"""Which policy did not let a call through."""

ActingPolicy: TypeAlias = Literal[
    "timeout", "retry", "breaker", "bulkhead", "throttle", "fallback"
]
"""Which policy would have done something, in observe mode."""

FallbackKind: TypeAlias = Literal["cache", "static", "service", "call"]
"""What stands in for an answer."""

FallbackOutcome: TypeAlias = Literal["success", "error"]
"""Whether a fallback gave an answer."""

CallOutcome: TypeAlias = Literal[
    "success", "error", "timeout", "rejected", "cancelled", "fallback"
]
"""How a call ended for the app."""


class Transition(NamedTuple):
    """A breaker went from one state to another.

    Attributes:
        service: Whose circuit it is.
        from_state: The state that was left.
        to_state: The state that was entered.
        failures: Failures in a row that led to it, 0 where none did.
        last_error: A word for the last failure, empty if there was none.
        open_for: Seconds for which an open circuit refuses, 0 for other states.
        cause: Why it opened, to be read after "open after"; else empty.
    """

    service: str
    from_state: State
    to_state: State
    failures: int = 0
    last_error: str = ""
    open_for: float = 0.0
    cause: str = ""


class Numbers(Protocol):
    """A tally that does no more than add up: whoever it is for may add there itself.

    Attributes:
        first: Where its own numbers are, in each of the following.
        whole: How many calls began.
        ended: How many of them ended in the first bucket.
        spent: How many seconds all of them took.
    """

    first: int
    whole: memoryview[int]
    ended: memoryview[int]
    spent: memoryview[float]


class Tally(Protocol):
    """Counts calls of one kind of which there is nothing to tell: they succeed."""

    def begin(self) -> None:
        """Count a call that is under way."""
        ...

    def withdraw(self) -> None:
        """Take that back: there is something to tell, an observer will hear it all."""
        ...

    def succeed(self, seconds: float) -> None:
        """Count a call that began here and whose only attempt succeeded."""
        ...

    def exemplify(self, track: Track, seconds: float) -> None:
        """Keep the trace of such a call as an example of one that takes so long."""
        ...


def numbers_of(tally: Tally) -> Numbers | None:
    """Return a tally as its numbers if it is no more than that, else None."""
    found: Any = tally
    return cast("Numbers", found) if getattr(tally, "adds", False) else None


class Track(Protocol):
    """What one call leaves behind where somebody records.

    Attributes:
        carrier: Headers that carry the trace on.
    """

    carrier: Mapping[str, str]

    def close(self, status: int | None) -> None:
        """End it: the only attempt succeeded, by `status` where there is one."""
        ...

    def sampled(self) -> tuple[int, int] | None:
        """Return the ids of the trace and of the span, None if it is not sampled."""
        ...

    def leave(self) -> None:
        """Leave the context of the attempt, of which there is something to tell."""
        ...

    def abandon(self) -> None:
        """End it without a word: nothing can be told of the call."""
        ...


class Trail(Protocol):
    """Records calls of one kind of which there is nothing to tell.

    Attributes:
        known: What was learned about calls, by what tells them apart.
    """

    known: dict[Any, Facts]

    def learn(self, key: Any, facts: Facts) -> Facts:
        """Keep what is the same for calls with a key, and return it."""
        ...

    def open(self, facts: Facts) -> Track:
        """Begin a call and its attempt, whose context is the current one from now."""
        ...


class Observer(Protocol):
    """Who is told what happens to calls. Numbers are seconds."""

    def call_started(self, call: Call) -> None:
        """Tell that a call begins, before any attempt."""
        ...

    def attempt_started(self, call: Call, number: int) -> None:
        """Tell that attempt `number` (from 1) is about to be made."""
        ...

    def attempt_ended(
        self, call: Call, number: int, judgement: Judgement, seconds: float
    ) -> None:
        """Tell how attempt `number` was judged and how long it took."""
        ...

    def attempt_cancelled(self, call: Call, number: int) -> None:
        """Tell that attempt `number` was cancelled and counts as nothing."""
        ...

    def retry_scheduled(
        self, call: Call, number: int, delay: float, reason: str
    ) -> None:
        """Tell that attempt `number` will start after `delay`, and why."""
        ...

    def retry_skipped(self, call: Call, reason: SkipReason) -> None:
        """Tell why a transient failure is not tried again."""
        ...

    def rejected(self, call: Call, policy: RejectingPolicy) -> None:
        """Tell that `policy` did not let the call through."""
        ...

    def transitioned(self, call: Call, transition: Transition) -> None:
        """Tell that a breaker changed its state during `call`."""
        ...

    def would_act(
        self, call: Call, policy: ActingPolicy, saved: float, lost: int
    ) -> None:
        """Tell what `policy` would have done to a call that is only observed.

        Args:
            call: The call, which ended as if the agent were not there.
            policy: Who would have acted.
            saved: Seconds by which the caller would have waited less.
            lost: 1 where the call succeeded and would have failed, else 0.
        """
        ...

    def fell_back(
        self, call: Call, kind: FallbackKind, outcome: FallbackOutcome
    ) -> None:
        """Tell that a fallback was tried, and whether it gave an answer."""
        ...

    def call_ended(
        self, call: Call, outcome: CallOutcome, attempts: int, seconds: float
    ) -> None:
        """Tell, exactly once, how the call ended after how many attempts."""
        ...
