"""Whatever goes wrong on our side of a driver, the app's call goes through."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context

from db.harness import DRIVERS
from resilience_instrument.integrations.catalog import LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.harness import Driver
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


@pytest.fixture(params=sorted(DRIVERS))
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """Each driver in each way of using it."""
    found = DRIVERS[request.param]()
    yield found
    found.finish()


@pytest.fixture
def port(driver: Driver, request: pytest.FixtureRequest) -> int:
    """Return the port of the driver's server."""
    name = "postgres" if driver.server == "postgresql" else "mariadb"
    found: int = request.getfixturevalue(name).port
    return found


def use(driver: Driver, port: int) -> list[Any]:
    """Connect, select, commit and close; return what was selected."""
    connection = driver.open(port)
    driver.begin(connection)
    rows = driver.execute(connection, "SELECT 5")
    driver.commit(connection)
    driver.rollback(connection)
    driver.close(connection)
    return [row[0] for row in rows]


def test_a_telemetry_librarys_own_calls_are_left_alone(
    driver: Driver, govern: Govern, port: int
) -> None:
    """Who asks for it is neither limited nor counted."""
    inside = govern(driver.library)
    given = context.set_value("suppress_instrumentation", "yes")

    token = context.attach(given)
    try:
        assert [5] == use(driver, port)
    finally:
        context.detach(token)

    assert [] == inside.told.calls


def test_a_connect_that_cannot_be_described_is_made(
    driver: Driver, govern: Govern, port: int
) -> None:
    """Then nothing is known of the connection, and it is left alone."""
    inside = govern(driver.library)
    inside.runtime.registry = None  # type: ignore[assignment]

    assert [5] == use(driver, port)
    assert [] == inside.told.calls
    assert "describe" == inside.faults[0][0]
    inside.faults.clear()


def test_a_connect_whose_policies_fail_is_made(
    driver: Driver, govern: Govern, port: int
) -> None:
    """The link is known already; what governs it cannot be had."""
    inside = govern(driver.library)
    use(driver, port)
    inside.runtime.registry = None  # type: ignore[assignment]

    assert [5] == use(driver, port)
    assert {"describe"} == {where for where, _ in inside.faults}
    inside.faults.clear()


def test_a_statement_that_cannot_be_read_is_sent(
    driver: Driver, govern: Govern, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in our reading of SQL is ours alone."""
    inside = govern(driver.library)
    connection = driver.open(port)
    room = importlib.import_module(LIBRARIES[driver.library])
    with monkeypatch.context() as patch:
        patch.setattr(type(room.DRIVER), "dialect", None)
        rows = driver.execute(connection, "SELECT 5")
    driver.close(connection)

    assert [5] == [row[0] for row in rows]
    assert "describe" == inside.faults[-1][0]
    inside.faults.clear()


def test_an_observer_that_fails_keeps_nobody(
    driver: Driver, govern: Govern, port: int
) -> None:
    """What cannot be told happens all the same, and so does what fails."""
    inside = govern(driver.library)
    connection = driver.open(port)
    driver.begin(connection)
    driver.execute(connection, "SELECT 5")
    told = inside.told

    class Deaf:
        """Fails at one event."""

        def __init__(self, event: str) -> None:
            self._event = event

        def __getattr__(self, name: str) -> Any:
            if name == self._event:
                message = "provoked"
                raise RuntimeError(message)
            return getattr(told, name)

    for event in ("call_started", "attempt_ended", "call_ended"):
        inside.runtime.observer = Deaf(event)
        assert [7] == [row[0] for row in driver.execute(connection, "SELECT 7")]
        if driver.server == "mysql":
            with pytest.raises(Exception, match="nowhere"):
                driver.execute(connection, "SELECT * FROM nowhere")
    driver.close(connection)

    assert {"engine"} == {where for where, _ in inside.faults}
    inside.faults.clear()
