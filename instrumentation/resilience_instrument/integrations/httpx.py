"""httpx: everything is in `_httpx`, which serves its forks too."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from resilience_instrument import errors
from resilience_instrument.integrations import _httpx
from resilience_instrument.integrations._sending import own_errors

if TYPE_CHECKING:
    from resilience_instrument.integrations._patch import AnyTarget
    from resilience_instrument.integrations._room import Runtime


class CircuitBreakerOpenError(errors.CircuitBreakerOpenError, httpx.ConnectError):
    """The circuit is open; to an app of httpx, a host that is not there."""


class ProxyCircuitBreakerOpenError(CircuitBreakerOpenError, httpx.ProxyError):
    """The circuit of a service behind a proxy is open."""


class BulkheadFullError(errors.BulkheadFullError, httpx.ConnectError):
    """Too many calls are under way; to an app of httpx, a host that is not there."""


class RateLimitedError(errors.RateLimitedError, httpx.ConnectError):
    """The service is overloaded; to an app of httpx, a host that is not there."""


class DeadlineExceededError(errors.DeadlineExceededError, httpx.ReadTimeout):
    """No time is left; to an app of httpx, a read timeout."""


def targets(runtime: Runtime) -> list[AnyTarget]:
    """Return what is wrapped, for one `runtime`."""
    if httpx.__name__ == "httpx2":
        # The fork can take the name of the original; it is governed once.
        from resilience_instrument.integrations import httpx2  # noqa: PLC0415

        return httpx2.targets(runtime)
    classes = own_errors(
        CircuitBreakerOpenError,
        BulkheadFullError,
        RateLimitedError,
        DeadlineExceededError,
    )
    proxied = own_errors(ProxyCircuitBreakerOpenError)
    kit = _httpx.Kit("httpx", classes, proxied)
    return _httpx.targets(kit, runtime)
