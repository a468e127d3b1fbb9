"""The contract of database drivers: every driver passes every case, sync and async.

Each case names its number in the list of cases, from which `docs/db-cases.md` is made.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest

from db.harness import DRIVERS
from db.proxy import Proxy
from resilience_instrument import CircuitBreakerOpenError
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.harness import Driver
    from db.servers import MariaDB, Postgres
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

UNFIT = {
    "test_the_first_statement_of_a_transaction_is_sent_again": {
        "mysqlclient": "It cannot tell what its statements left open.",
        "asyncpg": "Its BEGIN is the first statement, and the app's own.",
    },
    "test_a_schema_change_may_take_longer": {
        "mysql.connector-c": "It keeps the limit that it was given at the connect.",
    },
    "test_a_deadline_of_the_app_shortens_a_statement": {
        "mysql.connector-c": "It keeps the limit that it was given at the connect.",
    },
    "test_several_statements_are_never_sent_again": {
        "mysql.connector-c": "It sends one statement at a time.",
        "pymysql": "It sends one statement at a time.",
        "aiomysql": "It sends one statement at a time.",
        "mysql.connector": "It sends one statement at a time.",
        "asyncpg": "Its `fetch` takes one statement.",
    },
}

SLEEP = {"postgresql": "SELECT pg_sleep({})", "mysql": "SELECT SLEEP({})"}
LONG_CHANGE = {
    "postgresql": "CREATE TABLE long_change AS SELECT 1 AS a FROM pg_sleep({})",
    "mysql": "CREATE TABLE long_change AS SELECT SLEEP({}) AS a",
}


@pytest.fixture(params=sorted(DRIVERS))
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """Each driver in each way of using it."""
    excuses = UNFIT.get(request.node.originalname, {})
    if request.param in excuses:
        pytest.skip(excuses[request.param])
    found = DRIVERS[request.param]()
    yield found
    found.finish()


@pytest.fixture
def server(driver: Driver, request: pytest.FixtureRequest) -> Postgres | MariaDB:
    """Return the driver's server."""
    name = "postgres" if driver.server == "postgresql" else "mariadb"
    found: Postgres | MariaDB = request.getfixturevalue(name)
    return found


@pytest.fixture
def proxy(server: Postgres | MariaDB) -> Iterator[Proxy]:
    """Stand between the driver and its server."""
    with Proxy(server.port) as between:
        yield between


@pytest.fixture
def governed(driver: Driver, govern: Govern) -> Callable[..., Governed]:
    """Govern the driver, with limits that a test can wait for."""

    def begin(**settings: Any) -> Governed:
        given = {"TIMEOUT_READ": 1, "TIMEOUT_CONNECT": 2, **settings}
        return govern(driver.library, **given)

    return begin


@pytest.fixture
def table(server: Postgres | MariaDB) -> str:
    """Make a table with a few rows."""
    kind = " ENGINE=InnoDB" if type(server).__name__ == "MariaDB" else ""
    use = ["USE test"] if kind else []
    rows = ", ".join(f"({number}, 0)" for number in range(1, 61))
    server.sql(
        *use,
        "DROP TABLE IF EXISTS things",
        f"CREATE TABLE things (id int PRIMARY KEY, n int NOT NULL){kind}",
        f"INSERT INTO things VALUES {rows}",
    )
    return "things"


def endpoints(governed: Governed) -> list[str]:
    """Return the endpoints of the calls, in their order."""
    return [call.endpoint for call in governed.told.calls]


def quietly(close: Callable[[Any], None], connection: Any) -> None:
    """Close a connection that may be broken."""
    with contextlib.suppress(Exception):
        close(connection)


def failure(act: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, float]:
    """Return the error that an act raises, and the seconds it took."""
    begun = time.monotonic()
    try:
        act(*args, **kwargs)
    except Exception as error:
        return error, time.monotonic() - begun
    return None, time.monotonic() - begun


class Heart:
    """Beats every 20 ms in a thread of its own, and knows its longest pause."""

    def calm(self) -> float:
        """Return the longest pause that it has on this machine with nothing to do."""
        with Heart() as idle:
            time.sleep(0.5)
        return idle.longest

    def __enter__(self) -> Self:
        self.longest = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._stop.wait(0.02):
            now = time.monotonic()
            self.longest = max(self.longest, now - last)
            last = now


# -- what is seen -------------------------------------------------------------


def test_each_call_is_counted_once_by_its_name(
    driver: Driver, governed: Govern, server: Postgres | MariaDB, table: str
) -> None:
    """Case 10: a connect, a statement and a commit are three calls of one service."""
    inside = governed()

    connection = driver.open(server.port)
    driver.begin(connection)
    before = len(inside.told.calls)
    driver.execute(connection, f"UPDATE {table} SET n = 1 WHERE id = 1")
    rows = driver.execute(connection, f"SELECT n FROM {table} WHERE id = 1")
    driver.commit(connection)
    driver.close(connection)

    service = f"{driver.scheme}://127.0.0.1:{server.port}/{driver.database}"
    assert [(1,)] == [tuple(row) for row in rows]
    assert "CONNECT" == endpoints(inside)[0]
    assert 1 == endpoints(inside).count("CONNECT")
    assert ["UPDATE things", "SELECT things", "COMMIT"] == endpoints(inside)[before:]
    assert {service} == {call.service for call in inside.told.calls}
    assert {"success"} == set(inside.told.outcomes)
    assert [] == inside.faults


def test_no_literal_is_told(
    driver: Driver, governed: Govern, server: Postgres | MariaDB
) -> None:
    """Case 44: neither label nor attribute holds what a statement says."""
    inside = governed()
    connection = driver.open(server.port)

    driver.execute(connection, "SELECT 'message from bob'")
    driver.close(connection)

    told = [(call.endpoint, call.attributes()) for call in inside.told.calls]
    assert "bob" not in repr(told)
    assert driver.server == told[-1][1]["db.system.name"]
    assert driver.database == told[-1][1]["db.namespace"]


def test_a_failure_is_told_with_the_servers_code(
    driver: Driver, governed: Govern, server: Postgres | MariaDB
) -> None:
    """Case 46: SQLSTATE or number, outside a transaction and inside one."""
    inside = governed()
    connection = driver.open(server.port)
    driver.begin(connection)
    begun = len(inside.told.of("attempt_ended"))

    for sql in ("SELECT * FROM nowhere", "SELECT 1", "SELECT * FROM nowhere"):
        failure(driver.execute, connection, sql)
        if driver.server == "postgresql":
            driver.rollback(connection)
            driver.begin(connection)
    quietly(driver.close, connection)

    told = [facts[1] for facts in inside.told.of("attempt_ended")[begun:]]
    codes = {judgement.code for judgement in told if judgement.outcome == "error"}
    assert {"42P01" if driver.server == "postgresql" else "1146"} == codes


# -- timeouts -----------------------------------------------------------------


def test_a_silent_server_ends_a_connect_in_time(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Case 13: the connect fails within its limit, by the driver's own error."""
    inside = governed()
    proxy.mode = "silent"

    error, seconds = failure(driver.open, proxy.port)

    assert isinstance(error, driver.any_error)
    assert seconds < 2.9
    assert ["timeout"] == inside.told.outcomes
    assert [True] == [call.unbounded for call in inside.told.calls]


def test_the_apps_own_connect_timeout_wins(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Case 14: a limit that the app gives holds, and the call is not unbounded."""
    inside = governed(TIMEOUT_CONNECT=9)
    proxy.mode = "silent"

    error, seconds = failure(driver.open, proxy.port, **{driver.timeout_name: 2})

    assert isinstance(error, driver.any_error)
    assert seconds < 4
    assert [False] == [call.unbounded for call in inside.told.calls]


def test_a_short_connect_timeout_limits_no_query(
    driver: Driver, governed: Govern, server: Postgres | MariaDB
) -> None:
    """Case 15: what is for the connect does not end a later statement."""
    governed(TIMEOUT_READ=9)
    connection = driver.open(server.port, **{driver.timeout_name: 2})

    error, seconds = failure(
        driver.execute, connection, SLEEP[driver.server].format(2.3)
    )
    driver.close(connection)

    assert error is None
    assert seconds >= 2.2


def test_a_slow_statement_ends_at_the_limit(
    driver: Driver, governed: Govern, server: Postgres | MariaDB
) -> None:
    """Case 17: a statement of 60 s ends at the limit, and nothing sends it again."""
    inside = governed()
    connection = driver.open(server.port)
    begun = len(inside.told.outcomes)

    error, seconds = failure(
        driver.execute, connection, SLEEP[driver.server].format(60)
    )
    quietly(driver.close, connection)

    assert isinstance(error, driver.any_error)
    assert 0.9 < seconds < 2.5
    assert ["timeout"] == inside.told.outcomes[begun:][:1]
    assert [] == inside.told.retries
    if driver.server == "postgresql":
        assert "0" == gone(server)


def gone(server: Any) -> str:
    """Return how many statements still sleep after a while."""
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        " AND query LIKE 'SELECT pg_sleep%'"
    )
    found = ""
    for _ in range(40):
        found = str(server.sql(count))
        if found == "0":
            break
        time.sleep(0.05)
    return found


def test_a_frozen_server_ends_a_statement_and_stops_nobody_else(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Cases 16 and 18: the connection is closed in time while a heart beats on."""
    inside = governed()
    connection = driver.open(proxy.port)
    driver.execute(connection, "SELECT 1")
    proxy.mode = "frozen"

    calm = Heart().calm()
    with Heart() as heart:
        error, seconds = failure(driver.execute, connection, "SELECT 1")

    assert isinstance(error, driver.any_error)
    assert seconds < 3.2
    # A machine that is busy with other things makes pauses of its own.
    assert heart.longest < 0.2 + 4 * calm
    assert driver.pings_first or "timeout" == inside.told.outcomes[-1]
    assert [] == inside.told.retries
    proxy.mode = "pass"
    assert driver.survives_a_freeze or driver.is_closed(connection)
    quietly(driver.close, connection)


def test_a_schema_change_may_take_longer(
    driver: Driver, governed: Govern, server: Any
) -> None:
    """Case 24: what rightly takes long is not ended."""
    server.sql(
        *(["USE test"] if driver.server == "mysql" else []),
        "DROP TABLE IF EXISTS long_change",
    )
    governed()
    connection = driver.open(server.port)

    change = LONG_CHANGE[driver.server].format(1.6)
    error, seconds = failure(driver.execute, connection, change)
    driver.commit(connection)
    driver.close(connection)

    assert error is None
    assert seconds > 1.5


def test_a_deadline_of_the_app_shortens_a_statement(
    driver: Driver, governed: Govern, server: Any
) -> None:
    """Case 37: what is left of a deadline is all that a statement gets."""
    inside = governed(TIMEOUT_READ=15)
    connection = driver.open(server.port)
    driver.autocommit(connection)
    token = CURRENT.set(time.monotonic() + 1)
    try:
        error, seconds = failure(
            driver.execute, connection, SLEEP[driver.server].format(20)
        )
    finally:
        CURRENT.reset(token)
    quietly(driver.close, connection)

    assert isinstance(error, driver.any_error)
    assert 0.8 < seconds < 5
    assert "timeout" == inside.told.outcomes[-1]
    assert "closed" == inside.state()


# -- retry --------------------------------------------------------------------


def test_a_refused_connect_is_tried_again(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Case 26: a server that is back in a moment is reached."""
    inside = governed(RETRY_BASE_DELAY=0.4, RETRY_MAX_ATTEMPTS=10)
    proxy.mode = "refuse"

    def recover() -> None:
        while not inside.told.of("attempt_ended"):
            time.sleep(0.01)
        proxy.mode = "pass"

    recovering = threading.Thread(target=recover)
    recovering.start()

    connection = driver.open(proxy.port)
    driver.close(connection)
    recovering.join()

    assert 2 == inside.told.retries[0]
    assert "success" == inside.told.outcomes[0]


def test_a_wrong_login_is_tried_once(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Case 27: a server that says no is asked no more, and is well."""
    inside = governed()
    wrong = {"user": "guarded"} if driver.server == "postgresql" else {"user": "nobody"}

    error, _ = failure(driver.open, proxy.port, **wrong, password="wrong")

    assert isinstance(error, driver.any_error)
    assert 1 == proxy.accepted
    assert [] == inside.told.retries
    assert "closed" == inside.state()


def test_an_unknown_database_is_tried_once(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Case 27: a database that is not there will not be there at the next try."""
    inside = governed()
    name = "dbname" if driver.server == "postgresql" else "database"

    error, _ = failure(driver.open, proxy.port, **{name: "nowhere"})

    assert isinstance(error, driver.any_error)
    assert 1 == proxy.accepted
    assert [] == inside.told.retries


class Rival:
    """Another session, which always survives a deadlock."""

    def __init__(self, driver: Driver, server: Any) -> None:
        plain = "psycopg2" if driver.server == "postgresql" else "pymysql"
        self.driver = DRIVERS[plain]()
        self.port = server.port
        self.connection = self.driver.open(server.port)
        self.driver.begin(self.connection)
        if driver.server == "postgresql":
            self.run("SET deadlock_timeout = '30s'")

    def run(self, sql: str) -> None:
        """Run a statement."""
        self.driver.execute(self.connection, sql)

    def _wait_for_somebody(self) -> None:
        """Wait until somebody waits for what this session holds."""
        waiting = {
            "postgresql": "SELECT count(*) FROM pg_locks WHERE NOT granted",
            "mysql": "SELECT count(*) FROM information_schema.innodb_trx"
            " WHERE trx_state = 'LOCK WAIT'",
        }[self.driver.server]
        observer = self.driver.open(self.port)
        self.driver.autocommit(observer)
        for _ in range(200):
            if self.driver.execute(observer, waiting)[0][0]:
                break
            # Not oftener: InnoDB keeps what it shows here for 0.1 s.
            time.sleep(0.11 if self.driver.server == "mysql" else 0.01)
        self.driver.close(observer)

    def clash(self, table: str) -> threading.Thread:
        """Take row 2 at once and row 1 a little later, when somebody has it."""
        # InnoDB gives up whoever has changed less.
        self.run(f"UPDATE {table} SET n = n + 100 WHERE id BETWEEN 10 AND 60")
        self.run(f"UPDATE {table} SET n = n + 100 WHERE id = 2")

        def collide() -> None:
            self._wait_for_somebody()
            self.run(f"UPDATE {table} SET n = n + 100 WHERE id = 1")
            self.driver.commit(self.connection)
            self.driver.close(self.connection)

        thread = threading.Thread(target=collide)
        thread.start()
        return thread


@pytest.fixture
def rival(driver: Driver, server: Any) -> Iterator[Rival]:
    """Connect another session, before anything is governed."""
    found = Rival(driver, server)
    yield found
    quietly(found.driver.close, found.connection)


def values(server: Any, table: str) -> str:
    """Return the values of the first two rows as the server has them."""
    use = ["USE test"] if type(server).__name__ == "MariaDB" else []
    return " ".join(
        server.sql(*use, f"SELECT n FROM {table} WHERE id < 3 ORDER BY id").split()
    )


def test_a_deadlock_of_a_lone_statement_is_overcome(
    driver: Driver, rival: Rival, governed: Govern, server: Any, table: str
) -> None:
    """Case 28: the victim is sent again, and each row changes exactly once."""
    inside = governed(TIMEOUT_READ=9)
    connection = driver.open(server.port)
    driver.autocommit(connection)
    thread = rival.clash(table)

    driver.execute(connection, f"UPDATE {table} SET n = n + 1 WHERE id IN (1, 2)")
    thread.join()
    driver.close(connection)

    assert "101 101" == values(server, table)
    assert [2] == inside.told.retries[:1]
    assert "closed" == inside.state()


def test_a_deadlock_inside_a_transaction_is_the_apps(
    driver: Driver, rival: Rival, governed: Govern, server: Any, table: str
) -> None:
    """Cases 29 and 30: what went before is lost, so nothing is sent again."""
    inside = governed(TIMEOUT_READ=9)
    connection = driver.open(server.port)
    driver.begin(connection)
    driver.execute(connection, f"INSERT INTO {table} VALUES (-5, 5)")
    thread = rival.clash(table)

    error, _ = failure(
        driver.execute,
        connection,
        f"UPDATE {table} SET n = n + 1 WHERE id IN (1, 2)",
    )
    driver.rollback(connection)
    thread.join()
    driver.close(connection)

    assert isinstance(error, driver.any_error)
    assert "100 100" == values(server, table)
    assert [] == inside.told.retries
    assert ["transaction"] == inside.told.skipped
    use = ["USE test"] if driver.server == "mysql" else []
    assert "" == server.sql(*use, f"SELECT 'there' FROM {table} WHERE id = -5")


def test_the_first_statement_of_a_transaction_is_sent_again(
    driver: Driver, rival: Rival, governed: Govern, server: Any, table: str
) -> None:
    """Case 31: nothing went before it; the transaction begins anew."""
    inside = governed(TIMEOUT_READ=9)
    connection = driver.open(server.port)
    driver.begin(connection)
    driver.rollback(connection)
    thread = rival.clash(table)

    driver.execute(connection, f"UPDATE {table} SET n = n + 1 WHERE id IN (1, 2)")
    thread.join()
    driver.commit(connection)
    driver.close(connection)

    assert "101 101" == values(server, table)
    assert [2] == inside.told.retries[:1]


def test_a_late_update_is_not_sent_again(
    driver: Driver, governed: Govern, server: Any, table: str
) -> None:
    """Case 32: a statement that was given up may still happen, once."""
    inside = governed()
    connection = driver.open(server.port)
    driver.autocommit(connection)
    slow = {
        "postgresql": f"UPDATE {table} SET n = n + 1 WHERE id = 1"
        " AND pg_sleep(1.6) IS NOT NULL",
        "mysql": f"UPDATE {table} SET n = n + 1 WHERE id = 1 AND SLEEP(1.6) = 0",
    }[driver.server]

    error, _ = failure(driver.execute, connection, slow)
    quietly(driver.close, connection)
    time.sleep(1.2)

    assert isinstance(error, driver.any_error)
    assert values(server, table).split()[0] in {"0", "1"}
    assert [] == inside.told.retries
    assert ["not_idempotent"] == inside.told.skipped


def test_a_lost_connection_surfaces(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Case 33: a connection that is cut is neither mended nor used again."""
    inside = governed(TIMEOUT_READ=9)
    connection = driver.open(proxy.port)
    driver.execute(connection, "SELECT 1")
    accepted = proxy.accepted
    timer = threading.Timer(0.2, proxy.cut)
    timer.start()

    error, _ = failure(driver.execute, connection, SLEEP[driver.server].format(5))
    timer.join()
    quietly(driver.close, connection)

    assert isinstance(error, driver.any_error)
    assert accepted == proxy.accepted
    assert [] == inside.told.retries


def test_several_statements_are_never_sent_again(
    driver: Driver, rival: Rival, governed: Govern, server: Any, table: str
) -> None:
    """Case 34: of a text with two statements nobody knows which happened."""
    inside = governed(TIMEOUT_READ=9)
    connection = driver.open(server.port)
    driver.autocommit(connection)
    thread = rival.clash(table)

    error, _ = failure(
        driver.execute,
        connection,
        f"UPDATE {table} SET n = n + 1 WHERE id IN (1, 2); SELECT 1",
    )
    thread.join()
    quietly(driver.close, connection)

    assert isinstance(error, driver.any_error)
    assert [] == inside.told.retries
    assert ["transaction"] == inside.told.skipped


# -- breaker ------------------------------------------------------------------


def test_an_open_circuit_is_an_error_of_the_driver(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Case 38: failed connects open it; the next one fails at once."""
    inside = governed(BREAKER_CONSECUTIVE=3, RETRY_MAX_ATTEMPTS=1)
    proxy.mode = "refuse"
    for _ in range(3):
        failure(driver.open, proxy.port)
    proxy.mode = "pass"

    error, _ = failure(driver.open, proxy.port)

    assert isinstance(error, CircuitBreakerOpenError)
    assert isinstance(error, driver.error)
    assert 0 == proxy.accepted
    assert "rejected" == inside.told.outcomes[-1]
    if driver.server == "mysql":
        assert [2003, 2003] == [error.args[0], vars(error)["errno"]]


def test_answers_of_the_server_open_nothing(
    driver: Driver, governed: Govern, server: Any, table: str
) -> None:
    """Case 39: duplicates, bad syntax and bad data come from a server that is well."""
    inside = governed(BREAKER_CONSECUTIVE=3)
    connection = driver.open(server.port)
    driver.autocommit(connection)

    for sql in (f"INSERT INTO {table} VALUES (1, 1)", "SELEC 1", "SELECT * FROM no"):
        for _ in range(4):
            error, _ = failure(driver.execute, connection, sql)
            assert isinstance(error, driver.any_error)
    driver.close(connection)

    assert "closed" == inside.state()
    assert [] == inside.told.of("transitioned")


def test_a_circuit_that_opens_inside_a_transaction_lets_it_end(
    driver: Driver, governed: Govern, proxy: Proxy, table: str
) -> None:
    """Case 41: what is under way passes, the next transaction does not."""
    inside = governed(BREAKER_CONSECUTIVE=2, RETRY_MAX_ATTEMPTS=1)
    connection = driver.open(proxy.port)
    driver.begin(connection)
    driver.execute(connection, f"SELECT n FROM {table}")
    trip(inside)

    driver.execute(connection, f"SELECT id FROM {table}")
    driver.commit(connection)
    error, _ = failure(
        driver.execute,
        connection,
        "BEGIN" if driver.library == "asyncpg" else "SELECT 3",
    )
    driver.close(connection)

    assert isinstance(error, CircuitBreakerOpenError)
    assert "open" == inside.state()


def trip(inside: Governed) -> None:
    """Open the only circuit."""
    from resilience_instrument.verdict import Evidence

    breaker = inside.policies().breaker
    for _ in range(2):
        now = inside.runtime.clock.monotonic()
        permit, _ = breaker.acquire(now)
        breaker.record(permit, Evidence.FAILURE, now, "test")  # type: ignore[arg-type]


def test_probes_close_the_circuit(
    driver: Driver, governed: Govern, proxy: Proxy
) -> None:
    """Case 42: when its time is up it lets connects through, and two close it."""
    inside = governed(
        BREAKER_CONSECUTIVE=2, BREAKER_OPEN_FOR=0.3, BREAKER_OPEN_JITTER=0
    )
    driver.close(driver.open(proxy.port))
    trip(inside)
    time.sleep(0.4)

    for _ in range(2):
        driver.close(driver.open(proxy.port))

    assert "closed" == inside.state()
    states = [facts[0].to_state for facts in inside.told.of("transitioned")]
    assert ["half_open", "closed"] == states


def test_two_databases_have_two_circuits(
    driver: Driver, governed: Govern, server: Any
) -> None:
    """Case 43: one database that is in trouble does not shut the other."""
    inside = governed()
    name = "dbname" if driver.server == "postgresql" else "database"
    other = "template1" if driver.server == "postgresql" else "test2"

    driver.close(driver.open(server.port))
    driver.close(driver.open(server.port, **{name: other}))

    known = {policies.service for policies in inside.runtime.registry.known()}
    assert 2 == len(known)


# -- faults of ours -----------------------------------------------------------


def test_a_fault_of_ours_never_reaches_the_app(
    driver: Driver, governed: Govern, server: Any
) -> None:
    """Case 48: what cannot be described or told happens all the same."""
    inside = governed()
    connection = driver.open(server.port)

    inside.told.events = None  # type: ignore[assignment]
    rows = driver.execute(connection, "SELECT 1")
    inside.runtime.registry = None  # type: ignore[assignment]
    again = driver.execute(connection, "SELECT 1")
    driver.close(connection)

    assert [1, 1] == [rows[0][0], again[0][0]]
    assert len(inside.faults) > 0
    inside.faults.clear()
