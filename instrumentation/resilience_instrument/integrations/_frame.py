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

    from resilience_instrument.integrations._patch import Wrapper

__all__ = ["FRAME", "Frame", "framed", "settle"]

_NOTHING: Final = object()


@final
class Frame:
    """One call of the app, from its entry to the library until it returns.

    Every call makes one, so it begins with what the class says: values that most
    calls never change cost nothing. `within` makes one that is set up.
    """

    stream = False
    """Whether the app reads the body itself."""
    deadline: float | None = None
    explicit = False
    clamp: Clamp | Callable[[Frame], Clamp] | None = None
    """The clamp of an attempt on the short way, or what makes it if one asks."""
    response: Any = _NOTHING
    failed: Any = None
    elapsed: float

    @classmethod
    def within(cls, parent: Frame | None, *, stream: bool) -> Frame:
        """Return a frame inside another, if there is one around it."""
        frame = cls()
        frame.stream = stream
        if parent is not None:
            frame.deadline = parent.deadline
        return frame

    def forget(self) -> None:
        """Let go of request and response at the end of an asynchronous call.

        A connection that stays open keeps the context in which it was opened, and so
        this frame.
        """
        self.response, self.failed = _NOTHING, None


def framed(*, stream: bool) -> Wrapper:
    """Return a wrapper that makes a frame around each call of a function."""

    def frame(
        wrapped: Any,
        instance: Any,  # noqa: ARG001 - the shape of a wrapper
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        token = FRAME.set(Frame.within(FRAME.get(), stream=stream))
        try:
            return wrapped(*args, **kwargs)
        finally:
            FRAME.reset(token)

    return frame


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
