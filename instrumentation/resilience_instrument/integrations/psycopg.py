"""psycopg 3, sync and async: patches of its Python classes.

Whatever waits for the server goes through `wait` of a connection, which drives a
generator and looks up every tenth of a second. There a statement's limit is kept
without a thread: the server is asked to cancel, and if it does not answer the
connection is closed.
"""

from __future__ import annotations

import contextlib
import functools
import math
import types
from contextvars import ContextVar
from sys import modules
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, final

import psycopg
from psycopg import capabilities, conninfo, errors

from resilience_instrument.fastpath import NO_WAY, Begun
from resilience_instrument.integrations import _dbapi, _dblane, _postgresql
from resilience_instrument.integrations._patch import Replacement, Target, parameters
from resilience_instrument.integrations._room import suppressed
from resilience_instrument.integrations._sql import READ, REPEATABLE
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from resilience_instrument.integrations._dbapi import Links
    from resilience_instrument.integrations._patch import AnyTarget, Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.integrations._sql import Statement
    from resilience_instrument.verdict import Judgement

GRACE: Final = 0.9
"""Seconds for the server to take a cancel, and as many for the answer to come."""

# A plain number is compared faster than one that is also a name.
_IDLE: Final = int(psycopg.pq.TransactionStatus.IDLE)


@final
class _Driver:
    """What is particular to psycopg 3."""

    library = "psycopg"
    scheme = _postgresql.SCHEME
    dialect = _postgresql.DIALECT
    default_port = _postgresql.PORT
    rolled_back = _postgresql.ROLLED_BACK
    once: frozenset[str] = frozenset()
    refusals = _dbapi.own_errors(__name__, psycopg.OperationalError)

    @staticmethod
    def code(error: Exception) -> str:
        """Return the SQLSTATE."""
        return getattr(error, "sqlstate", None) or ""

    def judge_connect(self, error: Exception) -> Judgement:
        """Read why a connect failed."""
        is_own = isinstance(error, psycopg.OperationalError)
        return _postgresql.judge_connect(error, self.code(error), is_own=is_own)

    @staticmethod
    def judge_statement(error: Exception, code: str) -> Judgement:
        """Read why a statement failed."""
        # Using a connection that was closed before is the app's own affair.
        is_lost = isinstance(error, psycopg.OperationalError) and (
            str(error) != "the connection is closed"
        )
        return _postgresql.judge_statement(error, code, is_lost=is_lost)


DRIVER: Final = _Driver()


@final
class _Watch:
    """The limit of what is waited for in this context."""

    __slots__ = ("clock", "end", "late")

    def __init__(self, end: float, clock: Any) -> None:
        self.end = end
        self.clock = clock
        self.late = False


_WATCH: Final[ContextVar[_Watch | None]] = ContextVar("resilience_watch", default=None)


class _LateError(Exception):
    """The time is over; it never leaves this room."""


def targets(runtime: Runtime) -> list[AnyTarget]:
    """List what is wrapped, sync and async."""
    links = _dbapi.Links(runtime, DRIVER)
    found: list[AnyTarget] = []
    for connection, cursor, server_cursor, is_async in (
        (psycopg.Connection, psycopg.Cursor, psycopg.ServerCursor, False),
        (psycopg.AsyncConnection, psycopg.AsyncCursor, psycopg.AsyncServerCursor, True),
    ):
        rollback = connection.rollback
        send = _sending(rollback, is_async=is_async)
        waiting: Any = _waiting_async if is_async else _waiting
        executing = _executing(rollback, is_async=is_async)
        brief = not is_async and _is_brief(connection.wait)
        if brief and _is_known(cursor.execute):
            # A float of its own says in `wait` who it is that calls it.
            pause = float(repr(_pause(connection.wait)))
            waiting = _waiting_briefly(pause)
            executing = _executing_briefly(rollback, pause)
        found += [
            Target(connection, "connect", _connecting(links, is_async=is_async)),
            Replacement(connection, "wait", waiting),
            _ending(connection, "commit", is_async=is_async),
            _ending(connection, "rollback", is_async=is_async),
            Replacement(cursor, "execute", executing),
            Target(cursor, "executemany", send("BATCH ", whole=False)),
            Target(server_cursor, "execute", send("", whole=False)),
        ]
    # An alias that was made before: it leads around the patch above.
    alias = Target(psycopg, "connect", _connecting(links, is_async=False))
    return [*found, alias]


# -- connecting -------------------------------------------------------------------


def _connecting(links: Links, *, is_async: bool) -> Wrapper:
    go = _dbapi.connect_async if is_async else _dbapi.connect

    def connect(
        wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if suppressed():
            return wrapped(*args, **kwargs)
        kind = _AsyncConnecting if is_async else _Connecting
        try:
            attempt = kind(links, wrapped, args, kwargs)
        except psycopg.ProgrammingError:
            # A DSN that cannot be read: the driver says so itself.
            return wrapped(*args, **kwargs)
        except Exception as fault:
            links.runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        return go(
            attempt.link, attempt, unbounded=attempt.unbounded, limit=attempt.limit
        )

    return connect


class _Connecting(_dbapi.Sending):
    """A connect: tries it, each time within what is left."""

    __slots__ = ("_given", "limit", "link", "unbounded")

    def __init__(
        self,
        links: Links,
        wrapped: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(wrapped, args, kwargs)
        self._given = _parameters(*args, **kwargs)
        self.link = _postgresql.link(links, self._given)
        self.unbounded = not _postgresql.limits_connect(self._given)
        default = self.link.timeouts.connect
        self.limit = _postgresql.connect_limit(self._given, default)

    def _limited(self, deadline: float | None) -> dict[str, Any]:
        """Return the arguments by name for a try that must be over by `deadline`."""
        self.late = False
        if not self.unbounded or deadline is None:
            return dict(self.kwargs)
        left = deadline - self.link.runtime.clock.monotonic()
        return {**self.kwargs, "connect_timeout": max(2, math.ceil(left))}

    def _equip(self, connection: Any) -> Any:
        connection._resilience = self.link  # noqa: SLF001 - ours
        connection._resilience_late = set()  # noqa: SLF001
        _bind(connection, own=_postgresql.limits_statements(self._given))
        return connection

    def __call__(self, deadline: float | None) -> Any:
        """Connect once, and once more where the server does not want our options."""
        options = _postgresql.server_options(self.link, self._given)
        if options is not None:
            try:
                return self._connect(deadline, options=options)
            except psycopg.OperationalError as error:
                if not _postgresql.refuses_options(error):
                    raise
                self.link.server_limit = False
        return self._connect(deadline)

    def _connect(self, deadline: float | None, **ours: str) -> Any:
        kwargs = {**self._limited(deadline), **ours}
        try:
            return self._equip(self.perform(*self.args, **kwargs))
        except errors.ConnectionTimeout:
            self.late = True
            raise


class _AsyncConnecting(_Connecting):
    """A connect that has to be awaited."""

    __slots__ = ()

    async def __call__(self, deadline: float | None) -> Any:
        """Connect once, and once more where the server does not want our options."""
        options = _postgresql.server_options(self.link, self._given)
        if options is not None:
            try:
                return await self._connect(deadline, options=options)
            except psycopg.OperationalError as error:
                if not _postgresql.refuses_options(error):
                    raise
                self.link.server_limit = False
        return await self._connect(deadline)

    async def _connect(self, deadline: float | None, **ours: str) -> Any:
        kwargs = {**self._limited(deadline), **ours}
        try:
            return self._equip(await self.perform(*self.args, **kwargs))
        except errors.ConnectionTimeout:
            self.late = True
            raise


def _bind(connection: Any, *, own: bool) -> None:
    """Note whether the app limits statements itself, for both ways.

    The last of the terms says which threads have a statement whose time was over.
    """
    link, late = connection._resilience, connection._resilience_late  # noqa: SLF001 - ours
    connection._resilience_own = own  # noqa: SLF001
    # A number, not a truth value, is what finds a place in a tuple fastest.
    connection._resilience_terms = link, int(not own), late  # noqa: SLF001


_NOT_FOR_LIBPQ: Final = frozenset(
    {"autocommit", "prepare_threshold", "context", "row_factory", "cursor_factory"}
)


def _parameters(conninfo_: str = "", **kwargs: Any) -> dict[str, Any]:
    """Return what is for libpq among the arguments of a connect."""
    given = {k: v for k, v in kwargs.items() if k not in _NOT_FOR_LIBPQ}
    return dict(conninfo.conninfo_to_dict(conninfo_, **given))


# -- statements -------------------------------------------------------------------


def _sending(rollback: Any, *, is_async: bool) -> Callable[..., Wrapper]:
    """Return what makes wrappers of methods that send statements."""
    go = _dbapi.send_async if is_async else _dbapi.send
    kind = _AsyncStatement if is_async else _Statement

    def make(prefix: str, *, whole: bool) -> Wrapper:
        def send(
            wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> Any:
            connection = instance._conn  # noqa: SLF001 - `connection` is the same
            link = getattr(connection, "_resilience", None)
            if link is None or suppressed() or _WATCH.get() is not None:
                return wrapped(*args, **kwargs)
            try:
                query = args[0] if args else kwargs["query"]
                text = _text(query, connection)
                statement = _named(DRIVER.dialect.read(text), prefix)
                if statement.sets_limit:
                    _bind(connection, own=True)
                repeated = text if whole and _is_plain(connection, statement) else None
                attempt = kind(wrapped, args, kwargs, repeated)
                attempt.connection, attempt.rollback = connection, rollback
                first = connection.pgconn.transaction_status == _IDLE
                own = connection._resilience_own  # noqa: SLF001
            except Exception as fault:
                link.runtime.fault("describe", fault)
                return wrapped(*args, **kwargs)
            return go(link, attempt, statement, first=first, own=own)

        return send

    return make


def _executing(rollback: Any, *, is_async: bool) -> Callable[[Any], Any]:
    """Return what makes the new `execute`: the short way, or the one above."""
    long = _sending(rollback, is_async=is_async)("", whole=True)
    go = _dbapi.hasten_async if is_async else _dbapi.hasten
    kind = _AsyncStatement if is_async else _Statement

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def execute(self: Any, query: Any, params: Any = None, **kwargs: Any) -> Any:
            lane = None
            try:
                connection = self._conn
                link, own = connection._resilience, connection._resilience_own  # noqa: SLF001 - ours
                if _WATCH.get() is None:
                    first = connection.pgconn.transaction_status == _IDLE
                    lane = _dblane.find(link, query, first=first, own=own)
            except Exception:  # noqa: S110 - the long way meets it again, and tells
                pass
            if lane is None:
                bound = types.MethodType(original, self)
                return long(bound, self, (query, params), kwargs)
            whole = query if connection._pipeline is None else None  # noqa: SLF001 - as below
            attempt = kind(original, (self, query, params), kwargs, whole)
            attempt.connection, attempt.rollback = connection, rollback
            return go(link, lane, attempt, query, own=own)

        if not is_async:
            return execute

        @functools.wraps(original)
        async def execute_async(self: Any, query: Any, *args: Any, **kw: Any) -> Any:
            return await execute(self, query, *args, **kw)

        return execute_async

    return make


def _is_known(execute: Any) -> bool:
    """Tell whether the driver's `execute` waits for a generator and does no more."""
    code: Any = getattr(execute, "__code__", None)
    return (
        # By its type: a proxy of another agent claims to be that function.
        type(execute) is types.FunctionType
        and parameters(execute) == ("self", "query", "params", "prepare", "binary")
        and {*code.co_names} == _NAMES
    )


_NAMES: Final = {
    *("_conn", "lock", "wait", "_execute_gen"),
    *("e", "_NO_TRACEBACK", "with_traceback"),
}


def _executing_briefly(  # noqa: C901 - see below
    rollback: Any, pause: float
) -> Callable[[Any], Any]:
    """Return what makes the new `execute` where the driver's own `wait` has a limit."""
    bare: Any = errors._NO_TRACEBACK  # type: ignore[attr-defined, unused-ignore]  # noqa: SLF001 - it has no other name
    in_full = _executing(rollback, is_async=False)

    def make(original: Any) -> Any:  # noqa: C901 - see below
        told = in_full(original)
        # Asked for as an attribute, a method of an object in C is made anew each time.
        watched, deadline = _WATCH.get, CURRENT.get

        @functools.wraps(original)
        def execute(  # noqa: C901 - see below
            self: Any, query: Any, params: Any = None, **kwargs: Any
        ) -> Any:
            # One function on purpose: another for a part of it costs a tenth of it.
            generation = NO_WAY
            try:
                connection = self._conn
                link, kind, late = connection._resilience_terms  # noqa: SLF001 - ours
                if (
                    type(query) is str
                    # A text of 10 MB must not even be hashed.
                    and len(query) <= READ
                    and not kwargs
                    and watched() is None
                    and deadline() is None
                    and "opentelemetry.context" not in modules
                ):
                    lanes = link.known
                    first = connection.pgconn.transaction_status == _IDLE
                    kinds = lanes.firsts if first else lanes.others
                    lane = kinds[kind].get(query)
                    if lane is not None:
                        limit, monotonic = link.limit if kind else None, link.monotonic
                        started = monotonic()
                        generation = lane.enter(started)
            except Exception:  # noqa: S110 - the long way meets it again, and tells
                pass
            if generation == NO_WAY:
                return told(self, query, params, **kwargs)
            try:
                # What the driver's own does, whose part this is for a tenth less.
                with connection.lock:
                    connection.wait(
                        self._execute_gen(query, params, prepare=None, binary=None),
                        pause,
                        limit,
                    )
            except BaseException as error:
                if isinstance(error, bare):
                    error.__traceback__ = None
                begun = Begun(generation, started, error)
            else:
                try:
                    lane.succeed(generation, started, monotonic())
                except Exception as fault:
                    link.runtime.fault("engine", fault)
                return self
            attempt = _Statement(original, (self, query, params), {}, query)
            attempt.connection, attempt.rollback = connection, rollback
            # In a pipeline an error belongs to whatever was sent before.
            if connection._pipeline is not None:  # noqa: SLF001 - it has no other name
                attempt.whole = None
            if get_ident() in late:
                late.remove(get_ident())
                attempt.late = True
            return _dbapi.go_on(link, lane, begun, attempt, limit)

        return execute

    return make


def _text(query: Any, connection: Any) -> str:
    if isinstance(query, str):
        return query
    if isinstance(query, bytes):
        return query.decode("utf-8", "replace")
    text: str = query.as_string(connection)
    return text


def _named(statement: Statement, prefix: str) -> Statement:
    if not prefix:
        return statement
    return statement._replace(summary=prefix + statement.summary)


def _is_plain(connection: Any, statement: Statement) -> bool:
    # In a pipeline an error belongs to whatever was sent before.
    return statement.verb in REPEATABLE and connection._pipeline is None  # noqa: SLF001


class _Statement(_dbapi.Sending):
    """A statement on its way: watched while it is waited for."""

    __slots__ = ("connection", "rollback")

    connection: Any
    rollback: Any

    def __call__(self, deadline: float | None) -> Any:
        """Send it once."""
        if deadline is None:
            return self.perform(*self.args, **self.kwargs)
        watch = _Watch(deadline, self.connection._resilience.runtime.clock)  # noqa: SLF001
        token = _WATCH.set(watch)
        try:
            return self.perform(*self.args, **self.kwargs)
        finally:
            _WATCH.reset(token)
            self.late = watch.late

    def is_whole(self) -> bool:
        """Tell whether it was one statement and nothing before it."""
        return self.is_single(DRIVER.dialect)

    def restart(self) -> Any:
        """Roll back, so that the driver begins a transaction again."""
        if not self.connection.autocommit:
            self.rollback(self.connection)


class _AsyncStatement(_Statement):
    """A statement that has to be awaited."""

    __slots__ = ()

    async def __call__(self, deadline: float | None) -> Any:
        """Send it once."""
        if deadline is None:
            return await self.perform(*self.args, **self.kwargs)
        watch = _Watch(deadline, self.connection._resilience.runtime.clock)  # noqa: SLF001
        token = _WATCH.set(watch)
        try:
            return await self.perform(*self.args, **self.kwargs)
        finally:
            _WATCH.reset(token)
            self.late = watch.late

    async def restart(self) -> None:
        """Roll back, so that the driver begins a transaction again."""
        if not self.connection.autocommit:
            await self.rollback(self.connection)


def _ending(connection: Any, name: str, *, is_async: bool) -> AnyTarget:
    """Return what stands around what ends a transaction."""
    command = name.upper()
    told = _ending_in_full(command, is_async=is_async)
    if is_async:
        return Target(connection, name, told)

    def make(original: Any) -> Any:
        @functools.wraps(original)
        def end(self: Any) -> Any:
            lane = None
            try:
                link, kind, _ = self._resilience_terms
                if self.pgconn.transaction_status != _IDLE:
                    lane = _dblane.ended(link, kind, command)
            except Exception:  # noqa: S110 - the long way meets it again, and tells
                pass
            if lane is None:
                return told(types.MethodType(original, self), self, (), {})
            attempt = _Statement(original, (self,), {})
            attempt.connection = self
            return _dbapi.hasten(link, lane, attempt, command, own=not kind)

        return end

    return Replacement(connection, name, make)


def _ending_in_full(command: str, *, is_async: bool) -> Wrapper:
    """Return the wrapper that tells all of it."""
    go = _dbapi.send_async if is_async else _dbapi.send
    hasten = _dbapi.hasten_async if is_async else _dbapi.hasten
    kind = _AsyncStatement if is_async else _Statement
    statement = DRIVER.dialect.read(command)

    def end(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        link = getattr(instance, "_resilience", None)
        idle = instance.pgconn.transaction_status == _IDLE
        if link is None or idle or suppressed():
            return wrapped(*args, **kwargs)
        attempt = kind(wrapped, args, kwargs)
        attempt.connection = instance
        own = instance._resilience_own  # noqa: SLF001 - ours
        lane = _dblane.ending(link, statement, own=own)
        if lane is not None:
            return hasten(link, lane, attempt, command, own=own)
        return go(link, attempt, statement, first=False, own=own)

    return end


# -- waiting ----------------------------------------------------------------------


def _waiting(original: Any) -> Any:
    """Return the new `wait`, which keeps the limit of a statement."""

    @functools.wraps(original)
    def wait(self: Any, generator: Any, *args: Any, **kwargs: Any) -> Any:
        watch = _WATCH.get()
        if watch is None:
            return original(self, generator, *args, **kwargs)
        try:
            return original(self, _limited(generator, watch), *args, **kwargs)
        except _LateError:
            watch.late = True
        if capabilities.has_cancel_safe():
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=GRACE)
            watch.end = watch.clock.monotonic() + GRACE
            try:
                return original(self, _limited(generator, watch), *args, **kwargs)
            except _LateError:
                pass
        self.close()
        raise _lost()

    return wait


def _is_brief(wait: Any) -> bool:
    """Tell whether the driver's `wait` keeps a limit itself, as from 3.3 on."""
    return hasattr(errors, "_WaitTimeout") and (
        parameters(wait) == ("self", "gen", "interval", "timeout")
    )


def _pause(wait: Any) -> float:
    """Return the driver's own interval."""
    found: float = wait.__defaults__[0]
    return found


def _waiting_briefly(ours: float) -> Callable[[Any], Any]:
    """Return what makes the new `wait` where the driver's own keeps limits.

    Args:
        ours: The interval of statements on the short way, and of nothing else.
    """
    over: Any = errors._WaitTimeout  # type: ignore[attr-defined, unused-ignore]  # noqa: SLF001 - it has no other name

    def make(original: Any) -> Any:
        in_full = _waiting(original)
        pause = _pause(original)

        @functools.wraps(original)
        def wait(
            self: Any, gen: Any, interval: Any = pause, timeout: Any = None
        ) -> Any:
            if interval is not ours:
                return in_full(self, gen, interval, timeout)
            try:
                return original(self, gen, interval, timeout)
            except over:
                late = self._resilience_late
                late.add(get_ident())
            with contextlib.suppress(psycopg.Error):
                self.cancel_safe(timeout=GRACE)
            try:
                result = original(self, gen, interval, GRACE)
            except over:
                self.close()
            else:
                # It was as good as done: nobody has to know.
                late.remove(get_ident())
                return result
            raise _lost()

        return wait

    return make


def _waiting_async(original: Any) -> Any:
    """Return the new `wait` of a connection that has to be awaited."""

    @functools.wraps(original)
    async def wait(self: Any, generator: Any, *args: Any, **kwargs: Any) -> Any:
        watch = _WATCH.get()
        if watch is None:
            return await original(self, generator, *args, **kwargs)
        try:
            return await original(self, _limited(generator, watch), *args, **kwargs)
        except _LateError:
            watch.late = True
        if capabilities.has_cancel_safe():
            with contextlib.suppress(psycopg.Error):
                await self.cancel_safe(timeout=GRACE)
            watch.end = watch.clock.monotonic() + GRACE
            try:
                return await original(self, _limited(generator, watch), *args, **kwargs)
            except _LateError:
                pass
        await self.close()
        raise _lost()

    return wait


def _lost() -> psycopg.OperationalError:
    message = "the server did not answer in time, the connection is closed"
    return psycopg.OperationalError(message)


def _limited(generator: Any, watch: _Watch) -> Generator[Any, Any, Any]:
    """Pass on what is waited for; raise where nothing came and the time is over."""
    ready: Any = None
    while True:
        try:
            wanted = generator.send(ready)
        except StopIteration as stop:
            return stop.value
        ready = yield wanted
        if not ready and watch.clock.monotonic() >= watch.end:
            raise _LateError
