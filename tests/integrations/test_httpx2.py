"""httpx2: what only the fork can do. All else is the contract and httpx's tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loopback import Server, Status

SCRIPT = """
import sys

import httpx2

httpx2.alias_httpx()
import httpx
from integrations.governing import governing

with governing(("httpx2", "httpx"), RETRY_BASE_DELAY="0"):
    print(httpx is httpx2, httpx.get(sys.argv[1]).status_code)
"""


@pytest.mark.measured
@pytest.mark.slow
def test_a_fork_that_takes_the_name_of_the_original_is_governed_once(
    server: Server,
) -> None:
    """Three attempts for both names together, not nine."""
    server.script("/x", Status(503))

    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, server.url("/x")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ("True 503\n", "") == (done.stdout, done.stderr)
    assert 3 == len(server.hits("/x"))
