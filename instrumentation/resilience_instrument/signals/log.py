"""Log lines for whoever wants them: silent unless the app sets logging up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from resilience_instrument.call import Call
    from resilience_instrument.events import (
        ActingPolicy,
        CallOutcome,
        FallbackKind,
        FallbackOutcome,
        RejectingPolicy,
        SkipReason,
        Transition,
    )
    from resilience_instrument.verdict import Judgement

LOGGER: Final = logging.getLogger("resilience_instrument")
# Without a handler of its own, Python prints warnings of an app that set none up.
LOGGER.addHandler(logging.NullHandler())


@final
class LogObserver:
    """Logs transitions of circuits and, at level DEBUG, each retry."""

    __slots__ = ()

    def tally(self, call: Call) -> None:
        """Count nothing: of a call that succeeds at once there is nothing to say."""

    def call_started(self, call: Call) -> None:
        """Say nothing."""

    def attempt_started(self, call: Call, number: int) -> None:
        """Say nothing."""

    def attempt_ended(
        self, call: Call, number: int, judgement: Judgement, seconds: float
    ) -> None:
        """Say nothing."""

    def attempt_cancelled(self, call: Call, number: int) -> None:
        """Say nothing."""

    def retry_scheduled(
        self, call: Call, number: int, delay: float, reason: str
    ) -> None:
        """Say that a call is tried again, when, and why."""
        LOGGER.debug(
            "%s %s %s: attempt %d in %.2f s (%s)",
            call.service,
            call.operation,
            call.endpoint,
            number,
            delay,
            reason,
            extra={
                "service": call.service,
                "endpoint": call.endpoint,
                "attempt": number,
                "delay": delay,
                "reason": reason,
            },
        )

    def retry_skipped(self, call: Call, reason: SkipReason) -> None:
        """Say nothing."""

    def rejected(self, call: Call, policy: RejectingPolicy) -> None:
        """Say nothing."""

    def transitioned(self, call: Call, transition: Transition) -> None:
        """Say that a circuit opened, and that it closed again."""
        facts = {
            "service": transition.service,
            "from_state": transition.from_state,
            "to_state": transition.to_state,
        }
        if transition.to_state == "open":
            LOGGER.warning(
                "circuit of %s is open for %.1f s after %d failures (last: %s)",
                transition.service,
                transition.open_for,
                transition.failures,
                transition.last_error,
                extra={**facts, "open_for": transition.open_for},
            )
        elif transition.to_state == "closed":
            LOGGER.info("circuit of %s is closed again", call.service, extra=facts)

    def would_act(
        self, call: Call, policy: ActingPolicy, saved: float, lost: int
    ) -> None:
        """Say nothing."""

    def fell_back(
        self, call: Call, kind: FallbackKind, outcome: FallbackOutcome
    ) -> None:
        """Say that something else answered, or that it failed too."""
        LOGGER.debug(
            "%s %s %s: fallback %s: %s",
            call.service,
            call.operation,
            call.endpoint,
            kind,
            outcome,
            extra={"service": call.service, "kind": kind, "outcome": outcome},
        )

    def call_ended(
        self, call: Call, outcome: CallOutcome, attempts: int, seconds: float
    ) -> None:
        """Say nothing."""
