"""The launcher: it becomes the command, or says in one line why it cannot."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from resilience_instrument import __version__, activation
from resilience_instrument.cli import launcher

if TYPE_CHECKING:
    from pathlib import Path


SET = (activation.ACTIVE, activation.PREFIX, activation.LAUNCH_PID, "PYTHONPATH")


class Became(Exception):  # noqa: N818 - it stands for a process that is no more
    """The process would now be another one."""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Note what the process would become, with an environment of its own."""
    found: dict[str, Any] = {}

    def execv(path: str, arguments: list[str]) -> None:
        found.update(path=path, arguments=arguments)
        raise Became

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(os, "environ", {"PATH": os.environ["PATH"]})
    return found


@pytest.mark.parametrize("dashes", [[], ["--"]], ids=["plain", "dashes"])
def test_the_process_becomes_the_command(
    became: dict[str, Any], dashes: list[str]
) -> None:
    """Its words arrive as they were typed, options of its own included."""
    command = ["sh", "-c", "exit", "--help", "-d"]

    with pytest.raises(Became):
        launcher.main([*dashes, *command])

    assert command == became["arguments"]
    assert became["path"].endswith("/sh")
    assert "1" == os.environ[activation.ACTIVE]
    assert str(os.getpid()) == os.environ[activation.LAUNCH_PID]
    assert sys.prefix == os.environ[activation.PREFIX]


@pytest.mark.usefixtures("became")
def test_switched_off_nothing_is_set() -> None:
    """The command runs as if the launcher were not there."""
    os.environ["RESILIENCE_ENABLED"] = "0"

    with pytest.raises(Became):
        launcher.main(["sh"])

    assert not [name for name in os.environ if name in SET]


def test_a_command_in_the_current_directory_is_found(
    became: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its path, and by an empty entry of PATH, as a shell does it."""
    script = tmp_path / "tool"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    os.environ["PATH"] = f"/nowhere{os.pathsep}"

    for command in ("tool", "./tool", str(script)):
        with pytest.raises(Became):
            launcher.main([command])
        assert script.samefile(became["path"])


def test_a_directory_of_that_name_on_the_path_is_passed_over(
    became: dict[str, Any], tmp_path: Path
) -> None:
    """The next entry has the command."""
    (tmp_path / "sh").mkdir()
    os.environ["PATH"] = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    with pytest.raises(Became):
        launcher.main(["sh"])

    assert not became["path"].startswith(str(tmp_path))


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("no-such-command", 127, "no-such-command: command not found"),
        ("./no-such-file", 127, "./no-such-file: command not found"),
        ("./plain.txt", 126, "./plain.txt: cannot be executed"),
        ("/tmp", 126, "/tmp: cannot be executed"),
        ("--odd", 2, "unknown option --odd; --help lists the options"),
    ],
)
def test_what_cannot_be_started_is_said_in_one_line(
    command: str,
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the exit code that a shell would give, and nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain.txt").write_text("", encoding="utf-8")

    assert code == launcher.main([command])

    assert ("", f"resilience-instrument: {said}\n") == tuple(capsys.readouterr())


def test_a_file_that_the_system_does_not_execute_is_126(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has the permission, but no format that the system knows."""
    monkeypatch.setattr(os, "environ", {"PATH": ""})
    odd = tmp_path / "odd"
    odd.write_bytes(b"\0\1\2")
    odd.chmod(0o755)

    assert 126 == launcher.main([str(odd)])
    assert "cannot be executed: Exec format error" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--"]], ids=["nothing", "dashes"])
def test_without_a_command_the_use_is_shown(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, with the exit code for wrong use."""
    assert 2 == launcher.main(words)
    assert ("", launcher.USAGE) == tuple(capsys.readouterr())


def test_help_and_version_are_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks gets the answer on stdout; the words come from the command line."""
    monkeypatch.setattr(sys, "argv", ["resilience-instrument", "--help"])
    assert 0 == launcher.main()
    assert 0 == launcher.main(["-V"])

    expected = f"{launcher.USAGE}resilience-instrument {__version__}\n"
    assert (expected, "") == tuple(capsys.readouterr())


def test_the_doctor_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    """`--doctor` is the admin command's checkup."""
    assert 0 == launcher.main(["--doctor"])
    assert "requests" in capsys.readouterr().out


def test_an_interrupted_launcher_ends_as_a_shell_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit code 130 and no traceback."""

    def interrupted(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(launcher, "find", interrupted)

    assert 130 == launcher.main(["sh"])


@pytest.mark.parametrize("words", [["--config", "r.toml"], ["--config=r.toml"]])
def test_a_configuration_is_named_for_every_process_below(
    became: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    """By its whole path, wherever they work."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Became):
        launcher.main([*words, "sh", "-c", "exit"])

    assert str(tmp_path / "r.toml") == os.environ["RESILIENCE_CONFIG"]
    assert ["sh", "-c", "exit"] == became["arguments"]


@pytest.mark.usefixtures("became")
def test_auto_means_the_file_beside_the_app_if_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else there is no configuration, and that is no mistake."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Became):
        launcher.main(["--config", "auto", "sh"])
    assert "RESILIENCE_CONFIG" not in os.environ
    (tmp_path / "resilience.toml").touch()
    with pytest.raises(Became):
        launcher.main(["--config", "auto", "sh"])

    assert str(tmp_path / "resilience.toml") == os.environ["RESILIENCE_CONFIG"]


@pytest.mark.parametrize("words", [["--config"], ["--config="], ["--config", ""]])
def test_a_configuration_without_a_name_is_wrong_use(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing is started."""
    assert launcher.WRONG_USE == launcher.main(words)
    said = "resilience-instrument: --config needs a file, or auto\n"
    assert said == capsys.readouterr().err
