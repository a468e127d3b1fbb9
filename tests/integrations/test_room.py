"""The way into the engine, and around it when the engine fails."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from fakes import (
    FakeClock,
    RecordingObserver,
    Script,
    a_call,
    service_settings,
    works,
)
from resilience_instrument.fastpath import Begun
from resilience_instrument.integrations._room import (
    deliver,
    deliver_as_made,
    described,
    remember,
    resume_sync,
    suppressed,
)
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.registry import ServicePolicies


class Faults:
    """A runtime that only takes faults."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def fault(self, where: str, error: Exception) -> None:
        self.told.append((where, str(error)))


def test_a_value_is_returned_and_an_error_raised() -> None:
    """An outcome becomes again what it was."""
    error = LookupError()

    assert "x" == deliver(Returned("x"))
    with pytest.raises(LookupError) as raised:
        deliver(Raised(error))

    assert error is raised.value


def test_a_fault_while_describing_is_told() -> None:
    """The call goes on without us."""
    runtime: Any = Faults()

    def make(text: str) -> str:
        raise ValueError(text)

    assert described(runtime, make, "bad") is None
    assert [("describe", "bad")] == runtime.told


def test_nothing_is_suppressed_without_opentelemetry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And it is not imported to find out."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)

    assert not suppressed()
    assert "opentelemetry.context" not in sys.modules


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"key-of-the-api": True}, True),
        ({"suppress_instrumentation": True}, True),
    ],
)
def test_both_keys_of_opentelemetry_are_honoured(
    values: dict[str, bool], monkeypatch: pytest.MonkeyPatch, *, expected: bool
) -> None:
    """The one of the API and the older one that is a plain word."""
    context = types.SimpleNamespace(
        get_value=values.get, _SUPPRESS_INSTRUMENTATION_KEY="key-of-the-api"
    )
    monkeypatch.setitem(sys.modules, "opentelemetry.context", context)

    assert expected == suppressed()


def test_a_suppressed_call_passes_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is even described."""
    context = types.SimpleNamespace(
        get_value={"suppress_instrumentation": True}.get,
        _SUPPRESS_INSTRUMENTATION_KEY="key-of-the-api",
    )
    monkeypatch.setitem(sys.modules, "opentelemetry.context", context)
    runtime: Any = Faults()

    assert described(runtime, lambda: "made") is None
    assert [] == runtime.told


def test_what_an_attempt_came_to_is_delivered_though_nothing_is_told() -> None:
    """A value, an error and an interruption, each as it was made."""
    interruption = KeyboardInterrupt()

    assert "x" == deliver_as_made(Begun(0, 0.0, Returned("x")))
    with pytest.raises(LookupError):
        deliver_as_made(Begun(0, 0.0, Raised(LookupError())))
    with pytest.raises(KeyboardInterrupt) as raised:
        deliver_as_made(Begun(0, 0.0, interruption))

    assert interruption is raised.value


def test_an_outcome_that_was_taken_cannot_be_delivered() -> None:
    """It would be handed over twice."""
    begun = Begun(0, 0.0, Returned("x"))
    begun.take()

    with pytest.raises(RuntimeError, match="without an outcome"):
        deliver_as_made(begun)


@pytest.mark.parametrize("kept", [True, False])
def test_a_call_that_cannot_be_resumed_ends_as_its_attempt(*, kept: bool) -> None:
    """Or is made untouched where no attempt was kept; the fault is told."""
    clock = FakeClock()
    policies = ServicePolicies("payment-api", service_settings(), clock)
    observer = RecordingObserver()
    runtime: Any = Faults()
    runtime.observer, runtime.clock = observer, clock
    io: Any = Script(clock, works())
    io.judge = lambda _: 1 / 0
    io.last = Returned("kept") if kept else None

    async def untouched() -> Returned:
        return Returned("untouched")

    io.untouched = untouched
    lane: Any = types.SimpleNamespace(policies=policies)

    found = resume_sync(runtime, lane, a_call(), io, Begun(0, 0.0, Returned("made")))

    assert ("kept" if kept else "untouched") == found
    assert ["engine"] == [where for where, _ in runtime.told]
    assert io.last is None


def test_no_short_way_where_nobody_can_count_it() -> None:
    """An observer that wants to hear of every call makes no tally."""
    clock = FakeClock()
    policies = ServicePolicies("payment-api", service_settings(), clock)
    runtime: Any = types.SimpleNamespace(
        observer=types.SimpleNamespace(tally=lambda _: None), fast=True
    )

    assert remember(runtime, a_call(), policies) is None
    runtime.observer = object()
    assert remember(runtime, a_call(), policies) is None
