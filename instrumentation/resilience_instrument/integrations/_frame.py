"""The frame: one call of the app, redirects and authentication included.

It knows whether the app streams the answer and by when all of it must be over.
The attempts run below it, hop by hop, each hop judged for itself.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.integrations._clamp import CLAMP, Clamp
from resilience_instrument.policies.deadline import CURRENT, nearer

if TYPE_CHECKING:
    from collections.abc import Callable


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


FRAME: Final[ContextVar[Frame | None]] = ContextVar("resilience_frame", default=None)


def clamp_here() -> Clamp | None:
    """Return the clamp of the attempt that is under way in this context."""
    found = CLAMP.get()
    frame = FRAME.get()
    if found is not None or frame is None:
        return found
    held = frame.clamp
    if held is None or isinstance(held, Clamp):
        return held
    made = frame.clamp = held(frame)
    return made


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
