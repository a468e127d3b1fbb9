"""A second attempt of an HTTP call beside the first, where the library is asynchronous.

Each has a request of its own: timeouts and headers of one attempt are written there.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, TypeVar, final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Judgement

T = TypeVar("T")


class Racing(ABC):
    """What makes the `Io` of an asynchronous library one that can be hedged."""

    __slots__ = ()

    async def race(
        self,
        primary: Coroutine[object, None, T],
        backup: Callable[[], Coroutine[object, None, T] | None],
        delay: float,
        accept: Callable[[T], bool],
    ) -> tuple[T, list[T]]:
        """Run two attempts; return the accepted result and those that lost."""
        # Loaded with the first call that is hedged, with asyncio.
        from resilience_instrument.hedging import race  # noqa: PLC0415

        return await race(primary, backup, delay, accept)

    def twin(self) -> Twin | None:
        """Return what sends the same request beside this one, None if nothing can."""
        request = self._same_request()
        if request is None:
            return None
        other: Any = copy.copy(self)
        other._request = request  # noqa: SLF001 - its own class
        return Twin(other)

    @abstractmethod
    def _same_request(self) -> object | None:
        """Return a request like this one, None if its body is not there twice."""


@final
class Twin:
    """Makes an attempt beside another.

    Args:
        io: The copy of the call's `Io` that sends the other request.
    """

    __slots__ = ("_io",)

    def __init__(self, io: Any) -> None:
        self._io = io

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Make attempt `number`, over by the monotonic time `deadline`."""
        try:
            return await self._io.attempt(number, deadline)  # type: ignore[no-any-return]
        finally:
            # Nobody asks for it here, and an error's frames hold this object.
            self._io.last = None

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the attempt came to."""
        judgement: Judgement = self._io.judge(outcome)
        return judgement
