"""Load the settings from the environment, checked before they are used.

A name is `RESILIENCE_`, the section and the key, such as
`RESILIENCE_TIMEOUT_READ=5`. A value that cannot be used raises `ConfigError`,
which says the key, the value and what would do.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeVar, get_args

from resilience_instrument.config import defaults
from resilience_instrument.config.model import (
    AdaptiveMode,
    AdaptiveSettings,
    AgentSettings,
    BreakerMode,
    BreakerSettings,
    BudgetMode,
    BulkheadSettings,
    HedgeSettings,
    Jitter,
    LimitMode,
    RetrySettings,
    ServiceSettings,
    ThrottleSettings,
    Timeouts,
)
from resilience_instrument.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


def from_environment(environ: Mapping[str, str]) -> AgentSettings:
    """Return the settings that `environ` asks for, defaults where it is silent.

    Raises:
        ConfigError: A value is no number, out of its range, or contradicts
            another.
    """
    read = _Reader(environ)
    timeouts = _timeouts(read)
    settings = ServiceSettings(
        timeouts,
        _retry(read),
        _breaker(read, timeouts),
        _bulkhead(read),
        ThrottleSettings(read.switch("THROTTLE", default=False)),
        AdaptiveSettings(read.choice("ADAPTIVE_MODE", get_args(AdaptiveMode))),
        HedgeSettings(read.switch("HEDGE", default=False)),
    )
    _check_together(settings)
    disabled = environ.get("RESILIENCE_DISABLE", "")
    return AgentSettings(
        frozenset(name.strip() for name in disabled.split(",") if name.strip()),
        environ.get("RESILIENCE_METRICS_HOST", defaults.METRICS_HOST),
        _ports(environ.get("RESILIENCE_METRICS_PORT")),
        settings,
    )


def _timeouts(read: _Reader) -> Timeouts:
    return Timeouts(
        read.seconds("TIMEOUT_CONNECT", defaults.CONNECT),
        read.seconds("TIMEOUT_READ", defaults.READ),
        read.seconds("TIMEOUT_WRITE", defaults.WRITE),
        read.seconds("TIMEOUT_POOL", defaults.POOL),
        read.seconds("TIMEOUT_TOTAL", defaults.TOTAL),
    )


def _retry(read: _Reader) -> RetrySettings:
    return RetrySettings(
        read.whole("RETRY_MAX_ATTEMPTS", defaults.MAX_ATTEMPTS, least=1, most=10),
        read.number("RETRY_BASE_DELAY", defaults.BASE_DELAY),
        read.number("RETRY_MAX_DELAY", defaults.MAX_DELAY),
        read.number("RETRY_RETRY_AFTER_MAX", defaults.RETRY_AFTER_MAX),
        read.number("RETRY_BUDGET", defaults.BUDGET, most=1.0),
        read.number("RETRY_BUDGET_MIN", defaults.BUDGET_MIN),
        defaults.BUDGET_WINDOW,
        jitter=read.choice("RETRY_JITTER", get_args(Jitter)),
        max_elapsed=read.optional_seconds("RETRY_MAX_ELAPSED"),
        on_statuses=read.statuses("RETRY_ON_STATUSES"),
        on_errors=read.names("RETRY_ON_ERRORS"),
        except_errors=read.names("RETRY_EXCEPT_ERRORS"),
        budget_mode=read.choice("RETRY_BUDGET_MODE", get_args(BudgetMode)),
    )


def _bulkhead(read: _Reader) -> BulkheadSettings:
    return BulkheadSettings(
        read.optional_whole("BULKHEAD_LIMIT", None),
        read.whole("BULKHEAD_QUEUE", 0, least=0),
        read.number("BULKHEAD_WAIT", 0.0),
        read.choice("BULKHEAD_ADAPTIVE", get_args(LimitMode)),
    )


def _breaker(read: _Reader, timeout: Timeouts) -> BreakerSettings:
    open_for = read.seconds("BREAKER_OPEN_FOR", defaults.OPEN_FOR)
    attempt = timeout.read or defaults.READ
    slow_rate = read.share("BREAKER_SLOW_RATE", None)
    slow_after = attempt * defaults.SLOW_SHARE_OF_READ
    return BreakerSettings(
        read.optional_whole("BREAKER_CONSECUTIVE", defaults.CONSECUTIVE),
        open_for,
        read.seconds("BREAKER_OPEN_MAX", max(open_for, defaults.OPEN_MAX)),
        defaults.OPEN_GROWTH,
        read.number("BREAKER_OPEN_JITTER", defaults.OPEN_JITTER, most=1.0),
        read.whole("BREAKER_PROBES", defaults.PROBES, least=1),
        read.whole("BREAKER_SUCCESSES_TO_CLOSE", defaults.SUCCESSES_TO_CLOSE, least=1),
        read.seconds("BREAKER_PROBE_LEASE", max(defaults.PROBE_LEASE_LEAST, attempt)),
        read.share("BREAKER_FAILURE_RATE", defaults.FAILURE_RATE),
        # A window that holds less than two attempts sees no rate.
        read.seconds("BREAKER_WINDOW", max(defaults.WINDOW, 2.0 * attempt)),
        read.whole("BREAKER_MIN_CALLS", defaults.MIN_CALLS, least=1),
        read.optional_whole("BREAKER_COUNT_WINDOW", None),
        read.optional_whole("BREAKER_COUNT_FAILURES", None),
        slow_rate,
        read.seconds("BREAKER_SLOW_AFTER", slow_after) if slow_rate else None,
        read.switch("BREAKER_SLOW_INFLIGHT", default=False),
        read.whole("BREAKER_RAMP_STEPS", 0, least=0),
        read.seconds("BREAKER_RAMP_STEP", defaults.RAMP_STEP),
        read.choice("BREAKER_MODE", get_args(BreakerMode)),
    )


def _check_together(settings: ServiceSettings) -> None:
    timeout, breaker = settings.timeout, settings.breaker
    read, total = timeout.read or 0.0, timeout.total or math.inf
    window, most = breaker.window or math.inf, breaker.count_failures or 0
    contradictions = {
        f"RESILIENCE_TIMEOUT_READ={read:g} is longer than"
        f" RESILIENCE_TIMEOUT_TOTAL={total:g}: raise the total": read > total,
        f"RESILIENCE_BREAKER_OPEN_MAX={breaker.open_max:g} is shorter than"
        f" RESILIENCE_BREAKER_OPEN_FOR={breaker.open_for:g}: raise the maximum": (
            breaker.open_max < breaker.open_for
        ),
        f"RESILIENCE_BREAKER_WINDOW={window:g} is shorter than two attempts of"
        f" RESILIENCE_TIMEOUT_READ={read:g}: raise the window": window < 2.0 * read,
        f"RESILIENCE_BREAKER_COUNT_FAILURES={most} is more than"
        f" RESILIENCE_BREAKER_COUNT_WINDOW={breaker.count_window}: raise the window": (
            most > (breaker.count_window or 0)
        ),
    }
    for message, holds in contradictions.items():
        if holds:
            raise ConfigError(message)


def _ports(text: str | None) -> range:
    if text is None:
        return range(defaults.METRICS_FIRST_PORT, defaults.METRICS_LAST_PORT + 1)
    first, _, last = text.partition("-")
    try:
        low, high = int(first), int(last or first)
    except ValueError:
        low, high = -1, -1
    if low == high == 0:
        return range(0)
    if not 0 < low <= high <= 65535:  # noqa: PLR2004 - the largest port there is
        message = (
            f"RESILIENCE_METRICS_PORT={text!r}: use a port such as 9469, a range"
            " such as 9469-9479, or 0 to serve no metrics"
        )
        raise ConfigError(message)
    return range(low, high + 1)


Word = TypeVar("Word")

_DIGITS: Final = 3
"""Digits of a status."""


class _Reader:
    """Reads numbers out of the environment and explains what is wrong with one."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def seconds(self, key: str, default: float) -> float:
        """Read a duration, which is longer than nothing."""
        value = self.number(key, default)
        if value <= 0:
            raise self._error(key, "use a number of seconds above 0")
        return value

    def number(self, key: str, default: float, most: float = 1e6) -> float:
        """Read a number from 0 to `most`."""
        text = self._environ.get(f"RESILIENCE_{key}")
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value <= most:
            raise self._error(key, f"use a number from 0 to {most:g}")
        return value

    def whole(self, key: str, default: int, least: int, most: int = 1000) -> int:
        """Read a whole number from `least` to `most`."""
        text = self._environ.get(f"RESILIENCE_{key}")
        if text is None:
            return default
        if text.strip().isdecimal() and least <= int(text) <= most:
            return int(text)
        raise self._error(key, f"use a whole number from {least} to {most}")

    def optional_whole(self, key: str, default: int | None) -> int | None:
        """Read a whole number of at least 1, or `off`."""
        if self._is_off(key):
            return None
        if default is None and self._text(key) is None:
            return None
        return self.whole(key, default or 0, least=1)

    def share(self, key: str, default: float | None) -> float | None:
        """Read a share above 0 and up to 1, or `off`."""
        if self._is_off(key):
            return None
        if default is None and self._text(key) is None:
            return None
        value = self.number(key, default or 0.0, most=1.0)
        if value <= 0:
            raise self._error(key, "use a share above 0, or off")
        return value

    def optional_seconds(self, key: str) -> float | None:
        """Read a duration, None where there is none."""
        return None if self._text(key) is None else self.seconds(key, 0.0)

    def names(self, key: str) -> frozenset[str]:
        """Read names that commas separate."""
        text = self._text(key) or ""
        return frozenset(name.strip() for name in text.split(",") if name.strip())

    def statuses(self, key: str) -> frozenset[int] | None:
        """Read status codes that commas separate, None where there are none."""
        if self._text(key) is None:
            return None
        names = self.names(key)
        if not all(name.isdecimal() and len(name) == _DIGITS for name in names):
            raise self._error(key, "use statuses such as 502,503,504")
        return frozenset(map(int, names))

    def switch(self, key: str, *, default: bool) -> bool:
        """Read `1` or `0`."""
        text = self._text(key)
        if text is None:
            return default
        if text not in {"0", "1"}:
            raise self._error(key, "use 1 or 0")
        return text == "1"

    def choice(self, key: str, words: tuple[Word, ...]) -> Word:
        """Read one of `words`, of which the first is the default."""
        text = self._text(key)
        if text is None:
            return words[0]
        for word in words:
            if word == text:
                return word
        raise self._error(key, f"use one of {', '.join(map(str, words))}")

    def _text(self, key: str) -> str | None:
        return self._environ.get(f"RESILIENCE_{key}")

    def _is_off(self, key: str) -> bool:
        return self._text(key) == "off"

    def _error(self, key: str, fix: str) -> ConfigError:
        name = f"RESILIENCE_{key}"
        return ConfigError(f"{name}={self._environ[name]!r}: {fix}")
