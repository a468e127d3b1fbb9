"""Tell several observers; what one of them raises reaches neither call nor others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from resilience_instrument.call import Call
    from resilience_instrument.events import Tally, Trail

    Report = Callable[[str, Exception], None]


def _told(event: str) -> Callable[..., None]:
    def tell(self: Fanout, *facts: Any) -> None:
        for hear in self.ears[event]:
            try:
                hear(*facts)
            except Exception as fault:
                self.report("observer", fault)

    tell.__doc__ = f"Tell everyone about `{event}`."
    return tell


@final
class _Ears(dict[str, tuple[Any, ...]]):
    """For each event what hears it, looked for when it happens first.

    Args:
        observers: Who is told.
    """

    def __init__(self, observers: Sequence[object]) -> None:
        super().__init__()
        self._observers = observers

    def __missing__(self, event: str) -> tuple[Any, ...]:
        found = tuple(getattr(observer, event) for observer in self._observers)
        self[event] = found
        return found


@final
class Fanout:
    """An observer that stands for several.

    Args:
        observers: Who is told, in this order.
        report: Takes what an observer raised.
    """

    __slots__ = ("ears", "observers", "report")

    def __init__(self, observers: Sequence[object], report: Report) -> None:
        self.observers = tuple(observers)
        self.ears = _Ears(self.observers)
        self.report = report

    def tally(self, call: Call) -> Tally | None:
        """Return what counts calls like this one while there is nothing to tell.

        None if an observer wants to hear of every call.
        """
        found = None
        for observer in self.observers:
            make = getattr(observer, "tally", None)
            made = make(call) if make is not None else None
            if make is None or (made is not None and found is not None):
                return None
            found = found or made
        return found

    def trail(self, call: Call) -> Trail | None:
        """Return what records calls like this one while there is nothing to tell.

        None if nobody does it, or if several would.
        """
        makers = [getattr(observer, "trail", None) for observer in self.observers]
        found = [make for make in makers if make is not None]
        return found[0](call, self.report) if len(found) == 1 else None

    call_started = _told("call_started")
    attempt_started = _told("attempt_started")
    attempt_ended = _told("attempt_ended")
    attempt_cancelled = _told("attempt_cancelled")
    retry_scheduled = _told("retry_scheduled")
    retry_skipped = _told("retry_skipped")
    rejected = _told("rejected")
    transitioned = _told("transitioned")
    would_act = _told("would_act")
    fell_back = _told("fell_back")
    call_ended = _told("call_ended")
