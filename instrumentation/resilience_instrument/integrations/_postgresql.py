"""What the drivers of PostgreSQL share: names, codes, and who set a timeout.

SQLSTATEs: PostgreSQL 15 documentation, appendix A, "PostgreSQL Error Codes". Texts of
connect errors, which come without one: libpq's `fe-connect.c` and the server's
`postmaster.c`.
"""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING, Any, Final

from resilience_instrument.integrations._dbapi import (
    answered,
    local,
    troubled,
    unreachable,
)
from resilience_instrument.integrations._sql import POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.integrations._dbapi import Link, Links
    from resilience_instrument.verdict import Judgement

SCHEME: Final = "postgresql"
PORT: Final = 5432
DIALECT: Final = POSTGRESQL

ROLLED_BACK: Final = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected: the transaction is undone."""

CANCELED: Final = "57014"
"""query_canceled: by a deadline of ours, by the server's own limit, or by somebody."""

# Connection exceptions, insufficient resources, operator intervention (shutdown,
# crash, starting up), system errors, internal errors, read-only standby.
_TROUBLE: Final = ("08", "53", "57P", "58", "XX", "25006")
# At a connect: starting up or shutting down, too many connections.
_PASSING: Final = ("57P03", "57P01", "57P02", "53300", "08006", "08001", "08004")

_PASSING_TEXTS: Final = (
    "connection refused",
    "could not receive data from server",
    "connection reset by peer",
    "closed the connection unexpectedly",
    "connection to server was lost",
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is not yet accepting connections",
    "the database system is not accepting connections",
    "the database system is in recovery mode",
    "recovery state has not been yet reached",
    "too many clients already",
    "too many connections",
    "remaining connection slots are reserved",
    "server conn crashed",
    "timeout expired",
)
_UNREACHABLE_TEXTS: Final = (
    "could not translate host name",
    "failed to resolve host",
    "network is unreachable",
    "no such file or directory",
)


def judge_connect(error: Exception, code: str, *, is_own: bool) -> Judgement:
    """Read why a connect failed.

    Args:
        error: What the driver raised.
        code: Its SQLSTATE, which libpq does not give.
        is_own: Whether it is an error of the server or the network at all.
    """
    if not is_own:
        return local(error)
    reason = code or type(error).__name__
    text = str(error).lower()
    if code in _PASSING or (not code and any(part in text for part in _PASSING_TEXTS)):
        # A connect has no effect, however far it came.
        return troubled(reason, sent=False)
    if any(part in text for part in _UNREACHABLE_TEXTS):
        return unreachable(error)
    return answered(reason)


def judge_statement(error: Exception, code: str, *, is_lost: bool) -> Judgement:
    """Read why a statement failed.

    Args:
        error: What the driver raised.
        code: Its SQLSTATE, "" for none.
        is_lost: Whether an error without a code means a lost connection.
    """
    if not code:
        return troubled(type(error).__name__) if is_lost else local(error)
    return troubled(code) if code.startswith(_TROUBLE) else answered(code)


def link(links: Links, given: Mapping[str, Any]) -> Link:
    """Return where a connect with these parameters of libpq leads."""
    environ = os.environ
    host = _first(given.get("host") or given.get("hostaddr") or environ.get("PGHOST"))
    port = _first(given.get("port") or environ.get("PGPORT"))
    user = given.get("user") or environ.get("PGUSER") or ""
    database = given.get("dbname") or environ.get("PGDATABASE") or user
    return links.find(
        # A directory is where the socket of a server on this machine lies.
        "localhost" if not host or host[0] in "/@" else host,
        int(port) if port.isdecimal() else PORT,
        str(database or getpass.getuser()),
    )


def _first(listed: Any) -> str:
    return str(listed or "").split(",")[0].strip()


def limits_connect(given: Mapping[str, Any]) -> bool:
    """Tell whether the app, or a file it refers to, limits how long connects take."""
    return (
        "connect_timeout" in given
        or "service" in given
        or bool(os.environ.get("PGCONNECT_TIMEOUT") or os.environ.get("PGSERVICE"))
    )


def connect_limit(given: Mapping[str, Any], default: float | None) -> float | None:
    """Return the seconds within which a connect is tried again.

    Args:
        given: The parameters of libpq.
        default: What holds where the app's own limit stands in a file or nowhere.
    """
    own = given.get("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT"))
    try:
        seconds = float(own) if own is not None else None
    except ValueError:
        seconds = None
    if seconds is None:
        return default
    # For libpq 0 means for ever, and so does anything below.
    return seconds if seconds > 0 else None


def server_options(link: Link, given: Mapping[str, Any]) -> str | None:
    """Return libpq's `options` by which the server limits statements, too.

    None where that was not asked for, where the app limits them, or where a server
    refused it before: a bouncer takes no parameters that it does not know.
    """
    if not link.server_limit or limits_statements(given) or link.limit is None:
        return None
    ours = f"-c statement_timeout={round(link.limit * 1000)}"
    return f"{given.get('options', '')} {ours}".strip()


def refuses_options(error: Exception) -> bool:
    """Tell whether a server did not want the options."""
    return "startup parameter" in str(error)


def limits_statements(given: Mapping[str, Any]) -> bool:
    """Tell whether the app has the server limit its statements."""
    options = f"{given.get('options', '')} {os.environ.get('PGOPTIONS', '')}"
    return "statement_timeout" in options
