"""Ways to a connection: names taken before, pools of the drivers, a bouncer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from db.harness import DRIVERS, MYSQL, POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.harness import Driver
    from db.servers import MariaDB, PgBouncer, Postgres
    from integrations.governing import Governed

    Govern = Callable[..., Governed]

pytestmark = pytest.mark.slow

TESTED = {
    "test_a_name_that_was_taken_before_is_governed": (
        "pymysql",
        "mysql.connector",
        "mysqlclient",
        "aiomysql",
    ),
    "test_a_pool_of_mysql_connector_is_governed": ("mysql.connector",),
    "test_a_pool_of_aiomysql_is_governed": ("aiomysql",),
    "test_a_pool_of_psycopg2_is_governed": ("psycopg2",),
    "test_a_pool_of_asyncpg_is_governed": ("asyncpg",),
    "test_a_bouncer_in_transaction_mode_serves_as_before": (
        "psycopg",
        "psycopg-async",
        "asyncpg",
    ),
}


@pytest.fixture
def make() -> Iterator[Callable[[str], Driver]]:
    """Make drivers and finish them at the end."""
    made: list[Driver] = []

    def go(name: str) -> Driver:
        if name not in DRIVERS:
            pytest.skip(f"{name} is not installed")
        made.append(DRIVERS[name]())
        return made[-1]

    yield go
    for each in made:
        each.finish()


def connects(inside: Governed) -> int:
    """Return how many connects were told."""
    return [call.endpoint for call in inside.told.calls].count("CONNECT")


@pytest.mark.parametrize(
    "name", ["pymysql", "mysql.connector", "mysqlclient", "aiomysql"]
)
def test_a_name_that_was_taken_before_is_governed(
    govern: Govern, make: Callable[[str], Driver], mariadb: MariaDB, name: str
) -> None:
    """Case 8: `from ... import connect` before the agent is no way around."""
    driver = make(name)
    taken = driver.module.connect
    inside = govern(driver.library)

    if name == "aiomysql":
        given = {**MYSQL, "db": "test"}
        del given["database"]
        loop: Any = driver
        connection = loop.run(taken(port=mariadb.port, **given))
    else:
        options = {"use_pure": True} if name == "mysql.connector" else {}
        connection = taken(port=mariadb.port, **MYSQL, **options)
    driver.execute(connection, "SELECT 1")
    driver.close(connection)

    assert "CONNECT" == inside.told.calls[0].endpoint
    assert "SELECT" == inside.told.calls[-1].endpoint


def test_a_pool_of_mysql_connector_is_governed(
    govern: Govern, mariadb: MariaDB
) -> None:
    """Case 10: each of its connections is one connect, used again without another."""
    pooling = pytest.importorskip("mysql.connector.pooling")
    inside = govern("mysql.connector")
    pool = pooling.MySQLConnectionPool(
        pool_size=2, port=mariadb.port, use_pure=True, **MYSQL
    )

    for _ in range(3):
        with pool.get_connection() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchall()
    pool._remove_connections()

    assert 2 == connects(inside)
    assert {"success"} == set(inside.told.outcomes)


def test_a_pool_of_aiomysql_is_governed(govern: Govern, mariadb: MariaDB) -> None:
    """Case 10: likewise."""
    aiomysql = pytest.importorskip("aiomysql")
    inside = govern("aiomysql")

    async def go() -> None:
        where = {"host": "127.0.0.1", "port": mariadb.port, "user": "app"}
        pool = await aiomysql.create_pool(
            **where, password="pw", db="test", minsize=2, maxsize=2
        )
        for _ in range(3):
            async with pool.acquire() as connection, connection.cursor() as cursor:
                await cursor.execute("SELECT 1")
        pool.close()
        await pool.wait_closed()

    asyncio.run(go())

    assert 2 == connects(inside)
    assert {"success"} == set(inside.told.outcomes)


def test_a_pool_of_psycopg2_is_governed(govern: Govern, postgres: Postgres) -> None:
    """Case 10: likewise."""
    pools = pytest.importorskip("psycopg2.pool")
    inside = govern("psycopg2")
    pool = pools.SimpleConnectionPool(2, 2, port=postgres.port, **POSTGRESQL)

    for _ in range(3):
        connection = pool.getconn()
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        pool.putconn(connection)
    pool.closeall()

    assert 2 == connects(inside)
    assert {"success"} == set(inside.told.outcomes)


def test_a_pool_of_asyncpg_is_governed(govern: Govern, postgres: Postgres) -> None:
    """Case 10: likewise."""
    asyncpg = pytest.importorskip("asyncpg")
    inside = govern("asyncpg")

    async def go() -> None:
        where = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}
        async with asyncpg.create_pool(
            **where, database="postgres", min_size=2, max_size=2
        ) as pool:
            for _ in range(3):
                await pool.fetch("SELECT 1")

    asyncio.run(go())

    assert 2 == connects(inside)
    assert {"success"} == set(inside.told.outcomes)


@pytest.mark.parametrize("name", ["psycopg", "psycopg-async", "asyncpg"])
def test_a_bouncer_in_transaction_mode_serves_as_before(
    govern: Govern,
    make: Callable[[str], Driver],
    bouncer: PgBouncer,
    postgres: Postgres,
    name: str,
) -> None:
    """Cases 17 and 20: no setting leaks; what sleeps 60 s ends, on the server too."""
    driver = make(name)
    govern(driver.library, TIMEOUT_READ=1)
    # A bouncer of this age knows no prepared statements.
    plain: dict[str, Any] = {"prepare_threshold": None}
    if name == "asyncpg":
        plain = {"statement_cache_size": 0}
    first, second = (driver.open(bouncer.port, **plain) for _ in range(2))
    seen = []
    for connection in (first, second):
        seen.append(driver.execute(connection, "SHOW statement_timeout")[0][0])
        if name != "asyncpg":
            driver.rollback(connection)

    begun = time.monotonic()
    with pytest.raises(driver.any_error):
        driver.execute(first, "SELECT pg_sleep(60)")
    seconds = time.monotonic() - begun
    if name != "asyncpg":
        driver.rollback(first)
    again = driver.execute(first, "SELECT 1")

    assert ["0", "0"] == seen
    assert 0.9 < seconds < 3.5
    assert [(1,)] == again
    assert "0" == sleeping(postgres)


def sleeping(postgres: Postgres) -> str:
    """Return how many statements still sleep after a while."""
    found = ""
    for _ in range(40):
        found = postgres.sql(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'"
        )
        if found == "0":
            break
        time.sleep(0.05)
    return found
