"""What the rooms of databases share, and what single drivers do besides."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import asyncpg
import mysql.connector
import psycopg2
import pymysql
import pytest
import sqlalchemy as sa
from psycopg2 import sql
from sqlalchemy.ext.asyncio import create_async_engine

from db.harness import DRIVERS
from resilience_instrument.integrations import _dbapi, _watchdog
from resilience_instrument.integrations import aiomysql as aiomysql_room
from resilience_instrument.integrations import psycopg2 as psycopg2_room
from resilience_instrument.integrations import sqlite3 as sqlite3_room
from resilience_instrument.policies.breaker import Permit

if TYPE_CHECKING:
    from collections.abc import Callable

    from db.servers import MariaDB, Postgres
    from integrations.governing import Governed

    Govern = Callable[..., Governed]

TESTED = {"test_a_read_timeout_of_the_app_stays": ("pymysql", "mysql.connector")}

MYSQL: dict[str, Any] = {"host": "127.0.0.1", "user": "app", "password": "pw"}


def links_of(inside: Governed) -> _dbapi.Links:
    """Return links of a room."""
    return _dbapi.Links(inside.runtime, sqlite3_room.DRIVER)


def test_endpoints_and_links_are_bounded(
    govern: Govern, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that are made up as one goes fill neither labels nor memory."""
    inside = govern("sqlite3")
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    links = links_of(inside)
    link = links.find("", 0, "a", "sqlite:a")

    calls = {link.plain(f"SELECT t{n}", unbounded=False).endpoint for n in range(500)}
    for number in range(_dbapi.LINKS + 5):
        links.find("", 0, str(number), "sqlite:x")

    assert 201 == len(calls)
    assert "other" in calls
    assert len(links._known) <= _dbapi.LINKS
    assert link.plain("SELECT t1", unbounded=False) is link.plain(
        "SELECT t1", unbounded=False
    )


def test_attributes_leave_out_what_is_usual(govern: Govern) -> None:
    """A usual port and an address that is none are not told."""
    inside = govern("sqlite3")
    usual = _dbapi.Links(inside.runtime, psycopg2_room.DRIVER).find("h", 5432, "d")

    assert "server.port" not in usual.attributes("SELECT")
    assert "server.address" not in links_of(inside).find("", 0, "a").attributes("x")
    assert "postgresql://h/d" == usual.service
    six = _dbapi.Links(inside.runtime, psycopg2_room.DRIVER).find("::1", 1, "d")
    assert "postgresql://[::1]:1/d" == six.service


class Lost:
    """A statement whose connection is lost."""

    late = False

    def __call__(self, _: float | None) -> None:
        """Fail."""
        raise psycopg2.OperationalError


def test_failures_inside_transactions_open_the_circuit_too(govern: Govern) -> None:
    """They were not asked, and are heard."""
    inside = govern("psycopg2", BREAKER_CONSECUTIVE=2, BREAKER_FAILURE_RATE=1)
    link = _dbapi.Links(inside.runtime, psycopg2_room.DRIVER).find("h", 1, "d")
    call = link.plain("SELECT t", unbounded=False)

    for _ in range(3):
        with pytest.raises(psycopg2.OperationalError):
            _dbapi.counted(link, call, Lost(), None)  # type: ignore[arg-type]

    assert "open" == inside.state()
    assert ["transaction"] * 3 == inside.told.skipped
    now = inside.runtime.clock.monotonic()
    assert not isinstance(link.policies.breaker.acquire(now)[0], Permit)


def test_a_cancelled_statement_counts_as_nothing(govern: Govern) -> None:
    """Neither sync nor async, and not where it cannot be told either."""
    inside = govern("sqlite3")
    link = links_of(inside).find("", 0, "a")
    call = link.plain("SELECT t", unbounded=False)

    def stop(_: float | None) -> Any:
        raise KeyboardInterrupt

    async def stop_async(_: float | None) -> Any:
        raise asyncio.CancelledError

    async def cancelled() -> None:
        await _dbapi.counted_async(link, call, stop_async, None)  # type: ignore[arg-type]

    with pytest.raises(KeyboardInterrupt):
        _dbapi.counted(link, call, stop, None)  # type: ignore[arg-type]
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancelled())

    assert ["cancelled"] * 2 == inside.told.outcomes


def test_a_cancelled_statement_that_cannot_be_told_is_cancelled(
    govern: Govern,
) -> None:
    """A fault of ours at that moment changes nothing."""
    inside = govern("sqlite3")
    link = links_of(inside).find("", 0, "a")
    call = link.plain("SELECT t", unbounded=False)

    def stop(_: float | None) -> Any:
        inside.told.events = None  # type: ignore[assignment]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _dbapi.counted(link, call, stop, None)  # type: ignore[arg-type]

    assert ["engine"] == [where for where, _ in inside.faults]
    inside.faults.clear()


# -- lock waits of MySQL ----------------------------------------------------------


@pytest.mark.slow
def test_a_lock_that_stays_is_waited_for_twice_and_no_more(
    govern: Govern, mariadb: MariaDB
) -> None:
    """1205 is tried once more: each try may take long."""
    mariadb.sql(
        "USE test",
        "DROP TABLE IF EXISTS locked",
        "CREATE TABLE locked (id int PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO locked VALUES (1)",
    )
    holder = pymysql.connect(**MYSQL, port=mariadb.port, database="test")
    holder.cursor().execute("DELETE FROM locked")
    inside = govern("pymysql", TIMEOUT_READ=20, RETRY_BASE_DELAY=0.01)
    other = pymysql.connect(**MYSQL, port=mariadb.port, database="test")
    other.autocommit(True)
    with other.cursor() as cursor:
        cursor.execute("SET innodb_lock_wait_timeout = 1")
        cursor.execute("COMMIT")
        with pytest.raises(pymysql.err.OperationalError) as caught:
            cursor.execute("DELETE FROM locked")
    holder.close()
    other.close()

    assert 1205 == caught.value.args[0]
    assert [2] == inside.told.retries
    assert ["attempts"] == inside.told.skipped


@pytest.mark.slow
def test_prepared_statements_of_mysql_connector_are_counted(
    govern: Govern, mariadb: MariaDB
) -> None:
    """Their text is not known when they are executed, their kind is."""
    connector: Any = mysql.connector
    before = connector.connect(
        **MYSQL, port=mariadb.port, database="test", use_pure=True
    )
    inside = govern("mysql.connector")
    for connection in (
        before,
        connector.connect(**MYSQL, port=mariadb.port, database="test", use_pure=True),
    ):
        cursor = connection.cursor(prepared=True)
        cursor.execute("SELECT %s + 1", (1,))
        assert [(2,)] == [tuple(row) for row in cursor.fetchall()]
        cursor.close()
        connection.close()

    assert "EXECUTE" == inside.told.calls[-1].endpoint


@pytest.mark.slow
def test_prepared_statements_of_asyncpg_are_counted(
    govern: Govern, postgres: Postgres
) -> None:
    """SQLAlchemy knows no other way to use it."""
    inside = govern("asyncpg")
    url = f"postgresql+asyncpg://app@127.0.0.1:{postgres.port}/postgres"

    async def main() -> Any:
        engine = create_async_engine(url)
        async with engine.connect() as connection:
            found = (await connection.execute(sa.text("SELECT 5"))).scalar()
        await engine.dispose()
        return found

    assert 5 == asyncio.run(main())
    told = [call.endpoint for call in inside.told.calls]
    assert "CONNECT" == told[0]
    assert "SELECT" in told
    assert [] == inside.faults


@pytest.mark.slow
def test_limits_of_asyncpg_are_given_where_the_app_gave_them(
    govern: Govern, postgres: Postgres
) -> None:
    """By place, by name, for many at once, and for a command with parameters."""
    inside = govern("asyncpg", TIMEOUT_READ=0.6)
    where: dict[str, Any] = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    async def main() -> list[Any]:
        connection = await asyncpg.connect(**where, database="postgres")
        await connection.execute("CREATE TEMP TABLE t (a int)")
        await connection.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
        await connection.execute("INSERT INTO t VALUES ($1)", 3)
        await connection.fetch("SELECT pg_sleep(0.9)", timeout=5)
        prepared = await connection.prepare("SELECT a FROM t ORDER BY a")
        rows = await prepared.fetch()
        slow = await connection.prepare("SELECT pg_sleep(9)")
        with pytest.raises(TimeoutError):
            await slow.fetch()
        await connection.close()
        return [row[0] for row in rows]

    assert [1, 2, 3] == asyncio.run(main())
    told = [call.endpoint for call in inside.told.calls]
    assert {"BATCH INSERT t", "INSERT t", "CREATE TABLE t", "SELECT t"} <= set(told)
    assert "timeout" == inside.told.outcomes[-1]


def test_a_prepared_statement_that_cannot_be_read_is_sent(
    govern: Govern, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in our reading of SQL is ours alone."""
    from resilience_instrument.integrations import asyncpg as room

    inside = govern("asyncpg")
    where: dict[str, Any] = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    async def main() -> Any:
        connection = await asyncpg.connect(**where, database="postgres")
        prepared = await connection.prepare("SELECT 5")
        monkeypatch.setattr(type(room.DRIVER), "dialect", None)
        found = await prepared.fetchval()
        await connection.close()
        return found

    assert 5 == asyncio.run(main())
    assert {"describe"} == {where for where, _ in inside.faults}
    inside.faults.clear()


# -- psycopg2 and sqlite3: statements in other forms, faults ------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("SELECT 1", True),
        (b"SELECT 1", True),
        (b"SELECT 1; SELECT 2", False),
        (sql.SQL("SELECT 1"), True),
        (None, False),
    ],
)
def test_a_whole_statement_is_known_in_every_form(
    query: Any, *, expected: bool
) -> None:
    """A text, bytes, or an object that makes one."""
    sending = psycopg2_room._Sending(None, int, (), query)

    assert expected is sending.is_whole()


def test_psycopg2_goes_on_where_it_cannot_be_described(
    govern: Govern, postgres: Postgres
) -> None:
    """Neither connect nor statement waits for us to be right."""
    inside = govern("psycopg2")
    where: dict[str, Any] = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}
    connection = psycopg2.connect(**where, dbname="postgres")
    del psycopg2_room._Connection._resilience_own
    try:
        cursor = connection.cursor()
        del vars(connection)["_resilience_own"]
        cursor.execute("SELECT 5")
        assert (5,) == cursor.fetchone()
    finally:
        psycopg2_room._Connection._resilience_own = False
    connection.close()

    assert ["describe"] == [where for where, _ in inside.faults]
    inside.faults.clear()


def test_sqlite3_goes_on_where_it_cannot_be_described(govern: Govern) -> None:
    """A connect whose link cannot be had is made."""
    inside = govern("sqlite3")
    inside.runtime.registry = None  # type: ignore[assignment]

    connection = sqlite3.connect(":memory:")
    rows = connection.execute("SELECT 5").fetchall()
    connection.close()

    assert [(5,)] == rows
    assert ["describe"] == [where for where, _ in inside.faults]
    inside.faults.clear()


def test_sqlite3_leaves_a_telemetry_librarys_own_calls_alone(govern: Govern) -> None:
    """Who asks for it is not counted."""
    from opentelemetry import context

    inside = govern("sqlite3")
    token = context.attach(context.set_value("suppress_instrumentation", "yes"))
    try:
        sqlite3.connect(":memory:").close()
    finally:
        context.detach(token)

    assert [] == inside.told.calls


def test_a_statement_of_sqlite3_that_cannot_be_read_runs(
    govern: Govern, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in our reading of SQL is ours alone."""
    inside = govern("sqlite3")
    connection = sqlite3.connect(":memory:")
    monkeypatch.setattr(sqlite3_room, "SQLITE", None)

    assert (5,) == connection.execute("SELECT 5").fetchone()
    connection.close()

    assert ["describe"] == [where for where, _ in inside.faults]
    inside.faults.clear()


# -- the watchdog -------------------------------------------------------------------


def test_two_that_start_the_watchdog_start_it_once() -> None:
    """Who comes second finds it running."""
    dog = _watchdog.Watchdog(lambda *_: None)
    dog.running = True

    dog.start()

    assert dog.running
    assert {} == dog.armed


def test_a_slot_that_is_armed_while_the_thread_ends_is_watched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread looks once more after it has said that it is gone."""
    monkeypatch.setattr(_watchdog, "IDLE", 0)
    dog = _watchdog.Watchdog(lambda *_: None)
    started: list[Any] = []

    def start(self: _watchdog.Watchdog) -> None:
        started.append(self)

    monkeypatch.setattr(_watchdog.Watchdog, "start", start)
    dog.armed[1] = _watchdog.Slot(time.monotonic() + 60, lambda _: None)

    dog._watch(threading.Lock())

    assert [dog] == started


def test_a_slot_that_was_disarmed_meanwhile_is_not_struck() -> None:
    """Popping decides who was first."""
    dog = _watchdog.Watchdog(lambda *_: None)
    struck: list[int] = []
    slot = _watchdog.Slot(0.0, struck.append)
    dog.armed[id(slot)] = slot

    class Meanwhile:
        """Disarms while the watchdog waits for its lock."""

        def __enter__(self) -> None:
            dog.armed.clear()

        def __exit__(self, *_: object) -> None:
            pass

    dog._look(Meanwhile())  # type: ignore[arg-type]

    assert [] == struck


# -- corners of single drivers --------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_without_a_limit_a_statement_has_none(
    govern: Govern, request: pytest.FixtureRequest, name: str
) -> None:
    """Where nobody limits anything, nothing is given to the driver."""
    driver = DRIVERS[name]()
    server = "postgres" if driver.server == "postgresql" else "mariadb"
    port = request.getfixturevalue(server).port
    inside = govern(driver.library)
    registry = inside.runtime.registry
    timeout = dataclasses.replace(registry.settings.timeout, read=None)
    registry.settings = dataclasses.replace(registry.settings, timeout=timeout)

    rows = driver.execute(driver.open(port), "SELECT 5")
    driver.finish()

    assert 5 == rows[0][0]
    assert [] == inside.faults


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pymysql", "mysql.connector"])
def test_a_read_timeout_of_the_app_stays(
    govern: Govern, mariadb: MariaDB, name: str
) -> None:
    """Case 23: it holds for what we would not limit, too."""
    driver = DRIVERS[name]()
    inside = govern(driver.library)
    connection = driver.open(mariadb.port, read_timeout=5)

    driver.execute(connection, "CREATE TEMPORARY TABLE t (a int)")
    kept = connection._read_timeout
    driver.finish()

    assert 5 == kept
    assert not inside.told.calls[-1].unbounded


def test_a_connect_of_pymysql_that_cannot_be_described_is_tried(
    govern: Govern,
) -> None:
    """Its own error is what the app sees."""
    inside = govern("pymysql")
    connection = pymysql.connect(**MYSQL, port=1, defer_connect=True)
    connection.port = "none"

    with pytest.raises(Exception, match=r"none|not known|resolve|Servname"):
        connection.connect()

    assert ["describe"] == [where for where, _ in inside.faults]
    inside.faults.clear()


def test_a_connection_of_aiomysql_without_a_socket_has_nothing_to_abort() -> None:
    """It is closed already."""
    query = aiomysql_room._Query(int, (), {})
    query.connection = type("Closed", (), {"_writer": None})()

    query._strike()

    assert query.late


def test_a_dsn_that_reaches_the_driver_is_refused_by_it(govern: Govern) -> None:
    """Below `connect` nobody has looked at it."""
    inside = govern("psycopg2")

    with pytest.raises(psycopg2.Error):
        psycopg2._connect("this is = = none")

    assert [] == inside.told.calls
    assert [] == inside.faults


def test_a_governed_cursor_on_a_plain_connection_works(
    govern: Govern, postgres: Postgres
) -> None:
    """An app may make one of the class that it found."""
    where: dict[str, Any] = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}
    plain = psycopg2.connect(**where, dbname="postgres")
    inside = govern("psycopg2")
    governed = psycopg2.connect(**where, dbname="postgres")

    cursor = type(governed.cursor())(plain)
    cursor.execute("SELECT 5")
    rows = cursor.fetchall()
    for connection in (plain, governed):
        connection.close()

    assert [(5,)] == rows
    assert ["CONNECT"] == [call.endpoint for call in inside.told.calls]


def test_what_fails_around_a_broken_engine_fails_the_same(govern: Govern) -> None:
    """An awaited try that is made without the engine hands on its error."""
    inside = govern("sqlite3")
    link = links_of(inside).find("", 0, "a")
    call = link.plain("SELECT t", unbounded=False)

    async def fail(_: float | None) -> Any:
        raise KeyError

    io = _dbapi.AsyncConnectIo(link, call, fail)  # type: ignore[arg-type]
    outcome: Any = asyncio.run(io.untouched())

    assert isinstance(outcome.error, KeyError)


def test_a_circuit_that_opens_at_that_moment_hears_no_more(govern: Govern) -> None:
    """Between the question and the answer somebody else opened it."""
    inside = govern("sqlite3")

    class Breaker:
        """Closed when it is looked at, open when it is asked."""

        def state(self, _: float) -> str:
            """Say that it is closed."""
            return "closed"

        def acquire(self, _: float) -> tuple[None, None]:
            """Refuse."""
            return None, None

    policies = type("Policies", (), {"breaker": Breaker()})()
    facts = {"policies": policies, "runtime": inside.runtime, "acts": True}
    link = type("Link", (), facts)()
    call = links_of(inside).find("", 0, "a").plain("SELECT t", unbounded=False)

    _dbapi._bear_witness(link, call, _dbapi.troubled("x"), 0.0)

    assert [] == inside.told.of("transitioned")


def test_a_connection_of_asyncpg_from_before_is_left_alone(
    govern: Govern, postgres: Postgres
) -> None:
    """Nothing is known of it: no limit, no name."""
    where: dict[str, Any] = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    async def main() -> tuple[Any, Governed]:
        connection = await asyncpg.connect(**where, database="postgres")
        inside = govern("asyncpg")
        found = await (await connection.prepare("SELECT 5")).fetchval()
        await connection.close()
        return found, inside

    found, inside = asyncio.run(main())

    assert 5 == found
    assert [] == inside.told.calls
