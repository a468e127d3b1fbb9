"""The main job, end to end: unchanged programs under the real command.

Every test starts `resilience-instrument python app.py` and reads what the app
printed, what the server saw, and what the metrics port said at the end.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loopback import Drip, DripBody, Hang, Server, Status, closed_port
from resilience_instrument.integrations._endpoint import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

COMMAND = str(Path(sysconfig.get_path("scripts")) / "resilience-instrument")

# Runs when the app has done its work: what a scraper would read at that moment.
SCRAPE = """
import http.client as _client, os as _os, sys as _sys, time as _time
_agent = _sys.modules.get("resilience_instrument._agent")
_port = _agent._Process.agent.port
while _port.server is None:
    _time.sleep(0.01)
_served = _port.server
# By no library that is governed: the scrape would be among what it reads.
_connection = _client.HTTPConnection(_served.url.split("/")[2])
_connection.request("GET", "/metrics")
with open(_os.environ["SCRAPED"], "wb") as _file:
    _file.write(_connection.getresponse().read())
_connection.close()
"""


class Ran(NamedTuple):
    """What a program did."""

    code: int
    said: str
    errors: str
    samples: dict[str, float]

    def of(self, start: str) -> dict[str, float]:
        """Return the samples whose text begins like this and that are not zero."""
        return {k: v for k, v in self.samples.items() if k.startswith(start) and v}


@pytest.fixture
def app(tmp_path: Path) -> App:
    """Return a way to run programs in a directory of their own."""
    return App(tmp_path)


class App:
    """Runs programs under the command, or plain.

    Args:
        directory: Where they live.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(
        self, source: str, *arguments: str, scrape: bool = True, **settings: str
    ) -> Ran:
        """Run a program under the agent with these settings."""
        scraped = self.directory / "scraped"
        environ = _plain_environment() | {
            f"RESILIENCE_{name}": value for name, value in settings.items()
        }
        environ["SCRAPED"] = str(scraped)
        environ.setdefault("RESILIENCE_METRICS_PORT", str(_free_port()))
        done = self._run([COMMAND, sys.executable], source, arguments, environ, scrape)
        text = scraped.read_text(encoding="utf-8") if scraped.exists() else ""
        return Ran(done.returncode, done.stdout, done.stderr, dict(_samples(text)))

    def run_plain(self, source: str, *arguments: str) -> Ran:
        """Run a program without the agent."""
        environ = _plain_environment()
        done = self._run([sys.executable], source, arguments, environ, scrape=False)
        return Ran(done.returncode, done.stdout, done.stderr, {})

    def _run(
        self,
        start: list[str],
        source: str,
        arguments: tuple[str, ...],
        environ: dict[str, str],
        scrape: bool,
    ) -> subprocess.CompletedProcess[str]:
        program = self.directory / "app.py"
        program.write_text(source + (SCRAPE if scrape else ""), encoding="utf-8")
        return subprocess.run(
            [*start, str(program), *arguments],
            env=environ,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )


def _free_port() -> int:
    """Return a port that nobody has, so that no other test's metrics are there."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def _plain_environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("RESILIENCE_")}


def _samples(text: str) -> Iterator[tuple[str, float]]:
    """Yield each sample as `name outcome=... state=...` without service and path."""
    families = text_string_to_metric_families(text)
    for family in families:
        for sample in family.samples:
            labels = " ".join(
                f"{name}={value}"
                for name, value in sorted(sample.labels.items())
                if name not in {"service", "endpoint"}
            )
            yield f"{sample.name} {labels}".strip(), sample.value


GETS = {
    "requests": "import requests, sys\nprint(requests.get(sys.argv[1]).status_code)",
    "httpx": "import httpx, sys\nprint(httpx.get(sys.argv[1]).status_code)",
    "httpx-async": """
import asyncio, httpx, sys

async def main():
    async with httpx.AsyncClient() as client:
        print((await client.get(sys.argv[1])).status_code)

asyncio.run(main())""",
}


@pytest.mark.parametrize("library", GETS)
def test_an_unchanged_app_survives_two_503s(
    app: App, server: Server, library: str
) -> None:
    """It prints 200, and the metrics say what it took."""
    server.script("/x", Status(503), Status(503), Status(200))

    ran = app.run(GETS[library], server.url("/x"), RETRY_BASE_DELAY="0.05")

    assert (0, "200\n", "") == ran[:3]
    assert {"api_request_total outcome=success": 1.0} == ran.of("api_request_total")
    retries = {f"api_retry_total attempt={n}": 1.0 for n in (2, 3)}
    assert retries == ran.of("api_retry_total")
    assert {"api_retry_success_total": 1.0} == ran.of("api_retry_success_total")


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_a_post_is_sent_once_and_returns_its_503(
    app: App, server: Server, library: str
) -> None:
    """A call that may have had an effect is never sent twice."""
    server.script("/x", Status(503), Status(200))
    source = GETS[library].replace(".get(", ".post(")

    ran = app.run(source, server.url("/x"))

    assert (0, "503\n", "") == ran[:3]
    assert 1 == len(server.hits("/x"))
    assert {"api_request_total outcome=error": 1.0} == ran.of("api_request_total")


DEAD_HOST = """
import requests, sys, time

for _ in range(5):
    try:
        requests.get(sys.argv[1])
    except requests.ConnectionError as error:
        assert "Circuit" not in type(error).__name__
try:
    begun = time.perf_counter()
    requests.get(sys.argv[1])
except requests.RequestException as error:
    took = time.perf_counter() - begun
    print(type(error).__name__, isinstance(error, requests.ConnectionError))
    print("at once" if took < 0.1 else f"after {took} s")
"""


def test_a_dead_host_fails_at_once_after_five_attempts(app: App) -> None:
    """With an error that an app which handles a dead host handles already."""
    url = f"http://127.0.0.1:{closed_port()}/"

    ran = app.run(DEAD_HOST, url, RETRY_MAX_ATTEMPTS="1")

    assert (0, "CircuitBreakerOpenError True\nat once\n", "") == ran[:3]
    assert 1.0 == ran.samples["circuit_breaker_state"]
    opened = "circuit_breaker_state_changes_total from_state=closed to_state=open"
    assert {opened: 1.0} == ran.of("circuit_breaker_state_changes_total")
    assert {"resilience_rejected_total policy=breaker": 1.0} == (
        ran.of("resilience_rejected_total")
    )


PROBES = """
import requests, sys, time
from concurrent.futures import ThreadPoolExecutor

def call(_):
    try:
        return requests.get(sys.argv[1]).status_code
    except requests.ConnectionError:
        return 0

for _ in range(5):
    call(0)
time.sleep(0.7)
with ThreadPoolExecutor(20) as pool:
    print(sorted(pool.map(call, range(20)))[-2:])
print(call(0))
"""


def test_one_of_many_callers_probes_and_two_successes_close(
    app: App, server: Server
) -> None:
    """When the open time is up, one finds out for all."""
    from loopback import Delay

    server.script("/x", *[Status(500)] * 5, Delay(1.0, Status(200)))

    ran = app.run(
        PROBES,
        server.url("/x"),
        BREAKER_OPEN_FOR="0.5",
        BREAKER_OPEN_JITTER="0",
    )

    assert (0, "[0, 200]\n200\n", "") == ran[:3]
    assert 0.0 == ran.samples["circuit_breaker_state"]
    assert 3 == len(ran.of("circuit_breaker_state_changes_total"))
    assert 7 == len(server.hits("/x"))


DRIP = """
import requests, sys, time

begun = time.perf_counter()
try:
    requests.get(sys.argv[1], verify=sys.argv[2])
except requests.RequestException:
    print(1.0 < time.perf_counter() - begun < 4.0)
"""


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("where", ["headers", "body"])
def test_a_dripping_server_is_cut_at_the_total(
    app: App, where: str, *, tls: bool
) -> None:
    """A byte a second keeps no call alive."""
    with Server(tls=tls) as server:
        drip = Drip(interval=1.0) if where == "headers" else DripBody(interval=1.0)
        server.script("/x", drip)
        authority = str(server.ca_file) if tls else ""

        ran = app.run(
            DRIP, server.url("/x"), authority, TIMEOUT_READ="1.5", TIMEOUT_TOTAL="1.5"
        )

    assert (0, "True\n", "") == ran[:3]
    timed_out = "resilience_attempt_total outcome=timeout_total"
    assert {timed_out: 1.0} == ran.of("resilience_attempt_total")


NOISY = """
import sys, requests
print("out", requests.__name__)
sys.stdout.flush()
sys.stderr.write("err\\n")
sys.exit(3)
"""


def test_output_and_exit_code_are_the_apps_own(app: App) -> None:
    """Byte for byte, with a governed library loaded."""
    plain = app.run_plain(NOISY)

    governed = app.run(NOISY, scrape=False)

    assert 3 == plain.code
    assert plain[:3] == governed[:3]


@pytest.mark.measured
@pytest.mark.parametrize("where", ["describe", "engine", "observer", "classify"])
def test_a_fault_of_the_agent_lets_the_call_through(
    app: App, server: Server, where: str
) -> None:
    """It is counted each time, and said in one line, once."""
    server.script("/x", Status(200))
    source = """
import requests, sys
print([requests.get(sys.argv[1]).status_code for _ in range(3)])"""

    ran = app.run(
        source, server.url("/x"), TEST_FAULT=where, scrape=where != "describe"
    )

    assert (0, "[200, 200, 200]\n") == ran[:2]
    assert 1 == len(ran.errors.splitlines())
    assert "provoked by RESILIENCE_TEST_FAULT" in ran.errors
    assert 3 == len(server.hits("/x"))
    if where != "describe":
        place = "engine" if where == "classify" else where
        key = f"resilience_agent_error_total where={place}"
        assert ran.samples[key] >= 3


def test_switched_off_the_app_is_plain(app: App, server: Server) -> None:
    """No retry, no metrics, nothing loaded."""
    server.script("/x", Status(503), Status(200))
    source = GETS["requests"] + (
        "\nprint([m for m in sys.modules if m.startswith('resilience')])"
    )

    ran = app.run(source, server.url("/x"), scrape=False, ENABLED="0")

    assert (0, "503\n[]\n", "") == ran[:3]


def test_a_hanging_server_costs_one_read_timeout(app: App, server: Server) -> None:
    """The second attempt gets the answer, and the timeout is counted."""
    server.script("/x", Hang(), Status(200))

    ran = app.run(
        GETS["requests"], server.url("/x"), TIMEOUT_READ="0.5", RETRY_BASE_DELAY="0.05"
    )

    assert (0, "200\n", "") == ran[:3]
    assert {"api_timeout_total": 1.0} == ran.of("api_timeout_total")


# The way of a request ends where the socket would be opened.
MANY_PATHS = """
import io, itertools, requests, urllib3

def urlopen(self, method, url, **rest):
    return urllib3.HTTPResponse(io.BytesIO(b"ok"), status=200, preload_content=False)

urllib3.HTTPConnectionPool.urlopen = urlopen
with requests.Session() as session:
    session.trust_env = False
    for words in itertools.product("abcdefghij", repeat=5):
        session.get("http://api.test/" + "/".join(words))
"""


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_hundred_thousand_paths_are_counted_under_few_labels(app: App) -> None:
    """No call is lost for it, and the metrics stay as small as they were."""
    ran = app.run(MANY_PATHS)

    text = (app.directory / "scraped").read_text(encoding="utf-8")
    calls = {
        sample.labels["endpoint"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "api_request_total" and sample.value
    }
    assert (0, "", "") == ran[:3]
    assert 100_000 == sum(calls.values())
    assert LIMIT + 1 >= len(calls)
