"""The retry budget: a share of the calls, and a small reserve."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resilience_instrument.policies.budget import Budget


def drain(budget: Budget, now: float, limit: int = 5000) -> int:
    """Return how many retries the budget gives at `now` before it refuses."""
    taken = 0
    while taken < limit and budget.withdraw(now):
        taken += 1
    return taken


def test_the_reserve_is_given_and_then_no_more() -> None:
    """Ten a second over ten seconds are 100 free retries; five calls pay for one."""
    budget = Budget(0.2, 10.0, 10.0)

    assert 100 == drain(budget, 1000.0)

    for _ in range(4):
        budget.deposit(1000.0)
        assert not budget.withdraw(1000.0)
    budget.deposit(1000.0)
    assert 1 == drain(budget, 1000.0)


def test_what_was_taken_comes_back_after_the_window() -> None:
    """Nothing at nine seconds, the whole reserve at ten."""
    budget = Budget(0.2, 10.0, 10.0)
    drain(budget, 1000.0)

    assert 0 == drain(budget, 1009.0)
    assert 100 == drain(budget, 1010.0)


def test_without_a_reserve_calls_alone_pay() -> None:
    """A thousand calls at 20 % are 200 retries."""
    budget = Budget(0.2, 0.0, 10.0)
    for _ in range(1000):
        budget.deposit(1000.0)

    assert 200 == drain(budget, 1000.0)


def test_the_default_is_one_a_second_and_a_fifth() -> None:
    """Ten at once, and 30 in total after 100 calls more."""
    budget = Budget(0.2, 1.0, 10.0)

    assert 10 == drain(budget, 1000.0)

    for _ in range(100):
        budget.deposit(1000.0)
    assert 20 == drain(budget, 1000.0)


def test_a_budget_of_nothing_gives_nothing() -> None:
    """Without a share and without a reserve no retry is ever made."""
    budget = Budget(0.0, 0.0, 10.0)
    budget.deposit(1000.0)

    assert not budget.withdraw(1000.0)
    assert 0.0 == budget.ratio_left(1000.0)


def test_a_share_of_zero_leaves_the_reserve() -> None:
    """Calls pay nothing in, the free retries remain."""
    budget = Budget(0.0, 1.0, 10.0)
    budget.deposit(1000.0)

    assert 10 == drain(budget, 1000.0)


def test_what_is_left_can_be_read() -> None:
    """Full, half and empty are 1, 0.5 and 0."""
    budget = Budget(0.2, 1.0, 10.0)

    assert 1.0 == budget.ratio_left(1000.0)
    for _ in range(5):
        budget.withdraw(1000.0)
    assert 0.5 == budget.ratio_left(1000.0)
    drain(budget, 1000.0)
    assert 0.0 == budget.ratio_left(1000.0)
    assert 1.0 == budget.ratio_left(1010.0)


def test_deposits_leave_the_window_slice_by_slice() -> None:
    """A call pays for ten seconds and no longer; an hour's pause clears all."""
    budget = Budget(1.0, 0.0, 10.0)
    budget.deposit(1000.0)
    budget.deposit(1001.0)

    assert 1 == drain(budget, 1010.5)
    budget.deposit(1010.5)
    assert 0 == drain(budget, 4600.0)


def test_time_that_goes_back_changes_nothing() -> None:
    """An earlier moment counts as the present one."""
    budget = Budget(1.0, 0.0, 10.0)
    budget.deposit(1000.0)
    budget.deposit(999.0)

    assert 2 == drain(budget, 999.0)


def test_a_child_starts_with_a_budget_of_its_own() -> None:
    """After a fork the reserve is whole, deposits of the parent are not there."""
    budget = Budget(0.2, 1.0, 10.0)
    for _ in range(100):
        budget.deposit(1000.0)
    drain(budget, 1000.0)

    budget.renew_lock()

    assert 10 == drain(budget, 1000.0)


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0.0, 3.0)), max_size=300),
    st.sampled_from([0.0, 0.1, 0.2, 1.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_retries_never_exceed_reserve_and_share(
    moves: list[tuple[bool, float]], ratio: float, minimum: float
) -> None:
    """In one window no more retries than the reserve and the share of its calls."""
    budget = Budget(ratio, minimum, 10.0)
    now, calls, retries = 0.0, [], []
    for deposits, pause in moves:
        now += pause
        if deposits:
            budget.deposit(now)
            calls.append(now)
        elif budget.withdraw(now):
            retries.append(now)
        recent = sum(1 for moment in retries if moment > now - 9.0)
        paying = sum(1 for moment in calls if moment > now - 20.0)
        assert recent <= minimum * 10.0 + ratio * paying + 1e-9
        assert 0.0 <= budget.ratio_left(now) <= 1.0
