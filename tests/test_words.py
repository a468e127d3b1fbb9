"""The words: calls, outcomes, judgements and events are plain facts."""

from __future__ import annotations

import pytest

from fakes import a_call
from resilience_instrument.events import Transition
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict


def test_a_call_is_modest_unless_told_otherwise() -> None:
    """Facts that a room does not state have the harmless value."""
    call = a_call()

    assert call.replayable
    assert not call.app_retries
    assert not call.unbounded
    assert call.measured
    assert call.deadline is None
    assert {} == call.attributes()
    assert (None, {}) == (call.span, call.carrier)


def test_outcomes_show_what_they_hold() -> None:
    """In a log line it is clear what an attempt came to."""
    assert "Returned(200)" == repr(Returned(200))
    assert "Raised(OSError('gone'))" == repr(Raised(OSError("gone")))


@pytest.mark.parametrize(
    ("verdict", "timeout", "expected"),
    [
        (Verdict.SUCCESS, None, "success"),
        (Verdict.TRANSIENT, None, "error"),
        (Verdict.PERMANENT, None, "error"),
        (Verdict.TRANSIENT, Phase.READ, "timeout"),
    ],
)
def test_the_coarse_outcome_follows_from_the_judgement(
    verdict: Verdict, timeout: Phase | None, expected: str
) -> None:
    """A timeout is a timeout; else the verdict decides."""
    judgement = Judgement(verdict, Evidence.NEUTRAL, timeout=timeout)

    assert expected == judgement.outcome


def test_a_judgement_shows_what_it_says() -> None:
    """All that decides about a retry is visible."""
    judgement = Judgement(
        Verdict.TRANSIENT, Evidence.FAILURE, sent=False, status=503, reason="503"
    )

    assert (
        "Judgement(TRANSIENT, FAILURE, sent=False, timeout=None, status=503,"
        " reason='503')"
    ) == repr(judgement)


def test_a_transition_out_of_open_needs_no_cause() -> None:
    """Only opening has failures, an error and a length."""
    transition = Transition("s", "open", "half_open")

    assert (0, "", 0.0, "") == (
        transition.failures,
        transition.last_error,
        transition.open_for,
        transition.cause,
    )


def test_a_judgement_can_be_revised() -> None:
    """Everything but what is given stays."""
    before = Judgement(
        Verdict.TRANSIENT,
        Evidence.NEUTRAL,
        sent=False,
        timeout=Phase.READ,
        retry_after=5.0,
        status=503,
        reason="503",
    )

    assert repr(before) == repr(before.revised())
    assert 5.0 == before.revised().retry_after
    after = before.revised(
        verdict=Verdict.PERMANENT, evidence=Evidence.FAILURE, reason="else"
    )
    assert (Verdict.PERMANENT, Evidence.FAILURE, "else") == (
        after.verdict,
        after.evidence,
        after.reason,
    )
