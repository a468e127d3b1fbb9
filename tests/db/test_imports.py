"""Under the launcher every driver is governed by its import alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

COMMAND = str(Path(sysconfig.get_path("scripts")) / "resilience-instrument")

# Failing to reach a server is enough to be known to the agent.
WAYS = {
    "sqlite3": "import sqlite3; sqlite3.connect(':memory:').close()",
    "psycopg2": "import psycopg2; psycopg2.connect(host='127.0.0.1', port=1)",
    "psycopg": "from psycopg import connect; connect('host=127.0.0.1 port=1')",
    "pymysql": "import pymysql; pymysql.connect(host='127.0.0.1', port=1)",
    "mysql.connector": "import mysql.connector as driver;"
    " driver.connect(host='127.0.0.1', port=1, use_pure=True)",
    "mysql.connector.pooling": "from mysql.connector.pooling import"
    " MySQLConnectionPool as pool; pool(host='127.0.0.1', port=1, use_pure=True)",
    "MySQLdb": "import MySQLdb; MySQLdb.connect(host='127.0.0.1', port=1)",
    "asyncpg": "import asyncio, asyncpg;"
    " asyncio.run(asyncpg.connect(host='127.0.0.1', port=1))",
    "aiomysql": "import asyncio, aiomysql;"
    " asyncio.run(aiomysql.connect(host='127.0.0.1', port=1))",
}

APP = """
import json, sys
try:
    exec(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error, file=sys.stderr)
from resilience_instrument._agent import _Process
agent = _Process.agent
print(json.dumps([policies.service for policies in agent.registry.known()]))
"""


@pytest.mark.parametrize("name", sorted(WAYS))
def test_a_driver_is_governed_by_its_import(name: str) -> None:
    """Whichever of its modules an app imports first."""
    pytest.importorskip(name)
    done = subprocess.run(
        [COMMAND, sys.executable, "-c", APP, WAYS[name]],
        env={
            **os.environ,
            "RESILIENCE_METRICS_PORT": "0",
            "RESILIENCE_RETRY_MAX_ATTEMPTS": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    known = json.loads(done.stdout.splitlines()[-1])
    assert 1 == len(known), done.stderr
    scheme = "mysql" if "mysql" in name.lower() else "postgresql"
    wanted = "sqlite::memory:" if name == "sqlite3" else f"{scheme}://127.0.0.1:1/"
    assert known[0].startswith(wanted)
