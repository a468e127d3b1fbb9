"""Whether and when a transient failure is tried again: proof, not hope.

A retry needs a transient failure and one of: the call does no harm when sent
twice, or nothing of it was sent. Its body must be there to be sent again, nobody
else may be retrying, and budget and deadline must allow it. The first reason
against it is the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience_instrument.policies.backoff import full_jitter
from resilience_instrument.policies.deadline import MIN_USEFUL

if TYPE_CHECKING:
    from resilience_instrument.call import Call
    from resilience_instrument.clock import Clock
    from resilience_instrument.config.model import RetrySettings
    from resilience_instrument.events import SkipReason
    from resilience_instrument.policies.budget import Budget
    from resilience_instrument.verdict import Judgement


def forbidden(
    call: Call, judgement: Judgement, number: int, settings: RetrySettings
) -> SkipReason | None:
    """Return why attempt `number` must not be followed by another, None if it may.

    It looks at facts of the call only; time and budget are asked afterwards.
    """
    if call.app_retries:
        return "app_retries"
    if judgement.sent and not call.repeatable:
        return "not_idempotent"
    if judgement.sent and not call.replayable:
        return "body"
    return "attempts" if number >= settings.max_attempts else None


def pause(
    judgement: Judgement, number: int, settings: RetrySettings, clock: Clock
) -> float | None:
    """Return the seconds to wait after attempt `number`, None if it is too long.

    A service that asks for a wait gets it in full or the call ends: coming back
    earlier than asked would be worse than either.
    """
    delay = full_jitter(
        number - 1, settings.base_delay, settings.max_delay, clock.uniform
    )
    asked = judgement.retry_after
    if asked is None:
        return delay
    if asked > settings.retry_after_max:
        return None
    # A little chance on top: all clients were told the same moment.
    return max(delay, asked) + clock.uniform(0.0, min(1.0, 0.1 * asked))


def decide(  # noqa: PLR0913, PLR0917 - what the decision rests on, all of it
    call: Call,
    judgement: Judgement,
    number: int,
    settings: RetrySettings,
    budget: Budget,
    clock: Clock,
) -> float | SkipReason:
    """Decide about a retry after the transient failure of attempt `number`.

    Returns:
        The seconds to wait before the next attempt, or why there is none. The
        budget is withdrawn here, before the pause: a thousand callers that pause
        at once must not all find the budget full.
    """
    reason = forbidden(call, judgement, number, settings)
    if reason is not None:
        return reason
    delay = pause(judgement, number, settings, clock)
    if delay is None:
        return "retry_after"
    now = clock.monotonic()
    if call.deadline is not None and now + delay + MIN_USEFUL > call.deadline:
        return "retry_after" if judgement.retry_after is not None else "deadline"
    return delay if budget.withdraw(now) else "budget"
