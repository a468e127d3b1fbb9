"""Why the agent is not there: said in words that tell what to do."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from resilience_instrument import activation
from resilience_instrument.bootstrap import diagnosis

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def launched() -> dict[str, str]:
    """Return the environment of a process below the launcher."""
    environ: dict[str, str] = {}
    activation.ask_for(environ)
    return environ


def test_a_launched_process_has_no_reason(launched: dict[str, str]) -> None:
    """Where all is well there is nothing to say."""
    assert [] == diagnosis.of_process(launched)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"RESILIENCE_ENABLED": "0"}, "switches it off"),
        ({"RESILIENCE_ACTIVE": ""}, "not started by resilience-instrument"),
        ({"RESILIENCE_PREFIX": "/nowhere"}, "is installed in /nowhere"),
        ({"RESILIENCE_PYTHON": "2.7"}, "is for Python 2.7"),
    ],
)
def test_what_the_environment_lacks_is_named(
    launched: dict[str, str], change: dict[str, str], expected: str
) -> None:
    """One reason for each."""
    (reason,) = diagnosis.of_process(launched | change)

    assert expected in reason


@pytest.mark.slow
@pytest.mark.parametrize(("option", "expected"), [("-S", "-S reads"), ("-E", "")])
def test_options_of_the_interpreter_are_named(
    launched: dict[str, str], option: str, expected: str
) -> None:
    """Without site nothing reaches it; isolated it is reached by the `.pth` file."""
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "from resilience_instrument.bootstrap import diagnosis\n"
        f"print(diagnosis.of_process({launched!r}))"
    )

    done = subprocess.run(
        [sys.executable, option, "-c", code], capture_output=True, text=True, check=True
    )

    assert expected in done.stdout
    assert (expected == "") == (
        done.stdout == "[]\n" or "pth file is not installed" in done.stdout
    )


def test_an_isolated_python_without_the_file_is_named(
    launched: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways in are closed then."""

    class Flags:
        no_site = 0
        ignore_environment = 1

    monkeypatch.setattr(sys, "flags", Flags)
    monkeypatch.setattr(diagnosis, "has_start_up_file", lambda: False)

    (reason,) = diagnosis.of_process(launched)

    assert "the .pth file is not installed" in reason


def test_the_start_up_file_is_looked_for_where_packages_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every directory of the path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not diagnosis.has_start_up_file()

    (tmp_path / "resilience_instrument.pth").touch()

    assert diagnosis.has_start_up_file()


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ("print(1)", []),
        ("#!", []),
        ("#!/bin/sh", []),
        ("#!/other/venv/bin/python3", ["it runs in /other/venv"]),
        ("#!/bin/sh -S", ["its first line has -S"]),
        ("#!/bin/sh -I", ["its first line isolates it"]),
    ],
)
def test_the_first_line_of_a_script_tells_where_it_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    first: str,
    expected: list[str],
) -> None:
    """And with which options."""
    monkeypatch.setattr(diagnosis, "has_start_up_file", lambda: False)
    program = tmp_path / "program"
    program.write_text(first + "\n")

    found = diagnosis.of_program(str(program))

    assert len(expected) == len(found)
    assert all(reason.startswith(start) for reason, start in zip(found, expected))  # noqa: B905 - just compared


def test_programs_that_shut_everything_out_are_known(tmp_path: Path) -> None:
    """A frozen one and a hermetic archive get the line that starts us by hand."""
    frozen = tmp_path / "frozen"
    frozen.write_bytes(b"\x7fELF" + b"\0" * 100_000 + b"MEI\014\013\012\013\016\0\0")
    pex, plain = tmp_path / "app.pex", tmp_path / "app.pyz"
    for path, name in ((pex, "PEX-INFO"), (plain, "__main__.py")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "")

    assert diagnosis.MANUAL in diagnosis.of_program(str(frozen))[0]
    assert diagnosis.MANUAL in diagnosis.of_program(str(pex))[0]
    assert [] == diagnosis.of_program(str(plain))
    assert "cannot be read" in diagnosis.of_program(str(tmp_path / "missing"))[0]


def test_a_python_without_site_is_named(
    launched: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing reaches it; one line of its own does."""

    class Flags:
        no_site = 1
        ignore_environment = 0

    monkeypatch.setattr(sys, "flags", Flags)

    (reason,) = diagnosis.of_process(launched)

    assert diagnosis.MANUAL in reason
