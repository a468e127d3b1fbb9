"""Why an attempt may not be made, and the errors that say it to an app."""

from __future__ import annotations

from typing import Literal, TypeAlias

from resilience_instrument.errors import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    DeadlineExceededError,
    RateLimitedError,
    ResilienceError,
)
from resilience_instrument.policies.permit import Rejection

Refusal: TypeAlias = Rejection | Literal["bulkhead", "throttle", "deadline"]
"""Which policy said no; the breaker says more."""


def error_for(service: str, refusal: Refusal) -> ResilienceError:
    """Return the error for an app whose call to `service` was refused."""
    if refusal == "deadline":
        return DeadlineExceededError(
            f"no time left for a call to {service}", service=service
        )
    if refusal == "bulkhead":
        return BulkheadFullError(
            f"too many calls to {service} are under way", service=service
        )
    if refusal == "throttle":
        return RateLimitedError(
            f"{service} is overloaded, calls to it are held back", service=service
        )
    return _open_error(service, refusal)


def _open_error(service: str, rejection: Rejection) -> CircuitBreakerOpenError:
    if not rejection.cause:
        return CircuitBreakerOpenError(
            f"circuit of {service} was opened by order", service=service
        )
    after = f"next try in {rejection.retry_after:.1f} s"
    if rejection.retry_after <= 0:
        after = "a probe is under way"
    return CircuitBreakerOpenError(
        f"circuit of {service} is open after {rejection.cause}"
        f" (last: {rejection.last_error}); {after}",
        service=service,
        retry_after=rejection.retry_after,
        last_error=rejection.last_error,
    )
