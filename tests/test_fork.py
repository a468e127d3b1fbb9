"""Forking while other threads work: no child may wait for a lock that nobody holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("forking.py")
FORKS = 150


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_no_child_hangs_while_four_threads_work() -> None:
    """Each sees its parent's open circuit and draws random numbers of its own."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith("COV")}

    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(PROGRAM), str(FORKS)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )

    assert "" == done.stderr
    assert f"{FORKS} 0 {FORKS} {FORKS}\n" == done.stdout
