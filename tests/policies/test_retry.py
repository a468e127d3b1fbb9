"""Whether and when a failure is tried again."""

from __future__ import annotations

import dataclasses

import pytest

from fakes import FakeClock, World, a_call, answers, service_settings
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.budget import Budget
from resilience_instrument.policies.retry import Retries, revised
from resilience_instrument.policies.tokens import QuotaBudget
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict


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
    settings = dataclasses.replace(
        service_settings().retry,
        max_elapsed=facts.pop("max_elapsed", None),  # type: ignore[arg-type]
    )
    call = a_call(**facts)
    retries = Retries(call, settings, budget, clock, clock.now - 2.0)  # type: ignore[arg-type]
    return retries.decide(failure, number)


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
        ({"max_elapsed": 2.4}, "deadline"),
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


def test_the_longest_wait_that_may_be_asked_for_is_kept() -> None:
    """Exactly the maximum is not too long; a second at most comes on top."""
    assert 30.5 == decision(retry_after=30.0)


def test_a_longer_backoff_beats_a_short_wish() -> None:
    """A wish below the backoff does not shorten it."""
    assert 1.005 == decision(2, retry_after=0.1)


def test_the_budget_is_taken_when_the_retry_is_decided() -> None:
    """A refused retry costs nothing, a granted one costs before its pause."""
    budget = Budget(0.2, 0.1, 10.0)

    assert "attempts" == decision(3, budget=budget)
    assert 0.5 == decision(1, budget=budget)
    assert "budget" == decision(1, budget=budget)


def test_time_that_is_just_enough_is_enough() -> None:
    """An attempt may start at the very last moment that was allowed."""
    assert 0.5 == decision(max_elapsed=2.5)
    assert 0.5 == decision(deadline=1000.55)


@pytest.mark.parametrize(
    ("ask", "slept"),
    [("5", 5.25), (None, 0.5)],
)
def test_a_call_waits_as_long_as_it_was_asked_to(ask: str | None, slept: float) -> None:
    """Between five and five and a half seconds where five were asked for."""
    world = World()
    wait = None if ask is None else float(ask)
    io = world.script(answers(429, retry_after=wait), answers(200))

    world.call(io)

    assert slept == io.slept[0]


def test_an_hour_is_not_waited_for() -> None:
    """The answer is returned at once, after one request."""
    world = World()
    io = world.script(answers(429, retry_after=3600.0))

    outcome = world.call(io)

    assert isinstance(outcome, Returned)
    assert 429 == outcome.value
    assert ([0.0], []) == (io.attempts, io.slept)
    assert [("retry_after",)] == world.observer.of("retry_skipped")


def judged(
    status: int | None,
    verdict: Verdict,
    error: Exception | None = None,
    **named: object,
) -> Judgement:
    """Return a judgement as revised by settings that name something."""
    settings = dataclasses.replace(
        service_settings().retry,
        **named,  # type: ignore[arg-type]
    )
    before = Judgement(verdict, Evidence.FAILURE, status=status, reason="why")
    outcome = Returned(status) if error is None else Raised(error)
    return revised(before, outcome, settings)


@pytest.mark.parametrize(
    ("status", "before", "after"),
    [
        (500, Verdict.PERMANENT, Verdict.TRANSIENT),
        (503, Verdict.TRANSIENT, Verdict.PERMANENT),
        (404, Verdict.SUCCESS, Verdict.SUCCESS),
    ],
)
def test_named_statuses_are_tried_again_and_no_others(
    status: int, before: Verdict, after: Verdict
) -> None:
    """Whoever names 500 means 500 alone; a success stays one."""
    assert after is judged(status, before, on_statuses=frozenset({500})).verdict


def test_a_success_that_is_tried_again_gets_a_reason() -> None:
    """Its status says why, where the room saw no failure."""
    settings = dataclasses.replace(
        service_settings().retry, on_statuses=frozenset({202})
    )
    success = Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=202)

    found = revised(success, Returned(None), settings)

    assert (Verdict.TRANSIENT, Evidence.SUCCESS, "202") == (
        found.verdict,
        found.evidence,
        found.reason,
    )


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        (KeyError(), Verdict.PERMANENT, Verdict.TRANSIENT),
        (ConnectionResetError(), Verdict.TRANSIENT, Verdict.PERMANENT),
        (ValueError(), Verdict.TRANSIENT, Verdict.TRANSIENT),
        (ValueError(), Verdict.PERMANENT, Verdict.PERMANENT),
    ],
)
def test_named_error_classes_decide(
    error: Exception, before: Verdict, after: Verdict
) -> None:
    """By the class or one it derives from; an exception to it comes first."""
    found = judged(
        None,
        before,
        error,
        on_errors=frozenset({"LookupError", "OSError"}),
        except_errors=frozenset({"ConnectionError"}),
    )

    assert after is found.verdict
    assert "why" == found.reason


def test_errors_have_no_status_to_be_named() -> None:
    """Named statuses say nothing about broken connections."""
    named = frozenset({500})

    assert (
        Verdict.TRANSIENT
        is judged(None, Verdict.TRANSIENT, OSError(), on_statuses=named).verdict
    )
    assert (
        Verdict.TRANSIENT is judged(None, Verdict.TRANSIENT, on_statuses=named).verdict
    )


def test_two_calls_at_once_keep_their_own_pauses() -> None:
    """Decorrelated jitter grows by a call's own pauses, not by those of others."""
    clock = FakeClock()
    settings = dataclasses.replace(
        service_settings().retry, jitter="decorrelated", max_attempts=9
    )
    failure = Judgement(Verdict.TRANSIENT, Evidence.FAILURE)
    budget = Budget(0.2, 10.0, 10.0)
    first, second = (
        Retries(a_call(), settings, budget, clock, clock.now) for _ in range(2)
    )

    drawn = [
        (first.decide(failure, number), second.decide(failure, number))
        for number in range(1, 5)
    ]

    assert [(d, d) for d in (2.0, 3.5, 5.75, 9.125)] == drawn


@pytest.mark.parametrize(("timeout", "retries"), [(Phase.READ, 1), (None, 2)])
def test_a_retry_after_a_timeout_may_cost_more(
    timeout: Phase | None, retries: int
) -> None:
    """Of a quota of ten it takes all, another retry takes five."""
    failure = Judgement(Verdict.TRANSIENT, Evidence.FAILURE, timeout=timeout)
    clock = FakeClock()
    settings = dataclasses.replace(service_settings().retry, max_attempts=9)
    planned = Retries(a_call(), settings, QuotaBudget(10, 5, 10), clock, clock.now)

    decisions = [planned.decide(failure, number) for number in range(1, 5)]

    assert retries == sum(isinstance(each, float) for each in decisions)
