"""The retry budget: a share of the calls, and a small reserve."""

from __future__ import annotations

import dataclasses
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import World, answers, service_settings
from resilience_instrument.policies.budget import Budget, budget_for
from resilience_instrument.policies.tokens import QuotaBudget, TokenBudget


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


def test_what_calls_paid_is_part_of_what_there_was() -> None:
    """Ten free retries and ten paid ones: after ten of them half is left."""
    budget = Budget(0.2, 1.0, 10.0)
    for _ in range(50):
        budget.deposit(1000.0)
    assert 1.0 == budget.ratio_left(1001.0)

    for _ in range(10):
        budget.withdraw(1001.0)

    assert 0.5 == budget.ratio_left(1001.0)
    assert 0.0 == budget.ratio_left(1010.0)


def test_the_smallest_reserve_is_a_whole_one() -> None:
    """One retry in ten seconds is all there is, until it is taken."""
    budget = Budget(0.0, 0.1, 10.0)

    assert 1.0 == budget.ratio_left(1000.0)
    assert 1 == drain(budget, 1000.0)
    assert 0.0 == budget.ratio_left(1000.0)


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


@pytest.mark.parametrize("window", [10.0, 20.0])
def test_deposits_take_no_lock(window: float) -> None:
    """Within a tenth of the window a call pays by one addition."""
    budget = Budget(1.0, 0.0, window)
    budget.deposit(1000.0)

    with budget._lock:
        budget.deposit(1000.5)

    assert 2 == drain(budget, 1000.5)


def test_deposits_are_paid_into_the_second_they_were_made_in() -> None:
    """What was only added up enters the window before time moves on."""
    for last, left in ((1009.9, 2), (1010.0, 0)):
        budget = Budget(1.0, 0.0, 10.0)
        budget.deposit(1000.0)
        budget.deposit(1000.9)

        assert left == drain(budget, last)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("finagle", Budget), ("grpc", TokenBudget), ("aws", QuotaBudget)],
)
def test_the_settings_say_how_the_budget_is_kept(mode: str, kind: type) -> None:
    """One of three ways; the first is the default."""
    settings = dataclasses.replace(
        service_settings().retry,
        budget_mode=mode,  # type: ignore[arg-type]
    )

    assert kind is type(budget_for(settings))
    assert Budget is type(budget_for(service_settings().retry))


def test_the_settings_say_how_much_there_is() -> None:
    """Tokens and quotas are what was asked for."""
    settings = dataclasses.replace(
        service_settings().retry,
        budget_tokens=4,
        budget_token_ratio=0.5,
        budget_quota=12,
        budget_cost=3,
        budget_timeout_cost=4,
    )
    tokens = budget_for(dataclasses.replace(settings, budget_mode="grpc"))
    tokens.settle(1, success=False)
    assert 0.75 == tokens.ratio_left(1000.0)
    tokens.settle(1, success=True)
    assert 0.875 == tokens.ratio_left(1000.0)

    quota = budget_for(dataclasses.replace(settings, budget_mode="aws"))
    assert quota.withdraw(1000.0)
    assert 0.75 == quota.ratio_left(1000.0)
    assert quota.withdraw(1000.0, timeout=True)
    assert 5 / 12 == quota.ratio_left(1000.0)


def test_a_whole_token_comes_back_where_the_ratio_is_one() -> None:
    """Exactly one: from four of ten to five, which is not above half."""
    budget = TokenBudget(10, 1.0)
    for _ in range(6):
        budget.settle(1, success=False)

    budget.settle(1, success=True)

    assert not budget.withdraw(1000.0)
    assert 0.5 == budget.ratio_left(1000.0)


def test_a_child_starts_with_exactly_the_reserve() -> None:
    """Now and after the window, to the last unit."""
    budget = Budget(0.0, 1.0, 10.0)
    drain(budget, 1000.0)

    budget.renew_lock()

    assert 10 == drain(budget, 1000.0)
    assert 10 == drain(budget, 1010.0)


def test_tokens_allow_retries_above_half() -> None:
    """Four failures allow, the fifth and sixth deny; eleven successes allow again."""
    budget = TokenBudget(10, 0.1)
    allowed = []
    for _ in range(6):
        budget.settle(1, success=False)
        allowed.append(budget.withdraw(1000.0))
    assert [True, True, True, True, False, False] == allowed

    for _ in range(10):
        budget.settle(1, success=True)
    assert not budget.withdraw(1000.0)
    budget.settle(1, success=True)

    assert budget.withdraw(1000.0)
    assert 0.51 == budget.ratio_left(1000.0)


def test_one_success_above_half_is_enough() -> None:
    """From exactly half a single success allows retries again."""
    budget = TokenBudget(10, 0.1)
    for _ in range(5):
        budget.settle(1, success=False)
    assert not budget.withdraw(1000.0)

    budget.settle(1, success=True)

    assert budget.withdraw(1000.0)


def test_tokens_end_at_nothing_and_at_all() -> None:
    """However long an outage or a good time was."""
    budget = TokenBudget(10, 0.1)
    budget.deposit(1000.0)
    for _ in range(100):
        budget.settle(1, success=False)
    assert 0.0 == budget.ratio_left(1000.0)
    for _ in range(200):
        budget.settle(1, success=True)
    assert 1.0 == budget.ratio_left(1000.0)


@pytest.mark.parametrize(("cost", "retries"), [(5, 100), (10, 50), (14, 35)])
def test_a_quota_is_used_up(cost: int, retries: int) -> None:
    """500 are a hundred retries, fifty after timeouts, or 35 at 14 with 10 left."""
    budget = QuotaBudget(500, 5, cost)

    taken = 0
    while budget.withdraw(1000.0, timeout=True):
        taken += 1

    assert retries == taken
    assert (500 - cost * retries) / 500 == budget.ratio_left(1000.0)


def test_a_quota_is_refilled_by_successes() -> None:
    """A retry that succeeds gives back what it took, a first attempt one."""
    budget = QuotaBudget(500, 5, 10)
    budget.deposit(1000.0)
    while budget.withdraw(1000.0):
        pass

    for _ in range(4):
        budget.settle(1, success=True)
        budget.settle(2, success=False)
    assert not budget.withdraw(1000.0)
    budget.settle(1, success=True)
    assert budget.withdraw(1000.0)
    budget.settle(2, success=True)
    assert budget.withdraw(1000.0)

    for _ in range(200):
        budget.settle(3, success=True)
    assert 1.0 == budget.ratio_left(1000.0)


@pytest.mark.parametrize("budget", [TokenBudget(10, 0.1), QuotaBudget(500, 5, 10)])
def test_a_child_starts_with_all_it_may_have(budget: TokenBudget) -> None:
    """After a fork tokens and quota are whole, and no lock is held."""
    for _ in range(200):
        budget.withdraw(1000.0)
        budget.settle(1, success=False)
    budget._lock.acquire()

    budget.renew_lock()

    budget.settle(1, success=True)
    assert 1.0 == budget.ratio_left(1000.0)


@pytest.mark.slow
def test_a_total_outage_costs_a_fifth_more() -> None:
    """10,000 calls in ten seconds, all failing thrice if they might: 2,010 retries."""
    settings = service_settings(BREAKER_CONSECUTIVE="off", BREAKER_FAILURE_RATE="off")
    world = World(settings)
    io = world.script(answers(503))
    sent = 0

    for number in range(10_000):
        world.clock.now = 1000.0 + number / 1000.0
        io = world.script(answers(503))
        io.sleep = nothing  # type: ignore[method-assign]
        world.call(io)
        sent += len(io.attempts)

    assert 2010 == sent - 10_000
    assert 1.201 == sent / 10_000


async def nothing(seconds: float) -> None:
    """Wait for nobody: ten thousand callers wait at the same time."""
    del seconds


def test_the_budget_is_spent_before_anybody_pauses() -> None:
    """A thousand calls fail at once: 210 of them pause, not all."""
    budget = Budget(0.2, 1.0, 10.0)
    for _ in range(1000):
        budget.deposit(1000.0)

    assert 210 == sum(budget.withdraw(1000.0) for _ in range(1000))


def test_no_deposit_is_lost_between_threads() -> None:
    """Four threads pay at once; all that they paid is there."""
    budget = Budget(1.0, 0.0, 10.0)
    budget.deposit(1000.0)

    def pay() -> None:
        for _ in range(25_000):
            budget.deposit(1000.0)

    threads = [threading.Thread(target=pay) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 100_001 == budget.calls


def test_a_budget_looks_at_the_time_once_a_second() -> None:
    """However long its window is; of a short one at the end of each part."""
    slow, quick = Budget(0.2, 0.0, 3600.0), Budget(0.2, 0.0, 5.0)

    slow.deposit(1000.25)
    quick.deposit(1000.25)

    assert (1001.0, 1000.5) == (slow.edge, quick.edge)


def test_looking_often_moves_no_deposit() -> None:
    """What was paid within the hour counts, as long as before."""
    budget = Budget(1.0, 0.0, 3600.0)
    for second in range(100):
        budget.deposit(1100.5 + second)

    assert 100 == drain(budget, 4679.0)


def test_a_withdrawal_does_not_hide_that_a_second_has_passed() -> None:
    """The next call looks at the time all the same, so that it is noted."""
    budget = Budget(0.2, 1.0, 10.0)
    budget.deposit(1000.25)

    budget.withdraw(1003.5)

    assert 1001.0 == budget.edge


def test_services_share_what_they_look_at() -> None:
    """The end of the second is one object, which is at hand, for all of them."""
    budgets = [Budget(0.2, 1.0, 10.0) for _ in range(3)]
    for budget in budgets:
        budget.deposit(1000.25)

    assert 1 == len({id(budget.edge) for budget in budgets})


def test_what_was_taken_in_is_counted_from_zero() -> None:
    """Small numbers are at hand: a counter begins anew when it is taken in."""
    budget = Budget(0.2, 1.0, 10.0)
    for second in (1000.0, 1000.5, 1001.0):
        budget.deposit(second)

    assert 1 == budget.calls


def test_a_child_pays_in_from_zero() -> None:
    """What its parent had not taken in yet is none of its own."""
    budget = Budget(0.2, 1.0, 10.0)
    budget.deposit(1000.25)
    budget.deposit(1000.5)

    budget.renew_lock()
    budget.deposit(1000.75)

    assert 1 == budget.calls
