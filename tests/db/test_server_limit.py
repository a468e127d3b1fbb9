"""By opt-in the server limits statements as well, where it can be asked to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from db.harness import DRIVERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.harness import Driver
    from db.servers import MariaDB, PgBouncer, Postgres
    from integrations.governing import Governed

    Govern = Callable[..., Governed]

pytestmark = pytest.mark.slow

TESTED = {
    "test_postgresql_limits_where_it_is_asked_to": (
        "psycopg2",
        "psycopg",
        "psycopg-async",
        "asyncpg",
    ),
    "test_mariadb_limits_where_it_is_asked_to": (
        "pymysql",
        "mysql.connector",
        "mysqlclient",
        "aiomysql",
    ),
}

POSTGRESQL = ["psycopg2", "psycopg", "psycopg-async", "asyncpg"]
MYSQL = sorted(set(DRIVERS) - set(POSTGRESQL))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask servers to limit statements."""
    monkeypatch.setenv("RESILIENCE_DATABASE_SERVER_LIMIT", "1")


@pytest.fixture
def make() -> Iterator[Callable[[str], Driver]]:
    """Make drivers and finish them at the end."""
    made: list[Driver] = []

    def go(name: str) -> Driver:
        made.append(DRIVERS[name]())
        return made[-1]

    yield go
    for each in made:
        each.finish()


def shown(driver: Driver, port: int, **options: Any) -> str:
    """Return the limit that the server has for a new connection."""
    connection = driver.open(port, **options)
    rows = driver.execute(connection, "SHOW statement_timeout")
    driver.close(connection)
    return str(rows[0][0])


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("name", POSTGRESQL)
def test_postgresql_limits_where_it_is_asked_to(
    govern: Govern, make: Callable[[str], Driver], postgres: Postgres, name: str
) -> None:
    """Case 21: the server has the limit, and the app's own options hold."""
    driver = make(name)
    govern(driver.library, TIMEOUT_READ=7)

    given: dict[str, Any] = {"options": "-c work_mem=1234kB"}
    own: dict[str, Any] = {"options": "-c statement_timeout=9s"}
    if name == "asyncpg":
        given = {"server_settings": {"work_mem": "1234kB"}}
        own = {"server_settings": {"statement_timeout": "9s"}}
    connection = driver.open(postgres.port, **given)
    memory = driver.execute(connection, "SHOW work_mem")
    driver.close(connection)

    assert "1234kB" == memory[0][0]
    assert "7s" == shown(driver, postgres.port, **given)
    assert "9s" == shown(driver, postgres.port, **own)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("name", POSTGRESQL)
def test_a_bouncer_that_refuses_is_asked_once(
    govern: Govern, make: Callable[[str], Driver], bouncer: PgBouncer, name: str
) -> None:
    """Case 21: the connect succeeds without it, and that is remembered."""
    driver = make(name)
    inside = govern(driver.library, TIMEOUT_READ=7)
    before = bouncer_refusals(bouncer)

    limits = [shown(driver, bouncer.port) for _ in range(3)]

    assert ["0"] * 3 == limits
    assert 1 == bouncer_refusals(bouncer) - before
    assert {"success"} == set(inside.told.outcomes)


def bouncer_refusals(bouncer: PgBouncer) -> int:
    """Return how often the bouncer refused a parameter."""
    log = (bouncer.directory / "bouncer.log").read_text(encoding="utf-8")
    return log.count("closing because: unsupported startup parameter")


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("name", POSTGRESQL)
def test_another_refusal_is_the_apps(
    govern: Govern, make: Callable[[str], Driver], postgres: Postgres, name: str
) -> None:
    """A wrong database is no reason to try without the limit."""
    driver = make(name)
    inside = govern(driver.library)

    with pytest.raises(driver.any_error):
        driver.open(postgres.port, dbname="nowhere")

    assert [] == inside.told.retries


@pytest.mark.parametrize("name", POSTGRESQL)
def test_a_role_keeps_its_limit_where_nobody_asked(
    govern: Govern, make: Callable[[str], Driver], postgres: Postgres, name: str
) -> None:
    """Case 21: without the opt-in `ALTER ROLE` decides."""
    driver = make(name)
    govern(driver.library)
    postgres.sql("ALTER ROLE app SET statement_timeout = '5min'")
    try:
        assert "5min" == shown(driver, postgres.port)
    finally:
        postgres.sql("ALTER ROLE app RESET statement_timeout")


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("name", MYSQL)
def test_mariadb_limits_where_it_is_asked_to(
    govern: Govern, make: Callable[[str], Driver], mariadb: MariaDB, name: str
) -> None:
    """Case 22: and a command of the app's own for new connections ran as well."""
    driver = make(name)
    inside = govern(driver.library, TIMEOUT_READ=7)

    connection = driver.open(mariadb.port, init_command="SET @mine = 5")
    rows = driver.execute(connection, "SELECT @@max_statement_time, @mine")
    driver.close(connection)

    assert (7, 5) == (float(rows[0][0]), int(rows[0][1]))
    assert "CONNECT" == inside.told.calls[0].endpoint
