"""How long to wait before the next attempt.

`retry` is 0 for the first retry, `base` bounds the first pause and `cap` every one,
in seconds; `uniform` draws a number between its two arguments. The exponential bound
of a pause is `min(cap, base * 2**retry)`; the kinds differ in what chance makes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.config.model import Jitter

    Uniform: TypeAlias = Callable[[float, float], float]

# Above this the bound is the cap anyhow, and a float would overflow some day.
_MOST_DOUBLINGS: Final = 62


def full_jitter(retry: int, base: float, cap: float, uniform: Uniform) -> float:
    """Return anything up to the bound.

    Brooker's "full jitter": it spreads clients that failed together best of all.
    """
    return uniform(0.0, _bound(retry, base, cap))


def equal_jitter(retry: int, base: float, cap: float, uniform: Uniform) -> float:
    """Return at least half of the bound, and anything up to it."""
    half = _bound(retry, base, cap) / 2.0
    return half + uniform(0.0, half)


def proportional_jitter(retry: int, base: float, cap: float, uniform: Uniform) -> float:
    """Return the bound, and up to a tenth of it on top."""
    bound = _bound(retry, base, cap)
    return bound + uniform(0.0, 0.1 * bound)


def decorrelated_jitter(
    previous: float, base: float, cap: float, uniform: Uniform
) -> float:
    """Return anything between the base and three times the pause before.

    Args:
        previous: The pause before, of this very call; the base where it is the first.
        base: Seconds, the least pause.
        cap: Seconds, the longest one.
        uniform: Draws a number between its two arguments.
    """
    return min(cap, uniform(base, 3.0 * previous))


def fixed(_retry: int, base: float, cap: float, _uniform: Uniform) -> float:
    """Return the same pause each time."""
    return min(cap, base)


def immediate(_retry: int, _base: float, _cap: float, _uniform: Uniform) -> float:
    """Return no pause at all."""
    return 0.0


_KINDS: Final[dict[Jitter, Callable[[int, float, float, Uniform], float]]] = {
    "full": full_jitter,
    "equal": equal_jitter,
    "proportional": proportional_jitter,
    "fixed": fixed,
    "immediate": immediate,
}


def pause(  # noqa: PLR0913, PLR0917 - what the kinds need between them
    kind: Jitter,
    retry: int,
    previous: float,
    base: float,
    cap: float,
    uniform: Uniform,
) -> float:
    """Return the pause of this kind, in seconds."""
    if kind == "decorrelated":
        return decorrelated_jitter(previous, base, cap, uniform)
    return _KINDS[kind](retry, base, cap, uniform)


def _bound(retry: int, base: float, cap: float) -> float:
    return min(cap, base * 2.0 ** min(retry, _MOST_DOUBLINGS))
