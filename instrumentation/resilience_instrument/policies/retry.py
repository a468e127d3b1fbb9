"""Whether and when a transient failure is tried again: proof, not hope.

A retry needs a transient failure and one of: the call does no harm when sent
twice, or nothing of it was sent. Its body must be there to be sent again, nobody
else may be retrying, and budget and deadline must allow it. The first reason
against it is the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from resilience_instrument.outcome import Raised
from resilience_instrument.policies import backoff
from resilience_instrument.policies.deadline import MIN_USEFUL
from resilience_instrument.verdict import Verdict

if TYPE_CHECKING:
    from resilience_instrument.call import Call
    from resilience_instrument.clock import Clock
    from resilience_instrument.config.model import RetrySettings
    from resilience_instrument.events import SkipReason
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.policies.budget import RetryBudget
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


@final
class Retries:
    """The retries of one call: made when its first attempt has failed.

    Args:
        call: The call.
        settings: When and how often.
        budget: What its service may still spend.
        clock: Time and chance.
        started: The monotonic time at which the call began.
    """

    __slots__ = ("_budget", "_call", "_clock", "_previous", "_settings", "_started")

    def __init__(
        self,
        call: Call,
        settings: RetrySettings,
        budget: RetryBudget,
        clock: Clock,
        started: float,
    ) -> None:
        self._call = call
        self._settings = settings
        self._budget = budget
        self._clock = clock
        self._started = started
        # Of this call alone: calls that share it would drive each other's pauses.
        self._previous = settings.base_delay

    def decide(self, judgement: Judgement, number: int) -> float | SkipReason:
        """Decide about a retry after the transient failure of attempt `number`.

        Returns:
            The seconds to wait before the next attempt, or why there is none. The
            budget is withdrawn here, before the pause: a thousand callers that pause
            at once must not all find the budget full.
        """
        reason = forbidden(self._call, judgement, number, self._settings)
        if reason is not None:
            return reason
        delay = self._pause(judgement, number)
        if delay is None:
            return "retry_after"
        now = self._clock.monotonic()
        if self._is_too_late(now + delay):
            return "retry_after" if judgement.retry_after is not None else "deadline"
        paid = self._budget.withdraw(now, timeout=judgement.timeout is not None)
        return delay if paid else "budget"

    def _pause(self, judgement: Judgement, number: int) -> float | None:
        """Return the seconds to wait after attempt `number`, None if it is too long.

        A service that asks for a wait gets it in full or the call ends: coming back
        earlier than asked would be worse than either.
        """
        settings, uniform = self._settings, self._clock.uniform
        self._previous = delay = backoff.pause(
            settings.jitter,
            number - 1,
            self._previous,
            settings.base_delay,
            settings.max_delay,
            uniform,
        )
        asked = judgement.retry_after
        if asked is None:
            return delay
        if asked > settings.retry_after_max:
            return None
        # A little chance on top: all clients were told the same moment.
        return max(delay, asked) + uniform(0.0, min(1.0, 0.1 * asked))

    def _is_too_late(self, start: float) -> bool:
        """Tell whether an attempt that starts then has no useful time left."""
        most = self._settings.max_elapsed
        if most is not None and start - self._started > most:
            return True
        deadline = self._call.deadline
        return deadline is not None and start + MIN_USEFUL > deadline


def revised(
    judgement: Judgement, outcome: Outcome, settings: RetrySettings
) -> Judgement:
    """Return the judgement as the settings see it: they may name what is tried again.

    A named status or error class is transient whatever the library's room says. Where
    statuses are named, no other is; an excepted class never is.
    """
    if isinstance(outcome, Raised):
        names = {kind.__name__ for kind in type(outcome.error).__mro__}
        if names & settings.except_errors:
            return _as(judgement, Verdict.PERMANENT)
        if names & settings.on_errors:
            return _as(judgement, Verdict.TRANSIENT)
    elif settings.on_statuses is not None and judgement.status is not None:
        if judgement.status in settings.on_statuses:
            return _as(judgement, Verdict.TRANSIENT)
        if judgement.verdict is Verdict.TRANSIENT:
            return _as(judgement, Verdict.PERMANENT)
    return judgement


def _as(judgement: Judgement, verdict: Verdict) -> Judgement:
    reason = judgement.reason or str(judgement.status)
    return judgement.revised(verdict=verdict, reason=reason)
