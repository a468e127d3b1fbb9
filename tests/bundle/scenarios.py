"""The catalogue of what can go wrong, and exactly which alerts must then arrive."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bundle import upstreams

if TYPE_CHECKING:
    from collections.abc import Callable

BURN = frozenset(f"ApiErrorBudgetBurn {long}" for long in ("1h", "6h", "1d"))
OUTAGE = BURN | {"CircuitBreakerOpen", "CircuitBreakerStuckOpen"}


class Scenario(NamedTuple):
    """One service and how it fails.

    Attributes:
        name: What happens.
        answer: What the service answers; None if nothing listens.
        expected: The alerts that must arrive, with the long window where there are
            several of a name.
        method: How the app calls it; `CONNECT` for a database.
        timeout: The timeout that the app gives, None for none.
        pause: Seconds from one call to the next, unless it takes longer.
    """

    name: str
    answer: Callable[[int], upstreams.Answer] | None
    expected: frozenset[str]
    method: str = "GET"
    timeout: float | None = 2.0
    pause: float = 1 / 8


SCENARIOS = (
    Scenario("healthy", upstreams.healthy, frozenset()),
    Scenario("upstream dead", None, OUTAGE),
    Scenario(
        "upstream slow now and then",
        upstreams.slow_now_and_then,
        frozenset({"HighRetryRate", "HighTimeoutRate"}),
        timeout=0.55,
        pause=1 / 16,
    ),
    Scenario("flapping", upstreams.flapping, BURN | {"CircuitBreakerFlapping"}),
    Scenario("dead database", None, OUTAGE, method="CONNECT"),
    Scenario("503 with Retry-After", upstreams.asks_to_wait, OUTAGE),
    Scenario("10 % errors", upstreams.fails_one_in_ten, BURN),
    Scenario(
        "503 now and then for GET",
        upstreams.unavailable_one_in_five,
        frozenset({"HighRetryRate"}),
    ),
    Scenario(
        "503 now and then for POST, which is not retried",
        upstreams.unavailable_one_in_five,
        BURN,
        method="POST",
    ),
    Scenario(
        "calls without a timeout",
        upstreams.healthy,
        frozenset({"CallsWithoutTimeout"}),
        timeout=None,
    ),
)
KILLED = frozenset({"ResilienceInstrumentationAbsent"})
"""What arrives for a job whose only process was killed."""
