"""`transaction`: a unit that runs again where the server undid it, and only there."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any

import aiomysql
import asyncpg
import psycopg
import psycopg2
import pytest

from resilience_instrument import transaction
from resilience_instrument.integrations import asyncpg as asyncpg_room
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from db.servers import MariaDB, Postgres


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


class Failing(Exception):  # noqa: N818 - short, and only here
    """An error as a driver makes it."""

    def __init__(self, *args: object, **facts: object) -> None:
        super().__init__(*args)
        vars(self).update(facts)


class FakeConnection:
    """Counts what is done to it; its rollback and commit fail on demand."""

    def __init__(self, **facts: object) -> None:
        self.commits = 0
        self.rollbacks = 0
        self.commit_errors: list[Exception] = []
        self.rollback_error: Exception | None = None
        vars(self).update(facts)

    def commit(self) -> None:
        """Commit, or raise the next error."""
        if self.commit_errors:
            raise self.commit_errors.pop()
        self.commits += 1

    def rollback(self) -> None:
        """Roll back, or raise."""
        self.rollbacks += 1
        if self.rollback_error is not None:
            raise self.rollback_error


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait for a pause."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


def failing(times: int, error: Exception) -> Callable[[Any], str]:
    """Return a unit that fails so many times."""
    left = [error] * times

    def unit(_: Any) -> str:
        if left:
            raise left.pop()
        return "done"

    return unit


@pytest.mark.parametrize(
    "error",
    [
        Failing(sqlstate="40001"),
        Failing(pgcode="40P01"),
        Failing(1213, "Deadlock found"),
        Failing("x", errno=1205, sqlstate="HY000"),
        Failing(sqlite_errorname="SQLITE_BUSY_SNAPSHOT"),
    ],
)
def test_what_the_server_undid_is_run_again(error: Exception) -> None:
    """By the code of each family of drivers, and committed once."""
    connection = FakeConnection()

    assert "done" == transaction(connection, failing(2, error))
    assert [1, 2] == [connection.commits, connection.rollbacks]


@pytest.mark.parametrize(
    "error",
    [
        Failing("lost", pgcode=None),
        Failing(2013, "Lost connection"),
        Failing("x", errno=1062, sqlstate="40001"),
        Failing(sqlite_errorname="SQLITE_ERROR"),
        Failing(),
        KeyError("the app's own"),
    ],
)
def test_whatever_else_fails_is_raised_at_once(error: Exception) -> None:
    """It is rolled back, and who wrote the unit decides."""
    connection = FakeConnection()

    with pytest.raises(type(error)) as caught:
        transaction(connection, failing(1, error))

    assert error is caught.value
    assert [0, 1] == [connection.commits, connection.rollbacks]


def test_runs_come_to_an_end() -> None:
    """After the last one the error is the app's."""
    connection = FakeConnection()

    with pytest.raises(Failing):
        transaction(connection, failing(9, Failing(sqlstate="40001")), max_attempts=2)
    with pytest.raises(ValueError, match="from 1 on"):
        transaction(connection, failing(0, Failing()), max_attempts=0)

    assert 2 == connection.rollbacks


def test_a_commit_that_the_server_refused_is_run_again() -> None:
    """A serialization failure may come with the commit; a lost commit is unknown."""
    refused, lost = FakeConnection(), FakeConnection()
    refused.commit_errors = [Failing(sqlstate="40001")]
    lost.commit_errors = [Failing("server closed the connection")]

    assert "done" == transaction(refused, failing(0, Failing()))
    with pytest.raises(Failing):
        transaction(lost, failing(0, Failing()))

    assert [1, 0] == [refused.commits, lost.commits]


def test_no_run_begins_that_a_deadline_would_cut() -> None:
    """What is left of a deadline is not slept away."""
    connection = FakeConnection()
    token = CURRENT.set(time.monotonic() + 0.01)
    try:
        with pytest.raises(Failing):
            transaction(connection, failing(1, Failing(sqlstate="40001")))
    finally:
        CURRENT.reset(token)


def test_a_rollback_that_fails_hides_nothing() -> None:
    """The first error says what happened; the second stands beside it."""
    connection = FakeConnection()
    connection.rollback_error = RuntimeError("gone")

    with pytest.raises(Failing) as caught:
        transaction(connection, failing(1, Failing("first")))

    assert "gone" in caught.value.__notes__[0]


class Info:
    """What psycopg says about a connection."""

    transaction_status = 2


@pytest.mark.parametrize(
    "facts",
    [
        {"autocommit": True},
        {"get_autocommit": lambda: True},
        {"isolation_level": None, "in_transaction": False},
        {"get_transaction_status": lambda: 2},
        {"info": Info()},
        {"in_transaction": True},
        {"server_status": 1},
    ],
)
def test_a_connection_on_which_it_would_be_none_is_refused(
    facts: dict[str, object],
) -> None:
    """Where each statement commits, or something is under way already."""
    with pytest.raises(ValueError, match=r"autocommit|under way"):
        transaction(FakeConnection(**facts), failing(0, Failing()))


def test_sqlite_runs_it_when_the_lock_is_free(tmp_path: Path) -> None:
    """Case 50: somebody else's lock is waited for by running the unit again."""
    path = tmp_path / "data.db"
    holder, other = sqlite3.connect(path), sqlite3.connect(path, timeout=0)
    holder.execute("CREATE TABLE t (a)")
    holder.execute("BEGIN EXCLUSIVE")
    runs = []

    def unit(connection: sqlite3.Connection) -> int:
        runs.append(1)
        if len(runs) == 2:
            holder.rollback()
        connection.execute("INSERT INTO t VALUES (1)")
        return len(runs)

    assert 2 == transaction(other, unit)
    assert [(1,)] == holder.execute("SELECT a FROM t").fetchall()
    holder.close()
    other.close()


def collide(connect: Callable[[], Any]) -> int:
    """Move an amount between two rows in both directions at once; return the runs."""
    runs = []
    barrier = threading.Barrier(2)

    def move(source: int, target: int) -> None:
        connection = connect()

        def unit(each: Any) -> None:
            runs.append(1)
            cursor = each.cursor()
            cursor.execute(f"UPDATE account SET n = n - 1 WHERE id = {source}")
            if len(runs) <= 2:
                barrier.wait(10)
            cursor.execute(f"UPDATE account SET n = n + 1 WHERE id = {target}")
            cursor.close()

        transaction(connection, unit, max_attempts=5)
        connection.close()

    threads = [threading.Thread(target=move, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return len(runs)


TABLE = (
    "DROP TABLE IF EXISTS account",
    "CREATE TABLE account (id int PRIMARY KEY, n int)",
    "INSERT INTO account VALUES (1, 10), (2, 10)",
)


@pytest.mark.slow
@pytest.mark.parametrize("driver", [psycopg2, psycopg], ids=["psycopg2", "psycopg"])
def test_a_deadlock_on_postgresql_is_run_again(postgres: Postgres, driver: Any) -> None:
    """Case 50: two transfers that lock each other out both happen, once."""
    postgres.sql(*TABLE)
    options = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    runs = collide(lambda: driver.connect(**options, dbname="postgres"))

    assert runs > 2
    assert "10 10" == " ".join(postgres.sql("SELECT n FROM account").split())


MYSQL = ("pymysql", "mysql.connector", "MySQLdb")


@pytest.mark.slow
@pytest.mark.parametrize("name", MYSQL)
def test_a_deadlock_on_mariadb_is_run_again(mariadb: MariaDB, name: str) -> None:
    """Case 50: the same by its numbers."""
    driver: Any = pytest.importorskip(name)
    mariadb.sql("USE test", *TABLE)
    options = {"host": "127.0.0.1", "user": "app", "password": "pw"}

    runs = collide(
        lambda: driver.connect(**options, port=mariadb.port, database="test"),
    )

    assert runs > 2
    rows = mariadb.sql("USE test", "SELECT n FROM account")
    assert "10 10" == " ".join(rows.split())


# -- awaited ------------------------------------------------------------------


class AwaitedConnection:
    """The same as an asynchronous driver has it."""

    def __init__(self) -> None:
        self.inner = FakeConnection()

    async def commit(self) -> None:
        """Commit, or raise the next error."""
        self.inner.commit()

    async def rollback(self) -> None:
        """Roll back, or raise."""
        self.inner.rollback()


def awaited(unit: Callable[[Any], str]) -> Callable[[Any], Any]:
    """Return a unit that has to be awaited."""

    async def run(connection: Any) -> str:
        return unit(connection)

    return run


@pytest.fixture
def hurry_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no task wait for a pause, but let others go on."""
    sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", lambda _: sleep(0))


@pytest.mark.usefixtures("hurry_loops")
def test_an_awaited_unit_is_run_again_likewise() -> None:
    """What the server undid, a refused commit included; nothing else."""
    undone = Failing(sqlstate="40001")
    again, lost = AwaitedConnection(), AwaitedConnection()
    again.inner.commit_errors = [undone]
    lost.inner.rollback_error = RuntimeError("gone")

    done = asyncio.run(transaction(again, awaited(failing(1, undone))))
    with pytest.raises(Failing) as caught:
        asyncio.run(transaction(lost, awaited(failing(1, Failing("lost")))))

    assert "done" == done
    assert [1, 2] == [again.inner.commits, again.inner.rollbacks]
    assert [0, 1] == [lost.inner.commits, lost.inner.rollbacks]
    assert "gone" in caught.value.__notes__[0]


class Separate:
    """asyncpg's way: a transaction is an object, and over when its commit fails."""

    def __init__(self) -> None:
        self.inner = FakeConnection()
        self.open = False

    def is_in_transaction(self) -> bool:
        """Tell whether one is under way."""
        return self.open

    def transaction(self) -> Separate.Transaction:
        """Make one."""
        return self.Transaction(self)

    class Transaction:
        """What is begun and ended."""

        def __init__(self, outer: Separate) -> None:
            self.outer = outer

        async def start(self) -> None:
            """Begin."""
            self.outer.open = True

        async def commit(self) -> None:
            """End it, whatever it comes to."""
            self.outer.open = False
            self.outer.inner.commit()

        async def rollback(self) -> None:
            """End it."""
            self.outer.open = False
            self.outer.inner.rollback()


@pytest.mark.usefixtures("hurry_loops")
def test_a_transaction_that_ended_with_its_commit_is_not_rolled_back() -> None:
    """A failed unit is, a failed commit is not; both are run again."""
    connection = Separate()
    undone = Failing(sqlstate="40001")
    connection.inner.commit_errors = [undone]

    assert "done" == asyncio.run(transaction(connection, awaited(failing(1, undone))))
    assert [1, 1] == [connection.inner.commits, connection.inner.rollbacks]


async def collide_awaiting(connect: Callable[[], Any], execute: Any) -> int:
    """Move an amount between two rows in both directions at once; return the runs."""
    runs = []
    barrier = asyncio.Barrier(2)

    async def move(source: int, target: int) -> None:
        connection = await connect()

        async def unit(each: Any) -> None:
            runs.append(1)
            await execute(each, f"UPDATE account SET n = n - 1 WHERE id = {source}")
            if len(runs) <= 2:
                await asyncio.wait_for(barrier.wait(), 10)
            await execute(each, f"UPDATE account SET n = n + 1 WHERE id = {target}")

        await transaction(connection, unit, max_attempts=5)
        closing = connection.close()
        if closing is not None:
            await closing

    await asyncio.gather(move(1, 2), move(2, 1))
    return len(runs)


async def _execute_by_cursor(connection: Any, sql: str) -> None:
    cursor = await connection.cursor()
    await cursor.execute(sql)
    await cursor.close()


@pytest.mark.slow
@pytest.mark.usefixtures("hurry_loops")
@pytest.mark.parametrize("name", ["psycopg-async", "asyncpg"])
def test_an_awaited_deadlock_on_postgresql_is_run_again(
    postgres: Postgres, name: str
) -> None:
    """Case 50: two transfers that lock each other out both happen, once."""
    postgres.sql(*TABLE)
    where = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    def connect() -> Any:
        if name == "asyncpg":
            return asyncpg.connect(**where, database="postgres")
        return psycopg.AsyncConnection.connect(**where, dbname="postgres")  # type: ignore[arg-type]

    runs = asyncio.run(collide_awaiting(connect, lambda c, sql: c.execute(sql)))

    assert runs > 2
    assert "10 10" == " ".join(postgres.sql("SELECT n FROM account").split())


@pytest.mark.slow
@pytest.mark.usefixtures("hurry_loops")
def test_an_awaited_deadlock_on_mariadb_is_run_again(mariadb: MariaDB) -> None:
    """Case 50: the same by its numbers, with aiomysql."""
    mariadb.sql("USE test", *TABLE)
    where = {"host": "127.0.0.1", "port": mariadb.port, "user": "app"}

    def connect() -> Any:
        return aiomysql.connect(**where, password="pw", db="test")

    runs = asyncio.run(collide_awaiting(connect, _execute_by_cursor))

    assert runs > 2
    rows = mariadb.sql("USE test", "SELECT n FROM account")
    assert "10 10" == " ".join(rows.split())


@pytest.mark.slow
def test_asyncpg_repeats_what_could_not_be_serialized(postgres: Postgres) -> None:
    """Case 50: what the server undid is run again; an open one is refused."""
    postgres.sql(*TABLE)
    where = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}
    runs = []

    async def unit(connection: Any) -> None:
        runs.append(1)
        await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await connection.fetch("SELECT n FROM account")
        if len(runs) == 1:
            postgres.sql("UPDATE account SET n = n + 5 WHERE id = 1")
        await connection.execute("UPDATE account SET n = n + 1 WHERE id = 1")

    async def go() -> None:
        connection = await asyncpg.connect(**where, database="postgres")
        await transaction(connection, unit)
        async with connection.transaction():
            with pytest.raises(ValueError, match="under way"):
                await transaction(connection, unit)
        await connection.close()

    asyncio.run(go())

    assert 2 == len(runs)
    assert "16" == postgres.sql("SELECT n FROM account WHERE id = 1")


@pytest.mark.slow
def test_a_pool_of_asyncpg_is_not_waited_for_for_ever(
    govern: Callable[..., Any], postgres: Postgres
) -> None:
    """An acquire ends at the limit; what the app said wins; a deadline shortens it."""
    govern("asyncpg", TIMEOUT_POOL=0.4)
    where = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    async def waited(act: Callable[[], Any]) -> tuple[float, str]:
        begun = time.monotonic()
        with pytest.raises(TimeoutError) as caught:
            await act()
        notes = " ".join(getattr(caught.value, "__notes__", []))
        return time.monotonic() - begun, notes

    async def go() -> list[tuple[float, str]]:
        pool = asyncpg.create_pool(**where, database="postgres", min_size=1, max_size=1)
        async with pool, pool.acquire():
            found = [
                await waited(pool.acquire),
                await waited(lambda: pool.fetch("SELECT 1")),
                await waited(lambda: pool.acquire(timeout=0.9)),
            ]
            token = CURRENT.set(time.monotonic() + 0.1)
            found.append(await waited(pool.acquire))
            CURRENT.reset(token)
            return found

    default, by_pool, own, shortened = asyncio.run(go())

    assert 0.35 < default[0] < 2
    assert "no connection was free" in default[1]
    assert "no connection was free" in by_pool[1]
    assert own[0] > 0.85
    assert "" == own[1]
    assert "free for 0.1 s" in shortened[1]


@pytest.mark.slow
def test_a_pool_of_asyncpg_gives_connections_though_we_fail(
    govern: Callable[..., Any], postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 48: without a limit, as it would have."""
    inside = govern("asyncpg")
    where = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    async def go() -> Any:
        pool = asyncpg.create_pool(**where, database="postgres", min_size=1, max_size=1)
        async with pool:
            with monkeypatch.context() as patched:
                patched.setattr(asyncpg_room, "_wait_of", None)
                connection = await pool.acquire()
            row = await connection.fetchval("SELECT 1")
            await pool.release(connection)
            return row

    assert 1 == asyncio.run(go())
    assert ["describe"] == [where for where, _ in inside.faults]
    inside.faults.clear()
