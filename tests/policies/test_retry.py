"""Whether and when a failure is tried again."""

from __future__ import annotations

import pytest

from fakes import FakeClock, a_call, service_settings
from resilience_instrument.policies.budget import Budget
from resilience_instrument.policies.retry import decide
from resilience_instrument.verdict import Evidence, Judgement, Verdict


def decision(number: int = 1, **facts: object) -> object:
    """Return the decision after a failure that differs in these facts."""
    clock = FakeClock()
    budget = facts.pop("budget", None) or Budget(0.2, 1.0, 10.0)
    sent = facts.pop("sent", True)
    wait = facts.pop("retry_after", None)
    failure = Judgement(
        Verdict.TRANSIENT,
        Evidence.FAILURE,
        sent=sent,  # type: ignore[arg-type]
        retry_after=wait,  # type: ignore[arg-type]
    )
    settings = service_settings().retry
    call = a_call(**facts)
    return decide(call, failure, number, settings, budget, clock)  # type: ignore[arg-type]


def test_a_safe_call_is_tried_again_after_a_backoff() -> None:
    """Half of one second, then half of two."""
    assert 0.5 == decision(1)
    assert 1.0 == decision(2)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"app_retries": True}, "app_retries"),
        ({"repeatable": False}, "not_idempotent"),
        ({"replayable": False}, "body"),
        ({"number": 3}, "attempts"),
        ({"retry_after": 31.0}, "retry_after"),
        ({"deadline": 1000.5}, "deadline"),
        ({"deadline": 1004.0, "retry_after": 5.0}, "retry_after"),
        ({"budget": Budget(0.0, 0.0, 10.0)}, "budget"),
    ],
)
def test_the_first_reason_against_it_is_the_answer(
    facts: dict[str, object], reason: str
) -> None:
    """Facts of the call come before time, time before the budget."""
    assert reason == decision(**facts)  # type: ignore[arg-type]


@pytest.mark.parametrize("fact", ["repeatable", "replayable"])
def test_what_was_never_sent_may_be_sent(fact: str) -> None:
    """Where no byte left, neither effect nor body stands in the way."""
    assert 0.5 == decision(sent=False, **{fact: False})


def test_an_asked_wait_is_kept_in_full() -> None:
    """Never earlier than asked, and up to a tenth later."""
    assert 5.25 == decision(retry_after=5.0)
    assert 0.55 == decision(retry_after=1.0, number=1) - 0.5  # type: ignore[operator]


def test_a_longer_backoff_beats_a_short_wish() -> None:
    """A wish below the backoff does not shorten it."""
    assert 1.005 == decision(2, retry_after=0.1)


def test_the_budget_is_taken_when_the_retry_is_decided() -> None:
    """A refused retry costs nothing, a granted one costs before its pause."""
    budget = Budget(0.2, 0.1, 10.0)

    assert "attempts" == decision(3, budget=budget)
    assert 0.5 == decision(1, budget=budget)
    assert "budget" == decision(1, budget=budget)
