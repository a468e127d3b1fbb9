"""What requests and urllib3 share: forms of timeouts, and what errors mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import urllib3
import urllib3.exceptions

from resilience_instrument.config.model import Timeouts
from resilience_instrument.integrations import _http
from resilience_instrument.verdict import Phase

if TYPE_CHECKING:
    from resilience_instrument.errors import ResilienceError

NONE: Final = Timeouts(None, None, None, None, None)
"""No limits: what holds where the app's own cannot be understood."""

_NOT_REACHED: Final = (
    urllib3.exceptions.NewConnectionError,
    urllib3.exceptions.ConnectTimeoutError,
)

# The first that fits: a refused connection is a connect timeout by inheritance.
_PHASES: Final[tuple[tuple[type[BaseException], Phase | None], ...]] = (
    (urllib3.exceptions.NewConnectionError, None),
    (urllib3.exceptions.ConnectTimeoutError, Phase.CONNECT),
    (urllib3.exceptions.ReadTimeoutError, Phase.READ),
    (TimeoutError, Phase.WRITE),
)


def begin(error: ResilienceError, message: str, **facts: Any) -> None:
    """Make an error of ours that is one of urllib3 too, without its arguments.

    The classes of urllib3 want a pool or a connection, which is not there yet.
    """
    Exception.__init__(error, message)
    error.service = facts.get("service", "")
    error.retry_after = facts.get("retry_after")
    error.last_error = facts.get("last_error", "")


def app_timeouts(timeout: Any) -> Timeouts | None:
    """Return the timeouts that the app gave, None if they make no sense."""
    connect, read = _pair(timeout)
    if not (_is_limit(connect) and _is_limit(read)):
        # Wrong or unknown: the library says so itself.
        return None
    return Timeouts(connect, read, read, None, None)


def _pair(timeout: Any) -> tuple[Any, Any]:
    """Return the connect and the read timeout out of what is accepted."""
    if isinstance(timeout, urllib3.Timeout):
        given = timeout.clone()
        given.start_connect()
        return given.connect_timeout, given.read_timeout
    if isinstance(timeout, tuple):
        return (timeout[0], timeout[1]) if len(timeout) == 2 else ("", "")  # noqa: PLR2004
    return timeout, timeout


def _is_limit(value: Any) -> bool:
    return value is None or (
        isinstance(value, (int, float)) and not isinstance(value, bool)
    )


def phase(error: Exception) -> Phase | None:
    """Return in which phase a timeout struck, None if it was none."""
    for each in _http.chain(error):
        for kind, found in _PHASES:
            if isinstance(each, kind):
                return found
    return None


def is_never_sent(reason: object) -> bool:
    """Tell whether the connection was never made, by what urllib3 says of it."""
    return isinstance(reason, _NOT_REACHED)
