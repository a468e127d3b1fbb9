"""httpx2, a fork of httpx: everything is in `_httpx`, which serves both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx2

from resilience_instrument import errors
from resilience_instrument.integrations import _httpx
from resilience_instrument.integrations._sending import own_errors

if TYPE_CHECKING:
    from resilience_instrument.integrations._patch import AnyTarget
    from resilience_instrument.integrations._room import Runtime


class CircuitBreakerOpenError(errors.CircuitBreakerOpenError, httpx2.ConnectError):
    """The circuit is open; to an app of httpx2, a host that is not there."""


class ProxyCircuitBreakerOpenError(CircuitBreakerOpenError, httpx2.ProxyError):
    """The circuit of a service behind a proxy is open."""


class BulkheadFullError(errors.BulkheadFullError, httpx2.ConnectError):
    """Too many calls are under way; to an app of httpx2, a host that is not there."""


class RateLimitedError(errors.RateLimitedError, httpx2.ConnectError):
    """The service is overloaded; to an app of httpx2, a host that is not there."""


class DeadlineExceededError(errors.DeadlineExceededError, httpx2.ReadTimeout):
    """No time is left; to an app of httpx2, a read timeout."""


def targets(runtime: Runtime) -> list[AnyTarget]:
    """Return what is wrapped, for one `runtime`."""
    classes = own_errors(
        CircuitBreakerOpenError,
        BulkheadFullError,
        RateLimitedError,
        DeadlineExceededError,
    )
    proxied = own_errors(ProxyCircuitBreakerOpenError)
    kit = _httpx.Kit("httpx2", classes, proxied)
    return _httpx.targets(kit, runtime)
