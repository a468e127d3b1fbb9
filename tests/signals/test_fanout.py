"""Several observers: each is told, none can hurt the others or the call."""

from __future__ import annotations

from typing import Any

from fakes import RecordingObserver, a_call
from resilience_instrument.events import Observer
from resilience_instrument.signals.fanout import Fanout


class Failing:
    """Raises whatever it is told."""

    def __getattr__(self, name: str) -> object:
        """Return something that cannot be called with facts."""
        return lambda: None


def test_everyone_is_told_although_one_fails() -> None:
    """The failure is reported, once for each event that was lost."""
    last, reports = RecordingObserver(), []
    fanout = Fanout([Failing(), last], lambda *report: reports.append(report[0]))

    fanout.call_started(a_call())
    fanout.call_ended(a_call(), "success", 1, 0.1)

    assert ["call_started", "call_ended"] == last.names
    assert [("success", 1, 0.1)] == last.of("call_ended")
    assert ["observer", "observer"] == reports


def test_every_event_is_passed_on() -> None:
    """An event that the engine gets tomorrow cannot be forgotten here."""
    events = {name for name in vars(Observer) if not name.startswith("_")}

    assert events <= set(vars(Fanout))


def test_a_trail_is_that_of_the_only_one_who_leaves_one() -> None:
    """Who cannot is told nothing; two would record the same twice."""

    class Leaving:
        def trail(self, call: object, report: object) -> tuple[object, object]:
            return call, report

    def report(*_: object) -> None:
        """Take no fault."""

    call = a_call()

    found: Any = Fanout([object(), Leaving()], report).trail(call)
    assert (call, report) == found
    assert Fanout([Leaving(), Leaving()], report).trail(call) is None
    assert Fanout([object()], report).trail(call) is None
