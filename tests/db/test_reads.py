"""Reads that are sent again where somebody asked for it, and what is no read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from db.harness import DRIVERS
from resilience_instrument.integrations._reads import is_only_read, may_repeat
from resilience_instrument.integrations._sql import MYSQL, POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.servers import Postgres
    from integrations.governing import Governed

    Govern = Callable[..., Governed]

DRIVERS_OF_POSTGRESQL = ("psycopg2", "psycopg", "psycopg-async", "asyncpg")

# A view that fails once, and whose text says nothing of it.
UNLUCKY = (
    "DROP VIEW IF EXISTS unlucky",
    "DROP SEQUENCE IF EXISTS luck",
    "CREATE SEQUENCE luck",
    """CREATE OR REPLACE FUNCTION once(state text) RETURNS int AS $$
    BEGIN
        IF nextval('luck') % 2 = 1 THEN
            RAISE EXCEPTION 'provoked' USING ERRCODE = state;
        END IF;
        RETURN 7;
    END $$ LANGUAGE plpgsql VOLATILE""",
)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        " (select a, count(*) from t where b in (1, 2) group by (a))",
        "SELECT coalesce(max(a), 0) FROM t JOIN u USING (id) WHERE x = 'f(1); DELETE'",
        "VALUES (1), (2)",
        "TABLE t",
        "SHOW statement_timeout",
        "SELECT rank() OVER (PARTITION BY a ORDER BY b) FROM (SELECT 1) AS s",
    ],
)
def test_what_only_reads_is_seen(sql: str) -> None:
    """Queries whose every word and function is known."""
    assert is_only_read(sql, POSTGRESQL)
    assert is_only_read(sql, MYSQL)


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "WITH gone AS (DELETE FROM t RETURNING *) SELECT * FROM gone",
        "SELECT nextval('s')",
        "SELECT set_config('a', 'b', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_catalog.pg_notify('a', 'b')",
        'SELECT "mine"(1)',
        "SELECT mine (1)",
        "SELECT /* */ lo_create(0)",
        "SELECT * FROM t FOR UPDATE",
        "SELECT a INTO u FROM t",
        "SELECT @a := 1",
        "SELECT GET_LOCK('a', 1)",
        "SELECT a FROM t LOCK IN SHARE MODE",
        "SELECT NEXT VALUE FOR s",
        "SELECT 1 /*! INTO OUTFILE 'x' */",
        "SELECT 1 /*M!100101 INTO OUTFILE 'x' */",
        "EXPLAIN ANALYZE DELETE FROM t",
        "CALL p()",
        "",
    ],
)
def test_whatever_may_do_more_is_no_read(sql: str) -> None:
    """Writing, locking, and every function that nobody knows."""
    assert not is_only_read(sql, POSTGRESQL)
    assert not is_only_read(sql, MYSQL)


def test_only_a_server_in_trouble_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By opt-in, and neither after a full disk nor after a lost connection."""
    before = may_repeat("SELECT 1", "53200", POSTGRESQL)
    monkeypatch.setenv("RESILIENCE_DATABASE_RETRY_READS", "1")

    told = [
        may_repeat("SELECT 1", code, POSTGRESQL)
        for code in ("53200", "58030", "53100", "57P01", "", "5320", "42P01")
    ]

    assert not before
    assert [True, True, False, False, False, False, False] == told
    assert not may_repeat(None, "53200", POSTGRESQL)


@pytest.mark.slow
@pytest.mark.parametrize("state", ["53200", "42P17"])
@pytest.mark.parametrize("name", DRIVERS_OF_POSTGRESQL)
def test_a_read_is_sent_again_where_it_is_asked_for(
    govern: Govern,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    state: str,
) -> None:
    """As the first of its transaction, for what a server in trouble says."""
    postgres.sql(*UNLUCKY, f"CREATE VIEW unlucky AS SELECT once('{state}') AS n")
    driver: Any = DRIVERS[name]()
    inside = govern(driver.library)
    connection = driver.open(postgres.port)

    with pytest.raises(driver.any_error):
        driver.execute(connection, "SELECT n FROM unlucky")
    driver.rollback(connection) if name != "asyncpg" else None
    driver.execute(connection, "SELECT n FROM unlucky")
    driver.rollback(connection) if name != "asyncpg" else None
    unasked = list(inside.told.retries)
    monkeypatch.setenv("RESILIENCE_DATABASE_RETRY_READS", "1")
    rows: list[Any] = []
    if state == "53200":
        rows = driver.execute(connection, "SELECT n FROM unlucky")
    else:
        with pytest.raises(driver.any_error):
            driver.execute(connection, "SELECT n FROM unlucky")
    driver.finish()

    assert [] == unasked
    assert ([2] if state == "53200" else []) == inside.told.retries
    assert ([(7,)] if state == "53200" else []) == [tuple(row) for row in rows]
