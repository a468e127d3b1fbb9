"""The admin command: what would be governed, and whether the settings hold."""

from __future__ import annotations

import importlib.metadata
import os

import pytest

from resilience_instrument.cli import admin
from resilience_instrument.integrations.catalog import LIBRARIES


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every setting out of the environment."""
    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)


def test_the_doctor_lists_libraries_and_port(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line a library, with its version, and where the metrics would be."""
    assert 0 == admin.main(["doctor"])

    said = capsys.readouterr().out
    version = importlib.metadata.version("requests")
    assert f"requests: {version}, would be governed\n" in said
    assert "metrics: 127.0.0.1, port 9469-9479\n" in said


def test_the_doctor_sees_what_is_switched_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disabled libraries, absent ones, and no metrics."""
    monkeypatch.setenv("RESILIENCE_DISABLE", "httpx")
    monkeypatch.setenv("RESILIENCE_METRICS_PORT", "0")
    monkeypatch.setitem(LIBRARIES, "no-such-library", "nowhere")

    assert 0 == admin.main(["doctor"])

    said = capsys.readouterr().out
    assert "httpx: disabled by RESILIENCE_DISABLE\n" in said
    assert "no-such-library: not installed here\n" in said
    assert "metrics: off\n" in said


def test_the_doctor_finds_settings_that_do_not_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, and the line says what is wrong and what would do."""
    monkeypatch.setenv("RESILIENCE_TIMEOUT_READ", "-1")

    assert 1 == admin.main(["doctor"])
    assert "apps would run ungoverned: RESILIENCE_TIMEOUT_READ='-1'" in (
        capsys.readouterr().out
    )


def test_without_a_subcommand_the_use_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the exit code for wrong use."""
    with pytest.raises(SystemExit, match="2"):
        admin.main([])
    assert "usage: resilience" in capsys.readouterr().err
