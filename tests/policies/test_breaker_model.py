"""The breaker against a model that is too simple to be wrong.

The model keeps every attempt in a list and counts anew each time. Whatever callers
do, in whatever order, both must say the same.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings as run
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from fakes import FakeClock, service_settings
from resilience_instrument.policies.breaker import Breaker, Permit
from resilience_instrument.policies.transitions import TRANSITIONS
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from resilience_instrument.config.model import BreakerSettings

PAUSES = st.sampled_from([0.0, 0.1, 0.9, 1.0, 1.999, 2.0, 4.999, 5.0, 10.0, 20.0])


@dataclasses.dataclass
class Ticket:
    """What the model gives for a permit."""

    epoch: int
    issued: float
    probe: bool
    over: bool = False


class Model:
    """The rules, as they would be explained to somebody."""

    def __init__(self, settings: BreakerSettings) -> None:
        self.settings = settings
        self.state = "closed"
        self.epoch = 0
        self.stale = 0
        self.openings = 0
        self.until = 0.0
        self.forget()

    def forget(self) -> None:
        """Start a new epoch with nothing seen."""
        self.row = 0
        self.successes = 0
        self.probes: list[Ticket] = []
        self.last: list[tuple[bool, bool]] = []
        self.recent: list[tuple[float, bool, bool]] = []

    def enter(self, state: str) -> None:
        """Change the state."""
        self.state = state
        self.epoch += 1
        self.forget()

    def seen_at(self, now: float) -> str:
        """Return what a reader sees."""
        due = self.state == "open" and now >= self.until
        return "half_open" if due else self.state

    def acquire(self, now: float) -> Ticket | None:
        """Give a permit or refuse."""
        if self.seen_at(now) == "half_open" != self.state:
            self.enter("half_open")
        if self.state == "open":
            return None
        probe = self.state == "half_open"
        if probe:
            lease = self.settings.probe_lease
            self.probes = [p for p in self.probes if now - p.issued < lease]
            if len(self.probes) >= self.settings.probes:
                return None
        ticket = Ticket(self.epoch, now, probe)
        if probe:
            self.probes.append(ticket)
        return ticket

    def record(self, ticket: Ticket, evidence: Evidence, now: float) -> None:
        """Take a result in."""
        if ticket.over:
            return
        ticket.over = True
        lost = ticket.probe and ticket not in self.probes
        if ticket.epoch != self.epoch or lost:
            self.stale += 1
            return
        slow = now - ticket.issued >= (self.settings.slow_after or 1e9)
        if ticket.probe:
            self.probes.remove(ticket)
            self.probed(evidence, now, slow=slow)
        elif evidence is not Evidence.NEUTRAL:
            self.attempted(evidence, now, slow=slow)

    def release(self, ticket: Ticket) -> None:
        """Forget a permit."""
        ticket.over = True
        if ticket in self.probes:
            self.probes.remove(ticket)

    def probed(self, evidence: Evidence, now: float, *, slow: bool) -> None:
        """Take a probe's result in."""
        if evidence is Evidence.SUCCESS and not slow:
            self.successes += 1
            if self.successes == self.settings.successes_to_close:
                self.openings = 0
                self.enter("closed")
        elif evidence is not Evidence.NEUTRAL:
            self.open(now)

    def attempted(self, evidence: Evidence, now: float, *, slow: bool) -> None:
        """Take an ordinary result in."""
        failed = evidence is not Evidence.SUCCESS
        if not failed:
            self.row = 0
        elif evidence is Evidence.FAILURE:
            self.row += 1
        self.last = [*self.last, (failed, slow)][-(self.settings.count_window or 1) :]
        self.recent.append((now, failed, slow))
        if self.is_down(now):
            self.open(now)

    def is_down(self, now: float) -> bool:
        """Tell whether any rule is met."""
        settings = self.settings
        width = (settings.window or 1.0) / 10
        recent = [
            (failed, slow)
            for moment, failed, slow in self.recent
            if moment // width > now // width - 10
        ]
        if settings.consecutive and self.row >= settings.consecutive:
            return True
        failures = sum(failed for failed, _ in self.last)
        if settings.count_failures and failures >= settings.count_failures:
            return True
        size = settings.count_window or 1
        return self.too_many(self.last, min(settings.min_calls, size)) or (
            self.too_many(recent, settings.min_calls)
        )

    def too_many(self, attempts: list[tuple[bool, bool]], least: int) -> bool:
        """Tell whether too large a share failed or was slow."""
        settings, total = self.settings, len(attempts)
        if total < least:
            return False
        failures = sum(failed for failed, _ in attempts)
        slow = sum(slow for _, slow in attempts)
        return failures / total >= (settings.failure_rate or 2) or (
            slow / total >= (settings.slow_rate or 2)
        )

    def open(self, now: float) -> None:
        """Open for as long as it is its turn."""
        settings = self.settings
        length = settings.open_for * settings.open_growth**self.openings
        self.openings += 1
        self.until = now + min(length, settings.open_max)
        self.enter("open")


class BreakerMachine(RuleBasedStateMachine):
    """Callers who come, answer, vanish and fork in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock(share=0.0)
        self.pairs: list[tuple[Permit, Ticket]] = []

    @initialize(
        consecutive=st.sampled_from([None, 2, 5]),
        count=st.sampled_from([(4, None), (5, 3), (8, None)]),
        rates=st.sampled_from([(0.5, None), (0.6, 0.5), (None, 0.8), (1.0, 1.0)]),
        probes=st.integers(1, 3),
        closing=st.integers(1, 3),
    )
    def start(
        self,
        consecutive: int | None,
        count: tuple[int, int | None],
        rates: tuple[float | None, float | None],
        probes: int,
        closing: int,
    ) -> None:
        """Begin with some settings."""
        settings = dataclasses.replace(
            service_settings().breaker,
            consecutive=consecutive,
            count_window=count[0],
            count_failures=count[1],
            failure_rate=rates[0],
            slow_rate=rates[1],
            slow_after=2.0,
            window=10.0,
            min_calls=6,
            probes=probes,
            successes_to_close=closing,
            probe_lease=5.0,
            open_for=10.0,
            open_max=20.0,
        )
        self.breaker = Breaker("svc", settings, self.clock.uniform)
        self.model = Model(settings)

    @rule(seconds=PAUSES)
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule()
    def ask(self) -> None:
        """Ask for an attempt: both grant it or none, and the change is legal."""
        now, before = self.clock.now, self.model.state
        answer, change = self.breaker.acquire(now)
        ticket = self.model.acquire(now)

        assert isinstance(answer, Permit) is (ticket is not None)
        assert (change is not None) is (before != self.model.state)
        if isinstance(answer, Permit) and ticket is not None:
            assert answer.probe is ticket.probe
            self.pairs.append((answer, ticket))
        else:
            assert not isinstance(answer, Permit)
            wait = max(0.0, self.model.until - now)
            assert answer.retry_after == (wait if self.model.state == "open" else 0.0)

    @rule(count=st.integers(1, 12), evidence=st.sampled_from(Evidence))
    def work(self, count: int, evidence: Evidence) -> None:
        """Make attempts that end at once, as in a burst."""
        for _ in range(count):
            known = len(self.pairs)
            self.ask()
            if len(self.pairs) > known:
                self.answer(-1, evidence)

    @precondition(lambda self: self.pairs)
    @rule(
        index=st.integers(0, 30),
        evidence=st.sampled_from([*Evidence, Evidence.SUCCESS, Evidence.FAILURE]),
    )
    def answer(self, index: int, evidence: Evidence) -> None:
        """End an attempt; old and doubly used permits are among them."""
        permit, ticket = self.pairs[index % len(self.pairs)]
        before = self.model.state
        change = self.breaker.record(permit, evidence, self.clock.now)
        self.model.record(ticket, evidence, self.clock.now)

        after = self.model.state
        assert (change is not None) is (before != after)
        if change is not None:
            assert (before, after) == (change.from_state, change.to_state)
            assert after in {
                to for (state, _), to in TRANSITIONS.items() if state == before
            }

    @precondition(lambda self: self.pairs)
    @rule(index=st.integers(0, 30))
    def vanish(self, index: int) -> None:
        """Cancel an attempt."""
        permit, ticket = self.pairs[index % len(self.pairs)]
        self.breaker.release(permit)
        self.model.release(ticket)

    @rule(consecutive=st.sampled_from([None, 1, 3, 5]), size=st.integers(3, 9))
    def reconfigure(self, consecutive: int | None, size: int) -> None:
        """Go on by other settings."""
        settings = dataclasses.replace(
            self.model.settings, consecutive=consecutive, count_window=size
        )
        self.breaker.reconfigure(settings, self.clock.now)
        self.model.settings = settings
        self.model.last = self.model.last[-size:]

    @rule()
    def fork(self) -> None:
        """Go on as a child would."""
        self.breaker.renew_lock()
        self.model.epoch += 1
        self.model.forget()

    @invariant()
    def both_say_the_same(self) -> None:
        """State, refusals and stale results agree; probes are bounded."""
        if not hasattr(self, "model"):
            return
        now = self.clock.now
        assert self.model.seen_at(now) == self.breaker.state(now)
        assert (self.model.seen_at(now) == "open") is self.breaker.refuses(now)
        assert self.model.stale == self.breaker.stale
        assert len(self.breaker._probes) <= self.breaker._settings.probes


BreakerMachine.TestCase.settings = run(
    max_examples=100, stateful_step_count=50, deadline=None
)
TestBreaker = pytest.mark.slow(BreakerMachine.TestCase)
