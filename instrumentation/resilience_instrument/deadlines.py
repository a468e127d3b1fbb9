"""`deadline`: how an app says by when a block of calls must be over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience_instrument.clock import SystemClock
from resilience_instrument.policies.deadline import Within

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


def deadline(seconds: float) -> AbstractContextManager[None]:
    """Give all governed calls of a `with` block `seconds` from now, together.

    Of nested blocks the one that ends first holds. The time begins when this is
    called; threads have it where the app copies its context into them. Added in 0.1.

    Args:
        seconds: How long, attempts and pauses included.

    Raises:
        ValueError: `seconds` is negative or no number.
    """
    if not seconds >= 0:
        message = f"a deadline lies {seconds!r} seconds ahead: use a number from 0 on"
        raise ValueError(message)
    return Within(SystemClock().monotonic() + seconds)
