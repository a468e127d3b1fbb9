"""`resilience-instrument COMMAND`: set the environment, then become the command.

The process is replaced, so that process id, signals, terminal and exit code are
the command's own. Only `os` and `sys` are imported: a launcher that is in a hurry
must not load what the command may never need.
"""

from __future__ import annotations

import os
import sys

try:
    from resilience_instrument import __version__, activation
except KeyboardInterrupt:  # pragma: no cover - scenario 10, a matter of milliseconds
    sys.exit(130)

TYPE_CHECKING = False  # typing is not loaded in this stage
if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence
    from typing import NoReturn

USAGE = """\
usage: resilience-instrument [OPTION] COMMAND [ARGUMENT ...]

Runs COMMAND, and every Python that it starts, with timeouts, safe retries and
circuit breakers around its calls. Settings are RESILIENCE_* environment variables.

  resilience-instrument python app.py
  resilience-instrument gunicorn wsgi:app

  --config FILE  settings; auto: resilience.toml in this directory, if it is there
  --doctor       say what would be governed in this environment
  --version      say the version
  --help         say this
  --             what follows is the command
"""

NOT_EXECUTABLE = 126
NOT_FOUND = 127
WRONG_USE = 2
INTERRUPTED = 130


class LaunchError(Exception):
    """The command cannot be started.

    Args:
        message: What is wrong, in one line.
        code: The exit code, as a shell would give it.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; it returns only if the command was not started."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except LaunchError as error:
        sys.stderr.write(f"resilience-instrument: {error}\n")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(words: list[str]) -> int:
    words = _configure(words, os.environ)
    if words and words[0].startswith("-") and words[0] != "--":
        return _option(words[0])
    command = words[1:] if words[:1] == ["--"] else words
    if not command:
        sys.stderr.write(USAGE)
        return WRONG_USE
    path = find(command[0])
    prepare(os.environ)
    return launch(path, command)


def _configure(words: list[str], environ: MutableMapping[str, str]) -> list[str]:
    """Take `--config FILE` off the words and let every process below read the file.

    Raises:
        LaunchError: No file is named.
    """
    if not words or words[0].partition("=")[0] != "--config":
        return words
    _, given, name = words[0].partition("=")
    rest = words[1:] if given else words[2:]
    name = name if given else "".join(words[1:2])
    if not name:
        raise LaunchError("--config needs a file, or auto", WRONG_USE)
    if name == "auto":
        name = "resilience.toml" if os.path.exists("resilience.toml") else ""  # noqa: PTH110 - pathlib is not loaded here
    if name:
        # Absolute, since a process below may work in another directory.
        environ["RESILIENCE_CONFIG"] = os.path.abspath(name)  # noqa: PTH100 - as above
    return rest


def _option(option: str) -> int:
    if option in {"-h", "--help"}:
        sys.stdout.write(USAGE)
    elif option in {"-V", "--version"}:
        sys.stdout.write(f"resilience-instrument {__version__}\n")
    elif option == "--doctor":
        from resilience_instrument.cli.admin import main as admin  # noqa: PLC0415 - slow

        return admin(["doctor"])
    else:
        message = f"unknown option {option}; --help lists the options"
        raise LaunchError(message, WRONG_USE)
    return 0


def find(command: str) -> str:
    """Return the file that `command` stands for, as a shell would find it.

    Raises:
        LaunchError: There is none, or it cannot be executed.
    """
    if os.sep in command:
        candidates = [command]
    else:
        directories = os.environ.get("PATH", os.defpath).split(os.pathsep)
        candidates = [os.path.join(d or os.curdir, command) for d in directories]  # noqa: PTH118 - pathlib is not loaded here
    there = [path for path in candidates if os.path.exists(path)]  # noqa: PTH110 - as above
    for path in there:
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113 - as above
            return path
    if there and os.sep in command:
        message = f"{command}: cannot be executed"
        raise LaunchError(message, NOT_EXECUTABLE)
    message = f"{command}: command not found"
    raise LaunchError(message, NOT_FOUND)


def prepare(environ: MutableMapping[str, str]) -> None:
    """Ask for the agent in everything below, unless it is switched off."""
    if not activation.is_off(environ):
        activation.ask_for(environ)


def launch(path: str, command: list[str]) -> NoReturn:
    """Become the command.

    Raises:
        LaunchError: The system does not execute the file.
    """
    try:
        os.execv(path, command)  # noqa: S606 - the command line is the user's own
    except OSError as error:
        message = f"{command[0]}: cannot be executed: {error.strerror}"
        raise LaunchError(message, NOT_EXECUTABLE) from None


if __name__ == "__main__":
    sys.exit(main())
