"""The frame: one call of the app, redirects and authentication included.

It knows whether the app streams the answer and by when all of it must be over.
The attempts run below it, hop by hop, each hop judged for itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.integrations._clamp import FRAME, Clamp
from resilience_instrument.policies.deadline import CURRENT, nearer

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["FRAME", "Frame", "settle"]

_NOTHING: Final = object()


@final
class Frame:
    """One call of the app, from its entry to the library until it returns.

    Args:
        parent: The frame around it, None if there is none.
        stream: Whether the app reads the body itself.
    """

    __slots__ = (
        "clamp",
        "deadline",
        "elapsed",
        "explicit",
        "failed",
        "response",
        "stream",
    )

    def __init__(self, parent: Frame | None, *, stream: bool) -> None:
        self.stream = stream
        self.deadline: float | None = parent.deadline if parent else None
        self.explicit = False
        self.clamp: Clamp | Callable[[Frame], Clamp] | None = None
        """The clamp of an attempt on the short way, or what makes it if one asks."""
        self.response: Any = _NOTHING
        self.failed: Any = None
        self.elapsed: float

    def forget(self) -> None:
        """Let go of request and response at the end of an asynchronous call.

        A connection that stays open keeps the context in which it was opened, and so
        this frame.
        """
        self.response, self.failed = _NOTHING, None


def settle(frame: Frame | None, end: float | None) -> float | None:
    """Return the deadline of a hop that would end at `end` by itself.

    The first hop of a frame sets the deadline for all that follow, and a deadline
    that the app runs under may come before it.
    """
    end = nearer(end, CURRENT.get())
    if frame is None:
        return end
    frame.deadline = nearer(frame.deadline, end)
    return frame.deadline
