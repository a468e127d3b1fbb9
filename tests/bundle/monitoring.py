"""The Prometheus and Alertmanager of Debian's packages, found or fetched.

What is on the PATH is taken. Continuous integration, which must not skip, unpacks the
packages below `build/`: nothing is installed, so no service of theirs ever starts.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNPACKED = ROOT / "build" / "debian"
PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "prometheus-alertmanager": "prometheus-alertmanager",
}


def find(program: str) -> Path:
    """Return the path of `program`; without it skip the test, or fail it in CI."""
    path = _look(program)
    if path is None and os.environ.get("CI") == "true":
        path = _unpack(PACKAGES[program], program)
    if path is None:
        pytest.skip(f"{program} is not installed: apt-get install {PACKAGES[program]}")
    return path


def _look(program: str) -> Path | None:
    path = shutil.which(program, path=f"{os.environ['PATH']}:{UNPACKED / 'usr/bin'}")
    return Path(path) if path else None


@functools.cache
def _unpack(package: str, program: str) -> Path:
    UNPACKED.mkdir(parents=True, exist_ok=True)
    done = _apt_get("download", package)
    if done.returncode != 0:
        # Fresh images come without package lists.
        _apt_get("update")
        done = _apt_get("download", package)
    assert done.returncode == 0, done.stderr
    archive = max(UNPACKED.glob(f"{package}_*.deb"), key=lambda p: p.stat().st_mtime)
    subprocess.run(["dpkg-deb", "-x", archive, UNPACKED], check=True)
    path = _look(program)
    assert path is not None, f"{archive.name} has no {program}"
    return path


def _apt_get(*words: str) -> subprocess.CompletedProcess[str]:
    assert shutil.which("apt-get"), "this is no Debian: install Prometheus by hand"
    return subprocess.run(
        ["apt-get", "-q", *words],
        cwd=UNPACKED,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
