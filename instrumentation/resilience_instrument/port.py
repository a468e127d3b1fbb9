"""The port through which one call touches the world."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from resilience_instrument.config.model import FallbackSettings
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.events import FallbackKind
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Judgement

T = TypeVar("T")


class Attempting(Protocol):
    """Makes attempts and reads what they came to."""

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Make attempt `number`, over by the monotonic time `deadline`."""
        ...

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the last attempt came to."""
        ...


class Io(Attempting, Protocol):
    """The port through which one call touches the world."""

    def reject(self, error: ResilienceError) -> Exception:
        """Return `error` as one that is also the library's own."""
        ...

    async def discard(self, outcome: Outcome) -> None:
        """Release what a response holds that will not reach the app."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class FallbackIo(Io, Protocol):
    """An `Io` that can have another answer than the service's."""

    def remember(self, outcome: Outcome, settings: FallbackSettings) -> None:
        """Keep a good answer, where one is wanted and can be kept."""
        ...

    async def stand_in(
        self,
        kind: FallbackKind,
        settings: FallbackSettings,
        outcome: Outcome,
        *,
        may_be_sent: bool,
    ) -> Outcome | None:
        """Return the answer that `kind` has for a call that ended in `outcome`.

        Args:
            kind: What stands in.
            settings: What was configured of it.
            outcome: What the app would get.
            may_be_sent: Whether sending the call elsewhere does no harm.

        Returns:
            None where there is nothing to be had, an error where it failed.
        """
        ...


class RacingIo(Io, Protocol):
    """An `Io` under which two attempts of one call may be under way at once.

    `hedging.race` does it on asyncio.
    """

    def twin(self) -> Attempting | None:
        """Return what makes an attempt beside the one under way, None if it cannot."""
        ...

    async def race(
        self,
        primary: Coroutine[object, None, T],
        backup: Callable[[], Coroutine[object, None, T] | None],
        delay: float,
        accept: Callable[[T], bool],
    ) -> tuple[T, list[T]]:
        """Run two attempts; return the accepted result and those that lost."""
        ...


def run_sync(coroutine: Coroutine[object, None, T]) -> T:
    """Finish a coroutine whose `Io` never suspends, and return its result."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        # No name for the result: the frames of an error in it would hold this one.
        return cast("T", stop.value)
    coroutine.close()
    message = "a synchronous Io suspended"
    raise RuntimeError(message)
