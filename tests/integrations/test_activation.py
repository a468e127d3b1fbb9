"""Every HTTP library is governed under the command, however an app imports it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopback import Server, Status

LAUNCHER = str(Path(sys.executable).with_name("resilience-instrument"))

APPS = {
    "requests": "from requests import get\nprint(get(url).status_code)",
    "httpx": "from httpx import get\nprint(get(url).status_code)",
    "httpx2": "from httpx2 import get\nprint(get(url).status_code)",
    "httpx-async": """
import asyncio
import httpx

async def main():
    async with httpx.AsyncClient() as client:
        print((await client.get(url)).status_code)

asyncio.run(main())
""",
    "aiohttp": """
import asyncio
import aiohttp

async def main():
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        print(answer.status)

asyncio.run(main())
""",
    "urllib3": "import urllib3\nprint(urllib3.request('GET', url).status)",
    "urllib.request": """
from urllib.request import urlopen
with urlopen(url) as answer:
    print(answer.status)
""",
    "botocore": """
import botocore.session
session = botocore.session.Session()
session.set_credentials("key", "secret")
client = session.create_client("dynamodb", "us-east-1", endpoint_url=url)
assert 10 == client.meta.config.read_timeout
print(client.list_tables()["ResponseMetadata"]["HTTPStatusCode"])
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("app", APPS)
def test_two_503s_and_a_200_are_a_200_under_the_command(
    app: str, server: Server
) -> None:
    """An app that knows nothing of the agent, nor of retries."""
    server.script("/x", Status(503), Status(503), Status(200))
    environment = {
        **os.environ,
        "RESILIENCE_RETRY_BASE_DELAY": "0.01",
        "RESILIENCE_METRICS_PORT": "0",
    }
    script = f"url = {server.url('/x')!r}\n{APPS[app]}"

    done = subprocess.run(
        [LAUNCHER, sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ("200\n", "", 0) == (done.stdout, done.stderr, done.returncode)
    assert 3 == len(server.hits("/x"))
