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

    def reconfigure(self, **settings: object) -> None:
        """Go on by other settings."""
        base = self.breaker._settings
        self.breaker.reconfigure(
            dataclasses.replace(base, **settings),  # type: ignore[arg-type]
            self.clock.now,
        )

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
    circuit.clock.now = circuit.breaker.until
    assert 1030.0 == circuit.clock.now

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
    circuit.run(F, reason="503")
    circuit.clock.advance(30.0)

    circuit.run(S)
    assert "half_open" == circuit.state
    circuit.run(S)

    assert "closed" == circuit.state
    assert circuit.breaker.free
    assert [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ] == circuit.path
    assert [(0, "", 0.0, "")] * 2 == [change[3:] for change in circuit.changes[1:]]


def test_each_failed_probe_opens_it_for_longer() -> None:
    """30, 60, 60, 60 seconds; after it was closed 30 again."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    for _ in range(3):
        circuit.clock.advance(60.0)
        circuit.run(F)
    circuit.clock.advance(60.0)
    circuit.run(S, S, F)

    assert [30.0, 60.0, 60.0, 60.0, 30.0] == lengths(circuit)


def lengths(circuit: Circuit) -> list[float]:
    """Return for how long it opened each time."""
    return [change.open_for for change in circuit.changes if change.to_state == "open"]


def test_the_open_time_doubles_up_to_its_maximum() -> None:
    """Each time it did not close in between."""
    circuit = Circuit(consecutive=1, open_max=200.0)
    circuit.run(F)

    for _ in range(4):
        circuit.clock.advance(200.0)
        circuit.run(F)

    assert [30.0, 60.0, 120.0, 200.0, 200.0] == lengths(circuit)


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

    circuit.run(Evidence.THROTTLED, reason="429", retry_after=61.0)

    assert "open" == circuit.state
    assert (1, "429", 60.0) == circuit.changes[-1][3:6]
    assert "1 failures in a row" == circuit.changes[-1].cause


def test_a_probe_gets_the_pause_that_the_service_asks_for() -> None:
    """A failed probe says why and for how long, as any failure does."""
    circuit = Circuit(consecutive=1, open_growth=1.0)
    circuit.run(F)
    assert "" == circuit.changes[0].last_error
    circuit.clock.advance(30.0)

    circuit.run(F, reason="503", retry_after=45.0)

    assert (45.0, "503") == (circuit.refusal().retry_after, circuit.refusal()[2])


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
    circuit.run(S, S)
    assert "closed" == circuit.state


def test_a_child_counts_its_own_probes() -> None:
    """One success of the parent's is not half of what the child needs."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)
    circuit.run(S)

    circuit.breaker.renew_lock()
    circuit.run(S)

    assert "half_open" == circuit.state


def test_results_of_a_parent_stay_stale_in_its_child() -> None:
    """Whatever the child's circuit goes through afterwards."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)
    circuit.run(S, S)
    parents = [circuit.permit() for _ in range(4)]

    circuit.breaker.renew_lock()
    circuit.tell(parents[0], F)
    circuit.run(F)
    circuit.tell(parents[1], F)
    circuit.clock.advance(30.0)
    circuit.run(S)
    circuit.tell(parents[2], F)
    circuit.run(S)
    circuit.tell(parents[3], F)

    assert 4 == circuit.breaker.stale
    assert "closed" == circuit.state


def test_whoever_asks_while_it_closes_is_let_through() -> None:
    """The state is looked at again under the lock."""
    circuit = Circuit()

    permit, change = circuit.breaker._acquire_locked(circuit.clock.now)

    assert isinstance(permit, Permit)
    assert change is None


def test_a_rate_over_the_last_ten_opens_when_it_is_reached() -> None:
    """Four of nine is no evidence, five of ten is half."""
    circuit = Circuit(consecutive=None, window=None, count_window=10)

    circuit.run(F, S, F, S, F, S, F, S, S)
    assert "closed" == circuit.state
    circuit.run(F)

    assert "open" == circuit.state
    assert "5 failures in 10 attempts" == circuit.refusal().cause
    assert 0 == circuit.refusal().failures


def test_the_oldest_attempt_leaves_the_last_ten() -> None:
    """Four of ten, then three; two failures push two out: still three."""
    circuit = Circuit(consecutive=None, window=None, count_window=10)
    circuit.run(F, F, F, F, S, S, S, S, S, S)
    assert "closed" == circuit.state

    circuit.run(S, F, F)

    assert "closed" == circuit.state
    assert 3 == circuit.breaker._ledger._last.failures  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("story", "state"),
    [
        ([F, S, F, S], "closed"),
        ([F, S, F, S, F], "open"),
        ([F, F], "closed"),
        ([F, F, F], "open"),
        ([F, F, S, S, S, F], "closed"),
    ],
)
def test_three_of_the_last_five_open(story: list[Evidence], state: str) -> None:
    """It needs no full window, only the third failure within five attempts."""
    circuit = Circuit(
        consecutive=None,
        window=None,
        failure_rate=None,
        count_window=5,
        count_failures=3,
    )

    circuit.run(*story)

    assert state == circuit.state


def test_the_cause_of_three_in_five_is_told() -> None:
    """The error can say it in words."""
    circuit = Circuit(consecutive=None, count_window=5, count_failures=3)

    circuit.run(F, S, F, F)

    assert "3 failures in the last 4 attempts" == circuit.changes[0].cause


def test_half_of_twenty_in_half_a_minute_open() -> None:
    """Nineteen are too few to judge, whatever they came to."""
    circuit = Circuit(consecutive=None)
    circuit.run(*[S] * 10, *[F] * 9)
    assert "closed" == circuit.state

    circuit.run(F)

    assert "open" == circuit.state
    assert "10 failures in 20 attempts" == circuit.refusal().cause


def test_nineteen_failures_alone_are_too_few() -> None:
    """And half a minute later they are forgotten."""
    circuit = Circuit(consecutive=None)
    circuit.run(*[F] * 19)
    assert "closed" == circuit.state

    circuit.clock.advance(31.0)
    circuit.run(F)

    assert "closed" == circuit.state
    assert 1 == circuit.breaker._ledger._recent.total  # type: ignore[union-attr]


def test_a_success_can_complete_the_evidence() -> None:
    """After nineteen failures the twentieth attempt opens, whatever it was."""
    circuit = Circuit(consecutive=None)
    circuit.run(*[F] * 19)

    circuit.run(S)

    assert "open" == circuit.state


def test_every_second_failure_opens_at_the_twentieth_attempt() -> None:
    """A partial outage is never a row of failures, but it is a rate."""
    circuit = Circuit()

    made = 0
    while circuit.state == "closed":
        circuit.run((F, S)[made % 2])
        made += 1

    assert 20 == made


def test_a_not_found_never_opens() -> None:
    """A thousand answers that the server gave itself are successes."""
    circuit = Circuit()

    circuit.run(*[S] * 1000)

    assert "closed" == circuit.state


def test_throttled_answers_count_in_the_rate() -> None:
    """They are no failures in a row, but half of twenty open."""
    circuit = Circuit()

    circuit.run(*[S] * 10, *[Evidence.THROTTLED] * 9)
    assert "closed" == circuit.state
    circuit.run(Evidence.THROTTLED, reason="429")

    assert "open" == circuit.state
    assert "429" == circuit.refusal().last_error


def slow_circuit(**settings: object) -> Circuit:
    """Return a circuit that opens when eight of ten took two seconds."""
    return Circuit(
        count_window=10, window=None, slow_rate=0.8, slow_after=2.0, **settings
    )


def spend(circuit: Circuit, *seconds: float) -> None:
    """Make attempts that succeed after so many seconds."""
    for each in seconds:
        permit = circuit.permit()
        circuit.clock.advance(each)
        circuit.tell(permit, S)


def test_eight_slow_answers_of_ten_open() -> None:
    """It opens with the tenth, by a success."""
    circuit = slow_circuit()

    spend(circuit, 0.1, 0.1, *[2.0] * 7)
    assert "closed" == circuit.state
    spend(circuit, 2.0)

    assert "open" == circuit.state
    assert "8 slow answers in 10 attempts" == circuit.refusal().cause
    assert "slow" == circuit.refusal().last_error


@pytest.mark.parametrize("last", [1.999, 0.1])
def test_seven_slow_answers_of_ten_do_not_open(last: float) -> None:
    """A millisecond less than the limit is not slow."""
    circuit = slow_circuit()

    spend(circuit, 0.1, 0.1, *[2.0] * 7, last)

    assert "closed" == circuit.state


def test_timeouts_are_failures_and_slow() -> None:
    """However short the wait was, a timeout counts as slow too."""
    circuit = slow_circuit(consecutive=None, failure_rate=None)
    spend(circuit, 0.1, 0.1)

    circuit.run(*[F] * 8, slow=True)

    assert "8 slow answers in 10 attempts" == circuit.refusal().cause


def test_a_cancelled_attempt_is_not_slow() -> None:
    """It is neither: nobody waited for its end."""
    circuit = slow_circuit()
    for _ in range(20):
        permit = circuit.permit()
        circuit.clock.advance(5.0)
        circuit.breaker.release(permit)
        circuit.tell(circuit.permit(), Evidence.NEUTRAL, slow=True)

    assert 0 == circuit.breaker._ledger._last.total  # type: ignore[union-attr]


def test_a_slow_probe_has_failed() -> None:
    """What opened the circuit must be gone before it closes."""
    circuit = slow_circuit(consecutive=1)
    circuit.run(F)
    circuit.clock.advance(30.0)

    spend(circuit, 2.0)

    assert "open" == circuit.state
    assert "slow" == circuit.refusal().last_error


def test_attempts_that_hang_open_before_they_end() -> None:
    """The eighth attempt that is older than the limit opens, with no answer at all."""
    circuit = slow_circuit(slow_inflight=True)
    spend(circuit, 0.1, 0.1)
    hanging = [circuit.permit() for _ in range(8)]

    circuit.clock.advance(1.999)
    circuit.breaker.release(circuit.permit())
    assert "closed" == circuit.state
    circuit.clock.advance(0.001)
    refusal = circuit.refusal()

    assert "8 slow answers in 10 attempts" == refusal.cause
    assert "slow" == refusal.last_error
    assert [("closed", "open")] == circuit.path
    circuit.tell(hanging[0], S)
    assert 1 == circuit.breaker.stale


def test_a_hanging_attempt_is_counted_once() -> None:
    """It is slow before its end, and not again at its end; a row still counts it."""
    circuit = slow_circuit(slow_inflight=True, consecutive=2)
    hanging = circuit.permit()
    circuit.clock.advance(2.0)
    circuit.tell(circuit.permit(), F)
    window = circuit.breaker._ledger._last
    assert window is not None
    assert (2, 1, 1) == (window.total, window.failures, window.slow)

    circuit.tell(hanging, F)

    assert 2 == window.total
    assert "2 failures in a row" == circuit.changes[0].cause


def test_an_attempt_can_open_by_the_age_of_others() -> None:
    """A quick success finds seven that hang, and one that was slow before."""
    circuit = slow_circuit(slow_inflight=True)
    spend(circuit, 0.1)
    for _ in range(8):
        circuit.permit()
    quick = circuit.permit()

    circuit.clock.advance(1.0)
    circuit.clock.advance(1.0)
    circuit.tell(quick, F)

    assert "open" == circuit.state


def test_what_hangs_is_counted_by_settings_that_came_meanwhile() -> None:
    """Nothing that is under way is forgotten with the older ones."""
    circuit = slow_circuit(slow_inflight=True)
    spend(circuit, 0.1, 0.1)
    for _ in range(8):
        circuit.permit()

    circuit.reconfigure(open_for=5.0)
    circuit.clock.advance(2.0)

    assert "8 slow answers in 10 attempts" == circuit.refusal().cause


def test_what_hangs_since_an_older_generation_is_not_counted() -> None:
    """A circuit that closed again starts with a clean ledger."""
    circuit = slow_circuit(slow_inflight=True, consecutive=1)
    for _ in range(8):
        circuit.permit()
    circuit.run(F)
    circuit.clock.advance(30.0)
    circuit.run(S, S)

    circuit.run(S)

    window = circuit.breaker._ledger._last
    assert window is not None
    assert (1, 0) == (window.total, window.slow)


def ramping() -> Circuit:
    """Return a circuit that has just closed and gets its traffic back."""
    circuit = Circuit(consecutive=1, ramp_steps=10, ramp_step=1.5)
    circuit.run(F)
    circuit.clock.advance(30.0)
    circuit.run(S, S)
    return circuit


@pytest.mark.parametrize(
    ("seconds", "share", "admitted"),
    [
        (0.0, 0.09, True),
        (0.0, 0.1, False),
        (1.499, 0.1, False),
        (1.5, 0.19, True),
        (1.5, 0.2, False),
        (13.499, 0.9, False),
        (13.5, 0.99, True),
        (15.0, 1.0, True),
    ],
)
def test_traffic_comes_back_step_by_step(
    seconds: float, share: float, *, admitted: bool
) -> None:
    """A tenth more every 1.5 seconds, by chance; then everybody."""
    circuit = ramping()
    circuit.clock.advance(seconds)
    circuit.clock.share = share

    assert admitted is isinstance(circuit.ask(), Permit)
    assert "closed" == circuit.state
    assert (seconds >= 15.0) is circuit.breaker.free


def test_who_is_held_back_learns_when_the_next_step_is() -> None:
    """The circuit is closed, and still says when to come back."""
    circuit = ramping()
    circuit.clock.advance(2.0)
    circuit.clock.share = 1.0

    assert 1.0 == circuit.refusal().retry_after


def test_a_failure_while_recovering_opens_as_any() -> None:
    """The ramp ends, and starts from its foot after the next recovery."""
    circuit = ramping()

    circuit.run(F)

    assert "open" == circuit.state


def test_a_circuit_may_be_forced_open() -> None:
    """It refuses everybody until it is told otherwise, and reads open."""
    circuit = Circuit(mode="forced_open")

    assert "open" == circuit.state
    assert circuit.breaker.refuses(circuit.clock.now)
    assert (0.0, 0, "", "") == circuit.refusal()
    circuit.clock.advance(1000.0)
    circuit.refusal()
    assert "forced_open" == circuit.breaker.mode


def test_a_circuit_may_be_disabled() -> None:
    """Whatever happens everybody is let through, and nothing is counted."""
    circuit = Circuit(consecutive=1, mode="disabled")

    circuit.run(F, F, F)

    assert "closed" == circuit.state
    assert not circuit.breaker.refuses(circuit.clock.now)
    assert (0, []) == (circuit.breaker.stale, circuit.changes)
    circuit.reconfigure(mode="enforce")
    assert "closed" == circuit.state


def test_a_circuit_may_only_look_on() -> None:
    """It reads closed, refuses nobody, and counts whom it would have refused."""
    circuit = Circuit(consecutive=2, mode="shadow")

    circuit.run(F, F, F, S, S)

    assert "closed" == circuit.state
    assert not circuit.breaker.refuses(circuit.clock.now)
    assert 3 == circuit.breaker.would_reject
    assert 0 == circuit.breaker.stale
    assert [] == circuit.changes


def test_what_a_shadow_has_seen_holds_when_it_begins_to_act() -> None:
    """Enforcing starts with the circuit as it would have been."""
    circuit = Circuit(consecutive=2, mode="shadow")
    circuit.run(F, F)

    circuit.reconfigure(mode="enforce")

    assert "open" == circuit.state


def test_a_smaller_limit_holds_from_the_next_failure_on() -> None:
    """Four failures in a row, five allowed, then three: the next one opens."""
    circuit = Circuit()
    circuit.run(F, F, F, F)

    circuit.reconfigure(consecutive=3)
    assert "closed" == circuit.state
    circuit.run(F)

    assert "open" == circuit.state


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"window": None, "count_window": 50}, {"count_window": 30}),
        ({"window": 30.0}, {"window": 60.0}),
    ],
)
def test_windows_change_their_size_and_keep_what_they_saw(
    before: dict[str, object], after: dict[str, object]
) -> None:
    """Nine failures of nineteen attempts are there in the new one too."""
    circuit = Circuit(consecutive=None, **before)
    circuit.run(*[S] * 10, *[F] * 9)

    circuit.reconfigure(**after)
    circuit.clock.advance(31.0)
    assert "closed" == circuit.state
    circuit.run(F)

    assert "10 failures in 20 attempts" == circuit.changes[0].cause


def test_windows_come_and_go_with_their_settings() -> None:
    """A window that was not there starts empty."""
    circuit = Circuit(consecutive=None, window=None, count_window=4, min_calls=2)
    circuit.run(S, S, S)

    circuit.reconfigure(count_window=None, window=10.0)
    circuit.run(F, S)

    assert "1 failures in 2 attempts" == circuit.changes[0].cause


def test_an_open_circuit_stays_open_as_long_as_it_was_told() -> None:
    """Other settings do not move the end of a pause that has begun."""
    circuit = Circuit(consecutive=1)
    circuit.run(F)

    circuit.reconfigure(open_for=5.0)
    circuit.clock.advance(29.0)

    assert 1.0 == circuit.refusal().retry_after


@pytest.mark.parametrize(
    "settings", [{}, {"slow_after": 2.0}, {"window": None}, {"mode": "shadow"}]
)
def test_successes_take_no_lock(settings: dict[str, object]) -> None:
    """A closed circuit that saw no failure is asked and told without its lock."""
    circuit = Circuit(count_window=200, **settings)
    circuit.run(S)

    with circuit.breaker._lock:
        circuit.run(*[S] * 100)

    circuit.run(F)
    last = circuit.breaker._ledger._last
    assert last is not None
    assert (102, 1) == (last.total, last.failures)


def test_a_permit_is_used_once_without_the_lock_too() -> None:
    """Recording a success twice counts it once."""
    circuit = Circuit()
    circuit.run(S)
    permit = circuit.permit()

    circuit.tell(permit, S)
    circuit.tell(permit, S)
    circuit.run(F)

    recent = circuit.breaker._ledger._recent
    assert recent is not None
    assert 3 == recent.total


def test_a_success_needs_no_permit() -> None:
    """It interrupts a row of failures, unless the circuit has opened meanwhile."""
    circuit = Circuit(consecutive=2)
    circuit.run(F)
    breaker, now = circuit.breaker, circuit.clock.now

    assert breaker.succeed(breaker.generation, now, now) is None
    circuit.run(F)
    assert "closed" == circuit.state

    before = breaker.generation
    circuit.run(F)
    assert breaker.succeed(before, now, now) is None
    assert "open" == circuit.state
    assert 1 == breaker.stale


def test_a_slow_success_without_a_permit_may_open_it() -> None:
    """It is timed from when it began, and the change of state is handed out."""
    circuit = Circuit(
        slow_after=2.0, slow_rate=0.5, min_calls=2, consecutive=None, window=30.0
    )
    circuit.run(S)
    begun = circuit.clock.now
    now = circuit.clock.advance(2.0)

    change = circuit.breaker.succeed(circuit.breaker.generation, begun, now)

    assert change is not None
    assert ("closed", "open") == (change.from_state, change.to_state)


def test_a_child_starts_with_an_empty_ledger() -> None:
    """What the parent saw is the parent's evidence; only open circuits are kept."""
    circuit = Circuit()
    circuit.run(S, F, F, F, F)

    circuit.breaker.renew_lock()
    circuit.run(F)

    assert "closed" == circuit.state
    circuit.run(F, F, F, F)
    assert "open" == circuit.state


def test_without_windows_rows_still_count() -> None:
    """Rules can be switched off one by one."""
    circuit = Circuit(window=None)

    circuit.run(*[S, F] * 50, F, F, F, F)

    assert "5 failures in a row" == circuit.changes[0].cause


def test_a_success_at_the_edge_belongs_to_the_new_part() -> None:
    """It is forgotten a part later than what came just before."""
    circuit = Circuit(consecutive=None, min_calls=2)
    circuit.run(S)
    circuit.clock.now = 1002.0  # parts of three seconds, from 999 on
    circuit.run(S)

    circuit.clock.now = 1029.0
    circuit.run(F)

    assert "1 failures in 2 attempts" == circuit.changes[0].cause


def test_stale_results_are_stale_in_every_cycle() -> None:
    """A circuit that opens and closes again and again takes nothing from before."""
    circuit = Circuit(consecutive=2)
    for cycle in range(1, 4):
        late = circuit.permit()
        circuit.run(F, F)
        circuit.tell(late, F)
        circuit.clock.advance(60.0)
        circuit.run(S, S)
        assert cycle == circuit.breaker.stale


def test_an_attempt_that_ended_hangs_no_more() -> None:
    """Whether it was recorded or released, its age says nothing."""
    circuit = slow_circuit(slow_inflight=True)
    spend(circuit, *[0.1] * 5)
    for _ in range(20):
        circuit.breaker.release(circuit.permit())

    circuit.clock.advance(10.0)
    circuit.breaker.release(circuit.permit())

    window = circuit.breaker._ledger._last
    assert window is not None
    assert (5, 0) == (window.total, window.slow)
    assert {} == circuit.breaker._inflight


def test_one_that_hangs_opens_though_another_does_not_yet() -> None:
    """The oldest is looked at first; the change is told."""
    circuit = slow_circuit(slow_inflight=True)
    spend(circuit, 0.1, 0.1, *[2.0] * 7)
    circuit.permit()
    circuit.clock.advance(1.0)
    circuit.permit()
    circuit.clock.advance(1.0)

    circuit.refusal()

    assert [("closed", "open")] == circuit.path


def test_what_hangs_is_counted_at_its_time() -> None:
    """Successes that were only added up come first, and the window moves on."""
    circuit = Circuit(
        consecutive=None,
        failure_rate=None,
        min_calls=2,
        slow_rate=0.5,
        slow_after=2.0,
        slow_inflight=True,
    )
    circuit.run(S)
    circuit.permit()
    circuit.clock.advance(29.0)
    circuit.permit()
    recent = circuit.breaker._ledger._recent
    assert recent is not None
    assert (1, 1) == (recent.total, recent.slow)


def test_successes_are_counted_from_zero_when_they_are_taken_in() -> None:
    """Small numbers are at hand: the ledger has what was counted before."""
    clock = FakeClock()
    breaker = Breaker("svc", service_settings().breaker, clock.uniform)
    seen = []

    for _ in range(3):
        for _ in range(4):
            permit, _change = breaker.acquire(clock.now)
            assert isinstance(permit, Permit)
            breaker.record(permit, Evidence.SUCCESS, clock.now)
        seen.append(breaker.good)
        clock.advance(60.0)

    recent = breaker._ledger._recent
    assert recent is not None
    # The first one of each part takes the lock.
    assert ([3, 3, 3], 1) == (seen, recent.total)


def test_a_success_without_a_permit_belongs_to_the_part_that_begins() -> None:
    """One of a calm circuit is taken in with its own part, not with the one before."""
    clock = FakeClock()
    breaker = Breaker("svc", service_settings().breaker, clock.uniform)
    breaker.succeed(breaker.generation, clock.now, clock.now)
    clock.advance(breaker.edge - clock.now)

    change = breaker.succeed(breaker.generation, clock.now, clock.now)

    recent = breaker._ledger._recent
    assert recent is not None
    assert (None, 1, 1) == (change, breaker.good, recent.total)
    clock.advance(breaker.edge - clock.now)
    breaker.succeed(breaker.generation, clock.now, clock.now)
    assert (1, 2) == (breaker.good, recent.total)


def test_a_stale_success_without_a_permit_moves_nothing() -> None:
    """It is of another generation than the circuit, and is counted as stale."""
    clock = FakeClock()
    breaker = Breaker("svc", service_settings().breaker, clock.uniform)

    breaker.succeed(breaker.generation + 1, clock.now, clock.now)

    assert (0, 1) == (breaker.good, breaker.stale)


def test_a_child_counts_successes_from_zero() -> None:
    """What its parent had not taken in yet is none of its own."""
    clock = FakeClock()
    breaker = Breaker("svc", service_settings().breaker, clock.uniform)
    breaker.succeed(breaker.generation, clock.now, clock.now)

    breaker.renew_lock()

    assert 0 == breaker.good
