"""The way into the engine, and around it when the engine fails."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from resilience_instrument.integrations._room import deliver, described, suppressed
from resilience_instrument.outcome import Raised, Returned


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
