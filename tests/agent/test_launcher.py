"""Scenarios 1 to 13: the command runs as if the launcher were not there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from agent.processes import (
    BIN,
    GOVERNED,
    PATIENCE,
    bare,
    environment,
    governed,
    lines,
    run,
)
from resilience_instrument import activation

pytestmark = [pytest.mark.slow, pytest.mark.scenario]


def test_01_the_exit_code_is_the_commands() -> None:
    """`sys.exit(3)` is 3, and nobody says anything."""
    assert (3, "", "") == governed("python", "-c", "import sys; sys.exit(3)")


def test_02_a_traceback_shows_no_frame_of_ours(tmp_path: Path) -> None:
    """What the app prints when it crashes is what it always printed."""
    app = tmp_path / "app.py"
    app.write_text("import requests\nraise RuntimeError('as ever')\n")

    assert run("python", app) == governed("python", app)


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("import os; os.abort()", signal.SIGABRT),
        ("import os; os.kill(os.getpid(), 9)", signal.SIGKILL),
    ],
)
def test_03_a_signal_ends_the_command_itself(code: str, number: int) -> None:
    """Whoever started it sees that it was killed, and by what."""
    assert -number == governed("python", "-c", code).code


def test_04_a_command_that_is_not_there_is_127() -> None:
    """As a shell has it, with one line on stderr."""
    done = governed("no-such-command")

    assert (127, "") == done[:2]
    assert 1 == len(lines(done.err))


def test_05_a_command_that_cannot_be_executed_is_126(tmp_path: Path) -> None:
    """A file without the permission, and a directory."""
    script = tmp_path / "not-executable.py"
    script.write_text("pass")

    for done in (governed("./not-executable.py", cwd=tmp_path), governed("/tmp")):
        assert (126, "") == done[:2]
        assert 1 == len(lines(done.err))


def test_06_no_command_is_a_question_for_usage() -> None:
    """2, and the usage on stderr."""
    done = governed()

    assert (2, "") == done[:2]
    assert done.err.startswith("usage: resilience-instrument")


def test_07_arguments_are_handed_on_untouched(tmp_path: Path) -> None:
    """Also those that look like ours."""
    app = tmp_path / "app.py"
    app.write_text("import sys; print(sys.argv[1:])")

    assert "['--help']\n" == governed("--", "python", app, "--help").out
    shown = governed("python", "-c", "import sys;print(sys.argv)", "--help", "-d")
    assert "['-c', '--help', '-d']\n" == shown.out


def test_08_standard_input_is_the_commands() -> None:
    """Data, a script, and an interactive session on a terminal."""
    assert "hi\n" == governed("python", "-c", "print(input())", say="hi\n").out
    assert "2\n" == governed("python", "-", say="print(1 + 1)\n").out
    assert "42" in on_a_terminal("python", b"6 * 7\nexit()\n")


def on_a_terminal(command: str, typed: bytes) -> str:
    """Type into a command that runs on a terminal and return the screen."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [BIN / "resilience-instrument", command],
        env=environment(TERM="dumb"),
        stdin=side,
        stdout=side,
        stderr=side,
        start_new_session=True,
    )
    os.close(side)
    os.write(main, typed)
    screen = b""
    try:
        while piece := os.read(main, 4096):
            screen += piece
    except OSError:
        pass  # the terminal is gone when nobody has it open
    os.close(main)
    assert 0 == process.wait(PATIENCE)
    assert b">>>" in screen
    return screen.decode()


SIGNALS = """\
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
try:
    print(os.getpid(), flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    sys.exit(8)
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 7), (signal.SIGINT, 8)])
def test_09_signals_reach_the_app(number: int, code: int) -> None:
    """The process that was started is the app: its id, its handlers, its code."""
    with subprocess.Popen(
        [BIN / "resilience-instrument", "python", "-c", SIGNALS],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        # Whoever started the tests in the background may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - as below
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(number)

        assert (process.pid, code) == (pid, process.wait(PATIENCE))


@pytest.mark.parametrize("after", [0.005, 0.02, 0.05])
def test_10_an_early_interrupt_leaves_no_traceback_of_ours(after: float) -> None:
    """Whether it strikes in the launcher or in the interpreter's start."""
    with subprocess.Popen(
        [BIN / "resilience-instrument", "python", "-c", "import time; time.sleep(60)"],
        # What measures coverage swallows an early interrupt.
        env=bare(),
        stderr=subprocess.PIPE,
        text=True,
        # Whoever started the tests in the background may have it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread of ours forks
        start_new_session=True,
    ) as process:
        time.sleep(after)
        # To the whole group, as a terminal does it.
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE)

    # 1 is how Python itself ends if it is struck while it reads its start-up files.
    assert process.returncode in {130, -signal.SIGINT, 1}
    # While Python reads its start-up files, its own last words may name one of ours.
    assert "cli/launcher" not in said


def test_11_a_pipeline_and_another_python_are_unchanged() -> None:
    """A child of another version runs as if we were not there."""
    dump = "import json;print(json.dumps({}))"
    left = governed("python", "-c", dump)
    assert "{}\n" == run("python", "-m", "json.tool", say=left.out).out
    other = "/usr/bin/python3"
    if not Path(other).exists():
        pytest.skip("there is no other Python")
    code = (
        f"import subprocess; subprocess.run([{other!r}, '-c', "
        "'import sys; print(sorted(sys.modules)); sys.stderr.write(sys.version)'])"
    )

    assert run("python", "-c", code) == governed("python", "-c", code)


def test_12_the_path_gets_one_entry_however_often() -> None:
    """First ours, then the app's, nothing twice and nothing empty."""
    code = f"{GOVERNED}\nimport os; print(os.environ['PYTHONPATH'])"
    env = environment(PYTHONPATH="/x")
    expected = f"True\n{activation.BOOT}{os.pathsep}/x\n"

    assert (0, expected, "") == governed("python", "-c", code, env=env)
    twice = governed("resilience-instrument", "python", "-c", code, env=env)
    assert (0, expected, "") == twice


def test_12_a_function_is_wrapped_once_however_often() -> None:
    """A launcher below a launcher does not govern twice."""
    code = (
        "import requests\n"
        "from resilience_instrument.integrations._patch import is_ours\n"
        "f, depth = vars(requests.Session)['send'], 0\n"
        "while is_ours(f): f, depth = f.__wrapped__, depth + 1\n"
        "print(depth)"
    )

    done = governed("resilience-instrument", "python", "-c", code)

    assert (0, "1\n", "") == done


def test_13_files_here_do_not_shadow_the_standard_library(tmp_path: Path) -> None:
    """A `queue.py` in the current directory is none of pip's business."""
    (tmp_path / "queue.py").write_text("raise RuntimeError('shadow')")

    done = governed("pip", "--version", cwd=tmp_path)

    assert (0, True) == (done.code, done.out.startswith("pip "))
    assert "Traceback" not in done.err
