"""The errors that the agent raises or reports.

In an integration each also derives from the library's own error class, so that
an app which handles a dead host handles an open circuit. They pickle: each
stands for itself by its arguments, see `__reduce__`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class ResilienceError(Exception):
    """Base of every error of ours that can reach an app.

    Args:
        message: What happened, in words for whoever reads the log.
        service: The service that was called.
        retry_after: Seconds after which a new try makes sense, None if unknown.
        last_error: The class name of the failure behind it, empty if none.
    """

    def __init__(
        self,
        message: str,
        *,
        service: str = "",
        retry_after: float | None = None,
        last_error: str = "",
    ) -> None:
        super().__init__(message)
        self.service = service
        self.retry_after = retry_after
        self.last_error = last_error

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        """Pickle by class, message and attributes, whatever the other base wants."""
        return _restore, (type(self), str(self)), self.__dict__


def _restore(cls: type[ResilienceError], message: str) -> ResilienceError:
    return cls(message)


class CircuitBreakerOpenError(ResilienceError):
    """The circuit of the service is open: the call was not tried."""


class BulkheadFullError(ResilienceError):
    """As many calls to the service are under way as may be."""


class DeadlineExceededError(ResilienceError):
    """The time that the whole call was allowed is used up."""


class RateLimitedError(ResilienceError):
    """The client-side throttle held the call back."""


class ConfigError(ValueError):
    """A setting cannot be used; the message names the key and the fix."""
