"""sqlite3: a subclass of ours at the bottom of each connection and cursor.

There is no server, so there is neither a circuit nor a limit: statements are
counted and measured, and a locked database is told from a failure. Where the app's
owner asks for it, a statement that found the database busy is sent again, outside of
transactions: it got no lock, so it did nothing, or was undone. Most of the
work happens while rows are fetched, which is not part of the measure.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import sqlite3.dbapi2
from sys import _getframe, modules
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.fastpath import Begun
from resilience_instrument.integrations import _dbapi, _dblane, _twin
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import is_watched, suppressed
from resilience_instrument.integrations._sql import READ, SQLITE
from resilience_instrument.outcome import Raised
from resilience_instrument.verdict import Evidence, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.integrations._dbapi import Link, Links
    from resilience_instrument.integrations._dblane import AnyLane
    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime

# SQLite documentation, "Result and Error Codes": somebody else holds the lock.
_LOCKED: Final = ("SQLITE_BUSY", "SQLITE_LOCKED")
_BUSY: Final = "SQLITE_BUSY"
# What watches a program keeps files of its own, which are no calls of the app's.
_WATCHERS: Final = "coverage."
_FACTORY_PLACE: Final = 5
_NOT_GIVEN: Any = object()

RETRY_BUSY: Final = "RESILIENCE_DATABASE_RETRY_BUSY"
"""`1` where statements that found the database busy are to be sent again."""


@final
class _Driver:
    """What is particular to sqlite3."""

    library = "sqlite3"
    scheme = "sqlite"
    dialect = SQLITE
    default_port = 0
    rolled_back: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()
    refusals = _dbapi.own_errors(__name__, sqlite3.OperationalError)

    @staticmethod
    def code(error: Exception) -> str:
        """Return the name of the result code."""
        return getattr(error, "sqlite_errorname", "")

    @staticmethod
    def judge_connect(error: Exception) -> Judgement:
        """Read why a file could not be opened."""
        return _dbapi.local(error)

    @staticmethod
    def judge_statement(error: Exception, code: str) -> Judgement:
        """Read why a statement failed."""
        if code.startswith(_LOCKED):
            sent = not code.startswith(_BUSY)
            return Judgement(
                Verdict.TRANSIENT, Evidence.NEUTRAL, sent=sent, reason=code
            )
        reason = code or type(error).__name__
        return Judgement(Verdict.PERMANENT, Evidence.NEUTRAL, reason=reason)


DRIVER: Final = _Driver()


def targets(runtime: Runtime) -> list[Target]:
    """List what is wrapped: one function under the two names that it has."""
    wrapper = _connecting(runtime)
    return [
        Target(sqlite3, "connect", wrapper),
        Target(sqlite3.dbapi2, "connect", wrapper),
    ]


def _connecting(runtime: Runtime) -> Wrapper:
    links = _dbapi.Links(runtime, DRIVER)

    def connect(
        wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        caller: str = _getframe(1).f_globals.get("__name__", "")
        if suppressed() or caller.startswith(_WATCHERS):
            return wrapped(*args, **kwargs)
        try:
            link = _link(links, *args, **kwargs)
            attempt = _Attempt(wrapped, *_with_factory(args, kwargs))
            call = link.plain(_dbapi.CONNECT, unbounded=False)
        except Exception as fault:
            runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        connection = _dbapi.counted(link, call, attempt, None)
        if isinstance(connection, _Connection):
            _equip(connection, link)
        return connection

    return connect


def _equip(connection: Any, link: Link) -> None:
    """Let a connection know its link; one that is patient goes another way."""
    patient = os.environ.get(RETRY_BUSY) == "1"
    name = "_resilience_patient" if patient else "_resilience"
    setattr(connection, name, link)


def _link(links: Links, database: Any = "", *_: Any, **__: Any) -> Link:
    name = os.fsdecode(database).partition("?")[0]
    shown = name if name == ":memory:" else os.path.basename(name)  # noqa: PTH119
    shown = shown or "temporary"
    return links.find("", 0, shown, f"sqlite:{shown}")


def _with_factory(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put our class below the one that was asked for, wherever that was given."""
    place = _FACTORY_PLACE
    if len(args) > place:
        factory = _governed(args[place], sqlite3.Connection, _Connection)
        return (*args[:place], factory, *args[place + 1 :]), kwargs
    given = kwargs.get("factory", sqlite3.Connection)
    factory = _governed(given, sqlite3.Connection, _Connection)
    return args, {**kwargs, "factory": factory}


def _governed(theirs: Any, base: Any, ours: Any) -> Any:
    """Return a class of the app's own with ours right above the C type."""
    if not isinstance(theirs, type) or not issubclass(theirs, base):
        return theirs
    return theirs if issubclass(theirs, ours) else _combined(theirs, base, ours)


@functools.lru_cache(maxsize=256)
def _combined(theirs: Any, base: Any, ours: Any) -> Any:
    # No more attributes than it has itself.
    return _twin.below(theirs, base, ours, __slots__=())


class _Connection(sqlite3.Connection):
    """Below the app's own class: gives cursors that are governed."""

    _resilience: Link | None = None
    _resilience_patient: Link | None = None

    def cursor(self, factory: Any = _NOT_GIVEN) -> Any:
        """Make a cursor of the class that was asked for, governed."""
        if factory is _NOT_GIVEN:
            return _make_cursor(self, _PLAIN)
        return _make_cursor(self, _governed(factory, sqlite3.Cursor, _Cursor))

    def execute(self, sql: Any, parameters: Any = (), /) -> Any:
        """Run one statement by a cursor of ours; the shortcut in C makes its own."""
        return _Cursor.execute(_make_cursor(self, _PLAIN), sql, parameters)

    def executemany(self, sql: Any, parameters: Any, /) -> Any:
        """Run one statement for each set of parameters, likewise."""
        return _Connection.cursor(self).executemany(sql, parameters)

    def executescript(self, sql_script: Any, /) -> Any:
        """Run several statements, likewise."""
        return _Connection.cursor(self).executescript(sql_script)

    def commit(self) -> None:
        """End the transaction, if there is one."""
        self._end("COMMIT", super().commit)

    def rollback(self) -> None:
        """End the transaction, if there is one."""
        self._end("ROLLBACK", super().rollback)

    def _end(self, command: str, perform: Callable[[], Any]) -> None:
        if self.in_transaction:
            _run(self, command, perform, ())
        else:
            perform()


class _Cursor(sqlite3.Cursor):
    """Below the app's own class: counts its statements."""

    # As the C type: a cursor has no attributes of the app's own.
    __slots__ = ()

    def execute(self, sql: Any, parameters: Any = (), /) -> Any:
        """Run one statement."""
        # One function on purpose: calling another for a part is a tenth of its cost.
        lane: Any = None
        try:
            link: Any = self.connection._resilience  # type: ignore[attr-defined]  # noqa: SLF001 - ours
            # A text of 10 MB must not even be hashed.
            if len(sql) <= READ and (
                "opentelemetry.context" not in modules or not is_watched()
            ):
                lanes = link.known
                lane = lanes.others[0].get(sql) or lanes.other(sql, unbounded=False)
                monotonic = link.monotonic
                begun = monotonic()
                lane.tally.begin()
        except Exception:  # the long way meets it again, and tells
            lane = None
        if lane is None:
            connection = getattr(self, "connection", None)
            return _run(connection, sql, super().execute, (sql, parameters))
        try:
            result = _execute(self, sql, parameters)
        except BaseException as error:
            _tell(link, lane, begun, error)
            raise
        try:
            lane.tally.succeed(monotonic() - begun)
        except Exception as fault:
            link.runtime.fault("engine", fault)
        return result

    def executemany(self, sql: Any, parameters: Any, /) -> Any:
        """Run one statement for each set of parameters."""
        perform = super().executemany
        return _run(self.connection, sql, perform, (sql, parameters), "BATCH ")

    def executescript(self, sql_script: Any, /) -> Any:
        """Run several statements."""
        perform = super().executescript
        return _run(self.connection, sql_script, perform, (sql_script,), "BATCH ")


_PLAIN: Final = _governed(sqlite3.Cursor, sqlite3.Cursor, _Cursor)
_make_cursor: Final = sqlite3.Connection.cursor
_execute: Final = sqlite3.Cursor.execute


def _tell(link: Link, lane: Any, begun: float, error: BaseException) -> None:
    """Tell of a statement that did not succeed on the short way."""
    made = Raised(error) if isinstance(error, Exception) else error
    begun_ = Begun(0, begun, made)
    del made
    _dbapi.tell(link, lane.withdraw(begun_), begun_, _ONCE)


def _run(
    connection: Any,
    sql: Any,
    perform: Callable[..., Any],
    args: tuple[Any, ...],
    prefix: str = "",
) -> Any:
    """Run a statement, counted."""
    if getattr(connection, "_resilience_patient", None) is not None:
        return _run_patiently(connection, sql, perform, args, prefix)
    link = getattr(connection, "_resilience", None)
    if link is None or not isinstance(sql, str) or suppressed():
        return perform(*args)
    try:
        summary = prefix + SQLITE.read(sql).summary
        known = _dblane.named(link, summary, unbounded=False)
        lane = _dblane.recorded(link, known, summary)
        if lane is not None:
            return _run_short(link, lane, perform, args)
        call = link.plain(summary, unbounded=False)
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return perform(*args)
    return _dbapi.counted(link, call, _Attempt(perform, args, {}), None)


def _run_short(
    link: Link, lane: AnyLane, perform: Callable[..., Any], args: tuple[Any, ...]
) -> Any:
    """Run a statement whose like was counted before."""
    begun = link.monotonic()
    try:
        lane.enter(begun)
    except Exception as fault:
        link.runtime.fault("engine", fault)
        return perform(*args)
    try:
        result = perform(*args)
    except BaseException as error:
        _tell(link, lane, begun, error)
        raise
    try:
        lane.succeed(0, begun, link.monotonic())
    except Exception as fault:
        link.runtime.fault("engine", fault)
    return result


def _run_patiently(
    connection: Any,
    sql: Any,
    perform: Callable[..., Any],
    args: tuple[Any, ...],
    prefix: str,
) -> Any:
    """Run a statement, and again where the database was busy and nothing went before.

    What found another's newer snapshot inside a transaction would find it for ever.
    """
    link = connection._resilience_patient  # noqa: SLF001 - ours
    if not isinstance(sql, str) or suppressed():
        return perform(*args)
    try:
        statement = SQLITE.read(sql)
        statement = statement._replace(summary=prefix + statement.summary)
        attempt = _Patient(perform, args, {})
        attempt.connection = connection
        first = not (prefix or connection.in_transaction)
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return perform(*args)
    # sqlite3 waits as long as the app said; we know no limit.
    return _dbapi.send(link, attempt, statement, first=first, own=True)


class _Attempt(_dbapi.Sending):
    """Something that is done once."""

    __slots__ = ()

    def __call__(self, deadline: float | None) -> Any:  # noqa: ARG002 - has no limit
        """Do it."""
        return self.perform(*self.args, **self.kwargs)


@final
class _Patient(_Attempt):
    """A statement that is sent again where the database was busy."""

    __slots__ = ("connection",)

    connection: Any

    def restart(self) -> None:
        """Undo the BEGIN that Python has put before it."""
        if self.connection.in_transaction:
            sqlite3.Connection.rollback(self.connection)


_ONCE: Final = _Attempt(int, (), {})
