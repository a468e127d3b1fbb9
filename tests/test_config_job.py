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
        timeout=300,
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


IN_FLIGHT = '''
import asyncio, os, resource, httpx

_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
CHANGES = 50
FILE = """
[defaults]
timeout = {{ read = 300, total = 300, pool = 300 }}
breaker = {{ open_for = 600, open_max = 600, consecutive = 1 }}
[services.pay]
match = "127.0.0.1:{pay}"
fallback.static.body = "{version}"
"""
BAD = ["", "[services", "[services.pay]\\nmatch = 3\\n"]

def write(text):
    with open("new", "w") as new:
        new.write(text)
    os.replace("new", "r.toml")

async def main():
    over = asyncio.Event()

    async def answer(reader, writer):
        await reader.readuntil(b"\\r\\n\\r\\n")
        await over.wait()
        writer.write(b"HTTP/1.0 500 X\\r\\nContent-Length: 0\\r\\n\\r\\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2000)
    pay = server.sockets[0].getsockname()[1]
    write(FILE.format(pay=pay, version=0))
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=None) as client:

        async def one(version):
            return version, (await client.get(f"http://127.0.0.1:{pay}/")).text

        async def down():
            try:
                await client.get("http://127.0.0.1:1/")
            except httpx.ConnectError as error:
                return type(error).__name__

        await asyncio.sleep(1.1)
        print([await down(), await down()])
        calls, version = [], 0
        for number in range(1, CHANGES + 1):
            if number % 3 == 0:
                write(BAD[number // 3 % 3])
            else:
                version = number
                write(FILE.format(pay=pay, version=version))
            await asyncio.sleep(1.1)
            calls += [asyncio.create_task(one(version)) for _ in range(2000 // CHANGES)]
            await asyncio.sleep(0)
        over.set()
        answers = await asyncio.gather(*calls)
        print(len(answers), all(str(begun) == said for begun, said in answers))
        print(await down())
    server.close()

asyncio.run(main())
'''


@pytest.mark.long
@pytest.mark.timeout(300)
def test_two_thousand_calls_are_under_way_while_the_file_changes(
    tmp_path: Path,
) -> None:
    """Every third file is bad; each call ends by what held when it began."""
    (tmp_path / "r.toml").write_text("[defaults]\n", encoding="utf-8")

    done = run(tmp_path, IN_FLIGHT, "", "--config", "r.toml")

    opened = "['ConnectError', 'CircuitBreakerOpenError']"
    assert f"{opened}\n2000 True\nCircuitBreakerOpenError\n" == done.stdout
    refused = [line for line in done.stderr.splitlines() if "is not used" in line]
    assert (16, 16, 0) == (
        len(refused),
        len(done.stderr.splitlines()),
        done.returncode,
    )
