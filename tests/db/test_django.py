"""Django on each driver: its own errors, its own connections, nothing of ours."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from db.servers import free_port

if TYPE_CHECKING:
    from db.servers import MariaDB, Postgres

pytestmark = [pytest.mark.slow, pytest.mark.long]

COMMAND = str(Path(sysconfig.get_path("scripts")) / "resilience-instrument")
APP = str(Path(__file__).with_name("django_app.py"))

TESTED = ("sqlite3", "psycopg2", "psycopg", "pymysql", "mysqlclient")

UNFIT = {
    "test_a_statement_ends_at_the_limit_and_its_connection_is_not_kept": {
        "sqlite3": "There is no server: neither a limit nor a circuit.",
    },
    "test_an_open_circuit_is_djangos_own_error": {
        "sqlite3": "There is no server: neither a limit nor a circuit.",
    },
}

SETTINGS = {
    "RESILIENCE_TIMEOUT_READ": "2",
    "RESILIENCE_TIMEOUT_CONNECT": "2",
    "RESILIENCE_RETRY_MAX_ATTEMPTS": "1",
    "RESILIENCE_BREAKER_CONSECUTIVE": "3",
    "RESILIENCE_BREAKER_OPEN_FOR": "4",
    "RESILIENCE_BREAKER_OPEN_MAX": "4",
    "RESILIENCE_BREAKER_OPEN_JITTER": "0",
}

_SEEN: dict[str, dict[str, Any]] = {}


def see(driver: str, port: int) -> dict[str, Any]:
    """Run the project under the agent and return what it saw."""
    metrics = free_port()
    done = subprocess.run(
        [COMMAND, sys.executable, "-W", "ignore", APP, driver, str(port), str(metrics)],
        env={**os.environ, **SETTINGS, "RESILIENCE_METRICS_PORT": str(metrics)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen


@pytest.fixture(
    params=[
        "sqlite3",
        "psycopg2",
        "psycopg",
        pytest.param("pymysql", id="pymysql"),
        pytest.param(
            "mysqlclient",
            marks=pytest.mark.skipif(
                not importlib.util.find_spec("MySQLdb"), reason="it is not installed"
            ),
        ),
    ]
)
def seen(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what the project saw with a driver; it runs once for each."""
    name = request.param
    excuses = UNFIT.get(request.node.originalname, {})
    if name in excuses:
        pytest.skip(excuses[name])
    if name not in _SEEN:
        server: Postgres | MariaDB | None = None
        if name != "sqlite3":
            kind = "mariadb" if "mysql" in name else "postgres"
            server = request.getfixturevalue(kind)
        _SEEN[name] = see(name, server.port if server else 1)
    return _SEEN[name]


def test_the_orm_works_as_before(seen: dict[str, Any]) -> None:
    """Case 51: rows, JSON, aggregates and iterators; each statement is counted."""
    names = ["one", "many 2", "many 3", "many 4", "many 5"]

    assert {
        "facts": {"a": [1, 2]},
        "sum": 60,
        "names": names,
        "counted": 1,
    } == seen["queries"]
    assert {"count": 0} == seen["faults"]


def test_blocks_and_savepoints_are_djangos(seen: dict[str, Any]) -> None:
    """Case 51: an inner block is undone alone, an outer one as a whole."""
    assert {"names": ["outer", "after"], "error": "KeyError"} == seen["savepoints"]


def test_nothing_inside_a_block_is_sent_again(seen: dict[str, Any]) -> None:
    """Case 51: whoever wrote `atomic` decides whether the block happens again."""
    contention = seen["contention"]

    assert contention["is_operational"]
    assert 1 == contention["skipped"]
    assert 0 == contention["retried"]
    assert ["row"] == contention["names"]


def test_a_statement_ends_at_the_limit_and_its_connection_is_not_kept(
    seen: dict[str, Any],
) -> None:
    """Case 51: Django drops the dead connection that it would have kept."""
    limit = seen["limit"]

    assert [True, True] == limit["is_operational"]
    assert 1.9 < limit["seconds"][0] < 3.9
    assert limit["seconds"][1] < 5
    assert [1, 1] == limit["counts"]
    assert 2 == limit["timeouts"]


def test_an_open_circuit_is_djangos_own_error(seen: dict[str, Any]) -> None:
    """Case 51: with ours as its cause; nothing is opened meanwhile; it closes again."""
    circuit = seen["circuit"]

    assert circuit["refused"]
    assert circuit["rejected"]
    assert circuit["causes"]
    assert 0 == circuit["opened"]
    assert circuit["seconds"] < 2
    assert 1 == circuit["back"]
