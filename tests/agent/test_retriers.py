"""Somebody else retries: no attempt is multiplied, and each call is governed once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from agent.processes import bare, governed
from loopback import Server, Status

if TYPE_CHECKING:
    from pathlib import Path

# Prints what came of it, how many calls were counted, and how many attempts.
APP = """\
import http.client, sys, time, warnings
warnings.simplefilter("ignore")
{imports}
url, port = sys.argv[1], int(sys.argv[2])
try:
{body}
except Exception as error:
    print(type(error).__name__)
metrics = http.client.HTTPConnection("127.0.0.1", port)
for _ in range(500):
    try:
        metrics.request("GET", "/metrics")
        break
    except ConnectionRefusedError:
        time.sleep(0.02)  # the port is opened beside the call
lines = metrics.getresponse().read().decode().splitlines()
for name in ("api_request_total", "resilience_attempt_total"):
    found = [line.split()[-1] for line in lines if line.startswith(name + "{{")]
    print(sum(map(float, found)))
"""


class Case(NamedTuple):
    """An app whose call fails each time.

    Attributes:
        imports: What it imports.
        body: What it does.
        outcome: What the app sees in the end.
        hits: Requests that the server gets, as without the agent.
        calls: Calls that are counted.
        attempts: Attempts that are counted.
    """

    imports: str
    body: str
    outcome: str
    hits: int
    calls: int
    attempts: int


CASES = {
    "nobody": Case(
        "import requests", "print(requests.get(url).status_code)", "503", 3, 1, 3
    ),
    # urllib3 repeats below the adapter, within the one attempt that is seen.
    "a mounted Retry": Case(
        "import requests, requests.adapters, urllib3",
        "session = requests.Session()\n"
        "own = urllib3.Retry(3, status_forcelist=[503], backoff_factor=0)\n"
        "adapter = requests.adapters.HTTPAdapter(max_retries=own)\n"
        "session.mount('http://', adapter)\n"
        "print(session.get(url).status_code)",
        "RetryError",
        4,
        1,
        1,
    ),
    # All others repeat above: each of their attempts is a call.
    "urllib3": Case(
        "import urllib3",
        "own = urllib3.Retry(3, status_forcelist=[503], backoff_factor=0)\n"
        "print(urllib3.PoolManager().request('GET', url, retries=own).status)",
        "MaxRetryError",
        4,
        4,
        4,
    ),
    "httpx-retries": Case(
        "import httpx, httpx_retries",
        "own = httpx_retries.Retry(total=3, backoff_factor=0)\n"
        "transport = httpx_retries.RetryTransport(retry=own)\n"
        "print(httpx.Client(transport=transport).get(url).status_code)",
        "503",
        4,
        4,
        4,
    ),
    "tenacity": Case(
        "import requests, tenacity",
        "for attempt in tenacity.Retrying(stop=tenacity.stop_after_attempt(4)):\n"
        "    with attempt: requests.get(url).raise_for_status()",
        "RetryError",
        4,
        4,
        4,
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_39_retries_of_the_apps_own_are_the_only_ones(
    tmp_path: Path, port: int, case: Case
) -> None:
    """The server is asked as often as without the agent, and each layer counts once."""
    body = "\n".join(f"    {line}" for line in case.body.splitlines())
    (tmp_path / "app.py").write_text(APP.format(imports=case.imports, body=body))
    env = bare(
        RESILIENCE_METRICS_PORT=str(port),
        RESILIENCE_RUN_DIR=str(tmp_path),
        RESILIENCE_RETRY_BASE_DELAY="0.01",
    )
    with Server() as server:
        server.script("/", Status(503))
        done = governed(
            "python", tmp_path / "app.py", server.url("/"), str(port), env=env
        )
        hits = len(server.hits())

    said = f"{case.outcome}\n{case.calls}.0\n{case.attempts}.0\n"
    assert (0, said, "") == done
    assert case.hits == hits


LAYERS = """\
import http.client, sys, time
import sqlalchemy
engine = sqlalchemy.create_engine("sqlite://")
with engine.connect() as connection:
    for number in range(3):
        print(connection.scalar(sqlalchemy.text("SELECT 7")))
time.sleep(1)  # the port is opened by a thread, and this is over at once
metrics = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]))
metrics.request("GET", "/metrics")
lines = metrics.getresponse().read().decode().splitlines()
for line in lines:
    if line.startswith('api_request_total{endpoint="SELECT",outcome="success"'):
        print(line.split()[-1])
"""


def test_39_a_driver_below_sqlalchemy_is_one_governed_layer(
    tmp_path: Path, port: int
) -> None:
    """Three statements are three calls."""
    (tmp_path / "app.py").write_text(LAYERS)
    env = bare(RESILIENCE_METRICS_PORT=str(port), RESILIENCE_RUN_DIR=str(tmp_path))

    done = governed("python", tmp_path / "app.py", str(port), env=env)

    assert (0, "7\n7\n7\n3.0\n", "") == done
