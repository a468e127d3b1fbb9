"""psycopg2: a subclass of ours at the bottom of each connection and cursor.

Its types are C and cannot be patched, and a proxy would break whatever hands a
connection to C code. So `_connect`, below `connect`, is given a factory whose class
is the app's own with ours as the last base: the app's methods run first and what
they pass on by `super()` arrives here.
"""

from __future__ import annotations

import ctypes
import functools
import math
from sys import modules
from typing import TYPE_CHECKING, Any, Final, final

import psycopg2
import psycopg2.extensions as ext
from psycopg2 import _psycopg

from resilience_instrument import native
from resilience_instrument.fastpath import NO_WAY, Begun
from resilience_instrument.integrations import _dbapi, _dblane, _postgresql, _twin
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import suppressed
from resilience_instrument.integrations._sql import READ, REPEATABLE
from resilience_instrument.integrations._watchdog import Turn, Watchdog, cut
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.integrations._dbapi import Link
    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.integrations._sql import Statement
    from resilience_instrument.verdict import Judgement

# Asked for as an attribute, a method of an object in C is made anew each time.
_deadline: Final = CURRENT.get
_NO_NAMES: Final[dict[str, Any]] = {}
_REPLICATING: Final = (_psycopg.ReplicationConnection, _psycopg.ReplicationCursor)
_IDLE: Final = ext.TRANSACTION_STATUS_IDLE

GRACE: Final = 0.2
"""Seconds between asking the server to cancel and cutting the connection."""


@final
class _Driver:
    """What is particular to psycopg2."""

    library = "psycopg2"
    scheme = _postgresql.SCHEME
    dialect = _postgresql.DIALECT
    default_port = _postgresql.PORT
    rolled_back = _postgresql.ROLLED_BACK
    once: frozenset[str] = frozenset()
    refusals = _dbapi.own_errors(__name__, psycopg2.OperationalError)

    @staticmethod
    def code(error: Exception) -> str:
        """Return the SQLSTATE."""
        return getattr(error, "pgcode", None) or ""

    @staticmethod
    def judge_connect(error: Exception) -> Judgement:
        """Read why a connect failed."""
        is_own = isinstance(error, psycopg2.OperationalError)
        return _postgresql.judge_connect(error, "", is_own=is_own)

    @staticmethod
    def judge_statement(error: Exception, code: str) -> Judgement:
        """Read why a statement failed."""
        # Without a code: the connection is lost, in libpq's words or in none.
        is_lost = type(error) in {psycopg2.OperationalError, psycopg2.DatabaseError}
        return _postgresql.judge_statement(error, code, is_lost=is_lost)


DRIVER: Final = _Driver()

_COMMANDS: Final = {name: DRIVER.dialect.read(name) for name in ("COMMIT", "ROLLBACK")}


def targets(runtime: Runtime) -> list[Target]:
    """List what is wrapped, which also shows whether the library is as expected."""
    ext.connection.get_transaction_status  # noqa: B018 - see above
    return [Target(psycopg2, "_connect", _connecting(runtime))]


def _connecting(runtime: Runtime) -> Wrapper:
    links = _dbapi.Links(runtime, DRIVER)
    watchdog = Watchdog(runtime.fault)

    def connect(
        wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            # Asynchronous ones are driven by the app's own loop.
            if suppressed() or kwargs.get("async") or kwargs.get("async_"):
                return wrapped(*args, **kwargs)
            attempt = _Connecting(links, watchdog, wrapped, *args, **kwargs)
        except psycopg2.ProgrammingError:
            # A DSN that cannot be read: the driver says so itself.
            return wrapped(*args, **kwargs)
        except Exception as fault:
            runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        return _dbapi.connect(
            attempt.link, attempt, unbounded=attempt.unbounded, limit=attempt.limit
        )

    return connect


@final
class _Connecting(_dbapi.Sending):
    """A connect: tries it, each time within what is left."""

    __slots__ = (
        "_dsn",
        "_factory",
        "_given",
        "_watchdog",
        "limit",
        "link",
        "unbounded",
    )

    def __init__(
        self,
        links: _dbapi.Links,
        watchdog: Watchdog,
        wrapped: Callable[..., Any],
        dsn: str,
        connection_factory: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(wrapped, (), kwargs)
        self._given = ext.parse_dsn(dsn)
        self._watchdog = watchdog
        self._dsn = dsn
        self._factory = _governed(connection_factory or ext.connection, _Connection)
        self.link = _postgresql.link(links, self._given)
        self.unbounded = not _postgresql.limits_connect(self._given)
        default = self.link.timeouts.connect
        self.limit = _postgresql.connect_limit(self._given, default)

    def __call__(self, deadline: float | None) -> Any:
        """Connect once, and once more where the server does not want our options."""
        options = _postgresql.server_options(self.link, self._given)
        if options is not None:
            try:
                return self._connect(deadline, options=options)
            except psycopg2.OperationalError as error:
                if not _postgresql.refuses_options(error):
                    raise
                self.link.server_limit = False
        return self._connect(deadline)

    def _connect(self, deadline: float | None, **ours: str) -> Any:
        self.late = False
        dsn = ext.make_dsn(self._dsn, **ours) if ours else self._dsn
        if self.unbounded and deadline is not None:
            left = deadline - self.link.runtime.clock.monotonic()
            # Whole seconds are all that libpq knows, and 0 would be for ever.
            dsn = ext.make_dsn(dsn, connect_timeout=max(1, math.ceil(left)))
        try:
            connection = self.perform(
                dsn, connection_factory=self._factory, **self.kwargs
            )
        except psycopg2.OperationalError as error:
            self.late = "timeout expired" in str(error)
            raise
        if isinstance(connection, _Connection):
            connection._resilience = self.link  # noqa: SLF001 - ours
            connection._resilience_watchdog = self._watchdog  # noqa: SLF001
            own = _postgresql.limits_statements(self._given)
            connection._resilience_bound(own=own)  # noqa: SLF001
        return connection


def _governed(theirs: Any, ours: Any) -> Any:
    """Return a class of the app's own with ours right above the C type."""
    base = ours.__mro__[1]
    if not isinstance(theirs, type) or not issubclass(theirs, base):
        return theirs
    if issubclass(theirs, (ours, *_REPLICATING)):
        return theirs
    return _combined(theirs, ours)


@functools.lru_cache(maxsize=256)
def _combined(theirs: Any, ours: Any) -> Any:
    base = ours.__mro__[1]
    # A cursor has no more attributes than it has itself.
    facts: dict[str, Any] = {"__slots__": ()} if base is ext.cursor else {}
    return _twin.below(theirs, base, ours, **facts)


class _Connection(ext.connection):  # type: ignore[misc]
    """Below the app's own class: gives cursors that are governed, times its end."""

    _resilience: Link | None = None
    _resilience_watchdog: Any = None
    _resilience_own = False
    _resilience_factory: Any = None
    # No value here: what a class has too is found slowly.
    _resilience_terms: tuple[Link | None, int, Turn | None]

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make one whose cursors are governed where nobody asks for other ones."""
        made = super().__new__(cls, *args, **kwargs)
        _cursor_factory.__set__(made, _PLAIN)
        return made

    @property
    def cursor_factory(self) -> Any:
        """The class of cursors that the app has set, None if it has set none."""
        return self._resilience_factory

    @cursor_factory.setter
    def cursor_factory(self, factory: Any) -> None:
        self._resilience_factory = factory
        governed = _PLAIN if factory is None else _governed(factory, _Cursor)
        _cursor_factory.__set__(self, governed)

    @cursor_factory.deleter
    def cursor_factory(self) -> None:
        self.cursor_factory = None

    def _resilience_bound(self, *, own: bool) -> None:
        """Note whether the app limits statements itself, for both ways."""
        self._resilience_own = own
        turn = None if own else Turn(self._resilience_watchdog, _Struck, self)
        # A number, not a truth value, is what finds a place in a tuple fastest.
        self._resilience_terms = self._resilience, int(not own), turn

    def cursor(
        self,
        name: Any = None,
        cursor_factory: Any = None,
        withhold: Any = False,  # noqa: FBT002 - its parameters, in its order
        scrollable: Any = None,
    ) -> Any:
        """Make a cursor of the class that was asked for, governed."""
        named = name is not None or cursor_factory is not None
        if not (named or withhold or scrollable is not None):
            # The connection has its own, and what is not said costs nothing.
            return _make_cursor(self)
        if cursor_factory is not None:
            cursor_factory = _governed(cursor_factory, _Cursor)
        return _make_cursor(self, name, cursor_factory, withhold, scrollable)

    def commit(self) -> None:
        """End the transaction, within the limit for a statement."""
        _end(self, "COMMIT", _commit)

    def rollback(self) -> None:
        """End the transaction, within the limit for a statement."""
        _end(self, "ROLLBACK", _rollback)


class _Cursor(ext.cursor):  # type: ignore[misc]
    """Below the app's own class: sends statements by way of the policies."""

    # As the C type: a cursor has no attributes of the app's own.
    __slots__ = ()

    def execute(self, query: Any, vars: Any = None) -> Any:  # noqa: A002, C901, PLR0912 - its name; see below
        """Send one statement."""
        # One function on purpose: another one for a part of it costs a tenth of it.
        generation, end, sending = NO_WAY, None, None
        try:
            connection: Any = self.connection
            link, kind, turn = connection._resilience_terms  # noqa: SLF001 - ours
            if (
                type(query) is str
                # A text of 10 MB must not even be hashed.
                and len(query) <= READ
                and _deadline() is None
                and "opentelemetry.context" not in modules
            ):
                lanes = link.known
                kinds = lanes.firsts if _status(connection) == _IDLE else lanes.others
                lane: Any = kinds[kind].get(query)
                if lane is not None:
                    limit, monotonic = link.limit if kind else None, link.monotonic
                    started = monotonic()
                    generation = lane.enter(started)
        except Exception:  # noqa: S110 - the long way meets it again, and tells
            pass
        if generation == NO_WAY:
            return _execute_in_full(self, query, vars)
        try:
            if limit is None:
                result = _execute(self, query, vars)
            elif turn.end is None:
                end = turn.end = started + limit
                if not turn.dog.running:
                    turn.dog.start()
                result = _execute(self, query, vars)
                if turn.end is end:
                    turn.end = None
                else:
                    _settle(turn.over(end))
            else:
                # Another thread has its turn on the connection.
                sending = _sending(self, query, vars, connection)
                result = sending(started + limit)
        except BaseException as error:
            begun = Begun(generation, started, error)
        else:
            try:
                lane.succeed(generation, started, monotonic())
            except Exception as fault:
                link.runtime.fault("engine", fault)
            return result
        if sending is None:
            sending = _sending(self, query, vars, connection)
        if end is not None:
            sending.late = _settle(turn.over(end))
        return _dbapi.go_on(link, lane, begun, sending, limit)

    def executemany(self, query: Any, vars_list: Any) -> Any:
        """Send one statement for each set of parameters."""
        statement = _read(self, query)
        named = statement and statement._replace(summary=f"BATCH {statement.summary}")
        return _run(self.connection, named, super().executemany, (query, vars_list))

    def callproc(self, procname: Any, *args: Any) -> Any:
        """Call a function."""
        statement = _read(self, f"CALL {procname}")
        return _run(self.connection, statement, super().callproc, (procname, *args))

    def copy_expert(self, sql: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy by a statement of the app's own."""
        perform = functools.partial(super().copy_expert, **kwargs)
        return _run(self.connection, _read(self, sql), perform, (sql, *args))

    def copy_from(self, file: Any, table: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy a file into a table."""
        perform = functools.partial(super().copy_from, **kwargs)
        statement = _read(self, f"COPY {table}")
        return _run(self.connection, statement, perform, (file, table, *args))

    def copy_to(self, file: Any, table: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy a table into a file."""
        perform = functools.partial(super().copy_to, **kwargs)
        statement = _read(self, f"COPY {table}")
        return _run(self.connection, statement, perform, (file, table, *args))


_PLAIN: Final = _governed(ext.cursor, _Cursor)
_make_cursor: Final = ext.connection.cursor
_cursor_factory: Final = ext.connection.cursor_factory
_commit: Final = ext.connection.commit
_rollback: Final = ext.connection.rollback
_execute: Final = ext.cursor.execute
_status: Final = ext.connection.get_transaction_status


def _end(connection: Any, command: str, perform: Callable[..., Any]) -> None:
    """End a transaction, if there is one."""
    lane = None
    try:
        link, kind, _ = connection._resilience_terms  # noqa: SLF001 - ours
        if _status(connection) != _IDLE:
            lane = _dblane.ended(link, kind, command)
    except Exception:  # noqa: S110 - the long way meets it again, and tells
        pass
    if lane is not None:
        sending = _Sending(connection, perform, (connection,), None)
        _dbapi.hasten(link, lane, sending, command, own=not kind)
    elif connection._resilience is None or _status(connection) == _IDLE:  # noqa: SLF001
        perform(connection)
    else:
        _run(connection, _COMMANDS[command], perform, (connection,))


def _execute_in_full(cursor: Any, query: Any, parameters: Any) -> Any:
    """Send a statement of which there may be something to tell."""
    lane = None
    connection: Any = cursor.connection
    try:
        link, own = connection._resilience, connection._resilience_own  # noqa: SLF001 - ours
        first = connection.get_transaction_status() == _IDLE
        lane = _dblane.find(link, query, first=first, own=own)
    except Exception:  # noqa: S110 - the long way meets it again, and tells
        pass
    if lane is not None:
        sending = _sending(cursor, query, parameters, connection)
        return _dbapi.hasten(link, lane, sending, query, own=own)
    args, whole = (cursor, query, parameters), None if cursor.name else query
    return _run(connection, _read(cursor, query), _execute, args, whole)


def _sending(cursor: Any, query: Any, parameters: Any, connection: Any) -> _Sending:
    whole = None if cursor.name else query
    return _Sending(connection, _execute, (cursor, query, parameters), whole)


def _settle(slot: Any) -> bool:
    """Wait until a strike at a statement is over; tell whether there was one."""
    if slot is None:
        return False
    slot.settle()
    return True


def _read(cursor: Any, query: Any) -> Statement | None:
    """Return what is known of a statement, None where it is no text."""
    link = getattr(cursor.connection, "_resilience", None)
    if link is None:
        return None
    if not isinstance(query, (str, bytes)):
        try:
            query = query.as_string(cursor)
        except Exception:
            # The driver says itself what it thinks of it.
            return None
    try:
        return DRIVER.dialect.read(query)
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return None


def _run(
    connection: Any,
    statement: Statement | None,
    perform: Callable[..., Any],
    args: tuple[Any, ...],
    whole: Any = None,
) -> Any:
    """Send a statement by way of the policies.

    Args:
        connection: Over which connection.
        statement: What is known of it, None for nothing.
        perform: Sends it, given `args`.
        args: See above.
        whole: Its text where it might be sent again, None where it must not.
    """
    link = getattr(connection, "_resilience", None)
    if link is None or statement is None or suppressed():
        return perform(*args)
    try:
        if statement.sets_limit:
            connection._resilience_bound(own=True)  # noqa: SLF001 - ours
        own = connection._resilience_own  # noqa: SLF001
        first = connection.get_transaction_status() == _IDLE
        whole = whole if statement.verb in REPEATABLE else None
        sending = _Sending(connection, perform, args, whole)
        lane = _dblane.ending(link, statement, own=own)
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return perform(*args)
    if lane is not None:
        return _dbapi.hasten(link, lane, sending, statement.verb, own=own)
    return _dbapi.send(link, sending, statement, first=first, own=own)


@final
class _Struck:
    """A statement whose time is over: asks the server to cancel, then cuts.

    Args:
        connection: Over which it was sent.
    """

    __slots__ = ("_cancel", "_connection", "end", "strikes")

    end: float

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._cancel: _Cancel | None = None
        self.strikes = 0

    def strike(self, number: int) -> float | None:
        """Ask the server to cancel; if that has no effect, cut the connection."""
        if number == 1:
            self._cancel = _Cancel(self._connection)
            return GRACE
        cut(self._connection.fileno())
        return None

    def settle(self) -> None:
        """Wait until a request to cancel is with the server."""
        # A connection that was cut has no next statement that could be hit.
        if self._cancel is not None and not self._connection.closed:
            self._cancel.wait()


@final
class _Sending(_dbapi.Sending):
    """A statement on its way: ended when its time is over."""

    __slots__ = ("connection",)

    def __init__(
        self,
        connection: Any,
        perform: Callable[..., Any],
        args: tuple[Any, ...],
        whole: Any,
    ) -> None:
        self.connection = connection
        self.perform = perform
        self.args = args
        self.kwargs = _NO_NAMES
        self.whole = whole
        self.late = False

    def __call__(self, deadline: float | None) -> Any:
        """Send it once."""
        self.late = False
        if deadline is None:
            return self.perform(*self.args)
        timed = (deadline, _Struck, self.connection)
        watchdog, key = self.connection._resilience_watchdog, id(timed)  # noqa: SLF001 - ours
        watchdog.timed[key] = timed
        try:
            if not watchdog.running:
                watchdog.start()
            return self.perform(*self.args)
        finally:
            if watchdog.timed.pop(key, None) is None:
                self.late = _settle(watchdog.struck(key))

    def text(self) -> str | None:
        """Return the statement's text where it might be sent again."""
        query: Any = self.whole
        if query is None or isinstance(query, (str, bytes)):
            return super().text()
        made: str = query.as_string(self.connection)
        return made

    def is_whole(self) -> bool:
        """Tell whether it was one statement and nothing before it."""
        return self.is_single(DRIVER.dialect)

    def restart(self) -> None:
        """Roll back, so that the driver begins a transaction again."""
        if not self.connection.autocommit:
            ext.connection.rollback(self.connection)


@final
class _Cancel:
    """A request to cancel, sent beside the connection by a thread of its own.

    The driver's own `cancel` holds the interpreter's lock while it waits for the
    server: with a server that went silent, the whole process would stand still.
    libpq's function is the same and, called through ctypes, holds nothing.
    """

    __slots__ = ("_done",)

    def __init__(self, connection: Any) -> None:
        self._done = native.allocate_lock()
        library = _libpq()
        if library is not None:
            self._done.acquire()
            address = connection.pgconn_ptr
            native.start_thread(self._send, (library, library.PQgetCancel(address)))

    def _send(self, library: Any, request: int) -> None:
        text = ctypes.create_string_buffer(256)
        library.PQcancel(request, text, len(text))
        library.PQfreeCancel(request)
        self._done.release()

    def wait(self) -> None:
        """Wait until the request is with the server, so that it hits nothing else."""
        self._done.acquire(timeout=1.0)


@functools.lru_cache(maxsize=1)
def _libpq() -> Any:
    """Return the libpq that the driver has loaded, None if it cannot be found."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:  # noqa: PTH123 - no file of the app's
            paths = [line.split()[-1] for line in maps if "libpq" in line]
        library = ctypes.CDLL(_of(paths))
        library.PQgetCancel.argtypes = [ctypes.c_void_p]
        library.PQgetCancel.restype = ctypes.c_void_p
        library.PQcancel.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
        library.PQfreeCancel.argtypes = [ctypes.c_void_p]
    except (OSError, AttributeError, LookupError):
        return None
    return library


def _of(paths: list[str]) -> str:
    """Return the path that belongs to psycopg2, which another driver's may join."""
    ours = [path for path in paths if "psycopg2" in path]
    if not ours and len(set(paths)) > 1:
        message = "several libpq are loaded"
        raise LookupError(message)
    return (ours or paths)[0]
