"""What the scenarios share: a service, a port, an environment with the wheel."""

from __future__ import annotations

import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.processes import Service, free_port, run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def service() -> Iterator[Service]:
    """Return a service that always answers 200."""
    with Service() as found:
        yield found


@pytest.fixture
def port() -> int:
    """Return a free port for the metrics."""
    return free_port()


@pytest.fixture(scope="session")
def wheel_bin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin of an environment with the wheel as pip would install it.

    What the wheel depends on, and requests, are those of this environment.
    """
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out]
    done = run(*map(str, build), cwd=ROOT)
    assert done.code == 0, done.err
    home = tmp_path_factory.mktemp("agent") / "venv"
    venv.EnvBuilder(symlinks=True).create(home)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = home / "lib" / version / "site-packages"
    with zipfile.ZipFile(next(out.iterdir())) as archive:
        archive.extractall(site)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    script = home / "bin" / "resilience-instrument"
    script.write_text(
        f"#!{home}/bin/python\nimport sys\n"
        "from resilience_instrument.cli.launcher import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    return home / "bin"
