"""An observer that is told the same on the short way and on the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resilience_instrument.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable


class Recorder:
    """Remembers what it was told, without seconds; its tallies tell it the same."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.short = 0
        self.under_way = 0

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)

        def told(call: Any, *facts: Any) -> None:
            kind = (call.service, call.endpoint, call.unbounded)
            shown = [_plain(fact) for fact in facts if not isinstance(fact, float)]
            self.events.append((name, *kind, *shown))

        return told

    def tally(self, call: Any) -> RecordingTally:
        """Return what tells in full what it is told in short."""
        return RecordingTally(self, call)


class RecordingTally:
    """Counts calls of one kind."""

    def __init__(self, recorder: Recorder, call: Any) -> None:
        self._recorder = recorder
        self._call = call

    def begin(self) -> None:
        """Note that one is under way."""
        self._recorder.under_way += 1

    def withdraw(self) -> None:
        """Take that back."""
        self._recorder.under_way -= 1

    def succeed(self, seconds: float) -> None:
        """Tell all of it."""
        told, call = self._recorder, self._call
        told.under_way -= 1
        told.short += 1
        told.call_started(call)
        told.attempt_started(call, 1)
        told.attempt_ended(call, 1, "success", seconds)
        told.call_ended(call, "success", 1, seconds)


def _plain(fact: Any) -> Any:
    """Return what can be compared; of a success nothing else is known."""
    if isinstance(fact, Judgement):
        return "success" if fact.verdict is Verdict.SUCCESS else repr(fact)
    return fact
