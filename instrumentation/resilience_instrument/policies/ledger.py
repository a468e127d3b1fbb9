"""What a closed circuit has seen, and whether it is enough to open.

Several rules look at the same attempts and the first that is met opens: failures
in a row, failures among the last N, the share of failures and the share of slow
attempts. Its owner holds a lock; there is none in here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, final

from resilience_instrument.policies.window import (
    FAILED,
    GOOD,
    SLOW,
    CountWindow,
    TimeWindow,
)
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from resilience_instrument.config.model import BreakerSettings


class Cause(NamedTuple):
    """Why a circuit opens.

    Attributes:
        text: In words, to be read after "open after".
        row: Failures in a row where these are the reason, else 0.
    """

    text: str
    row: int = 0


@final
class Ledger:
    """The evidence of one closed circuit.

    Args:
        settings: The rules.
    """

    __slots__ = ("_last", "_recent", "_settings", "row")

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self.row = 0
        """Failures in a row up to now."""
        self._last: CountWindow | None = None
        self._recent: TimeWindow | None = None
        if settings.count_window is not None:
            self._last = CountWindow(settings.count_window)
        if settings.window is not None:
            self._recent = TimeWindow(settings.window)

    @property
    def edge(self) -> float:
        """The time from which on attempts belong to a new part of the window."""
        return float("inf") if self._recent is None else self._recent.edge

    @property
    def is_spotless(self) -> bool:
        """Whether nothing in it speaks against the service."""
        windows = (self._last, self._recent)
        return not self.row and not any(w and (w.failures or w.slow) for w in windows)

    def add_good(self, count: int, now: float) -> float:
        """Take in `count` successes of the time before `now`; return the `edge`."""
        if count and self._last is not None:
            self._last.add(GOOD, count)
        if self._recent is not None:
            self._recent.roll(now, count)
        return self.edge

    def add(self, evidence: Evidence, *, slow: bool) -> None:
        """Take in one attempt that ended just now."""
        self.count_in_row(evidence)
        failed = GOOD if evidence is Evidence.SUCCESS else FAILED
        self._mark(failed | (SLOW if slow else GOOD))

    def add_overdue(self) -> None:
        """Take in an attempt that is slow already, though it has not ended."""
        self._mark(SLOW)

    def count_in_row(self, evidence: Evidence) -> None:
        """Take in what concerns the failures in a row only."""
        if evidence is Evidence.SUCCESS:
            self.row = 0
        elif evidence is Evidence.FAILURE:
            self.row += 1

    def cause(self) -> Cause | None:
        """Return why the circuit must open, None if it need not."""
        settings = self._settings
        if settings.consecutive is not None and self.row >= settings.consecutive:
            return Cause(f"{self.row} failures in a row", self.row)
        for window in (self._last, self._recent):
            if window is not None and (found := self._cause_in(window)):
                return Cause(found)
        return None

    def _cause_in(self, window: CountWindow | TimeWindow) -> str:
        settings, total, least = self._settings, window.total, self._settings.min_calls
        if isinstance(window, CountWindow):
            most = settings.count_failures
            if most is not None and window.failures >= most:
                return f"{window.failures} failures in the last {total} attempts"
            least = min(least, window.size)
        if total < least:
            return ""
        rate, slow_rate = settings.failure_rate, settings.slow_rate
        # A share that is met is enough; a quotient rounds as the setting did.
        if rate is not None and window.failures / total >= rate:
            return f"{window.failures} failures in {total} attempts"
        if slow_rate is not None and window.slow / total >= slow_rate:
            return f"{window.slow} slow answers in {total} attempts"
        return ""

    def reconfigured(self, settings: BreakerSettings, now: float) -> Ledger:
        """Return a ledger with other rules that remembers the same attempts."""
        other = Ledger(settings)
        other.row = self.row
        if self._last is not None and settings.count_window is not None:
            other._last = self._last.resized(settings.count_window)
        if self._recent is not None and settings.window is not None:
            other._recent = self._recent.resized(settings.window, now)
        return other

    def _mark(self, mark: int) -> None:
        if self._last is not None:
            self._last.add(mark)
        if self._recent is not None:
            self._recent.add(mark)
