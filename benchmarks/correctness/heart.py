"""This project's engine around a plain function, as an integration would use it."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from resilience_instrument.call import Call
from resilience_instrument.clock import SystemClock
from resilience_instrument.config.load import from_environment
from resilience_instrument.engine import execute, run_sync
from resilience_instrument.errors import CircuitBreakerOpenError
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.registry import Registry
from resilience_instrument.verdict import Evidence, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.outcome import Outcome

__all__ = ["Caller", "CircuitBreakerOpenError", "Io"]

GOOD = Judgement(Verdict.SUCCESS, Evidence.SUCCESS)
BAD = Judgement(Verdict.TRANSIENT, Evidence.FAILURE, reason="Failed")


class Silent:
    """An observer that is not interested."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Io:
    """One call of a plain function."""

    def __init__(self, function: Callable[[], object], failure: Judgement) -> None:
        self.function = function
        self.failure = failure
        self.slept: list[float] = []

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Call the function."""
        del number, deadline
        try:
            return Returned(self.function())
        except Exception as error:
            return Raised(error)

    def judge(self, outcome: Outcome) -> Judgement:
        """Take every exception for a transient failure."""
        return self.failure if isinstance(outcome, Raised) else GOOD

    def reject(self, error: ResilienceError) -> Exception:
        """Return our own error."""
        return error

    async def discard(self, outcome: Outcome) -> None:
        """Nothing to release."""

    async def sleep(self, seconds: float) -> None:
        """Note the pause, and do not make it."""
        self.slept.append(seconds)


class Caller:
    """Calls functions under one service's policies."""

    def __init__(
        self,
        *,
        attempts: int,
        consecutive: int | None,
        open_for: float,
        lease: float = 10.0,
    ) -> None:
        settings = from_environment({}).defaults
        settings = dataclasses.replace(
            settings,
            retry=dataclasses.replace(settings.retry, max_attempts=attempts),
            breaker=dataclasses.replace(
                settings.breaker,
                consecutive=consecutive,
                failure_rate=None,
                open_for=open_for,
                open_jitter=0.0,
                successes_to_close=1,
                probe_lease=lease,
            ),
        )
        self.clock = SystemClock()
        self.registry = Registry(settings, self.clock)
        # As the agent does it for its own registry.
        os.register_at_fork(after_in_child=self.registry.renew_locks)

    def call(self, function: Callable[[], object]) -> object:
        """Call the function; return its value or raise its error."""
        return self.run(Io(function, BAD), repeatable=True)

    def run(self, io: Io, *, repeatable: bool) -> object:
        """Make the call that `io` stands for."""
        call = Call(
            library="compare",
            service="svc",
            endpoint="/",
            operation="GET" if repeatable else "POST",
            repeatable=repeatable,
        )
        policies = self.registry.policies("svc")
        quiet: Any = Silent()
        outcome = run_sync(execute(call, policies, io, quiet, self.clock))
        if not isinstance(outcome, Raised):
            return outcome.value
        try:
            raise outcome.error
        finally:
            del outcome, io
