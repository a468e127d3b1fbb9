"""tenacity: not governed, but noticed wherever it retries.

Its loops leave a mark in the context, which tasks and threads inherit; a walk
over the callers would not see them there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tenacity

from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._retriers import MARK

if TYPE_CHECKING:
    from resilience_instrument.integrations._room import Runtime


def targets(runtime: Runtime) -> list[Target]:  # noqa: ARG001 - every room has this
    """Return what is wrapped, for one `runtime`."""
    manager = tenacity.AttemptManager
    return [
        Target(tenacity.Retrying, "__call__", _call),
        Target(tenacity.AsyncRetrying, "__call__", _async_call),
        Target(manager, "__enter__", _enter),
        Target(manager, "__exit__", _leave),
    ]


def _call(
    wrapped: Any,
    instance: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    token = MARK.set(MARK.get() + 1)
    try:
        return wrapped(*args, **kwargs)
    finally:
        MARK.reset(token)


async def _async_call(
    wrapped: Any,
    instance: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    token = MARK.set(MARK.get() + 1)
    try:
        return await wrapped(*args, **kwargs)
    finally:
        MARK.reset(token)


def _enter(
    wrapped: Any,
    instance: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    MARK.set(MARK.get() + 1)
    return wrapped(*args, **kwargs)


def _leave(
    wrapped: Any,
    instance: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    MARK.set(max(0, MARK.get() - 1))
    return wrapped(*args, **kwargs)
