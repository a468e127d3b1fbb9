"""Hedging: a second attempt for one that is unusually slow, whichever answers first.

Only for async calls that may be sent twice, only where there is budget, and never
while the circuit is not closed: it must not add load to a service in trouble.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilience_instrument.call import Call
    from resilience_instrument.config.model import HedgeSettings
    from resilience_instrument.policies.breaker import Breaker
    from resilience_instrument.policies.latency import Latencies


def hedge_delay(
    call: Call,
    settings: HedgeSettings,
    latencies: Latencies,
    breaker: Breaker,
    now: float,
) -> float | None:
    """Return after how many seconds a second attempt is due, None for never."""
    if not (call.repeatable and call.replayable and call.measured):
        return None
    if call.app_retries:
        return None
    if breaker.state(now) != "closed":
        return None
    usual = latencies.quantile(settings.quantile, settings.min_samples, now)
    return None if usual is None else max(settings.floor, usual)
