"""Say why the agent is not in a process, or would not be in that of a program.

For people who ask: the doctor and the tests. No governed process loads this.
"""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from resilience_instrument import activation

if TYPE_CHECKING:
    from collections.abc import Mapping

MANUAL: Final = "add `import resilience_instrument.auto` as its first line"
_FROZEN: Final = b"MEI\014\013\012\013\016"
"""What PyInstaller writes near the end of a program."""
_TAIL: Final = 1 << 16
_NO_SITE: Final = frozenset({"-S"})
_ISOLATED: Final = frozenset({"-I", "-E"})


def of_process(environ: Mapping[str, str]) -> list[str]:
    """Return why the agent is not active in this process; nothing if it should be."""
    if activation.is_off(environ):
        return ["RESILIENCE_ENABLED switches it off"]
    if environ.get(activation.ACTIVE) != "1":
        return ["it was not started by resilience-instrument, or lost its environment"]
    found = []
    if not activation.is_home(environ.get(activation.PREFIX, "")):
        home = environ.get(activation.PREFIX)
        found.append(f"the agent is installed in {home}, this runs in {sys.prefix}")
    elif environ.get(activation.PYTHON) != activation.python_version():
        found.append(f"the agent is for Python {environ.get(activation.PYTHON)}")
    if sys.flags.no_site:
        found.append(f"python -S reads no start-up files: {MANUAL}")
    elif sys.flags.ignore_environment and not has_start_up_file():
        found.append("PYTHONPATH is not read, and the .pth file is not installed")
    return found


def of_program(path: str) -> list[str]:
    """Return why the agent would not be active in this program, as far as one sees."""
    try:
        with Path(path).open("rb") as file:
            first = file.readline(512)
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
    except OSError as error:
        return [f"it cannot be read: {error.strerror}"]
    if _FROZEN in tail:
        return [f"it was frozen by PyInstaller and reads no start-up files: {MANUAL}"]
    if zipfile.is_zipfile(path):
        return _of_archive(path)
    return _of_script(first.decode(errors="replace"))


def has_start_up_file() -> bool:
    """Tell whether the file that also reaches an isolated Python is installed."""
    return any(
        (Path(entry) / "resilience_instrument.pth").is_file() for entry in sys.path
    )


def _of_archive(path: str) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        hermetic = "PEX-INFO" in archive.namelist()
    if not hermetic:
        return []
    return [f"it is a pex, which shuts its surroundings out: {MANUAL}"]


def _of_script(first: str) -> list[str]:
    if not first.startswith("#!"):
        return []
    interpreter, *options = first[2:].split() or [""]
    found = []
    if _NO_SITE.intersection(options):
        found.append(f"its first line has -S, which reads no start-up files: {MANUAL}")
    if _ISOLATED.intersection(options) and not has_start_up_file():
        found.append("its first line isolates it, and the .pth file is not installed")
    is_python = "python" in interpreter.rpartition("/")[2]
    prefix = str(Path(interpreter).parent.parent)
    if is_python and not activation.is_home(prefix):
        found.append(f"it runs in {prefix}, the agent is installed in {sys.prefix}")
    return found
