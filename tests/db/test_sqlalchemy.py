"""SQLAlchemy's pools on each driver, asynchronous ones included."""

from __future__ import annotations

import asyncio
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util.concurrency import greenlet_spawn

from db.proxy import Proxy
from resilience_instrument import CircuitBreakerOpenError
from resilience_instrument.policies.breaker import Permit
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from integrations.governing import Governed

    Govern = Callable[..., Governed]

pytestmark = pytest.mark.slow

TESTED = (
    "psycopg2",
    "psycopg",
    "psycopg-async",
    "asyncpg",
    "pymysql",
    "mysql.connector",
    "mysqlclient",
    "aiomysql",
)

# The library that is governed, SQLAlchemy's name for it, and whether it is awaited.
DRIVERS = {
    "psycopg2": ("psycopg2", "postgresql+psycopg2", False),
    "psycopg": ("psycopg", "postgresql+psycopg", False),
    "psycopg-async": ("psycopg", "postgresql+psycopg", True),
    "asyncpg": ("asyncpg", "postgresql+asyncpg", True),
    "pymysql": ("pymysql", "mysql+pymysql", False),
    "mysql.connector": ("mysql.connector", "mysql+mysqlconnector", False),
    "mysqlclient": ("MySQLdb", "mysql+mysqldb", False),
    "aiomysql": ("aiomysql", "mysql+aiomysql", True),
}
if not importlib.util.find_spec("MySQLdb"):
    del DRIVERS["mysqlclient"]


@pytest.fixture(params=sorted(DRIVERS))
def name(request: pytest.FixtureRequest) -> str:
    """Each driver."""
    found: str = request.param
    return found


@pytest.fixture
def port(name: str, request: pytest.FixtureRequest) -> int:
    """Return the port of the driver's server."""
    kind = "mariadb" if DRIVERS[name][1].startswith("mysql") else "postgres"
    found: int = request.getfixturevalue(kind).port
    return found


def with_engine(name: str, port: int, act: Callable[[sa.Engine], Any]) -> Any:
    """Let an act have an engine, in a loop of its own if the driver is awaited."""
    _, scheme, is_async = DRIVERS[name]
    where = (
        "app:pw@127.0.0.1:{}/test" if "mysql" in scheme else "app@127.0.0.1:{}/postgres"
    )
    url = f"{scheme}://{where.format(port)}"
    # Its C extension does not load everywhere, and says so late.
    options = {"use_pure": True} if name == "mysql.connector" else {}
    if not is_async:
        engine = sa.create_engine(url, connect_args=options)
        try:
            return act(engine)
        finally:
            engine.dispose()

    async def go() -> Any:
        engine = create_async_engine(url)
        try:
            return await greenlet_spawn(act, engine.sync_engine)
        finally:
            await engine.dispose()

    return asyncio.run(go())


def select(engine: sa.Engine, number: int) -> Any:
    """Run a statement on a connection of the pool."""
    with engine.connect() as connection:
        return connection.execute(sa.text(f"SELECT {number}")).scalar()


def open_circuit(inside: Governed) -> None:
    """Let the only circuit open."""
    breaker = inside.policies().breaker
    now = inside.runtime.clock.monotonic()
    while isinstance(permit := breaker.acquire(now)[0], Permit):
        breaker.record(permit, Evidence.FAILURE, now, "test")


def causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and what is behind it."""
    found = []
    while error is not None:
        found.append(error)
        error = getattr(error, "orig", None) or error.__cause__
    return found


def test_an_open_circuit_leaves_the_pool_alone(
    govern: Govern, name: str, port: int
) -> None:
    """Case 40: nothing is thrown out of the pool, nothing is opened, all fail fast."""
    inside = govern(DRIVERS[name][0])
    with Proxy(port) as proxy:

        def act(engine: sa.Engine) -> tuple[list[DBAPIError], int, int]:
            select(engine, 1)
            open_circuit(inside)
            accepted, errors = proxy.accepted, []
            for _ in range(3):
                with pytest.raises(DBAPIError) as caught:
                    select(engine, 1)
                errors.append(caught.value)
            pooled: Any = engine.pool
            return errors, proxy.accepted - accepted, pooled.checkedin()

        errors, opened, pooled = with_engine(name, proxy.port, act)

    kind = "InterfaceError" if name == "asyncpg" else "OperationalError"
    assert {kind} == {type(error).__name__ for error in errors}
    assert all(isinstance(causes(e)[-1], CircuitBreakerOpenError) for e in errors)
    assert not any(error.connection_invalidated for error in errors)
    assert [0, 1] == [opened, pooled]


def test_a_late_statement_costs_its_connection_only(
    govern: Govern, name: str, port: int
) -> None:
    """Case 40: a statement that was cut off leaves a pool that works, nothing dead."""
    govern(DRIVERS[name][0], TIMEOUT_READ=1)
    with Proxy(port) as proxy:

        def act(engine: sa.Engine) -> tuple[BaseException, Any]:
            select(engine, 1)
            proxy.mode = "frozen"
            with pytest.raises((DBAPIError, TimeoutError)) as caught:
                select(engine, 2)
            proxy.cut()
            proxy.mode = "pass"
            return caught.value, [select(engine, number) for number in (3, 4)]

        error, rows = with_engine(name, proxy.port, act)

    # asyncpg's own timeout is passed on as it is; of mysql-connector the failure of the
    # rollback that follows is what is seen.
    told = name not in {"asyncpg", "mysql.connector"}
    assert not told or getattr(error, "connection_invalidated", False)
    assert [3, 4] == rows


def test_a_server_that_refuses_is_said_by_sqlalchemys_own_error(
    govern: Govern, name: str, port: int
) -> None:
    """Case 38: a connect that the circuit refuses is one that failed."""
    inside = govern(DRIVERS[name][0], RETRY_MAX_ATTEMPTS=1)
    with Proxy(port) as proxy:

        def act(engine: sa.Engine) -> tuple[DBAPIError, int]:
            select(engine, 1)
            engine.pool.dispose()
            open_circuit(inside)
            accepted = proxy.accepted
            with pytest.raises(DBAPIError) as caught:
                select(engine, 1)
            return caught.value, proxy.accepted - accepted

        error, opened = with_engine(name, proxy.port, act)

    assert isinstance(causes(error)[-1], CircuitBreakerOpenError)
    assert 0 == opened
