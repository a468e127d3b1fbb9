"""The agent as pip installs it: a start that takes another way is no measure of it.

An editable installation, such as the one that the other benchmarks use, is started by
Python, as it does not lie where the launcher looks for it.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness.workers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def installed() -> Iterator[Path]:
    """Have an environment with the agent's wheel, and return where its programs are.

    The libraries are those of the environment that this runs in.
    """
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "venv"
        venv.EnvBuilder(symlinks=True).create(home)
        _pip("wheel", "--no-deps", "-w", directory, str(ROOT))
        (wheel,) = Path(directory).glob("*.whl")
        python = str(home / "bin" / "python")
        _pip("--python", python, "install", "--no-deps", str(wheel))
        site = next(home.glob("lib/python*/site-packages"))
        (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
        yield home / "bin"


def _pip(*words: str) -> None:
    quiet = ["--disable-pip-version-check", "-q"]
    subprocess.run([sys.executable, "-m", "pip", *quiet, *words], check=True)
