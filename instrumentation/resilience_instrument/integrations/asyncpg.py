"""asyncpg: patches of its connection and of prepared statements.

It limits connects, commands and the wait for a connection of a pool itself where it
is told to, so it is told where the app said nothing. Its connections take no further
attributes: what is known of them lies beside them.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import unquote, urlsplit

import asyncpg
import asyncpg.connection
import asyncpg.pool
import asyncpg.prepared_stmt

from resilience_instrument.integrations import _dbapi, _postgresql
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import suppressed
from resilience_instrument.integrations._sql import REPEATABLE

if TYPE_CHECKING:
    from resilience_instrument.integrations._dbapi import Link, Links
    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.verdict import Judgement

_FOR_EVER: Final = 366 * 24 * 3600.0
"""Seconds for a command that may run for long: none at all is not to be had."""


@final
class _Driver:
    """What is particular to asyncpg."""

    library = "asyncpg"
    scheme = _postgresql.SCHEME
    dialect = _postgresql.DIALECT
    default_port = _postgresql.PORT
    rolled_back = _postgresql.ROLLED_BACK
    once: frozenset[str] = frozenset()
    refusals = _dbapi.own_errors(__name__, asyncpg.InterfaceError)

    @staticmethod
    def code(error: Exception) -> str:
        """Return the SQLSTATE."""
        return getattr(error, "sqlstate", None) or ""

    def judge_connect(self, error: Exception) -> Judgement:
        """Read why a connect failed."""
        if isinstance(error, (ConnectionError, asyncpg.ConnectionDoesNotExistError)):
            return _dbapi.troubled(type(error).__name__, sent=False)
        if isinstance(error, OSError):
            return _dbapi.unreachable(error)
        is_own = isinstance(error, asyncpg.PostgresError)
        return _postgresql.judge_connect(error, self.code(error), is_own=is_own)

    @staticmethod
    def judge_statement(error: Exception, code: str) -> Judgement:
        """Read why a statement failed."""
        is_lost = isinstance(error, OSError)
        return _postgresql.judge_statement(error, code, is_lost=is_lost)


DRIVER: Final = _Driver()


@final
class _Known:
    """What is known of a connection."""

    __slots__ = ("link", "own")

    def __init__(self, link: Link, *, own: bool) -> None:
        self.link = link
        self.own = own


_KNOWN: Final[weakref.WeakKeyDictionary[Any, _Known]] = weakref.WeakKeyDictionary()


def targets(runtime: Runtime) -> list[Target]:
    """List what is wrapped, which also shows whether the library is as expected."""
    links = _dbapi.Links(runtime, DRIVER)
    connection = asyncpg.connection.Connection
    statement = asyncpg.prepared_stmt.PreparedStatement
    return [
        Target(asyncpg, "connect", _connecting(links)),
        Target(asyncpg.connection, "connect", _connecting(links)),
        Target(connection, "execute", _execute),
        Target(connection, "_execute", _sending("", place=3)),
        Target(connection, "_executemany", _sending("BATCH ", place=2)),
        Target(statement, "_PreparedStatement__do_execute", _execute_prepared),
        Target(asyncpg.pool.Pool, "_acquire", _acquiring(links)),
    ]


def _connecting(links: Links) -> Wrapper:
    def connect(
        wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if suppressed():
            return wrapped(*args, **kwargs)
        try:
            attempt = _Connecting(wrapped, args, kwargs)
            attempt.prepare(links, *args, **kwargs)
        except Exception as fault:
            links.runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        return _dbapi.connect_async(
            attempt.link, attempt, unbounded=attempt.unbounded, limit=attempt.limit
        )

    return connect


class _Connecting(_dbapi.Sending):
    """A connect: tries it, each time within what is left."""

    __slots__ = ("limit", "link", "unbounded")

    limit: Any
    link: Any
    unbounded: bool

    def prepare(self, links: Links, dsn: Any = None, **kwargs: Any) -> None:
        """Find out where it leads and what the app limits itself."""
        self.link = _postgresql.link(links, _parameters(dsn, kwargs))
        self.unbounded = "timeout" not in kwargs
        own = kwargs.get("timeout")
        self.limit = self.link.timeouts.connect if self.unbounded else own

    async def __call__(self, deadline: float | None) -> Any:
        """Connect once."""
        self.late = False
        kwargs = dict(self.kwargs)
        if self.unbounded and deadline is not None:
            left = deadline - self.link.runtime.clock.monotonic()
            kwargs["timeout"] = max(0.05, left)
        if self.link.limit is not None:
            kwargs = {"command_timeout": self.link.limit, **kwargs}
        settings = self.kwargs.get("server_settings") or {}
        try:
            connection = await self._connect(kwargs, settings)
        except TimeoutError:
            self.late = True
            raise
        own = "command_timeout" in self.kwargs or "statement_timeout" in settings
        _KNOWN[connection] = _Known(self.link, own=own)
        return connection

    async def _connect(self, kwargs: dict[str, Any], settings: Any) -> Any:
        """Connect, without our settings where the server does not want them."""
        if self.link.server_limit and "statement_timeout" not in settings:
            limit = str(round((self.link.limit or 0) * 1000))
            ours = {**settings, "statement_timeout": limit}
            try:
                return await self.perform(
                    *self.args, **{**kwargs, "server_settings": ours}
                )
            except asyncpg.PostgresError as error:
                if not _postgresql.refuses_options(error):
                    raise
                self.link.server_limit = False
        return await self.perform(*self.args, **kwargs)


def _acquiring(links: Links) -> Wrapper:
    """Return the wrapper of what waits for a connection of a pool."""

    async def acquire(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        limit = None
        try:
            if not suppressed() and (args or [kwargs.get("timeout")])[0] is None:
                limit = _wait_of(links, instance)
        except Exception as fault:
            links.runtime.fault("describe", fault)
        if limit is None:
            return await wrapped(*args, **kwargs)
        try:
            return await wrapped(limit)
        except TimeoutError as error:
            error.add_note(f"resilience: no connection was free for {limit:.1f} s")
            raise

    return acquire


def _wait_of(links: Links, pool: Any) -> float | None:
    """Return the seconds that a pool's connection may be waited for."""
    dsn = next(iter(pool._connect_args), None)  # noqa: SLF001 - it has no other name
    given = _parameters(dsn, pool._connect_kwargs)  # noqa: SLF001 - likewise
    link = _postgresql.link(links, given)
    end = link.end(link.timeouts.pool)
    now = links.runtime.clock.monotonic()
    return None if end is None else max(0.05, end - now)


def _parameters(dsn: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return where a connect leads in the words of libpq."""
    host = kwargs.get("host")
    found = {
        "host": host[0] if isinstance(host, (list, tuple)) else host,
        "port": kwargs.get("port"),
        "user": kwargs.get("user"),
        "dbname": kwargs.get("database"),
    }
    if dsn:
        parts = urlsplit(str(dsn))
        inside = {
            "host": parts.netloc.rpartition("@")[2].split(",")[0].partition(":")[0],
            "port": parts.port if "," not in parts.netloc else None,
            "user": parts.username,
            "dbname": unquote(parts.path.lstrip("/")),
        }
        found = {name: found[name] or inside[name] for name in found}
    return found


def _known_of(connection: Any) -> _Known | None:
    return None if suppressed() else _KNOWN.get(connection)


def _execute(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wrap `execute`, which with parameters goes on to `_execute`."""
    if len(args) > 1:
        return wrapped(*args, **kwargs)
    return _plain_execute(wrapped, instance, args, kwargs)


def _sending(prefix: str, *, place: int | None) -> Wrapper:
    """Return the wrapper of a method that sends its first argument.

    Args:
        prefix: What the name of its statements begins with.
        place: Where its timeout is given, None if by name.
    """

    def send(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        known = _known_of(instance)
        if known is None:
            return wrapped(*args, **kwargs)
        try:
            query = args[0] if args else kwargs["query"]
            statement = DRIVER.dialect.read(query)
            known.own = known.own or statement.sets_limit
            whole = None
            if not prefix and statement.verb in REPEATABLE:
                whole = query
            attempt = _Statement(wrapped, args, kwargs, whole)
            attempt.place, attempt.link = place, known.link
            attempt.unlimited = statement.unlimited
            own = known.own or attempt.timeout is not None
            attempt.own = own
            first = not instance.is_in_transaction()
            if prefix:
                statement = statement._replace(summary=prefix + statement.summary)
        except Exception as fault:
            known.link.runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        return _dbapi.send_async(known.link, attempt, statement, first=first, own=own)

    return send


_plain_execute: Final = _sending("", place=None)


def _execute_prepared(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wrap the way of a prepared statement, which knows its text."""
    connection = instance._connection  # noqa: SLF001 - it has no other name
    known = _known_of(connection)
    if known is None:
        return wrapped(*args, **kwargs)
    try:
        statement = DRIVER.dialect.read(instance._query)  # noqa: SLF001 - likewise
        attempt = _Prepared(wrapped, args, kwargs)
        first = not connection.is_in_transaction()
    except Exception as fault:
        known.link.runtime.fault("describe", fault)
        return wrapped(*args, **kwargs)
    own = known.own
    return _dbapi.send_async(known.link, attempt, statement, first=first, own=own)


class _Prepared(_dbapi.Sending):
    """A prepared statement on its way, limited as its connection is."""

    __slots__ = ()

    async def __call__(self, deadline: float | None) -> Any:  # noqa: ARG002
        """Send it once."""
        try:
            return await self.perform(*self.args, **self.kwargs)
        except TimeoutError:
            self.late = True
            raise

    async def restart(self) -> None:
        """Need nothing: outside a transaction the server undid all of it."""


class _Statement(_Prepared):
    """A statement on its way, within what is left for it."""

    __slots__ = ("link", "own", "place", "unlimited")

    link: Any
    own: bool
    place: int | None
    unlimited: bool

    @property
    def timeout(self) -> Any:
        """The timeout that the app gave to this very call."""
        if self.place is not None and len(self.args) > self.place:
            return self.args[self.place]
        return self.kwargs.get("timeout")

    async def __call__(self, deadline: float | None) -> Any:
        """Send it once."""
        if deadline is not None:
            left = deadline - self.link.runtime.clock.monotonic()
            given = self.timeout
            limit = max(0.05, left if given is None else min(left, given))
            self.args, self.kwargs = self._with(limit)
        elif self.unlimited and not self.own:
            self.args, self.kwargs = self._with(_FOR_EVER)
        return await super().__call__(deadline)

    def _with(self, limit: float) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with another timeout, given as it was."""
        place = self.place
        if place is not None and len(self.args) > place:
            return (*self.args[:place], limit, *self.args[place + 1 :]), {**self.kwargs}
        return self.args, {**self.kwargs, "timeout": limit}

    def is_whole(self) -> bool:
        """Tell whether it was one statement and nothing before it."""
        return self.is_single(DRIVER.dialect)
