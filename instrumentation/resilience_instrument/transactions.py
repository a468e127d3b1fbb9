"""`transaction`: run a whole transaction again where the server undid all of it.

What a statement was part of cannot be repeated by anybody but who wrote it. So the
app hands over the whole unit. It works with every driver and needs no agent.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from resilience_instrument.clock import SystemClock
from resilience_instrument.config import defaults
from resilience_instrument.policies.backoff import full_jitter
from resilience_instrument.policies.deadline import CURRENT, MIN_USEFUL

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

Connection = TypeVar("Connection")
Result = TypeVar("Result")

REPLAYED: Final[ContextVar[bool]] = ContextVar("resilience_replayed", default=False)
"""Whether a unit is under way, which is replayed as a whole or not at all."""

# PostgreSQL 15, appendix A: serialization_failure, deadlock_detected.
_SQLSTATES: Final = frozenset({"40001", "40P01"})
# MySQL 8.0 Error Reference: ER_LOCK_DEADLOCK, ER_LOCK_WAIT_TIMEOUT. After the second
# what went before still stands, until it is rolled back here.
_NUMBERS: Final = frozenset({1213, 1205})
# SQLite documentation, "Result and Error Codes"; likewise.
_SQLITE: Final = "SQLITE_BUSY"

_BASE: Final = 0.1
_CAP: Final = 2.0
_IDLE: Final = 0
_IN_TRANSACTION: Final = 1


@overload
def transaction(
    connection: Connection,
    unit: Callable[[Connection], Coroutine[Any, Any, Result]],
    *,
    max_attempts: int = ...,
) -> Coroutine[Any, Any, Result]: ...


@overload
def transaction(
    connection: Connection,
    unit: Callable[[Connection], Result],
    *,
    max_attempts: int = ...,
) -> Result: ...


def transaction(
    connection: Any,
    unit: Callable[[Any], Any],
    *,
    max_attempts: int = defaults.MAX_ATTEMPTS,
) -> Any:
    """Run `unit(connection)` as one transaction, commit it, and return its result.

    It is run again, after a rollback and a pause, only where the server says that it
    undid the transaction: a deadlock or a serialization failure, at the commit too.
    After a lost connection or a timeout it is never run again: it may have happened.
    Whatever `unit` does besides the database happens once for each run. With an
    asynchronous connection `unit` is a coroutine function, and what this returns has
    to be awaited. Added in 0.1.

    Args:
        connection: A DB-API connection without a transaction under way, or one of
            `psycopg.AsyncConnection`, asyncpg and aiomysql.
        unit: What to do; it neither commits nor rolls back.
        max_attempts: Runs, the first included.

    Raises:
        ValueError: The connection commits each statement, or is inside a transaction.
    """
    _check(connection)
    if max_attempts < 1:
        message = f"max_attempts is {max_attempts!r}: use a number from 1 on"
        raise ValueError(message)
    commit = getattr(connection, "commit", None)
    if commit is None or inspect.iscoroutinefunction(commit):
        return _replay_async(connection, unit, max_attempts)
    return _replay(connection, unit, max_attempts)


def _replay(connection: Any, unit: Callable[[Any], Any], max_attempts: int) -> Any:
    clock = SystemClock()
    token = REPLAYED.set(True)
    try:
        number = 0
        while True:
            number += 1
            try:
                result = unit(connection)
                connection.commit()
            except BaseException as error:
                _rollback(connection, error)
                delay = full_jitter(number - 1, _BASE, _CAP, clock.uniform)
                if number >= max_attempts or not _may_replay(error, delay, clock):
                    raise
                time.sleep(delay)
            else:
                return result
    finally:
        REPLAYED.reset(token)


async def _replay_async(
    connection: Any, unit: Callable[[Any], Any], max_attempts: int
) -> Any:
    clock = SystemClock()
    token = REPLAYED.set(True)
    try:
        number = 0
        while True:
            number += 1
            ends = connection
            try:
                if not hasattr(connection, "commit"):
                    # asyncpg: a transaction is an object of its own.
                    ends = connection.transaction()
                    await ends.start()
                result = await unit(connection)
                await ends.commit()
            except BaseException as error:
                if ends is connection or connection.is_in_transaction():
                    await _rollback_async(ends, error)
                delay = full_jitter(number - 1, _BASE, _CAP, clock.uniform)
                if number >= max_attempts or not _may_replay(error, delay, clock):
                    raise
                await asyncio.sleep(delay)
            else:
                return result
    finally:
        REPLAYED.reset(token)


def _rollback(connection: Any, error: BaseException) -> None:
    """Roll back; a connection that cannot is lost, and `error` says why."""
    try:
        connection.rollback()
    except Exception as second:
        error.add_note(f"resilience: the rollback failed too: {second}")


async def _rollback_async(ends: Any, error: BaseException) -> None:
    """Roll back as `_rollback` does, awaiting."""
    try:
        await ends.rollback()
    except Exception as second:
        error.add_note(f"resilience: the rollback failed too: {second}")


def _may_replay(error: BaseException, delay: float, clock: SystemClock) -> bool:
    """Tell whether the server undid the transaction, and whether there is time."""
    end = CURRENT.get()
    if end is not None and clock.monotonic() + delay + MIN_USEFUL > end:
        return False
    state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    if state in _SQLSTATES and not _is_mysql(error):
        return True
    if str(getattr(error, "sqlite_errorname", "")).startswith(_SQLITE):
        return True
    return _number(error) in _NUMBERS


def _is_mysql(error: BaseException) -> bool:
    # MySQL has the state 40001 for more than is undone; its numbers are exact.
    return isinstance(getattr(error, "errno", None), int)


def _number(error: BaseException) -> int | None:
    number = getattr(error, "errno", None)
    if number is None and error.args:
        number = error.args[0]
    return number if isinstance(number, int) else None


def _check(connection: Any) -> None:
    """Refuse a connection on which a unit would be no transaction of its own."""
    if _commits_each(connection):
        message = "the connection commits each statement: switch autocommit off"
        raise ValueError(message)
    if _is_open(connection):
        message = "a transaction is under way: commit it or roll it back before"
        raise ValueError(message)


def _commits_each(connection: Any) -> bool:
    if hasattr(connection, "isolation_level") and hasattr(connection, "in_transaction"):
        # sqlite3; its `autocommit`, where it has one, is no boolean by default.
        return connection.isolation_level is None
    mode = getattr(connection, "autocommit", None)
    if isinstance(mode, bool):
        return mode
    asked = getattr(connection, "get_autocommit", None)
    return bool(asked()) if asked is not None else False


def _is_open(connection: Any) -> bool:
    inside = getattr(connection, "is_in_transaction", None)
    if inside is not None:
        return bool(inside())
    status = getattr(connection, "get_transaction_status", None)
    if status is not None:
        return bool(status() != _IDLE)
    info: Any = getattr(connection, "info", None)
    if hasattr(info, "transaction_status"):
        return bool(info.transaction_status != _IDLE)
    if hasattr(connection, "in_transaction"):
        return bool(connection.in_transaction)
    return bool(getattr(connection, "server_status", 0) & _IN_TRANSACTION)
