"""The short way of each driver that has one, against real servers."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from db.harness import DRIVERS
from db.telling import Recorder
from integrations.governing import governing
from resilience_instrument.integrations import psycopg2 as psycopg2_room

if TYPE_CHECKING:
    from collections.abc import Iterator

    from db.harness import Driver
    from db.servers import MariaDB, Postgres

TESTED = ("psycopg2", "psycopg", "psycopg-async", "pymysql")

# A function that goes wrong from its third call on, in the way that a table says.
_POSTGRESQL = (
    "DROP TABLE IF EXISTS ways; CREATE TABLE ways (way text, until int)",
    "DROP SEQUENCE IF EXISTS turns; CREATE SEQUENCE turns",
    """CREATE OR REPLACE FUNCTION risky() RETURNS int LANGUAGE plpgsql AS $$
    DECLARE turn int := nextval('turns'); chosen ways;
    BEGIN
        SELECT * INTO chosen FROM ways;
        IF turn BETWEEN 3 AND chosen.until THEN
            IF chosen.way = 'undone' THEN RAISE EXCEPTION USING ERRCODE = '40001';
            ELSIF chosen.way = 'refused' THEN RAISE EXCEPTION USING ERRCODE = '23505';
            ELSIF chosen.way = 'late' THEN PERFORM pg_sleep(20);
            END IF;
        END IF;
        RETURN turn;
    END $$""",
)
_MYSQL = (
    "CREATE OR REPLACE TABLE test.ways (way text, until int)",
    "CREATE OR REPLACE SEQUENCE test.turns",
    (
        "CREATE OR REPLACE FUNCTION test.risky() RETURNS int BEGIN"
        " DECLARE turn, last, done int; DECLARE chosen text;"
        " SET turn = NEXT VALUE FOR test.turns;"
        " SELECT way, until INTO chosen, last FROM test.ways;"
        " IF turn BETWEEN 3 AND last THEN"
        "  IF chosen = 'undone' THEN SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213;"
        "  ELSEIF chosen = 'refused'"
        "  THEN SIGNAL SQLSTATE '23000' SET MYSQL_ERRNO = 1062;"
        "  ELSEIF chosen = 'late' THEN SET done = SLEEP(20);"
        " END IF; END IF; RETURN turn; END"
    ),
)


@pytest.fixture(params=TESTED)
def driver(request: pytest.FixtureRequest) -> type[Driver]:
    """Each driver that has a short way."""
    return DRIVERS[request.param]


@pytest.fixture
def server(driver: type[Driver], request: pytest.FixtureRequest) -> Postgres | MariaDB:
    """Run the driver's server."""
    name = "mariadb" if driver.server == "mysql" else "postgres"
    found: Postgres | MariaDB = request.getfixturevalue(name)
    return found


def choose(server: Any, driver: type[Driver], way: str, until: int) -> None:
    """Let `risky()` go wrong from its third call on to that number."""
    if driver.server == "mysql":
        server.sql("DELIMITER //\n" + "//\n".join(_MYSQL) + "//")
        server.sql(f"INSERT INTO test.ways VALUES ('{way}', {until})")
    else:
        server.sql(*_POSTGRESQL, f"INSERT INTO ways VALUES ('{way}', {until})")


@contextlib.contextmanager
def using(
    kind: type[Driver], server: Any, *, fast: bool, **settings: Any
) -> Iterator[tuple[Driver, Any, Recorder]]:
    """Yield a driver, a connection in autocommit mode, and what was told."""
    with governing((kind.library,), **settings) as inside:
        inside.runtime.fast = fast
        told = inside.runtime.observer = Recorder()
        driver = kind()
        try:
            connection = driver.open(server.port)
            driver.autocommit(connection)
            yield driver, connection, told
        finally:
            driver.finish()


def ask(driver: Driver, connection: Any) -> Any:
    """Call the function; return its answer or the error's class."""
    try:
        return driver.execute(connection, "SELECT risky()")
    except driver.any_error as error:
        return type(error)


WAYS = [("none", 0), ("refused", 3), ("undone", 3), ("undone", 99), ("late", 3)]


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "inside"])
@pytest.mark.parametrize(("way", "until"), WAYS)
def test_both_ways_tell_the_same(
    driver: type[Driver],
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    until: int,
    *,
    inside: bool,
) -> None:
    """Answers and signals of statements agree, alone and inside a transaction."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    # A busy server may take a while to hear of a cancel.
    monkeypatch.setattr(psycopg2_room, "GRACE", 5.0)
    played = []
    for fast in (False, True):
        choose(server, driver, way, until)
        with using(driver, server, fast=fast, TIMEOUT_READ="0.5") as (one, at, told):
            came = [_transaction(one, at, inside=inside) for _ in range(2)]
            begun = time.monotonic()
            came.append(_transaction(one, at, inside=inside))
            if not one.is_closed(at):
                came.append(_transaction(one, at, inside=inside))
            assert 10 > time.monotonic() - begun
        played.append((came, told))

    (long_came, long), (short_came, short) = played
    assert long_came == short_came
    assert long.events == short.events
    assert 0 == long.short
    assert 1 <= short.short
    assert 0 == short.under_way


def _transaction(driver: Driver, connection: Any, *, inside: bool) -> list[Any]:
    if not inside:
        return [ask(driver, connection)]
    driver.begin(connection)
    try:
        rows = driver.execute(connection, "SELECT 5")
        answer = ask(driver, connection)
        driver.commit(connection)
    except driver.any_error as error:
        return [type(error)]
    driver.autocommit(connection)
    return [rows, answer]
