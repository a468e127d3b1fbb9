"""psycopg2: what only it can do, unchanged; its limits, kept by a thread."""

from __future__ import annotations

import io
import logging
import os
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg2
import psycopg2.extensions as ext
import psycopg2.extras
import psycopg2.pool
import pytest
from psycopg2 import sql

from resilience_instrument import DeadlineExceededError
from resilience_instrument.integrations import _watchdog
from resilience_instrument.integrations import psycopg2 as room
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.proxy import Proxy
    from db.servers import PgBouncer, Postgres
    from integrations.governing import Governed

    Govern = Callable[..., Governed]

TESTED = ("psycopg2",)

captured = psycopg2.connect
"""As `from psycopg2 import connect` before anything is governed."""


@pytest.fixture
def inside(govern: Govern) -> Governed:
    """Govern psycopg2."""
    return govern("psycopg2", TIMEOUT_CONNECT=3)


@pytest.fixture
def connect(postgres: Postgres) -> Iterator[Callable[..., Any]]:
    """Connect to the server; whatever is open is closed at the end."""
    opened: list[Any] = []

    def go(**options: Any) -> Any:
        given = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}
        connection = psycopg2.connect(**given, dbname="postgres", **options)
        opened.append(connection)
        return connection

    yield go
    for connection in opened:
        connection.close()


def run(connection: Any, text: str) -> list[Any]:
    """Run a statement and return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(text)
        return list(cursor.fetchall())


# -- what the app gets is what it was -----------------------------------------


def test_a_connection_is_one_to_c_code(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Case 1: whatever hands a connection or a cursor to C code works."""
    connection = connect()
    cursor = connection.cursor()

    assert isinstance(connection, ext.connection)
    assert connection is cursor.connection
    assert '"a"' == ext.quote_ident("a", connection)
    assert '"t"' == sql.SQL("{}").format(sql.Identifier("t")).as_string(connection)
    psycopg2.extras.register_default_jsonb(conn_or_curs=connection)
    psycopg2.extras.register_uuid(conn_or_curs=cursor)
    ext.register_type(ext.UNICODE, connection)
    assert [({"a": 1},)] == run(connection, "SELECT '{\"a\": 1}'::jsonb")
    assert [("x",)] == run(connection, "SELECT 'x'")
    assert [] == inside.faults


def test_class_of_the_app_stays_on_top(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Case 2: a logging connection logs each statement once, its cursors stay."""

    class Own(psycopg2.extras.LoggingConnection):  # type: ignore[misc]
        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            kwargs.setdefault("cursor_factory", Both)
            return super().cursor(*args, **kwargs)

    class Both(psycopg2.extras.LoggingCursor, psycopg2.extras.DictCursor):  # type: ignore[misc]
        pass

    lines = io.StringIO()
    connection = connect(connection_factory=Own)
    connection.initialize(lines)

    cursor = connection.cursor()
    cursor.execute("SELECT 1 AS one")

    assert 1 == cursor.fetchone()["one"]
    assert ["SELECT 1 AS one"] == lines.getvalue().splitlines()
    assert ["CONNECT", "SELECT"] == [call.endpoint for call in inside.told.calls]


def test_factories_of_connections_and_cursors_work(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Cases 3, 4 and 5: named tuples, dictionaries, and the app's own attribute."""
    tuples = psycopg2.extras.NamedTupleCursor
    connection = connect(cursor_factory=tuples)

    row = run(connection, "SELECT 1 AS one")[0]
    with connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
        cursor.execute("SELECT 2 AS two")
        assert isinstance(cursor, psycopg2.extras.RealDictCursor)
        assert {"two": 2} == cursor.fetchone()
    by_position = connection.cursor(None, psycopg2.extras.DictCursor)

    assert 1 == row.one
    assert isinstance(by_position, psycopg2.extras.DictCursor)
    assert tuples is connection.cursor_factory
    assert connect().cursor_factory is None
    assert 4 == len(inside.told.calls)


def test_the_factory_of_cursors_is_the_apps_own(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Case 5: it may be set, asked for and taken away, and holds for all."""
    connection = connect()
    rows = psycopg2.extras.DictCursor

    connection.cursor_factory = rows
    found = [connection.cursor(), connection.cursor("named"), connection.cursor(None)]
    assert rows is connection.cursor_factory
    assert all(isinstance(each, rows) for each in found)
    del connection.cursor_factory
    assert connection.cursor_factory is None
    assert not isinstance(connection.cursor(), rows)
    connection.cursor_factory = 5
    with pytest.raises(TypeError):
        connection.cursor()
    assert [] == inside.faults


def test_a_cursor_is_what_was_asked_for(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """By name and by place; what only a named one can be is refused by the driver."""
    connection = connect()

    named = connection.cursor("named", withhold=True, scrollable=True)
    plain = connection.cursor(scrollable=None)

    assert ("named", True, True) == (named.name, named.withhold, named.scrollable)
    assert (None, False) == (plain.name, plain.withhold)
    with pytest.raises(psycopg2.ProgrammingError):
        connection.cursor(withhold=True)
    with pytest.raises(psycopg2.ProgrammingError):
        connection.cursor(scrollable=False)
    assert [] == inside.faults


def test_names_and_texts_of_classes_are_unchanged(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Case 5: who prints a connection or its class sees what was there."""
    bare = captured.__globals__["_connect"].__wrapped__
    plain = bare(connect().dsn)
    connection = connect()

    assert type(plain).__name__ == type(connection).__name__
    assert type(plain).__module__ == type(connection).__module__
    assert repr(plain).split(" at ")[0] == repr(connection).split(" at ")[0]
    plain.close()
    assert [] == inside.faults


def test_all_that_a_connection_can_do_it_still_can(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Case 6: named cursors, `with`, two-phase commit, COPY, large objects, batches."""
    connection = connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE t (a int)")
        psycopg2.extras.execute_values(cursor, "INSERT INTO t VALUES %s", [(1,), (2,)])
        cursor.executemany("INSERT INTO t VALUES (%s)", [(3,), (4,)])
        cursor.copy_from(io.StringIO("5\n"), "t")
        cursor.copy_expert("COPY t FROM STDIN", io.StringIO("6\n"))
        out = io.StringIO()
        cursor.copy_to(out, "t")
        cursor.callproc("lower", ["ABC"])
        assert ("abc",) == cursor.fetchone()
        big = connection.lobject()
        big.write("text")
        big.unlink()
    with connection.cursor("named") as cursor:
        cursor.itersize = 2
        cursor.execute("SELECT a FROM t ORDER BY a")
        assert [(n,) for n in range(1, 7)] == list(cursor)
    connection.rollback()
    connection.tpc_begin(connection.xid(1, "gtrid", "bqual"))
    run(connection, "SELECT 1")
    connection.tpc_prepare()
    connection.tpc_rollback()

    told = {call.endpoint for call in inside.told.calls}
    assert {"BATCH INSERT t", "COPY t", "CALL lower", "COMMIT"} <= told
    assert [] == inside.faults


def test_a_pool_and_notifications_work(
    inside: Governed, connect: Callable[..., Any], postgres: Postgres
) -> None:
    """Case 6: a pool hands out connections, which hear of notifications."""
    options = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}
    pool = psycopg2.pool.SimpleConnectionPool(1, 2, dbname="postgres", **options)
    listener = pool.getconn()
    listener.autocommit = True
    with listener.cursor() as cursor:
        cursor.execute("LISTEN news")
    teller = connect()
    teller.autocommit = True
    with teller.cursor() as cursor:
        cursor.execute("NOTIFY news, 'hello'")

    for _ in range(50):
        listener.poll()
        if listener.notifies:
            break
        time.sleep(0.02)

    assert ["hello"] == [each.payload for each in listener.notifies]
    pool.putconn(listener)
    pool.closeall()
    assert [] == inside.faults


def test_an_asynchronous_connection_is_left_alone(
    inside: Governed, postgres: Postgres
) -> None:
    """Case 7: who polls by himself sees a plain connection."""
    options = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    connection = psycopg2.connect(**options, dbname="postgres", async_=1)
    psycopg2.extras.wait_select(connection)

    assert ext.connection is type(connection)
    connection.close()
    assert [] == inside.told.calls


def test_a_name_that_was_imported_before_is_governed(
    inside: Governed, postgres: Postgres
) -> None:
    """Case 8: `from psycopg2 import connect` at the top of an app is no way around."""
    options = {"host": "127.0.0.1", "port": postgres.port, "user": "app"}

    captured(**options, dbname="postgres").close()

    assert ["CONNECT"] == [call.endpoint for call in inside.told.calls]
    assert captured is pickle.loads(pickle.dumps(psycopg2.connect))


def test_a_factory_that_is_no_class_is_called_as_it_is(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """A function may make the connection; its statements then go unseen."""
    made = []

    def factory(*args: Any, **kwargs: Any) -> Any:
        made.append(ext.connection(*args, **kwargs))
        return made[0]

    connection = connect(connection_factory=factory)

    assert made[0] is connection
    assert [(1,)] == run(connection, "SELECT 1")
    assert ["CONNECT"] == [call.endpoint for call in inside.told.calls]


def test_a_replication_connection_is_left_as_it_is(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Case 6: its C type has more inside; the connect is counted, no more."""
    kind = psycopg2.extras.PhysicalReplicationConnection

    connection = connect(connection_factory=kind)

    assert kind is type(connection)
    assert ["CONNECT"] == [call.endpoint for call in inside.told.calls]


def test_statements_before_the_connection_is_there_pass(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """A class of the app's may use itself while it is being made."""

    class Eager(ext.connection):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            with self.cursor() as cursor:
                cursor.execute("SELECT 1")
            self.commit()

    connection = connect(connection_factory=Eager)

    assert [(1,)] == run(connection, "SELECT 1")
    assert ["CONNECT", "SELECT"] == [call.endpoint for call in inside.told.calls]


def test_composed_statements_are_named_and_wrong_ones_are_the_drivers(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """A statement may be an object; what is none is for the driver to refuse."""
    connection = connect()
    composed = sql.SQL("SELECT * FROM {}").format(sql.Identifier("pg_class"))

    run(connection, composed)
    run(connection, b"SELECT 1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        run(connection, 5)  # type: ignore[arg-type]

    told = [call.endpoint for call in inside.told.calls[1:]]
    assert ['SELECT "pg_class"', "SELECT"] == told


def test_a_dsn_that_cannot_be_read_is_refused_by_the_driver(inside: Governed) -> None:
    """The driver says itself what is wrong with it."""
    with pytest.raises(psycopg2.ProgrammingError):
        psycopg2.connect("this is = = none")

    assert [] == inside.told.calls
    assert [] == inside.faults


def test_nothing_is_done_where_telemetry_asks_to_be_left_alone(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Calls of a telemetry library itself are not governed."""
    context = pytest.importorskip("opentelemetry.context")
    key = context.create_key("unused")
    token = context.attach(context.set_value("suppress_instrumentation", "yes"))
    try:
        connection = connect()
        run(connection, "SELECT 1")
    finally:
        context.detach(token)

    assert key
    assert ext.connection is type(connection)
    assert [] == inside.told.calls


# -- who decides about timeouts -----------------------------------------------


@pytest.mark.parametrize(
    ("options", "environ"),
    [
        ({"connect_timeout": 1}, {}),
        ({}, {"PGCONNECT_TIMEOUT": "1"}),
    ],
)
def test_the_apps_connect_timeout_wins(
    inside: Governed,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    environ: dict[str, str],
) -> None:
    """Case 14: by argument or by environment, and the call is not unbounded."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    proxy.mode = "silent"

    begun = time.monotonic()
    with pytest.raises(psycopg2.OperationalError, match="timeout expired"):
        psycopg2.connect(host="127.0.0.1", port=proxy.port, user="app", **options)

    assert time.monotonic() - begun < 2.5
    assert [False] == [call.unbounded for call in inside.told.calls]


@pytest.mark.parametrize(
    "dsn",
    ["host={h} port={p} connect_timeout=0", "postgresql://{h}:{p}/?connect_timeout=0"],
)
def test_an_explicit_zero_means_for_ever(
    govern: Govern, proxy: Proxy, dsn: str
) -> None:
    """Case 14: an app that asked to wait for ever waits longer than our limit."""
    govern("psycopg2", TIMEOUT_CONNECT=1)
    proxy.mode = "silent"
    timer = threading.Timer(2.5, setattr, (proxy, "mode", "refuse"))
    timer.start()

    begun = time.monotonic()
    with pytest.raises(psycopg2.OperationalError):
        psycopg2.connect(dsn.format(h="127.0.0.1", p=proxy.port))
    waited = time.monotonic() - begun
    timer.join()

    assert waited > 2.3


def test_a_statement_limit_of_the_app_wins(
    govern: Govern, connect: Callable[..., Any]
) -> None:
    """Whoever has the server limit its statements is not limited by us."""
    inside = govern("psycopg2", TIMEOUT_READ=0.5)
    by_option = connect(options="-c statement_timeout=9s")
    by_command = connect()

    run(by_option, "SELECT pg_sleep(0.9)")
    with by_command.cursor() as cursor:
        cursor.execute("SET statement_timeout = '9s'")
    run(by_command, "SELECT pg_sleep(0.9)")

    told = {call.endpoint: call.unbounded for call in inside.told.calls}
    assert not told["SELECT"]


def test_a_deadline_of_the_app_shortens(
    inside: Governed, connect: Callable[..., Any]
) -> None:
    """Case 37: what is left of a deadline is all that a statement gets."""
    connection = connect()
    token = CURRENT.set(time.monotonic() + 0.4)
    try:
        begun = time.monotonic()
        with pytest.raises(psycopg2.extensions.QueryCanceledError) as caught:
            run(connection, "SELECT pg_sleep(9)")
        connection.rollback()
        with pytest.raises(psycopg2.OperationalError) as refused:
            run(connection, "SELECT 1")
    finally:
        CURRENT.reset(token)

    assert time.monotonic() - begun < 1.5
    assert "ended after" in caught.value.__notes__[0]
    assert isinstance(refused.value, DeadlineExceededError)
    assert "closed" == inside.state()


@pytest.mark.slow
@pytest.mark.parametrize(
    "loops",
    [
        400,
        pytest.param(10_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_a_statement_that_just_makes_it_spoils_no_other(
    govern: Govern, connect: Callable[..., Any], loops: int
) -> None:
    """Case 19: who finishes around the limit leaves the next statement alone."""
    govern("psycopg2", TIMEOUT_READ=0.2, BREAKER_MODE="disabled")
    ends: list[str] = []

    def work(numbers: range) -> None:
        connection = connect()
        connection.autocommit = True
        for number in numbers:
            # A statement is ended up to a tenth of a second after its limit.
            seconds = 0.18 + (number * 7 % 130) / 1000
            ends.append(finish(connection, f"SELECT pg_sleep({seconds})"))
            # At once, so that a cancel which comes too late would hit it.
            finish(connection, f"SELECT {number}")
            if connection.closed:  # pragma: no cover - a machine that stood still
                connection = connect()
                connection.autocommit = True

    threads = [
        threading.Thread(target=work, args=(range(first, loops, 20),))
        for first in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert loops == len(ends)
    assert {"in time", "late"} == set(ends)


def finish(connection: Any, text: str) -> str:
    """Run a statement; only its own limit may end it, which its error then says."""
    try:
        run(connection, text)
    except psycopg2.Error as error:
        notes = " ".join(getattr(error, "__notes__", []))
        if "its limit" not in notes and not connection.closed:
            raise
        return "late"
    return "in time"


@pytest.mark.slow
def test_a_frozen_server_costs_no_more_than_the_limit_and_the_grace(
    govern: Govern, proxy: Proxy
) -> None:
    """Case 16: 0.3 s after the limit, though nobody takes the request to cancel."""
    govern("psycopg2", TIMEOUT_READ=0.3)
    connection = psycopg2.connect(
        host="127.0.0.1", port=proxy.port, user="app", dbname="postgres"
    )
    run(connection, "SELECT 1")
    proxy.mode = "frozen"

    begun = time.monotonic()
    with pytest.raises(psycopg2.OperationalError):
        run(connection, "SELECT 2")
    seconds = time.monotonic() - begun

    assert connection.closed
    # Waiting for the request, too, would take a second more.
    assert 0.4 < seconds < 1.2


@pytest.mark.slow
def test_a_forked_child_keeps_the_limit(
    govern: Govern, connect: Callable[..., Any], postgres: Postgres
) -> None:
    """Case 25: the thread is not there after a fork, and is started again."""
    govern("psycopg2", TIMEOUT_READ=0.5)
    run(connect(), "SELECT 1")

    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = psycopg2.connect(
                host="127.0.0.1", port=postgres.port, user="app", dbname="postgres"
            )
            begun = time.monotonic()
            try:
                run(own, "SELECT pg_sleep(20)")
            except psycopg2.extensions.QueryCanceledError:
                code = 0 if time.monotonic() - begun < 5 else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert 0 == os.waitstatus_to_exitcode(status)


def test_without_a_libpq_of_its_own_the_connection_is_cut(
    govern: Govern, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can ask the server to cancel, the socket is shut."""
    govern("psycopg2", TIMEOUT_READ=0.3)
    monkeypatch.setattr(room, "_libpq", lambda: None)
    connection = connect()

    with pytest.raises(psycopg2.OperationalError, match="closed the connection"):
        run(connection, "SELECT pg_sleep(9)")

    assert 0 != connection.closed


def test_the_library_that_is_asked_is_the_drivers() -> None:
    """Another driver may have loaded a libpq as well, of another version."""
    assert "/x/psycopg2/libpq.so" == room._of(["/y/libpq.so", "/x/psycopg2/libpq.so"])
    assert "/y/libpq.so" == room._of(["/y/libpq.so", "/y/libpq.so"])
    with pytest.raises(LookupError):
        room._of(["/y/libpq.so", "/z/libpq.so"])


def test_a_libpq_that_cannot_be_found_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that tells nobody what is loaded is no reason to fail."""

    def refuse(_: list[str]) -> str:
        raise LookupError

    monkeypatch.setattr(room, "_of", refuse)

    assert room._libpq.__wrapped__() is None


def test_retries_are_those_of_one_call(
    govern: Govern, postgres: Postgres, caplog: pytest.LogCaptureFixture
) -> None:
    """Case 46: attempts of a connect are told as one call with its attributes."""
    caplog.set_level(logging.DEBUG)
    inside = govern("psycopg2", RETRY_BASE_DELAY=0.01)

    with pytest.raises(psycopg2.OperationalError) as caught:
        psycopg2.connect(host="127.0.0.1", port=1, user="app", dbname="x")

    (call,) = inside.told.calls
    assert [2, 3] == inside.told.retries
    assert {
        "db.system.name": "postgresql",
        "db.namespace": "x",
        "db.query.summary": "CONNECT",
        "server.address": "127.0.0.1",
        "server.port": 1,
    } == call.attributes()
    assert "3 attempts" in caught.value.__notes__[-1]
    assert postgres.port


def test_a_fault_while_looking_leaves_nobody_unwatched() -> None:
    """It is told, and the next look strikes what is late."""
    faults: list[str] = []
    struck = threading.Event()

    class Odd(dict[int, Any]):
        def copy(self) -> dict[int, Any]:
            if not faults:
                raise RuntimeError
            return dict(self)

    def strike(_: int) -> None:
        struck.set()

    dog = _watchdog.Watchdog(lambda where, _: faults.append(where))
    dog.armed = Odd()
    dog.arm(_watchdog.Slot(time.monotonic(), strike))

    assert struck.wait(10)
    assert ["watchdog"] == faults


def test_the_watchdog_rests_when_nothing_is_armed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its thread ends after a while and comes back when it is needed."""
    monkeypatch.setattr(_watchdog, "IDLE", 2)
    faults: list[Any] = []
    dog = _watchdog.Watchdog(lambda where, error: faults.append((where, error)))
    struck = threading.Event()

    def strike(_: int) -> None:
        struck.set()
        message = "provoked"
        raise RuntimeError(message)

    for _ in range(2):
        struck.clear()
        slot = _watchdog.Slot(time.monotonic() + 0.05, strike)
        dog.arm(slot)
        assert struck.wait(5)
        assert dog.disarm(slot)
        for _ in range(100):
            if not dog.running:
                break
            time.sleep(0.02)
        assert not dog.running
    fine = _watchdog.Slot(time.monotonic() + 60, strike)
    dog.arm(fine)

    assert not dog.disarm(fine)
    assert ["watchdog"] * 2 == [where for where, _ in faults]


# -- PgBouncer ------------------------------------------------------------------


@pytest.mark.slow
def test_a_bouncer_in_transaction_mode_serves_as_before(
    govern: Govern, bouncer: PgBouncer, postgres: Postgres
) -> None:
    """Case 20: it connects, and no setting of ours leaks to another client."""
    govern("psycopg2", TIMEOUT_READ=1)
    options = {"host": "127.0.0.1", "port": bouncer.port, "user": "app"}
    first = psycopg2.connect(**options, dbname="postgres")
    second = psycopg2.connect(**options, dbname="postgres")
    seen = []
    for connection in (first, second):
        with connection, connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            seen.append(cursor.fetchone()[0])

    begun = time.monotonic()
    with pytest.raises(psycopg2.OperationalError), first.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(60)")
    seconds = time.monotonic() - begun
    first.rollback()
    with first, first.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert (1,) == cursor.fetchone()
    first.close()
    second.close()

    assert ["0", "0"] == seen
    assert 0.9 < seconds < 2.5
    sleeping = "query LIKE 'SELECT pg_sleep(60)' AND state = 'active'"
    for _ in range(40):
        left = postgres.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {sleeping}")
        if left == "0":
            break
        time.sleep(0.05)
    assert "0" == left
