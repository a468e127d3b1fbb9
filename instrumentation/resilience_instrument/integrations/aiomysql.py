"""aiomysql: patches of its connection's `_connect` and `query`.

It has no read timeout. A statement's limit is kept by the event loop, which then
aborts the connection: an answer that comes later must not be taken for another's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, final

import aiomysql
import aiomysql.connection
import pymysql

from resilience_instrument.integrations import _dbapi, _mysql
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import suppressed

if TYPE_CHECKING:
    from resilience_instrument.integrations._dbapi import Links
    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.verdict import Judgement


@final
class _Driver:
    """What is particular to aiomysql, whose errors are PyMySQL's."""

    library = "aiomysql"
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
        # A connection that ends within the handshake says so by a bare text.
        code = self.code(error) or (_mysql.LOST if "Lost" in str(error) else "")
        return _mysql.judge_connect(error, code, is_own=is_own)

    @staticmethod
    def judge_statement(error: Exception, code: str) -> Judgement:
        """Read why a statement failed."""
        return _mysql.judge_statement(error, code)


DRIVER: Final = _Driver()


def targets(runtime: Runtime) -> list[Target]:
    """List what is wrapped, which also shows whether the library is as expected."""
    links = _dbapi.Links(runtime, DRIVER)
    kind = aiomysql.connection.Connection
    return [
        Target(kind, "_connect", _connecting(links)),
        Target(kind, "query", _querying(kind.rollback)),
        *(Target(kind, name, _ending(name)) for name in ("commit", "rollback")),
    ]


def _connecting(links: Links) -> Wrapper:
    async def connect(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        instance._resilience = None  # noqa: SLF001 - ours, as all its like here
        if suppressed():
            return await wrapped(*args, **kwargs)
        try:
            link = _mysql.link(links, instance.host, instance.port, instance.db)
            own = instance.connect_timeout
            limit = link.timeouts.connect if own is None else own
            attempt = _Connecting(wrapped, args, kwargs)
            attempt.clock = links.runtime.clock
        except Exception as fault:
            links.runtime.fault("describe", fault)
            return await wrapped(*args, **kwargs)
        unbounded = own is None
        done = await _dbapi.connect_async(
            link, attempt, unbounded=unbounded, limit=limit
        )
        limiting = _mysql.server_limit(link)
        if limiting is not None:
            await instance.query(limiting)
        instance._resilience = link  # noqa: SLF001
        instance._resilience_open = False  # noqa: SLF001
        return done

    return connect


class _Connecting(_dbapi.Sending):
    """A connect: tries it, handshake included, within what is left."""

    __slots__ = ("clock",)

    clock: Any

    async def __call__(self, deadline: float | None) -> Any:
        """Connect once."""
        self.late = False
        doing = self.perform(*self.args, **self.kwargs)
        if deadline is None:
            return await doing
        left = max(0.05, deadline - self.clock.monotonic())
        try:
            return await asyncio.wait_for(doing, left)
        except TimeoutError as error:
            self.late = True
            # It has closed itself: that is what it does when it is cancelled.
            message = "Can't connect to MySQL server (timed out)"
            raise pymysql.OperationalError(_mysql.REFUSED, message) from error


def _querying(rollback: Any) -> Wrapper:
    def query(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        link = getattr(instance, "_resilience", None)
        if link is None or suppressed():
            return wrapped(*args, **kwargs)
        try:
            sql = args[0] if args else kwargs["sql"]
            statement = DRIVER.dialect.read(sql)
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
        return _dbapi.send_async(link, attempt, statement, first=first, own=False)

    return query


def _ending(name: str) -> Wrapper:
    statement = DRIVER.dialect.read(name.upper())

    def end(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        link = getattr(instance, "_resilience", None)
        if link is None or suppressed():
            return wrapped(*args, **kwargs)
        instance._resilience_open = False  # noqa: SLF001 - ours
        attempt = _Query(wrapped, args, kwargs)
        attempt.connection = instance
        return _dbapi.send_async(link, attempt, statement, first=False, own=False)

    return end


class _Query(_mysql.MysqlSending):
    """A statement on its way: aborts the connection when its time is over."""

    __slots__ = ("connection", "rollback")

    connection: Any
    rollback: Any

    async def __call__(self, deadline: float | None) -> Any:
        """Send it once."""
        if deadline is None:
            return await self.perform(*self.args, **self.kwargs)
        clock = self.connection._resilience.runtime.clock  # noqa: SLF001 - ours
        left = max(0.05, deadline - clock.monotonic())
        timer = asyncio.get_running_loop().call_later(left, self._strike)
        try:
            return await self.perform(*self.args, **self.kwargs)
        finally:
            timer.cancel()

    def _strike(self) -> None:
        self.late = True
        writer = self.connection._writer  # noqa: SLF001 - it has no other name
        if writer is not None:
            writer.transport.abort()

    async def restart(self) -> None:
        """Roll back: the driver's own idea of the transaction is out of date."""
        if not self.connection.server_status & _mysql.AUTOCOMMIT:
            await self.rollback(self.connection)
