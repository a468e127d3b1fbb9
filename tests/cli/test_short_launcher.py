"""The short launcher: what it knows by sight it starts, the rest Python starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "instrumentation" / "resilience-instrument"
AGENT = "site-packages/resilience_instrument/bootstrap/path"
SHOW = 'echo "$RESILIENCE_ACTIVE $RESILIENCE_PYTHON $RESILIENCE_PREFIX $PYTHONPATH"'


class Home:
    """A directory that looks like an environment with the agent in it.

    Its Python is a stand-in that says what it was asked to run.
    """

    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.boot = prefix / "lib" / "python3.11" / AGENT
        self.boot.mkdir(parents=True)
        (prefix / "bin").mkdir()
        (prefix / "pyvenv.cfg").touch()
        shutil.copy(SCRIPT, prefix / "bin")
        self.add_command("python3", 'echo "python3 $*"')

    def add_command(self, name: str, script: str) -> Path:
        """Put a command into the environment."""
        path = self.prefix / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def run(self, *arguments: str, **variables: str) -> str:
        """Run the launcher with these variables and return what was said."""
        path = f"{self.prefix / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            [variables.pop("command", "resilience-instrument"), *arguments],
            env={"PATH": path} | variables,
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
        assert "" == done.stderr
        return done.stdout.rstrip("\n")


@pytest.fixture(params=["plain", "a b"])
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Home:
    """Return an environment, one with a blank in its path too."""
    return Home(tmp_path / request.param)


def by_python(*arguments: str) -> str:
    """Return what the stand-in says when it gets these arguments."""
    words = ["python3 -I -m resilience_instrument.cli.launcher", *arguments]
    return " ".join(words)


def test_a_known_environment_is_started_without_python(home: Home) -> None:
    """The command finds what the launcher in Python would have set."""
    said = home.run("sh", "-c", SHOW)

    assert f"1 3.11 {home.prefix} {home.boot}" == said


def test_words_arrive_as_they_were_typed(home: Home) -> None:
    """Blanks, stars, dashes and empty words included."""
    said = home.run("printf", "[%s]", "a b", "*", "--", "", "-x")

    assert "[a b][*][--][][-x]" == said


def test_the_process_becomes_the_command(home: Home) -> None:
    """Its id is the one that whoever started us knows."""
    home.add_command("app", 'echo "$$ $RESILIENCE_LAUNCH_PID"')

    own, launched = home.run("app").split()

    assert own == launched


@pytest.mark.parametrize("before", ["", "/x", "/x:"])
def test_the_path_of_the_app_stays_behind_ours(home: Home, before: str) -> None:
    """Once, also when the launcher is started twice."""
    twice = ["resilience-instrument", "sh", "-c", SHOW]

    said = home.run(*twice, PYTHONPATH=before)

    expected = f"{home.boot}:{before}" if before else str(home.boot)
    assert f"1 3.11 {home.prefix} {expected}" == said


def test_a_link_to_the_launcher_finds_its_environment(
    home: Home, tmp_path: Path
) -> None:
    """As installers of tools make them."""
    link = tmp_path / "linked"
    link.symlink_to(home.prefix / "bin" / SCRIPT.name)

    said = home.run("sh", "-c", SHOW, command=str(link))

    assert f"1 3.11 {home.prefix} {home.boot}" == said


@pytest.mark.parametrize(
    "arguments", [(), ("--help",), ("--", "sh"), ("no-such-command", "x")]
)
def test_what_is_not_plain_goes_to_python(
    home: Home, arguments: tuple[str, ...]
) -> None:
    """Help, errors and options have one place."""
    assert by_python(*arguments) == home.run(*arguments)


@pytest.mark.parametrize("off", ["0", "false", "off", "no"])
def test_switched_off_the_command_is_started_as_it_is(home: Home, off: str) -> None:
    """Nothing is set, and Python only tells what cannot be started."""
    say = ("sh", "-c", "echo ${RESILIENCE_ACTIVE-unset} ${PYTHONPATH-unset}")

    assert "unset unset" == home.run(*say, RESILIENCE_ENABLED=off)
    assert by_python("no-such") == home.run("no-such", RESILIENCE_ENABLED=off)


def test_other_words_of_the_switch_are_read_by_python(home: Home) -> None:
    """It has more than these."""
    assert by_python("sh") == home.run("sh", RESILIENCE_ENABLED=" OFF ")
    assert "1" == home.run(
        "sh", "-c", "echo $RESILIENCE_ACTIVE", RESILIENCE_ENABLED="1"
    )


def test_two_versions_of_python_go_to_python(home: Home) -> None:
    """Only it knows which one it is."""
    (home.prefix / "lib" / "python3.13" / AGENT).mkdir(parents=True)

    assert by_python("sh", "-c", "true") == home.run("sh", "-c", "true")


def test_an_agent_that_lies_elsewhere_goes_to_python(home: Home) -> None:
    """An installation for development has no copy of the package."""
    shutil.rmtree(home.boot)

    assert by_python("sh") == home.run("sh")


def test_a_directory_that_is_no_environment_goes_to_python(home: Home) -> None:
    """A user's own directory of packages belongs to a Python that lies elsewhere."""
    (home.prefix / "pyvenv.cfg").unlink()
    assert by_python("sh", "-c", "true") == home.run("sh", "-c", "true")

    (home.boot.parents[3] / "os.py").touch()
    assert "short" == home.run("sh", "-c", "echo short")


def test_without_any_python_that_is_said(home: Home, tmp_path: Path) -> None:
    """In one line, with the exit code of a command that is not there."""
    (home.prefix / "bin" / "python3").unlink()
    launcher = home.prefix / "bin" / SCRIPT.name

    done = subprocess.run(
        ["/bin/sh", str(launcher), "--help"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (127, "") == (done.returncode, done.stdout)
    assert f"resilience-instrument: no Python found beside {launcher}\n" == done.stderr
