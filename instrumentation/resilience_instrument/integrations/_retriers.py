"""Notice that somebody else retries, so that attempts do not multiply.

A client may say so in a header; a retrying library may be among the callers; and
where tasks and threads hide the callers, tenacity leaves a mark in the context.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

MARK: Final[ContextVar[int]] = ContextVar("resilience_retriers", default=0)
"""How many retrying loops of tenacity this context runs in."""

_HEADERS: Final = ("X-Stainless-Retry-Count", "Amz-Sdk-Request")
_DEPTH: Final = 200

# Packages whose business is to try again, and parts of others that do it.
_PACKAGES: Final = frozenset(
    {
        "anthropic",
        "backoff",
        "botocore",
        "elastic_transport",
        "openai",
        "opensearchpy",
        "retry",
        "retrying",
        "stamina",
        "stripe",
        "tenacity",
    }
)
_PARTS: Final = (
    "azure.core.pipeline.policies",
    "google.api_core.retry",
    "googleapiclient.http",
    "huggingface_hub.utils",
    "slack_sdk.web",
)


def declared(headers: Mapping[str, object]) -> bool:
    """Tell whether a request says that its sender counts attempts."""
    return any(header in headers for header in _HEADERS)


def around() -> bool:
    """Tell whether a retrying loop is among the callers. Call it after a failure."""
    if MARK.get() > 0:
        return True
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - it has no other name
    for _ in range(_DEPTH):
        if frame is None:
            return False
        if _is_retrier(frame.f_globals.get("__name__")):
            return True
        frame = frame.f_back
    return False


def _is_retrier(module: object) -> bool:
    if not isinstance(module, str):
        return False
    return module.partition(".")[0] in _PACKAGES or module.startswith(_PARTS)
