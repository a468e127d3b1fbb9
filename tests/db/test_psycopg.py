"""psycopg 3: each way to connect, pools, server-side cursors and pipelines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import psycopg_pool
import pytest
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.proxy import Proxy
    from db.servers import Postgres
    from integrations.governing import Governed

    Govern = Callable[..., Governed]

TESTED = ("psycopg", "psycopg-async")


@pytest.fixture
def inside(govern: Govern) -> Governed:
    """Govern psycopg."""
    return govern("psycopg")


@pytest.fixture
def dsn(postgres: Postgres) -> str:
    """Return where the server is."""
    return f"host=127.0.0.1 port={postgres.port} user=app dbname=postgres"


@pytest.fixture
def connection(inside: Governed, dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect, governed."""
    found = psycopg.connect(dsn)
    yield found
    found.close()
    assert [] == inside.faults


def endpoints(inside: Governed) -> list[str]:
    """Return the endpoints of the calls, in their order."""
    return [call.endpoint for call in inside.told.calls]


class Own(psycopg.Connection[Any]):
    """A class of the app's."""


def test_each_way_to_connect_is_one_connect(inside: Governed, dsn: str) -> None:
    """Case 10: the alias, the class, a subclass and both pools."""
    psycopg.connect(dsn).close()
    psycopg.Connection.connect(dsn).close()
    own = Own.connect(dsn)
    own.close()
    with psycopg_pool.ConnectionPool(dsn, min_size=1, max_size=1) as pool:
        pool.wait()
        with pool.connection() as connection:
            connection.execute("SELECT 1")

    async def in_a_pool() -> None:
        pool = psycopg_pool.AsyncConnectionPool(dsn, min_size=1, max_size=1, open=False)
        async with pool:
            await pool.wait()

    asyncio.run(in_a_pool())

    assert isinstance(own, Own)
    assert 5 == endpoints(inside).count("CONNECT")
    assert {"success"} == set(inside.told.outcomes)


def test_statements_are_named_in_every_form(
    inside: Governed, connection: psycopg.Connection[Any]
) -> None:
    """Texts, bytes, composed ones; many at once; by name."""
    table = sql.Identifier("pg_class")
    connection.execute("SELECT 1")
    connection.execute(b"SELECT 2")
    connection.execute(sql.SQL("SELECT * FROM {}").format(table))
    cursor = connection.cursor()
    cursor.execute(query="CREATE TEMP TABLE t (a int)")
    cursor.executemany("INSERT INTO t VALUES (%s)", [(1,), (2,)])
    connection.rollback()
    connection.rollback()

    assert [
        "CONNECT",
        "SELECT",
        "SELECT",
        'SELECT "pg_class"',
        "CREATE TABLE t",
        "BATCH INSERT t",
        "ROLLBACK",
    ] == endpoints(inside)


def test_what_is_no_statement_is_for_the_driver_to_refuse(
    inside: Governed, connection: psycopg.Connection[Any]
) -> None:
    """Its error is the app's; ours is counted."""
    with pytest.raises(TypeError):
        connection.execute(5)  # type: ignore[call-overload]

    assert "describe" == inside.faults[0][0]
    inside.faults.clear()


def test_server_side_cursors_and_pipelines_work(
    inside: Governed, connection: psycopg.Connection[Any]
) -> None:
    """Case 34: they are counted, and never sent again."""
    with connection.cursor("named") as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        assert [(1,), (2,), (3,)] == cursor.fetchall()
    connection.rollback()
    with connection.pipeline():
        plain = connection.execute("SELECT 4")
        assert (4,) == plain.fetchone()
    connection.rollback()

    assert 2 == endpoints(inside).count("SELECT")
    assert [] == inside.told.skipped


def test_copy_and_large_answers_are_as_before(
    connection: psycopg.Connection[Any],
) -> None:
    """What is waited for in pieces is not cut into."""
    cursor = connection.cursor()
    cursor.execute("CREATE TEMP TABLE t (a int)")
    with cursor.copy("COPY t FROM STDIN") as copy:
        for number in range(1000):
            copy.write_row([number])
    cursor.execute("SELECT a, repeat('x', 1000) FROM t")

    assert 1000 == len(cursor.fetchall())


def test_an_apps_own_statement_limit_wins(govern: Govern, dsn: str) -> None:
    """By a command, as by an option."""
    inside = govern("psycopg", TIMEOUT_READ=0.4)
    with psycopg.connect(dsn) as connection:
        connection.execute("SET statement_timeout = '9s'")
        connection.execute("SELECT pg_sleep(0.8)")

    told = {call.endpoint: call.unbounded for call in inside.told.calls}
    assert not told["SELECT"]


def test_a_dsn_that_cannot_be_read_is_refused_by_the_driver(inside: Governed) -> None:
    """The driver says itself what is wrong with it."""
    with pytest.raises(psycopg.ProgrammingError):
        psycopg.connect("this is = = none")

    assert [] == inside.told.calls


@pytest.mark.parametrize("is_async", [False, True])
def test_without_a_safe_cancel_the_connection_is_closed(
    govern: Govern,
    dsn: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_async: bool,
) -> None:
    """An older libpq would stop every thread while it asks the server to cancel."""
    govern("psycopg", TIMEOUT_READ=0.3)
    monkeypatch.setattr(psycopg.capabilities, "has_cancel_safe", lambda: False)

    async def in_a_loop() -> bool:
        connection = await psycopg.AsyncConnection.connect(dsn)
        with pytest.raises(psycopg.OperationalError, match="did not answer in time"):
            await connection.execute("SELECT pg_sleep(9)")
        return connection.closed

    if is_async:
        assert asyncio.run(in_a_loop())
        return
    connection = psycopg.connect(dsn)
    with pytest.raises(psycopg.OperationalError, match="did not answer in time"):
        connection.execute("SELECT pg_sleep(9)")
    assert connection.closed


def test_a_connection_that_is_not_governed_is_left_alone(
    govern: Govern, dsn: str, proxy: Proxy
) -> None:
    """One that was there before has no limit and no name."""
    connection = psycopg.connect(dsn)
    inside = govern("psycopg")

    connection.execute("SELECT 1")
    connection.commit()
    connection.close()

    assert proxy.port
    assert [] == inside.told.calls
