"""Read the wait that a service asks for (RFC 9110, section 10.2.3).

A service says it in seconds or as a date. A date is taken relative to the
answer's own `Date`, so that a client whose clock is wrong waits no longer. Some say
it in milliseconds, in headers of their own. What cannot be read is ignored, never an
error: a bad header must not break a call.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# A longer wait is cut anyhow, and a float of a thousand digits would be infinite.
_MOST_DIGITS: Final = 12

# The exact ones first; gRPC's says how long to hold the next attempt back.
_MILLISECONDS: Final = (
    "retry-after-ms",
    "x-ms-retry-after-ms",
    "x-amz-retry-after",
    "grpc-retry-pushback-ms",
)


def asked(headers: Mapping[str, str], wall: float) -> float | None:
    """Return the seconds that an answer asks to wait, None if it does not.

    Args:
        headers: The answer's headers; lower-case names must be found.
        wall: This machine's seconds since the epoch, used where `Date` is absent.
    """
    for name in _MILLISECONDS:
        wait = _whole(headers.get(name))
        if wait is not None:
            return wait / 1000.0
    return parse(headers.get("retry-after"), headers.get("date"), wall)


def parse(value: str | None, date: str | None, wall: float) -> float | None:
    """Return the seconds to wait, None if nothing usable was asked.

    Args:
        value: The `Retry-After` header, None if absent.
        date: The answer's `Date` header, None if absent.
        wall: This machine's seconds since the epoch, used where `Date` is absent.
    """
    seconds = _whole(value)
    if seconds is not None or not value:
        return seconds
    until = _timestamp(value.strip())
    if until is None:
        return None
    since = _timestamp(date) if date else None
    wait = until - (wall if since is None else since)
    return wait if wait > 0 else None


def _whole(text: str | None) -> float | None:
    """Read a whole number above 0."""
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit()):
        return None
    return float(text[:_MOST_DIGITS]) or None


def _timestamp(text: str) -> float | None:
    try:
        # A date without a zone is UTC (RFC 9110, section 5.6.7).
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        from datetime import UTC  # noqa: PLC0415 - needed for odd dates only

        moment = moment.replace(tzinfo=UTC)
    return moment.timestamp()
