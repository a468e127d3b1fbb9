"""Read the wait that a service asks for (RFC 9110, section 10.2.3).

A service says it in seconds or as a date. A date is taken relative to the
answer's own `Date`, so that a client whose clock is wrong waits no longer. What
cannot be read is ignored, never an error: a bad header must not break a call.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime


def parse(value: str | None, date: str | None, wall: float) -> float | None:
    """Return the seconds to wait, None if nothing usable was asked.

    Args:
        value: The `Retry-After` header, None if absent.
        date: The answer's `Date` header, None if absent.
        wall: This machine's seconds since the epoch, used where `Date` is absent.
    """
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:12])
    else:
        until = _timestamp(text)
        if until is None:
            return None
        since = _timestamp(date) if date else None
        seconds = until - (wall if since is None else since)
    return seconds if seconds > 0 else None


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
