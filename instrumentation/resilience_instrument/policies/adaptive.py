"""The adaptive timeout: as long as nearly all attempts need, and half as much again.

It follows the 99th percentile of what succeeded, between a floor and the configured
timeout, which it never exceeds. An attempt that it cut counts as having taken exactly
that long, so the estimate can climb. When timeouts become frequent it stands aside
and the configured timeout holds for a while.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, final

from resilience_instrument.policies.window import FAILED, GOOD, TimeWindow

if TYPE_CHECKING:
    from resilience_instrument.config.model import AdaptiveSettings
    from resilience_instrument.policies.latency import Latencies

_NEVER: Final = float("-inf")


@final
class AdaptiveTimeout:
    """The adaptive timeout of one service and one class of methods.

    Args:
        settings: How it follows.
        latencies: What attempts took.
        ceiling: Seconds, the configured timeout.
    """

    __slots__ = (
        "_ceiling",
        "_due",
        "_latencies",
        "_lock",
        "_row",
        "_settings",
        "_value",
        "_valve",
        "_window",
    )

    def __init__(
        self, settings: AdaptiveSettings, latencies: Latencies, ceiling: float
    ) -> None:
        self._settings = settings
        self._latencies = latencies
        self._ceiling = ceiling
        self._lock = threading.Lock()
        self._value = ceiling
        self._due = _NEVER
        self._valve = _NEVER
        self._row = 0
        # Made when it is needed: there is one for each service and class.
        self._window: TimeWindow | None = None

    @property
    def floor(self) -> float:
        """The least it becomes, in seconds."""
        settings = self._settings
        return min(
            self._ceiling, max(settings.floor, self._ceiling * settings.floor_share)
        )

    def timeout(self, now: float) -> float:
        """Return the timeout of an attempt that starts at `now`, in seconds."""
        if now < self._valve:
            return self._ceiling
        if now >= self._due:
            with self._lock:
                self._recompute_locked(now)
        return self._value

    def record(self, seconds: float, now: float, *, timed_out: bool) -> None:
        """Take in an attempt that succeeded or timed out after `seconds`."""
        self._latencies.add(seconds, now)
        if self._settings.mode != "enforce":
            # Nobody is cut, so nothing can be cut too often.
            return
        with self._lock:
            window = self._window
            if window is None:
                window = self._window = TimeWindow(self._settings.valve_window)
            window.roll(now)
            window.add(FAILED if timed_out else GOOD)
            self._row = self._row + 1 if timed_out else 0
            if timed_out and self._is_too_often_locked(window):
                self._row = 0
                # What was cut says how long we waited, not how long it takes.
                self._value = self._ceiling
                self._due = self._valve = now + self._settings.valve_for

    def renew_lock(self) -> None:
        """Replace the lock, in a child that was just forked."""
        self._lock = threading.Lock()

    def _is_too_often_locked(self, window: TimeWindow) -> bool:
        settings = self._settings
        share = window.failures / window.total
        return self._row >= settings.valve_row or share > settings.valve_share

    def _recompute_locked(self, now: float) -> None:
        settings = self._settings
        self._due = now + settings.every
        found = self._latencies.quantile(settings.quantile, settings.min_samples, now)
        if found is None:
            self._value = self._ceiling
            return
        aim = min(self._ceiling, max(self.floor, found * settings.factor))
        # Up at once, down step by step: a quiet minute must not cut the next rush.
        self._value = max(aim, self._value * (1.0 - settings.max_decrease))
