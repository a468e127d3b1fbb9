"""Faults of the agent: each counted, each place said once."""

from __future__ import annotations

import os
import sys

import pytest

from resilience_instrument.signals.faults import Faults, debug, say


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


@pytest.mark.parametrize(("value", "expected"), [("1", 1), ("0", 0), ("", 0)])
def test_who_debugs_is_told_more(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    value: str,
    expected: int,
) -> None:
    """With the process that says it; nobody else hears it."""
    monkeypatch.setenv("RESILIENCE_DEBUG", value)

    debug("here")

    said = capsys.readouterr().err
    assert expected == said.count(f"debug: process {os.getpid()}: here\n")
