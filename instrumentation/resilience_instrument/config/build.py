"""Turn settled values into the frozen settings that policies get."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

from resilience_instrument.config.findings import Finding
from resilience_instrument.config.model import (
    AdaptiveSettings,
    BreakerSettings,
    BulkheadSettings,
    CacheFallback,
    FallbackSettings,
    HedgeSettings,
    RetrySettings,
    ServiceSettings,
    StaticFallback,
    ThrottleSettings,
    Timeouts,
)
from resilience_instrument.frozen import names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.config.resolve import Settings

_FUNCTION: Final = r"(?a:[A-Za-z_][\w.]*:[A-Za-z_][\w.]*)"
_LONGEST_BODY: Final = 1_048_576

MODELS: Final[Mapping[str, type[Any]]] = {
    "timeout": Timeouts,
    "retry": RetrySettings,
    "breaker": BreakerSettings,
    "bulkhead": BulkheadSettings,
    "throttle": ThrottleSettings,
    "adaptive": AdaptiveSettings,
    "hedge": HedgeSettings,
}
"""The sections whose keys are the fields of a model."""


def service(settings: Settings, profile: str) -> ServiceSettings:
    """Return what policies get.

    Raises:
        ValueError: Its argument is a finding.
    """
    parts = {name: _model(settings, name, model) for name, model in MODELS.items()}
    own: Mapping[str, Any] = {path: s.value for path, s in settings.items()}
    return ServiceSettings(
        **parts,
        enabled=own["enabled"],
        mode=own["mode"],
        profile=profile,
        endpoints=own["endpoints"],
        idempotency_key=own["idempotency_key"],
        fallback=_fallback(settings),
    )


def _model(settings: Settings, section: str, model: type[Any]) -> Any:
    own = {name: settings[f"{section}.{name}"].value for name in names(model)}
    return model(**own)


def _fallback(settings: Settings) -> FallbackSettings | None:
    cache: Any = None
    if "fallback.cache" in settings:
        cache = _model(settings, "fallback.cache", CacheFallback)
    static = _static(settings) if "fallback.static" in settings else None
    service, call = _service(settings), _call(settings)
    if cache is None and static is None and service is None and call is None:
        return None
    return FallbackSettings(cache, service, call, static)


def _service(settings: Settings) -> str | None:
    found = settings["fallback.service"]
    if isinstance(found.value, str) and not re.fullmatch(
        r"https?://[^/?#@\s]+(/[^?#\s]*)?", found.value
    ):
        raise _refused(settings, "fallback.service", "use http(s)://host:port/path")
    return None if found.value is None else str(found.value).rstrip("/")


def _call(settings: Settings) -> str | None:
    found = settings["fallback.call"]
    if isinstance(found.value, str) and not re.fullmatch(_FUNCTION, found.value):
        raise _refused(settings, "fallback.call", "use module:function")
    return None if found.value is None else str(found.value)


def _static(settings: Settings) -> StaticFallback:
    own: Mapping[str, Any] = {path: s.value for path, s in settings.items()}
    file, body = own["fallback.static.file"], own["fallback.static.body"]
    content = body.encode()
    if file is not None:
        if body:
            said = "contradicts fallback.static.body: use one of them"
            raise _refused(settings, "fallback.static.file", said)
        content = _content(settings, file)
    return StaticFallback(
        own["fallback.static.status"], own["fallback.static.headers"], content
    )


def _content(settings: Settings, file: str) -> bytes:
    """Return what stands in a file, whose path is relative to the configuration."""
    beside = settings["fallback.static.file"].source.rpartition(":")[0]
    path = os.path.join(os.path.dirname(beside), file)  # noqa: PTH118, PTH120 - pathlib is not loaded for this
    try:
        if not os.path.isfile(path):  # noqa: PTH113 - as above
            raise FileNotFoundError(2, "no such file")
        with open(path, "rb") as opened:  # noqa: PTH123 - as above
            content = opened.read(_LONGEST_BODY + 1)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        said = f"cannot be read: {reason}"
        raise _refused(settings, "fallback.static.file", said) from None
    if len(content) > _LONGEST_BODY:
        said = f"is longer than {_LONGEST_BODY} bytes"
        raise _refused(settings, "fallback.static.file", said)
    return content


def _refused(settings: Settings, path: str, message: str) -> ValueError:
    found = settings[path]
    return ValueError(Finding(found.source, f'{path} = "{found.value}"', message))
