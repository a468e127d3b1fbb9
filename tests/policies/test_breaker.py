"""The circuit breaker, question by question."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from fakes import FakeClock, service_settings
from resilience_instrument.policies.breaker import Breaker, Permit, Rejection
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from resilience_instrument.events import Transition

F, S = Evidence.FAILURE, Evidence.SUCCESS


class Circuit:
    """A breaker with a clock, for tests that read as a story."""

    def __init__(self, **settings: object) -> None:
        self.clock = FakeClock(share=0.0)
        base = service_settings().breaker
        self.breaker = Breaker(
            "svc",
            dataclasses.replace(base, **settings),  # type: ignore[arg-type]
            self.clock.uniform,
        )
        self.changes: list[Transition] = []

    @property
    def state(self) -> str:
        """The state at this moment."""
        return self.breaker.state(self.clock.now)

    def ask(self) -> Permit | Rejection:
        """Ask for an attempt."""
        answer, change = self.breaker.acquire(self.clock.now)
        self._note(change)
        return answer

    def permit(self) -> Permit:
        """Ask for an attempt that must be granted."""
        answer = self.ask()
        assert isinstance(answer, Permit)
        return answer

    def refusal(self) -> Rejection:
        """Ask for an attempt that must be refused."""
        answer = self.ask()
        assert isinstance(answer, Rejection)
        return answer

    def tell(self, permit: Permit, evidence: Evidence, **facts: object) -> None:
        """Say how an attempt ended."""
        self._note(
            self.breaker.record(permit, evidence, self.clock.now, **facts)  # type: ignore[arg-type]
        )

    def run(self, *story: Evidence, **facts: object) -> None:
        """Make attempts that end as told, one after the other."""
        for evidence in story:
            self.tell(self.permit(), evidence, **facts)

    def _note(self, change: Transition | None) -> None:
        if change is not None:
            self.changes.append(change)

    @property
    def path(self) -> list[tuple[str, str]]:
        """The transitions so far."""
        return [(change.from_state, change.to_state) for change in self.changes]


def test_five_failures_in_a_row_open_it() -> None:
    """A success in between starts the count anew."""
    circuit = Circuit()

    circuit.run(F, F, F, F, S, F, F, F, F)
    assert "closed" == circuit.state
    circuit.run(F, reason="ReadTimeout")

    assert "open" == circuit.state
    assert 30.0 == circuit.refusal().retry_after
    (change,) = circuit.changes
    assert ("svc", "closed", "open", 5, "ReadTimeout", 30.0) == change[:6]


def test_it_refuses_until_its_time_is_up() -> None:
    """A millisecond before, no; at the moment, one probe."""
    circuit = Circuit()
    circuit.run(F, F, F, F, F)

    circuit.clock.advance(29.999)
    assert "open" == circuit.state
    assert circuit.breaker.refuses(circuit.clock.now)
    circuit.refusal()
    circuit.clock.now = 1030.0

    assert "half_open" == circuit.state
    assert not circuit.breaker.refuses(circuit.clock.now)
    assert circuit.permit().probe
    assert [("closed", "open"), ("open", "half_open")] == circuit.path


def test_one_probe_at_a_time() -> None:
    """While it runs everybody else is refused, with no time to come back at."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)
    circuit.permit()

    refusals = [circuit.refusal() for _ in range(49)]

    assert {0.0} == {refusal.retry_after for refusal in refusals}


def test_two_successful_probes_close_it() -> None:
    """One is not enough; each transition is told once."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)

    circuit.run(S)
    assert "half_open" == circuit.state
    circuit.run(S)

    assert "closed" == circuit.state
    assert [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ] == circuit.path


def test_each_failed_probe_opens_it_for_longer() -> None:
    """30, 60, 60, 60 seconds; after it was closed 30 again."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    for _ in range(3):
        circuit.clock.advance(60.0)
        circuit.run(F)
    circuit.clock.advance(60.0)
    circuit.run(S, S, F)

    lengths = [change.open_for for change in circuit.changes if change.open_for]
    assert [30.0, 60.0, 60.0, 60.0, 30.0] == lengths


@pytest.mark.parametrize(("share", "length"), [(0.0, 30.0), (0.5, 33.0), (1.0, 36.0)])
def test_chance_adds_up_to_a_fifth(share: float, length: float) -> None:
    """With a jitter of 0.2 the open time lies between 30 and 36 seconds."""
    circuit = Circuit(consecutive=1)
    circuit.clock.share = share

    circuit.run(F)

    assert length == circuit.refusal().retry_after


@pytest.mark.parametrize(("asked", "length"), [(20, 30.0), (45, 45.0), (3600, 60.0)])
def test_a_service_may_ask_for_a_longer_pause(asked: float, length: float) -> None:
    """Never shorter than ours, never longer than the maximum."""
    circuit = Circuit(consecutive=1)

    circuit.run(F, retry_after=asked)

    assert length == circuit.refusal().retry_after


def test_what_an_older_generation_says_is_stale() -> None:
    """Late results move neither the state nor the time."""
    circuit = Circuit(consecutive=3)
    late = [circuit.permit() for _ in range(5)]
    circuit.run(F, F, F)

    circuit.tell(late[0], S)
    assert "open" == circuit.state
    assert 1 == circuit.breaker.stale
    circuit.clock.advance(1.0)
    circuit.tell(late[1], F)
    assert 29.0 == circuit.refusal().retry_after

    circuit.clock.advance(29.0)
    circuit.run(S, S)
    for permit in late[2:]:
        circuit.tell(permit, F)
    assert "closed" == circuit.state
    assert 5 == circuit.breaker.stale
    circuit.run(F, F)
    assert "closed" == circuit.state


def test_a_probe_that_was_cancelled_frees_its_place() -> None:
    """The next caller is admitted at once, and nothing was counted."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)

    circuit.breaker.release(circuit.permit())

    assert "half_open" == circuit.state
    circuit.run(S, S)
    assert "closed" == circuit.state


def test_a_probe_that_says_nothing_changes_nothing() -> None:
    """Neutral evidence neither closes nor opens."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)

    circuit.run(Evidence.NEUTRAL)

    assert "half_open" == circuit.state
    circuit.permit()


def test_cancelled_attempts_do_not_interrupt_a_row_of_failures() -> None:
    """Two failures, a cancelled attempt, a failure: three in a row."""
    circuit = Circuit(consecutive=3)
    circuit.run(F, F)

    circuit.breaker.release(circuit.permit())
    circuit.run(Evidence.NEUTRAL, F)

    assert "open" == circuit.state


def test_a_throttled_answer_is_no_failure_in_a_row() -> None:
    """It neither counts nor starts the count anew."""
    circuit = Circuit(consecutive=3)

    circuit.run(F, F, Evidence.THROTTLED)
    assert "closed" == circuit.state
    circuit.run(F)

    assert "open" == circuit.state


def test_a_throttled_probe_has_failed() -> None:
    """A service that still asks to be left alone is left alone."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)

    circuit.run(Evidence.THROTTLED)

    assert "open" == circuit.state


def test_a_hung_probe_loses_its_place() -> None:
    """Not before its lease is over; what it says later is stale."""
    circuit = Circuit(consecutive=1, probe_lease=10.0, successes_to_close=1)
    circuit.run(F)
    circuit.clock.advance(30.0)
    hung = circuit.permit()

    circuit.clock.advance(9.999)
    circuit.refusal()
    circuit.clock.now = 1040.0
    second = circuit.permit()
    circuit.tell(hung, S)
    assert "half_open" == circuit.state
    assert 1 == circuit.breaker.stale
    circuit.tell(second, S)

    assert "closed" == circuit.state


def test_a_permit_is_used_once() -> None:
    """A second record and a release afterwards have no effect."""
    circuit = Circuit(consecutive=2)
    permit = circuit.permit()
    circuit.tell(permit, F)

    circuit.tell(permit, F)
    circuit.breaker.release(permit)
    circuit.tell(permit, F)

    assert "closed" == circuit.state
    circuit.run(F)
    assert "open" == circuit.state


def test_a_released_permit_cannot_be_recorded() -> None:
    """Who handed it back has nothing to say."""
    circuit = Circuit(consecutive=1)
    permit = circuit.permit()

    circuit.breaker.release(permit)
    circuit.tell(permit, F)

    assert "closed" == circuit.state


def test_several_probes_if_so_configured() -> None:
    """Two at once, the third waits."""
    circuit = Circuit(consecutive=1, probes=2)
    circuit.run(F)
    circuit.clock.advance(30.0)

    first, second = circuit.permit(), circuit.permit()
    circuit.refusal()
    circuit.tell(second, S)
    circuit.tell(first, S)

    assert "closed" == circuit.state


def test_a_child_knows_open_circuits_and_no_probes() -> None:
    """After a fork the state is kept; a probe of the parent is not the child's."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)
    parents = circuit.permit()
    circuit.breaker._lock.acquire()

    circuit.breaker.renew_lock()

    assert "half_open" == circuit.state
    circuit.tell(parents, S)
    assert 1 == circuit.breaker.stale
    circuit.permit()


def test_whoever_asks_while_it_closes_is_let_through() -> None:
    """The state is looked at again under the lock."""
    circuit = Circuit()

    permit, change = circuit.breaker._acquire_locked(circuit.clock.now)

    assert isinstance(permit, Permit)
    assert change is None
