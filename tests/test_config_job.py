"""The configuration, end to end: unchanged programs under the real command."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from loopback import Server, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

COMMAND = str(Path(sysconfig.get_path("scripts")) / "resilience-instrument")

CALL = """
import sys, requests
answer = requests.get(sys.argv[1])
print(answer.status_code, answer.text, answer.headers.get("Resilience-Fallback"))
"""

CHANGE = """
import os, sys, time, requests
texts = {
    "one": '[defaults.fallback.static]\\nbody = "one"\\n',
    "two": '[defaults.fallback.static]\\nbody = "two"\\n',
    "bad": '[defaults.fallback.static]\\nbodi = "bad"\\n',
    "off": '[defaults]\\nenabled = false\\n',
}
for name in ("one", "two", "bad", "off"):
    with open("new", "w") as new:
        new.write(texts[name])
    os.replace("new", "r.toml")
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        seen = requests.get(sys.argv[1])
        time.sleep(0.05)
    print(seen.status_code, seen.text)
"""


@pytest.fixture
def server() -> Iterator[Server]:
    """A service that is down."""
    with Server() as found:
        found.script("/x", Status(500, body=b"own"))
        yield found


def run(
    tmp_path: Path, app: str, url: str, *options: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Run a program under the command, in a directory of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RESILIENCE_")}
    (tmp_path / "app.py").write_text(app, encoding="utf-8")
    return subprocess.run(
        [COMMAND, *options, sys.executable, "app.py", url],
        cwd=tmp_path,
        env={**clean, "RESILIENCE_METRICS_PORT": "0", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_file_governs_an_app(tmp_path: Path, server: Server) -> None:
    """Named by the option, by `auto`, or by the variable."""
    text = '[defaults.fallback.static]\nbody = "instead"\n'
    (tmp_path / "resilience.toml").write_text(text, encoding="utf-8")
    url = server.url("/x")

    by_name = run(tmp_path, CALL, url, "--config", "resilience.toml")
    by_auto = run(tmp_path, CALL, url, "--config=auto")
    by_variable = run(tmp_path, CALL, url, RESILIENCE_CONFIG="resilience.toml")
    unasked = run(tmp_path, CALL, url)

    for done in (by_name, by_auto, by_variable):
        assert ("200 instead static\n", "", 0) == (
            done.stdout,
            done.stderr,
            done.returncode,
        )
    assert "500 own None\n" == unasked.stdout


@pytest.mark.parametrize("text", ["[defaults", "[defaults]\nmode = 3\n", None, ""])
def test_an_app_runs_on_with_a_file_that_cannot_be_used(
    tmp_path: Path, server: Server, text: str | None
) -> None:
    """Ungoverned, with one line on stderr."""
    if text is not None:
        (tmp_path / "r.toml").write_text(text, encoding="utf-8")

    done = run(tmp_path, CALL, server.url("/x"), "--config", "r.toml")

    assert ("500 own None\n", 0) == (done.stdout, done.returncode)
    (line,) = done.stderr.splitlines()
    assert line.startswith("resilience-instrument: the app runs ungoverned: /")
    assert "r.toml" in line


def test_a_file_that_changes_governs_the_running_app(
    tmp_path: Path, server: Server
) -> None:
    """A bad one changes nothing and is said once; the switch lets calls through."""
    (tmp_path / "r.toml").write_text("[defaults]\n", encoding="utf-8")

    done = run(
        tmp_path,
        CHANGE,
        server.url("/x"),
        "--config",
        "r.toml",
        RESILIENCE_BREAKER_MODE="disabled",
    )

    assert ["200 one", "200 two", "200 two", "500 own"] == done.stdout.splitlines()
    (line,) = done.stderr.splitlines()
    said = 'defaults.fallback.static.bodi: unknown; did you mean "body"?'
    assert line.endswith(f"r.toml:2: {said}")
    assert "the changed configuration is not used" in line


def test_an_observed_app_runs_as_a_plain_one(tmp_path: Path, server: Server) -> None:
    """One request a call, and the service's own answers."""
    server.script("/x", Status(503, body=b"down"), Status(200, body=b"ok"))

    done = run(tmp_path, CALL, server.url("/x"), RESILIENCE_MODE="observe")

    assert ("503 down None\n", "", 0) == (done.stdout, done.stderr, done.returncode)
    assert 1 == len(server.hits("/x"))
