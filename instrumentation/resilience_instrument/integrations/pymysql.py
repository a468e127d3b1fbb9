"""PyMySQL: patches of its connection's `__init__`, `connect` and `query`.

Its connect timeout does not cover the handshake, and it has no read timeout by
default. Both are given here where the app gave none.
"""

from __future__ import annotations

import functools
import types
from sys import modules
from typing import TYPE_CHECKING, Any, Final, final

import pymysql
from pymysql import connections

from resilience_instrument.fastpath import NO_WAY, Begun
from resilience_instrument.integrations import _dbapi, _dblane, _mysql
from resilience_instrument.integrations._patch import Replacement, Target
from resilience_instrument.integrations._room import suppressed
from resilience_instrument.integrations._sql import READ
from resilience_instrument.integrations._watchdog import Turn, Watchdog, cut
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.integrations._dbapi import Links
    from resilience_instrument.integrations._patch import AnyTarget, Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.integrations._sql import Statement
    from resilience_instrument.verdict import Judgement


@final
class _Driver:
    """What is particular to PyMySQL."""

    library = "pymysql"
    scheme = _mysql.SCHEME
    dialect = _mysql.DIALECT
    default_port = _mysql.PORT
    rolled_back = _mysql.ROLLED_BACK
    once = _mysql.ONCE
    refusals = _dbapi.own_errors(__name__, pymysql.OperationalError, _mysql.REFUSED)

    @staticmethod
    def code(error: Exception) -> str:
        """Return the error's number."""
        return _mysql.number(error)

    def judge_connect(self, error: Exception) -> Judgement:
        """Read why a connect failed."""
        is_own = isinstance(error, pymysql.Error)
        return _mysql.judge_connect(error, self.code(error), is_own=is_own)

    @staticmethod
    def judge_statement(error: Exception, code: str) -> Judgement:
        """Read why a statement failed."""
        return _mysql.judge_statement(error, code)


DRIVER: Final = _Driver()

_IN_TRANSACTION: Final = _mysql.IN_TRANSACTION
_AUTOCOMMIT: Final = _mysql.AUTOCOMMIT


def targets(runtime: Runtime) -> list[AnyTarget]:
    """List what is wrapped, which also shows whether the library is as expected."""
    links = _dbapi.Links(runtime, DRIVER)
    watchdog = Watchdog(runtime.fault)
    connection = connections.Connection
    rollback = connection.rollback
    return [
        Target(connection, "__init__", _initialising(links, watchdog)),
        Target(connection, "connect", _connecting(links)),
        Replacement(connection, "query", _hastening(rollback)),
        *(Replacement(connection, end, _ending(end)) for end in ("commit", "rollback")),
    ]


def _initialising(links: Links, watchdog: Watchdog) -> Wrapper:
    def initialise(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            given = dict(kwargs)
            database = given.get("database", given.get("db"))
            link = _mysql.link(links, given.get("host"), given.get("port"), database)
            instance._resilience = link  # noqa: SLF001 - ours, as all its like here
            instance._resilience_own = "read_timeout" in given  # noqa: SLF001
            instance._resilience_writes = "write_timeout" in given  # noqa: SLF001
            instance._resilience_watchdog = watchdog  # noqa: SLF001
            instance._resilience_unbounded = "connect_timeout" not in given  # noqa: SLF001
            instance._resilience_connecting = False  # noqa: SLF001
            instance._resilience_open = False  # noqa: SLF001
            instance._resilience_terms = None  # noqa: SLF001
            read = link.timeouts.read
            kwargs = {"read_timeout": read, "write_timeout": read, **given}
        except Exception as fault:
            links.runtime.fault("describe", fault)
        return wrapped(*args, **kwargs)

    return initialise


def _connecting(links: Links) -> Wrapper:
    def connect(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if not hasattr(instance, "_resilience") or suppressed():
            return wrapped(*args, **kwargs)
        try:
            # Read here: an option file may have had a say since.
            link = _mysql.link(links, instance.host, instance.port, _database(instance))
            instance._resilience = link  # noqa: SLF001 - ours
            unbounded = instance._resilience_unbounded  # noqa: SLF001
            limit = link.timeouts.connect if unbounded else instance.connect_timeout
            attempt = _Connecting(instance, wrapped, args, kwargs)
        except Exception as fault:
            links.runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        return _dbapi.connect(link, attempt, unbounded=unbounded, limit=limit)

    return connect


def _database(instance: Any) -> Any:
    return instance.db


class _Connecting(_dbapi.Sending):
    """A connect: tries it, handshake included, within what is left."""

    __slots__ = ("_connection",)

    def __init__(
        self,
        connection: Any,
        wrapped: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(wrapped, args, kwargs)
        self._connection = connection

    def __call__(self, deadline: float | None) -> Any:
        """Connect once."""
        connection = self._connection
        own = connection.connect_timeout, connection._read_timeout  # noqa: SLF001
        clock = connection._resilience.runtime.clock  # noqa: SLF001 - ours
        if deadline is not None:
            left = max(0.05, deadline - clock.monotonic())
            connection.connect_timeout = left
            given = connection._resilience_own  # noqa: SLF001 - ours
            read = min(left, own[1] or left) if given else left
            connection._read_timeout = read  # noqa: SLF001
        begun = clock.monotonic()
        connection._resilience_connecting = True  # noqa: SLF001 - ours
        connection._resilience_terms = None  # noqa: SLF001
        try:
            done = self.perform(*self.args, **self.kwargs)
            limiting = _mysql.server_limit(connection._resilience)  # noqa: SLF001
            if limiting is not None:
                connection.query(limiting)
        except pymysql.OperationalError as error:
            waited = clock.monotonic() - begun
            limit = connection._read_timeout  # noqa: SLF001
            self.late = _is_late(error, waited, limit)
            raise
        else:
            _bind(connection)
            return done
        finally:
            connection._resilience_connecting = False  # noqa: SLF001 - ours
            connection.connect_timeout, connection._read_timeout = own  # noqa: SLF001


def _bind(connection: Any) -> None:
    """State the terms of the shortest way, for which all limits have to be ours."""
    if not (connection._resilience_own or connection._resilience_writes):  # noqa: SLF001
        turn = Turn(connection._resilience_watchdog, _Cut, connection)  # noqa: SLF001
        connection._resilience_terms = connection._resilience, turn  # noqa: SLF001


def _is_late(error: Exception, waited: float, limit: float | None) -> bool:
    """Tell whether a lost connection is what a timeout of the driver looks like."""
    return limit is not None and waited >= limit * 0.98 and "timed out" in str(error)


def _hastening(rollback: Any) -> Callable[[Any], Any]:  # noqa: C901, PLR0915 - see below
    """Return what makes the new `query`: the shortest way, or the one below."""

    def make(original: Any) -> Any:  # noqa: C901, PLR0915 - see below
        sending = _sender(rollback, original)
        # Asked for as an attribute, a method of an object in C is made anew each time.
        deadline = CURRENT.get
        told = _telling(rollback, original, sending)

        @functools.wraps(original)
        def query(self: Any, sql: Any, unbuffered: Any = False) -> Any:  # noqa: C901, FBT002, PLR0912 - see below; its parameters
            # One function on purpose: another for a part of it costs a tenth of it.
            generation, end, attempt = NO_WAY, None, None
            try:
                link, turn = self._resilience_terms
                if (
                    # A text of 10 MB must not even be hashed.
                    len(sql) <= READ
                    and deadline() is None
                    and "opentelemetry.context" not in modules
                ):
                    lanes, status = link.known, self.server_status
                    first = not (self._resilience_open or status & _IN_TRANSACTION)
                    kinds = lanes.firsts if first else lanes.others
                    # All limits are ours.
                    lane: Any = kinds[1].get(sql)
                    if lane is not None:
                        limit, monotonic = link.limit, link.monotonic
                        started = monotonic()
                        generation = lane.enter(started)
            except Exception:  # noqa: S110 - the long way meets it again, and tells
                pass
            if generation == NO_WAY:
                return told(self, sql, unbuffered)
            reads, writes = self._read_timeout, self._write_timeout
            try:
                if not status & _AUTOCOMMIT:
                    self._resilience_open = True
                # Those that were given for the app: see `_Query`.
                self._read_timeout = self._write_timeout = None
                if limit is None:
                    result = original(self, sql, unbuffered)
                elif turn.end is None:
                    end = turn.end = started + limit
                    if not turn.dog.running:
                        turn.dog.start()
                    result = original(self, sql, unbuffered)
                    if turn.end is end:
                        turn.end = None
                    else:
                        turn.over(end)
                else:
                    # Another thread has its turn on the connection.
                    attempt = sending(self, sql, unbuffered)
                    result = attempt(started + limit)
            except BaseException as error:
                begun = Begun(generation, started, error)
            else:
                self._read_timeout, self._write_timeout = reads, writes
                try:
                    lane.succeed(generation, started, monotonic())
                except Exception as fault:
                    link.runtime.fault("engine", fault)
                return result
            self._read_timeout, self._write_timeout = reads, writes
            if attempt is None:
                attempt = sending(self, sql, unbuffered)
            if end is not None:
                attempt.late = turn.over(end) is not None
            return _dbapi.go_on(link, lane, begun, attempt, limit)

        return query

    return make


def _sender(rollback: Any, original: Any) -> Callable[..., _Query]:
    """Return what makes an attempt of a statement."""

    def make(connection: Any, sql: Any, unbuffered: Any) -> _Query:
        attempt = _Query(original, (connection, sql, unbuffered), {}, sql)
        attempt.connection, attempt.rollback = connection, rollback
        return attempt

    return make


def _telling(
    rollback: Any, original: Any, sending: Callable[..., _Query]
) -> Callable[..., Any]:
    """Return what sends a statement of which there may be something to tell."""
    long = _querying(rollback)

    def query(self: Any, sql: Any, unbuffered: Any) -> Any:
        lane = None
        try:
            link, own = self._resilience, self._resilience_own
            if not self._resilience_connecting:
                first = _mysql.begins(self)
                lane = _dblane.find(link, sql, first=first, own=own)
        except Exception:  # noqa: S110 - the long way meets it again, and tells
            pass
        if lane is None:
            bound = types.MethodType(original, self)
            return long(bound, self, (sql, unbuffered), {})
        if not self.server_status & _mysql.AUTOCOMMIT:
            self._resilience_open = True
        attempt = sending(self, sql, unbuffered)
        return _dbapi.hasten(link, lane, attempt, sql, own=own)

    return query


def _querying(rollback: Any) -> Wrapper:
    def query(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        link = getattr(instance, "_resilience", None)
        if link is None or instance._resilience_connecting or suppressed():  # noqa: SLF001
            return wrapped(*args, **kwargs)
        try:
            sql = args[0] if args else kwargs["sql"]
            statement = DRIVER.dialect.read(sql)
            own = instance._resilience_own  # noqa: SLF001 - ours
            whole = _mysql.repeatable(sql, statement)
            attempt = _Query(wrapped, args, kwargs, whole)
            attempt.connection, attempt.rollback = instance, rollback
            status = instance.server_status
            autocommit = bool(status & _mysql.AUTOCOMMIT)
            first = _mysql.is_first(instance, statement, autocommit=autocommit)
            first = first and not status & _mysql.IN_TRANSACTION
        except Exception as fault:
            link.runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        return _dbapi.send(link, attempt, statement, first=first, own=own)

    return query


def _ending(name: str) -> Callable[[Any], Any]:
    """Return what makes the new `commit` or `rollback`: the short way, or the other."""
    command = name.upper()
    told = _ending_in_full(DRIVER.dialect.read(command))

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def end(self: Any) -> Any:
            lane = None
            try:
                link, _ = self._resilience_terms
                # All limits are ours.
                lane = _dblane.ended(link, 1, command)
            except Exception:  # noqa: S110 - the long way meets it again, and tells
                pass
            if lane is None:
                return told(types.MethodType(original, self), self, (), {})
            self._resilience_open = False
            attempt = _Query(original, (self,), {})
            attempt.connection = self
            return _dbapi.hasten(link, lane, attempt, command, own=False)

        return end

    return make


def _ending_in_full(statement: Statement) -> Wrapper:
    def end(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        link = getattr(instance, "_resilience", None)
        if link is None or instance._resilience_connecting or suppressed():  # noqa: SLF001
            return wrapped(*args, **kwargs)
        own = instance._resilience_own  # noqa: SLF001 - ours
        instance._resilience_open = False  # noqa: SLF001
        attempt = _Query(wrapped, args, kwargs)
        attempt.connection = instance
        lane = _dblane.ending(link, statement, own=own)
        if lane is not None:
            return _dbapi.hasten(link, lane, attempt, statement.verb, own=own)
        return _dbapi.send(link, attempt, statement, first=False, own=own)

    return end


class _Cut:
    """A statement whose time is over: cuts the connection.

    Args:
        connection: Over which it was sent.
    """

    __slots__ = ("_connection", "end", "strikes")

    end: float

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.strikes = 0

    def strike(self, number: int) -> None:  # noqa: ARG002 - once is enough
        """Cut the connection."""
        socket = self._connection._sock  # noqa: SLF001 - it has no other name
        if socket is not None:
            cut(socket.fileno())


class _Query(_mysql.Cutting):
    """A statement on its way: shuts the connection when its time is over.

    A read timeout would hold for each packet, and ask the system before each.
    """

    __slots__ = ("rollback",)

    rollback: Any

    def __call__(self, deadline: float | None) -> Any:
        """Send it once, without the timeouts that were given for the app."""
        connection = self.connection
        reads, writes = connection._read_timeout, connection._write_timeout  # noqa: SLF001 - they have no other names
        given, written = connection._resilience_own, connection._resilience_writes  # noqa: SLF001 - ours
        connection._read_timeout = reads if given else None  # noqa: SLF001
        connection._write_timeout = writes if written else None  # noqa: SLF001
        try:
            return _watched(self, deadline)
        finally:
            connection._read_timeout = reads  # noqa: SLF001
            connection._write_timeout = writes  # noqa: SLF001

    def strike(self, number: int) -> None:
        """Cut the connection."""
        _Cut(self.connection).strike(number)

    def restart(self) -> None:
        """Roll back: the driver's own idea of the transaction is out of date."""
        if not self.connection.server_status & _mysql.AUTOCOMMIT:
            self.rollback(self.connection)


_watched: Final = _dbapi.Watching.__call__
