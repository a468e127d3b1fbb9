"""How long to wait before the next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def full_jitter(
    retry: int, base: float, cap: float, uniform: Callable[[float, float], float]
) -> float:
    """Return a pause in seconds, drawn evenly between 0 and an exponential bound.

    The bound is `min(cap, base * 2**retry)`: Brooker's "full jitter", which
    spreads clients that failed together best of all.

    Args:
        retry: 0 for the first retry, 1 for the second, and so on.
        base: Seconds, the bound of the first pause.
        cap: Seconds, the bound of every pause.
        uniform: Draws a number between its two arguments.
    """
    return uniform(0.0, min(cap, base * 2.0 ** min(retry, 62)))
