"""The wheel that users get: what is in it, and that it does the main job."""

from __future__ import annotations

import http.server
import importlib.metadata
import os
import subprocess
import sys
import threading
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import resilience_instrument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# One worker builds and installs for all tests of this file.
pytestmark = pytest.mark.xdist_group("wheel")

ROOT = Path(__file__).resolve().parent.parent
VERSION = resilience_instrument.__version__
DIST_INFO = f"resilience_instrument-{VERSION}.dist-info"
APP = """\
import sys

import requests

print(requests.get(sys.argv[1]).status_code)
"""


class FailsTwice(http.server.BaseHTTPRequestHandler):
    """Answers 503, 503 and from then on 200."""

    answered = 0

    def do_GET(self) -> None:
        """Answer and count."""
        type(self).answered += 1
        self.send_response(503 if self.answered <= 2 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing: pytest's output belongs to the tests."""


def run(
    *command: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `command` in the project's root and return what it said."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def pip_install(
    python: Path, *requirements: str | Path
) -> subprocess.CompletedProcess[str]:
    """Install into the environment of `python` with the pip of this one."""
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    return run(*pip, "install", "-q", "--no-input", "--retries", "1", *requirements)


def bare_environment(**variables: str) -> dict[str, str]:
    """Return an environment that a user might have, without any setting of ours."""
    inherited = {
        name: os.environ[name]
        for name in ("HOME", "LANG", "PATH", "TMPDIR")
        if name in os.environ
    }
    return inherited | variables


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the working tree."""
    out = tmp_path_factory.mktemp("dist")

    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", out)

    assert (0, 1) == (done.returncode, len(list(out.iterdir()))), done.stderr
    return next(out.iterdir())


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel and requests in an empty environment, return its bin."""
    home = tmp_path_factory.mktemp("venv")
    venv.EnvBuilder(symlinks=True).create(home)
    python = home / "bin" / "python"
    done = pip_install(python, "--no-deps", wheel)
    assert done.returncode == 0, done.stderr

    # The wheel itself is fine, so what fails now is the way to the index.
    done = pip_install(python, wheel, "requests")
    if done.returncode != 0:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(f"pip cannot install from the index: {done.stderr[-300:]}")
    return python.parent


@pytest.fixture
def failing_twice() -> Iterator[str]:
    """Serve 503, 503, 200 on a loopback port and return the URL."""
    FailsTwice.answered = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FailsTwice) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """Write the app that prints the status of one GET."""
    path = tmp_path / "app.py"
    path.write_text(APP, encoding="utf-8")
    return path


def test_metadata_has_the_version_of_the_package() -> None:
    """What pip shows is what `__version__` says."""
    assert importlib.metadata.version("resilience-instrument") == VERSION


@pytest.mark.slow
def test_wheel_carries_package_and_both_carriers_at_its_root(wheel: Path) -> None:
    """Site-packages get the package and the two start-up files, nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}

    expected = {
        "resilience_instrument",
        "resilience_instrument.pth",
        "resilience_instrument.start",
        DIST_INFO,
        f"resilience_instrument-{VERSION}.data",  # the launcher
    }
    assert expected == top


@pytest.mark.slow
def test_wheel_carries_every_file_of_the_package(wheel: Path) -> None:
    """No module and no data file is left out of what users get."""
    package = ROOT / "instrumentation" / "resilience_instrument"
    expected = {
        path.relative_to(package.parent).as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }

    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    assert set() == expected - names


@pytest.mark.slow
def test_wheel_metadata_has_the_version_of_the_package(wheel: Path) -> None:
    """The wheel is built with the version that `__init__` holds."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{DIST_INFO}/METADATA").decode()

    assert f"Version: {VERSION}" in metadata.splitlines()


@pytest.mark.slow
def test_wheel_in_an_empty_venv_retries_for_an_unchanged_app(
    installed: Path, app: Path, failing_twice: str
) -> None:
    """The main job: an app that knows nothing of us survives two 503."""
    # Another test may have the usual port at this moment, which would be said.
    env = bare_environment(
        PATH=f"{installed}:{os.environ['PATH']}", RESILIENCE_METRICS_PORT="0"
    )

    done = run(
        installed / "resilience-instrument", "python", app, failing_twice, env=env
    )

    assert (0, "200\n", "") == (done.returncode, done.stdout, done.stderr)
    assert FailsTwice.answered == 3


@pytest.mark.slow
def test_wheel_in_an_empty_venv_is_inert_without_the_launcher(
    installed: Path, app: Path, failing_twice: str
) -> None:
    """An installed agent that nobody started leaves the app alone."""
    done = run(installed / "python", app, failing_twice, env=bare_environment())

    assert (0, "503\n", "") == (done.returncode, done.stdout, done.stderr)
    assert FailsTwice.answered == 1
