"""mysqlclient: patches of the Python class that it puts around the C library.

Its own read timeout is given at a connect and would hold for schema changes too, so a
limit is kept from outside: a thread shuts the socket. Whether
a transaction is under way is not known to it: it is concluded from what was sent, and
only in autocommit mode is a statement taken for the whole transaction.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

import MySQLdb
from MySQLdb import connections

from resilience_instrument.integrations import _dbapi, _mysql
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import suppressed
from resilience_instrument.integrations._watchdog import Watchdog, cut

if TYPE_CHECKING:
    from resilience_instrument.integrations._dbapi import Links
    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.verdict import Judgement


@final
class _Driver:
    """What is particular to mysqlclient."""

    library = "MySQLdb"
    scheme = _mysql.SCHEME
    dialect = _mysql.DIALECT
    default_port = _mysql.PORT
    rolled_back = _mysql.ROLLED_BACK
    once = _mysql.ONCE
    refusals = _dbapi.own_errors(__name__, MySQLdb.OperationalError, _mysql.REFUSED)

    @staticmethod
    def code(error: Exception) -> str:
        """Return the error's number."""
        return _mysql.number(error)

    def judge_connect(self, error: Exception) -> Judgement:
        """Read why a connect failed."""
        is_own = isinstance(error, MySQLdb.Error)
        return _mysql.judge_connect(error, self.code(error), is_own=is_own)

    @staticmethod
    def judge_statement(error: Exception, code: str) -> Judgement:
        """Read why a statement failed."""
        return _mysql.judge_statement(error, code)


DRIVER: Final = _Driver()


def targets(runtime: Runtime) -> list[Target]:
    """List what is wrapped, which also shows whether the library is as expected."""
    links = _dbapi.Links(runtime, DRIVER)
    watchdog = Watchdog(runtime.fault)
    kind = connections.Connection
    return [
        Target(kind, "__init__", _initialising(links, watchdog)),
        Target(kind, "query", _query),
        *(Target(kind, name, _ending(name)) for name in ("commit", "rollback")),
    ]


def _initialising(links: Links, watchdog: Watchdog) -> Wrapper:
    def initialise(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if suppressed():
            return wrapped(*args, **kwargs)
        try:
            attempt = _Connecting(wrapped, args, kwargs)
            attempt.prepare(links, *args, **kwargs)
        except Exception as fault:
            links.runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        link, unbounded = attempt.link, attempt.unbounded
        _dbapi.connect(link, attempt, unbounded=unbounded, limit=attempt.limit)
        limiting = _mysql.server_limit(link)
        if limiting is not None:
            instance.query(limiting)
        instance._resilience = link  # noqa: SLF001 - ours
        instance._resilience_own = "read_timeout" in kwargs  # noqa: SLF001
        instance._resilience_open = False  # noqa: SLF001
        instance._resilience_watchdog = watchdog  # noqa: SLF001
        # Asked now: while a statement runs no other thread may ask.
        instance._resilience_socket = instance.fileno()  # noqa: SLF001
        return None

    return initialise


class _Connecting(_dbapi.Sending):
    """A connect: tries it, each time within what is left."""

    __slots__ = ("limit", "link", "unbounded")

    limit: Any
    link: Any
    unbounded: bool

    def prepare(self, links: Links, *args: Any, **kwargs: Any) -> None:
        """Find out where it leads and what the app limits itself."""
        places = ("host", "user", "password", "database", "port")
        given = {**dict(zip(places, args, strict=False)), **kwargs}
        database = given.get("database", given.get("db"))
        self.link = _mysql.link(links, given.get("host"), given.get("port"), database)
        self.unbounded = "connect_timeout" not in kwargs
        own = kwargs.get("connect_timeout")
        self.limit = self.link.timeouts.connect if self.unbounded else own

    def __call__(self, deadline: float | None) -> Any:
        """Connect once."""
        clock = self.link.runtime.clock
        begun = clock.monotonic()
        kwargs = dict(self.kwargs)
        if self.unbounded and deadline is not None:
            kwargs["connect_timeout"] = max(1, math.ceil(deadline - begun - 0.01))
        try:
            return self.perform(*self.args, **kwargs)
        except MySQLdb.OperationalError:
            limit, waited = kwargs.get("connect_timeout"), clock.monotonic() - begun
            self.late = 0 < (limit or 0) * 0.98 <= waited
            raise


def _query(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    link = getattr(instance, "_resilience", None)
    if link is None or suppressed():
        return wrapped(*args, **kwargs)
    try:
        sql = args[0] if args else kwargs["query"]
        sql = bytes(sql) if isinstance(sql, bytearray) else sql
        statement = DRIVER.dialect.read(sql)
        autocommit = instance.get_autocommit()
        first = _mysql.is_first(instance, statement, autocommit=autocommit)
        alone = first and autocommit
        whole = _mysql.repeatable(sql, statement) if alone else None
        attempt = _Query(wrapped, args, kwargs, whole)
        attempt.connection = instance
    except Exception as fault:
        link.runtime.fault("describe", fault)
        return wrapped(*args, **kwargs)
    own = instance._resilience_own  # noqa: SLF001 - ours
    return _dbapi.send(link, attempt, statement, first=first, own=own)


def _ending(name: str) -> Wrapper:
    statement = DRIVER.dialect.read(name.upper())

    def end(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        link = getattr(instance, "_resilience", None)
        if link is None or suppressed():
            return wrapped(*args, **kwargs)
        attempt = _Query(wrapped, args, kwargs)
        attempt.connection = instance
        own = instance._resilience_own  # noqa: SLF001 - ours
        instance._resilience_open = False  # noqa: SLF001
        return _dbapi.send(link, attempt, statement, first=False, own=own)

    return end


class _Query(_mysql.Cutting):
    """A statement on its way: shuts the connection when its time is over."""

    __slots__ = ()

    def strike(self, number: int) -> None:  # noqa: ARG002 - once is enough
        """Cut the connection."""
        cut(self.connection._resilience_socket)  # noqa: SLF001 - ours
