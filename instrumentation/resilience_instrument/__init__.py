"""Timeouts, safe retries and circuit breakers for what a Python program calls.

This module is the public API and imports nothing at start: the launcher and the
boot stage of every governed process pass through it. Names are loaded when they
are first used.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # typing is not loaded in this stage
if TYPE_CHECKING:
    from resilience_instrument.deadlines import deadline
    from resilience_instrument.errors import (
        BulkheadFullError,
        CircuitBreakerOpenError,
        ConfigError,
        DeadlineExceededError,
        RateLimitedError,
        ResilienceError,
    )
    from resilience_instrument.transactions import transaction

__all__ = [
    "BulkheadFullError",
    "CircuitBreakerOpenError",
    "ConfigError",
    "DeadlineExceededError",
    "RateLimitedError",
    "ResilienceError",
    "__version__",
    "deadline",
    "transaction",
]


def __getattr__(name: str) -> object:
    """Load a public name when it is first used."""
    if name not in __all__:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from resilience_instrument import errors

    if name == "deadline":
        from resilience_instrument.deadlines import deadline

        return deadline
    if name == "transaction":
        from resilience_instrument.transactions import transaction

        return transaction
    return getattr(errors, name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
