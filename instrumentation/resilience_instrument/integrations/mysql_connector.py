"""mysql-connector-python, pure and C: patches of both connection classes.

Timeouts are whole seconds. Read timeouts exist from version 9.2 on; before, a
statement has no limit of the client's. The class of an error says little, its number
counts.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

# The names of the package itself are not there yet when it has just been executed:
# `mysql` gets its attribute `connector` after that.
from mysql.connector import abstracts, connection, constants, errors, network

from resilience_instrument.integrations import _dbapi, _mysql
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import suppressed

try:
    from mysql.connector import connection_cext
except ImportError:  # pragma: no cover - a build without the C extension
    connection_cext = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from resilience_instrument.integrations._dbapi import Links
    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.verdict import Judgement

_HAS_READ_TIMEOUT: Final = "read_timeout" in constants.DEFAULT_CONFIGURATION


@final
class _Driver:
    """What is particular to mysql-connector-python."""

    library = "mysql.connector"
    scheme = _mysql.SCHEME
    dialect = _mysql.DIALECT
    default_port = _mysql.PORT
    rolled_back = _mysql.ROLLED_BACK
    once = _mysql.ONCE
    refusals = _dbapi.own_errors(__name__, errors.OperationalError, _mysql.REFUSED)

    @staticmethod
    def code(error: Exception) -> str:
        """Return the error's number."""
        number = getattr(error, "errno", None)
        return str(number) if isinstance(number, int) and number > 0 else ""

    def judge_connect(self, error: Exception) -> Judgement:
        """Read why a connect failed."""
        is_own = isinstance(error, errors.Error)
        code = self.code(error)
        if is_own and not code and "Lost connection" in str(error):
            code = _mysql.LOST
        return _mysql.judge_connect(error, code, is_own=is_own)

    @staticmethod
    def judge_statement(error: Exception, code: str) -> Judgement:
        """Read why a statement failed."""
        return _mysql.judge_statement(error, code)


DRIVER: Final = _Driver()


def targets(runtime: Runtime) -> list[Target]:
    """List what is wrapped: both kinds of connections."""
    links = _dbapi.Links(runtime, DRIVER)
    kinds: list[Any] = [connection.MySQLConnection]
    if connection_cext is not None:  # pragma: no cover - a build with it
        kinds.append(connection_cext.CMySQLConnection)
    found = [Target(abstracts.MySQLConnectionAbstract, "config", _configuring(links))]
    found.append(Target(network.MySQLSocket, "recv", _receive))
    for kind in kinds:
        found += [
            Target(kind, "_open_connection", _opening(links)),
            Target(kind, "cmd_query", _querying(kind.rollback)),
            Target(kind, "cmd_stmt_execute", _executing),
            Target(kind, "commit", _ending("COMMIT")),
            Target(kind, "rollback", _ending("ROLLBACK")),
        ]
    return found


def _configuring(links: Links) -> Wrapper:
    """Return the wrapper of what takes the settings of a connection."""

    def config(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        try:
            database = kwargs.get("database", kwargs.get("db"))
            link = _mysql.link(links, kwargs.get("host"), kwargs.get("port"), database)
            names = {"connection_timeout", "connect_timeout"}
            instance._resilience_unbounded = not names & kwargs.keys()  # noqa: SLF001
            instance._resilience_own = "read_timeout" in kwargs  # noqa: SLF001 - ours
            if _HAS_READ_TIMEOUT and link.limit is not None:
                limit = math.ceil(link.limit)
                kwargs = {"read_timeout": limit, "write_timeout": limit, **kwargs}
        except Exception as fault:
            links.runtime.fault("describe", fault)
        return wrapped(*args, **kwargs)

    return config


def _opening(links: Links) -> Wrapper:
    def open_connection(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        instance._resilience = None  # noqa: SLF001 - ours, as all its like here
        if suppressed():
            return wrapped(*args, **kwargs)
        try:
            host, port = instance._host, instance._port  # noqa: SLF001
            link = _mysql.link(links, host, port, instance._database)  # noqa: SLF001
            unbounded = getattr(instance, "_resilience_unbounded", True)
            own = instance._connection_timeout  # noqa: SLF001
            limit = link.timeouts.connect if unbounded else own
            attempt = _Opening(wrapped, args, kwargs)
            attempt.connection = instance
            attempt.clock = links.runtime.clock
        except Exception as fault:
            links.runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        _dbapi.connect(link, attempt, unbounded=unbounded, limit=limit)
        limiting = _mysql.server_limit(link)
        if limiting is not None:
            instance.cmd_query(limiting)
        instance._resilience = link  # noqa: SLF001
        return None

    return open_connection


class _Opening(_dbapi.Sending):
    """A connect: tries it, each time within what is left."""

    __slots__ = ("clock", "connection")

    clock: Any
    connection: Any

    def __call__(self, deadline: float | None) -> Any:
        """Connect once."""
        target, clock = self.connection, self.clock
        own = target._connection_timeout  # noqa: SLF001 - it has no other name
        begun = clock.monotonic()
        if deadline is not None:
            left = max(1, math.ceil(deadline - begun - 0.01))
            target._connection_timeout = left  # noqa: SLF001
        try:
            return self.perform(*self.args, **self.kwargs)
        except errors.Error:
            limit = target._connection_timeout  # noqa: SLF001
            waited = clock.monotonic() - begun
            self.late = limit is not None and waited >= limit * 0.98
            raise
        finally:
            target._connection_timeout = own  # noqa: SLF001


def _querying(rollback: Any) -> Wrapper:
    def query(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        link = getattr(instance, "_resilience", None)
        if link is None or suppressed():
            return wrapped(*args, **kwargs)
        try:
            sql = args[0] if args else kwargs["query"]
            sql = bytes(sql) if isinstance(sql, bytearray) else sql
            statement = DRIVER.dialect.read(sql)
            whole = _mysql.repeatable(sql, statement)
            attempt = _Query(wrapped, args, kwargs, whole)
            attempt.connection, attempt.rollback = instance, rollback
            attempt.clock = link.runtime.clock
            first = not instance.in_transaction
            own = instance._resilience_own  # noqa: SLF001 - ours
        except Exception as fault:
            link.runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        return _dbapi.send(link, attempt, statement, first=first, own=own)

    return query


def _executing(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wrap the execution of a prepared statement, whose text is not known here."""
    link = getattr(instance, "_resilience", None)
    if link is None or suppressed():
        return wrapped(*args, **kwargs)
    attempt = _Query(wrapped, args, kwargs)
    attempt.connection, attempt.clock = instance, link.runtime.clock
    own = instance._resilience_own  # noqa: SLF001 - ours
    first = not instance.in_transaction
    return _dbapi.send(link, attempt, _PREPARED, first=first, own=own)


_PREPARED: Final = DRIVER.dialect.read("EXECUTE")


def _ending(command: str) -> Wrapper:
    """Return the wrapper of what ends a transaction, the C kind's own way to."""
    statement = DRIVER.dialect.read(command)

    def end(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        link = getattr(instance, "_resilience", None)
        if link is None or suppressed():
            return wrapped(*args, **kwargs)
        attempt = _Query(wrapped, args, kwargs)
        attempt.connection, attempt.clock = instance, link.runtime.clock
        # The pure kind sends the command as a statement: it is counted here only.
        instance._resilience = None  # noqa: SLF001 - ours
        try:
            own = instance._resilience_own  # noqa: SLF001 - ours
            return _dbapi.send(link, attempt, statement, first=False, own=own)
        finally:
            instance._resilience = link  # noqa: SLF001 - ours

    return end


class _Query(_mysql.MysqlSending):
    """A statement on its way."""

    __slots__ = ("clock", "connection", "rollback")

    clock: Any
    connection: Any
    rollback: Any

    def __call__(self, deadline: float | None) -> Any:
        """Send it once."""
        target = self.connection
        begun = self.clock.monotonic()
        own = self._limit(deadline, begun)
        try:
            return self.perform(*self.args, **self.kwargs)
        except errors.Error as error:
            limit: int = getattr(target, "_read_timeout", None) or 0
            waited = self.clock.monotonic() - begun
            self.late = _is_lost(error) and 0 < limit * 0.98 <= waited
            raise
        finally:
            if _is_pure(target) and _HAS_READ_TIMEOUT:
                target._read_timeout = own  # noqa: SLF001

    def _limit(self, deadline: float | None, now: float) -> Any:
        """Set what is left as the read timeout, where it can be set, and return it.

        The C kind takes it at a connect and never again.
        """
        target: Any = self.connection
        own = getattr(target, "_read_timeout", None)
        if not (_is_pure(target) and _HAS_READ_TIMEOUT):  # pragma: no cover - as above
            return own
        if deadline is not None:
            left = max(1, math.ceil(deadline - now - 0.01))
            target._read_timeout = min(left, own or left)  # noqa: SLF001
        elif not target._resilience_own:  # noqa: SLF001 - ours
            target._read_timeout = None  # noqa: SLF001 - it may run for long
        return own

    def restart(self) -> None:
        """Roll back: the driver's own idea of the transaction is out of date."""
        target = self.connection
        if target.autocommit:
            return
        link, target._resilience = target._resilience, None  # noqa: SLF001 - ours
        try:
            self.rollback(target)
        finally:
            target._resilience = link  # noqa: SLF001


def _is_pure(target: Any) -> bool:
    return isinstance(target, connection.MySQLConnection)


def _is_lost(error: Exception) -> bool:
    """Tell whether an error is what a read timeout looks like, in either kind."""
    return DRIVER.code(error) in {_mysql.LOST, "3024", ""} or isinstance(
        error, getattr(errors, "ReadTimeoutError", ())
    )


def _receive(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wrap what reads from the socket: after a timeout nothing may be read from it.

    The answer may still come, and would be taken for the next one's.
    """
    try:
        return wrapped(*args, **kwargs)
    except Exception as error:
        if isinstance(error, getattr(errors, "ReadTimeoutError", ())):
            instance.shutdown()
        raise
