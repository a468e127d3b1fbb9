"""What the drivers of MySQL and MariaDB share: names and error numbers.

Numbers: MySQL 8.0 Error Reference, "Server Error Message Reference" and "Client Error
Message Reference", and MariaDB Knowledge Base, "MariaDB Error Codes". A driver's class
for a number differs from driver to driver, so numbers decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from resilience_instrument.integrations._dbapi import (
    Sending,
    Watching,
    answered,
    local,
    troubled,
    unreachable,
)
from resilience_instrument.integrations._sql import ENDING, MYSQL, REPEATABLE

if TYPE_CHECKING:
    from resilience_instrument.integrations._dbapi import Link, Links
    from resilience_instrument.integrations._sql import Statement
    from resilience_instrument.verdict import Judgement

SCHEME: Final = "mysql"
PORT: Final = 3306
DIALECT: Final = MYSQL

REFUSED: Final = 2003
"""CR_CONN_HOST_ERROR: what an open circuit says, and no handler takes for a dead
connection that has to be replaced."""

ROLLED_BACK: Final = frozenset({"1213", "1205"})
"""ER_LOCK_DEADLOCK, by which the whole transaction is undone, and
ER_LOCK_WAIT_TIMEOUT, by which the statement is."""

ONCE: Final = frozenset({"1205"})
"""Each try may wait for `innodb_lock_wait_timeout`, 50 s by default."""

LOST: Final = "2013"
"""CR_SERVER_LOST: also what a client-side timeout is called."""

LIMITED: Final = frozenset({"3024", "1969"})
"""ER_QUERY_TIMEOUT of MySQL and ER_STATEMENT_TIMEOUT of MariaDB: the server's limit."""

IN_TRANSACTION: Final = 1
AUTOCOMMIT: Final = 2
"""SERVER_STATUS_IN_TRANS and SERVER_STATUS_AUTOCOMMIT of the protocol."""

# Too many connections (of a user), shutdown, read-only, killed, host unreachable,
# gone away, lost, disconnected for idleness.
_TROUBLE: Final = frozenset(
    {
        "1040",
        "1053",
        "1203",
        "1290",
        "1836",
        "1927",
        "2002",
        "2003",
        "2006",
        "2013",
        "2055",
        "4031",
    }
)
_PASSING: Final = frozenset({"2002", "2003", "2013", "1040", "1053", "1203"})
_UNKNOWN_HOST: Final = "2005"
_NO_ADDRESS: Final = ("name or service not known", "name resolution", "getaddrinfo")


def judge_connect(error: Exception, code: str, *, is_own: bool) -> Judgement:
    """Read why a connect failed, by its number."""
    if not is_own:
        return local(error)
    text = str(error).lower()
    if code == _UNKNOWN_HOST or any(part in text for part in _NO_ADDRESS):
        return unreachable(error)
    if code in _PASSING:
        # A connect has no effect, however far it came.
        return troubled(code, sent=False)
    return answered(code or type(error).__name__)


def judge_statement(error: Exception, code: str) -> Judgement:
    """Read why a statement failed, by its number."""
    if not code or code == "0":
        # Without a number: the connection was closed before, or it is the app's.
        return local(error)
    return troubled(code) if code in _TROUBLE else answered(code)


def number(error: Exception) -> str:
    """Return the first argument of an error as text, "" if it is no number."""
    first = error.args[0] if error.args else None
    return str(first) if isinstance(first, int) else ""


def link(links: Links, host: Any, port: Any, database: Any) -> Link:
    """Return where a connect leads."""
    if isinstance(database, bytes):
        database = database.decode("utf-8", "replace")
    return links.find(str(host or "localhost"), int(port or PORT), str(database or ""))


def server_limit(link: Link) -> str | None:
    """Return the statement by which a session's statements are limited, too.

    MySQL limits statements that only read and counts milliseconds, MariaDB limits all
    and counts seconds; each sees its own part only.
    """
    if not link.server_limit or link.limit is None:
        return None
    return (
        f"SET /*!50708 SESSION MAX_EXECUTION_TIME={round(link.limit * 1000)}, */"
        f"/*M!100101 SESSION max_statement_time={link.limit:g}, */"
        " @resilience_limited=1"
    )


class MysqlSending(Sending):
    """A statement on its way to a MySQL or MariaDB."""

    __slots__ = ()

    def is_whole(self) -> bool:
        """Tell whether it was one statement and nothing before it."""
        return self.is_single(DIALECT)


class Cutting(Watching):
    """The same where the connection is cut when a statement's time is over."""

    __slots__ = ()

    def is_whole(self) -> bool:
        """Tell whether it was one statement and nothing before it."""
        return self.is_single(DIALECT)


_BEGINNING: Final = frozenset({"BEGIN", "START", "XA", "SET"})


def is_first(connection: Any, statement: Statement, *, autocommit: bool) -> bool:
    """Tell whether no transaction is under way, and note what the statement does.

    Concluded from what was sent: the server's flag does not come with every answer,
    and a transaction that only read so far is one whose locks and view can be lost.
    """
    is_open = connection._resilience_open  # noqa: SLF001 - ours
    if statement.verb in ENDING:
        connection._resilience_open = False  # noqa: SLF001
    elif statement.verb in _BEGINNING or not autocommit:
        connection._resilience_open = True  # noqa: SLF001
    return not is_open


def begins(connection: Any) -> bool:
    """Tell whether no transaction is under way, by what was sent and what came back."""
    is_open = connection._resilience_open  # noqa: SLF001 - ours
    return not (is_open or connection.server_status & IN_TRANSACTION)


def repeatable(sql: str | bytes, statement: Statement) -> str | None:
    """Return the text of a statement that might be sent again, None for others."""
    if statement.verb not in REPEATABLE:
        return None
    return sql if isinstance(sql, str) else bytes(sql).decode("latin-1")
