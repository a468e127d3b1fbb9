"""Every library that is governed: the name an app imports, and its room.

Adding a library takes one line here and one file beside this one. This module
imports nothing, not even typing, so that the boot stage can read it.
"""

from __future__ import annotations

LIBRARIES: dict[str, str] = {
    "requests": "resilience_instrument.integrations.requests",
    "botocore": "resilience_instrument.integrations.botocore",
    "aiohttp": "resilience_instrument.integrations.aiohttp",
    "httpcore": "resilience_instrument.integrations.httpcore",
    "httpcore2": "resilience_instrument.integrations.httpcore2",
    "httpx": "resilience_instrument.integrations.httpx",
    "httpx2": "resilience_instrument.integrations.httpx2",
    "tenacity": "resilience_instrument.integrations.tenacity",
    "urllib3": "resilience_instrument.integrations.urllib3",
    "urllib.request": "resilience_instrument.integrations.urllib_request",
    "sqlite3": "resilience_instrument.integrations.sqlite3",
    "psycopg2": "resilience_instrument.integrations.psycopg2",
    "psycopg": "resilience_instrument.integrations.psycopg",
    "pymysql": "resilience_instrument.integrations.pymysql",
    "mysql.connector": "resilience_instrument.integrations.mysql_connector",
    "MySQLdb": "resilience_instrument.integrations.mysqlclient",
    "asyncpg": "resilience_instrument.integrations.asyncpg",
    "aiomysql": "resilience_instrument.integrations.aiomysql",
}

WAITED_FOR: dict[str, str] = {"botocore": "botocore.client"}
"""Modules whose import is waited for where the package itself loads next to nothing."""

TEST_TOOLS = frozenset(
    {
        "httpretty",
        "pytest",
        "requests_mock",
        "respx",
        "responses",
        "unittest.mock",
        "vcr",
    }
)
"""Modules that replace parts of a library: the wrappers must be there before."""
