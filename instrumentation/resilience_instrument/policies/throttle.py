"""The client's own throttle: send less to a service that answers less.

From Google's SRE book ("Handling Overload"): a call is held back with a chance that
grows with the share of recent calls that were not accepted. What is held back counts
as not accepted too, so the throttle closes further while the overload lasts.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, final

from resilience_instrument.policies.window import FAILED, GOOD, TimeWindow
from resilience_instrument.verdict import Evidence, Verdict

if TYPE_CHECKING:
    from resilience_instrument.clock import Clock
    from resilience_instrument.config.model import ThrottleSettings
    from resilience_instrument.verdict import Judgement

_BUCKETS: Final = 12
_UNAVAILABLE: Final = 503


def chance(requests: int, accepted: int, settings: ThrottleSettings) -> float:
    """Return the chance with which the next call is held back, 0.0 to the cap."""
    if requests < settings.min_calls:
        return 0.0
    share = (requests - settings.multiplier * accepted) / (requests + 1)
    return min(settings.cap, max(0.0, share))


def is_overload(judgement: Judgement) -> bool:
    """Tell whether a service did not take a call on: 429, 503, or no answer."""
    if judgement.evidence is Evidence.THROTTLED or judgement.status == _UNAVAILABLE:
        return True
    unanswered = judgement.status is None and judgement.verdict is Verdict.TRANSIENT
    return judgement.timeout is not None or unanswered


@final
class Throttle:
    """The throttle of one service.

    Args:
        settings: How strict it is.
        clock: Time and chance.
    """

    __slots__ = ("_clock", "_lock", "_settings", "_window")

    def __init__(self, settings: ThrottleSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._window = TimeWindow(settings.window, _BUCKETS)

    def admits(self, now: float) -> bool:
        """Let a call through, or count it as held back."""
        with self._lock:
            window = self._window
            window.roll(now)
            share = chance(window.total, window.total - window.failures, self._settings)
            if share <= 0.0 or self._clock.uniform(0.0, 1.0) >= share:
                return True
            window.add(FAILED)
            return False

    def record(self, judgement: Judgement, now: float) -> None:
        """Take in how a call that was let through was answered."""
        mark = FAILED if is_overload(judgement) else GOOD
        with self._lock:
            self._window.roll(now)
            self._window.add(mark)

    def renew_lock(self) -> None:
        """Replace the lock and start afresh, in a child that was just forked."""
        self._lock = threading.Lock()
        self._window = TimeWindow(self._settings.window, _BUCKETS)
