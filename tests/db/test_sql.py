"""Statements get names without a literal in them, and cheaply."""

from __future__ import annotations

import math
import time

import pytest

from resilience_instrument.integrations._sql import (
    CACHED,
    LONGEST,
    MYSQL,
    POSTGRESQL,
    SQLITE,
    Dialect,
)

TESTED = (
    "sqlite3",
    "psycopg2",
    "psycopg",
    "psycopg-async",
    "asyncpg",
    "pymysql",
    "mysql.connector",
    "mysqlclient",
    "aiomysql",
)

DIALECTS = (POSTGRESQL, MYSQL, SQLITE)

# The examples of the semantic conventions for `db.query.summary`.
CONVENTIONS = [
    ("SELECT *\nFROM wuser_table\nWHERE username = ?", "SELECT wuser_table"),
    (
        "INSERT INTO shipping_details (a, b) SELECT a, b FROM orders WHERE a = ?",
        "INSERT shipping_details SELECT orders",
    ),
    (
        "SELECT *\nFROM songs,\n     artists\nWHERE songs.artist_id == artists.id",
        "SELECT songs artists",
    ),
    (
        "SELECT a\nFROM (SELECT *\n FROM orders o\n JOIN customers c ON o.a = c.b)",
        "SELECT SELECT orders customers",
    ),
    ("SELECT *\nFROM \"song list\",\n 'artists'", "SELECT \"song list\" 'artists'"),
    ("{call some_stored_procedure}", "call some_stored_procedure"),
]


@pytest.mark.parametrize(("sql", "expected"), CONVENTIONS)
def test_examples_of_the_conventions_are_named_exactly(sql: str, expected: str) -> None:
    """Case 44: six examples, six names; sqlite takes a string for a table."""
    assert expected == SQLITE.read(sql).summary


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", "select"),
        ("SELECT(1)", "SELECT"),
        ("SELECT a.b FROM t AS x, s.u y LEFT JOIN v ON 1 = 1", "SELECT t s.u v"),
        ("SELECT a FROM t WHERE b = 1 FOR UPDATE", "SELECT t"),
        ("UPDATE t SET a = replace(b, 1, 2)", "UPDATE t"),
        ("REPLACE INTO t VALUES (1)", "REPLACE t"),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", "INSERT t"),
        ("SELECT extract(year FROM d), trim(both c FROM e) FROM t", "SELECT t"),
        ("SELECT a IS DISTINCT FROM b FROM t", "SELECT t"),
        ("CREATE TABLE IF NOT EXISTS t (a int)", "CREATE TABLE t"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX i"),
        ("TRUNCATE t", "TRUNCATE t"),
        ("DROP", "DROP"),
        ("COPY t FROM STDIN", "COPY t"),
        ("COPY (SELECT 1) TO STDOUT", "COPY SELECT"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "SELECT SELECT x"),
        ("SAVEPOINT sa_savepoint_1", "SAVEPOINT"),
        ("BEGIN; DELETE FROM t; COMMIT", "BEGIN DELETE t COMMIT"),
        ("EXPLAIN SELECT * FROM t", "EXPLAIN SELECT t"),
        ("-- a note\nSELECT /* from x */ 1", "SELECT"),
        ("WITH", "WITH"),
        ("DELETE (", "DELETE"),
        ("bob's your uncle", "OTHER"),
        ("", "OTHER"),
        ("SELECT 'ß' FROM straße", "SELECT straße"),
    ],
)
def test_commands_and_targets_make_the_name(sql: str, expected: str) -> None:
    """The name has the commands and tables in their order, as they are written."""
    assert [expected] * 3 == [dialect.read(sql).summary for dialect in DIALECTS]


@pytest.mark.parametrize(
    ("dialect", "sql", "expected"),
    [
        (POSTGRESQL, "SELECT * FROM t WHERE n='message from bob'", "SELECT t"),
        (POSTGRESQL, r"SELECT * FROM t WHERE n='C:\' AND m='from bob'", "SELECT t"),
        (POSTGRESQL, r"SELECT E'it\'s from bob' FROM t", "SELECT t"),
        (POSTGRESQL, "SELECT $$from bob$$, $x$ from $$ bob $x$ FROM t", "SELECT t"),
        (POSTGRESQL, "SELECT 1 FROM t /* /* from a */ from bob */", "SELECT t"),
        (POSTGRESQL, "SELECT a FROM 'bob'", "SELECT"),
        (MYSQL, 'SELECT * FROM t WHERE n="message from bob"', "SELECT t"),
        (MYSQL, r"SELECT 'it\'s from bob' FROM t # from bob", "SELECT t"),
        (MYSQL, "SELECT `from bob` FROM `t`", "SELECT `t`"),
        (SQLITE, r"SELECT 'C:\', 'from bob' FROM t", "SELECT t"),
        (SQLITE, "SELECT a IS DISTINCT FROM 'bob' FROM t", "SELECT t"),
        (SQLITE, "SELECT [from bob] FROM [t]", "SELECT [t]"),
        *[(d, "INSERT INTO t VALUES ('message from bob", "INSERT t") for d in DIALECTS],
        *[(d, "SELECT 1 FROM t /* from bob", "SELECT t") for d in DIALECTS],
    ],
)
def test_no_literal_is_in_the_name(dialect: Dialect, sql: str, expected: str) -> None:
    """Case 44: quotes, escapes and comments follow the dialect, closed or not."""
    assert expected == dialect.read(sql).summary


def test_a_long_name_ends_between_two_words() -> None:
    """A name is cut to 255 characters, never inside a table's name."""
    tables = ", ".join(f"table_number_{number}" for number in range(60))

    summary = POSTGRESQL.read(f"SELECT * FROM {tables}").summary

    assert len(summary) <= LONGEST
    assert f"table_number_{summary.count('table') - 1}" == summary.split()[-1]


def test_bytes_are_read_like_text() -> None:
    """Drivers that encode a statement before they send it are served as well."""
    sql = b"SELECT '\xff' FROM t"

    assert "SELECT t" == MYSQL.read(sql).summary
    assert MYSQL.read(sql) is MYSQL.read(sql)


def test_ten_thousand_texts_are_remembered_in_bounds() -> None:
    """Case 45: literals that are pasted into the text do not fill the memory."""
    dialect = Dialect("postgresql", POSTGRESQL._blank)

    names = {dialect.read(f"SELECT {n} FROM t").summary for n in range(3 * CACHED)}

    assert {"SELECT t"} == names
    assert len(dialect._cache) <= CACHED


def test_a_huge_statement_costs_no_more_than_its_beginning() -> None:
    """Case 45: an INSERT of 10 MB is named sooner than its letters are looked at."""
    sql = "INSERT INTO t VALUES " + "('x')," * 2_000_000
    named = looked_at = math.inf
    for number in range(5):
        fresh = f"{sql}({number})"
        begun = time.perf_counter()
        assert "INSERT t" == SQLITE.read(fresh).summary
        between = time.perf_counter()
        fresh.upper()
        named = min(named, between - begun)
        looked_at = min(looked_at, time.perf_counter() - between)

    assert named < looked_at


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", True),
        ("SELECT ';' ; ", True),
        ("SELECT 1; SELECT 2", False),
        ("SELECT 1 -- ; no\n", True),
    ],
)
def test_one_statement_is_told_from_several(sql: str, *, expected: bool) -> None:
    """A semicolon inside a literal or a comment parts nothing."""
    assert [expected] * 3 == [dialect.is_single(sql) for dialect in DIALECTS]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("CREATE INDEX i ON t (a)", True),
        ("vacuum t", True),
        ("SELECT pg_advisory_lock(1)", True),
        ("SELECT GET_LOCK('x', 1)", True),
        ("SELECT 'pg_advisory_lock'", False),
        ("SELECT 1", False),
        ("nonsense", False),
    ],
)
def test_what_may_run_for_long_is_known(sql: str, *, expected: bool) -> None:
    """Case 24: schema changes, maintenance and awaited locks get no limit."""
    assert [expected] * 3 == [dialect.read(sql).unlimited for dialect in DIALECTS]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SET statement_timeout = '5min'", True),
        ("set session max_statement_time=1", True),
        ("SET search_path = x", False),
        ("SELECT statement_timeout FROM t", False),
    ],
)
def test_an_own_limit_of_the_app_is_noticed(sql: str, *, expected: bool) -> None:
    """An app that sets the server's limit has decided itself."""
    assert [expected] * 3 == [dialect.read(sql).sets_limit for dialect in DIALECTS]
