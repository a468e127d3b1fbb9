"""Faults of the agent: each counted, each place said once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from resilience_instrument.signals.faults import Faults, say

if TYPE_CHECKING:
    import pytest


def test_a_place_is_said_once_and_counted_each_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A fault in every call does not fill a log."""
    counted: list[str] = []
    faults = Faults(counted.append)

    for _ in range(3):
        faults.report("engine", ValueError("odd"))
    faults.report("describe", KeyError("x"))

    assert ["engine"] * 3 + ["describe"] == counted
    lines = capsys.readouterr().err.splitlines()
    assert 2 == len(lines)
    assert lines[0].endswith("in engine, the call goes on: ValueError: odd")


def test_without_stderr_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some processes have no stderr at all."""
    monkeypatch.setattr(sys, "stderr", None)

    say("nobody hears this")
