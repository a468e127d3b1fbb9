"""The catalogue: names, labels and buckets that others build on."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from resilience_instrument import events
from resilience_instrument.signals import catalog
from resilience_instrument.verdict import Phase

# Rules and dashboards of many teams have these already: they stay as they are.
KEPT = {
    "api_request_total": ("service", "endpoint", "outcome"),
    "api_request_duration_seconds": ("service", "endpoint"),
    "api_retry_total": ("service", "endpoint", "attempt"),
    "api_retry_success_total": ("service", "endpoint"),
    "api_timeout_total": ("service", "endpoint"),
    "circuit_breaker_state": ("service",),
    "circuit_breaker_state_changes_total": ("service", "from_state", "to_state"),
}


def test_the_first_seven_keep_their_names_and_labels() -> None:
    """They come first, in this order, with exactly these labels."""
    first = {m.name: tuple(m.labels) for m in catalog.METRICS[:7]}

    assert KEPT == first


@pytest.mark.parametrize("metric", catalog.METRICS[7:], ids=lambda m: m.name)
def test_our_own_metrics_say_so(metric: catalog.Metric) -> None:
    """Whatever else we serve cannot clash with a metric of the app."""
    assert metric.name.startswith("resilience_")


@pytest.mark.parametrize("metric", catalog.METRICS, ids=lambda m: m.name)
def test_names_end_as_prometheus_asks(metric: catalog.Metric) -> None:
    """Counters end with `_total`, nothing else does; the help is one sentence."""
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
    assert metric.help.endswith(".")


def test_buckets_contain_those_of_existing_dashboards() -> None:
    """A query for one of the usual seven bounds finds it; there are at most 20."""
    assert {0.1, 0.5, 1, 2, 5, 10, 30} <= set(catalog.BUCKETS)
    assert sorted(catalog.BUCKETS) == list(catalog.BUCKETS)
    assert len(catalog.BUCKETS) <= 20


def test_a_state_does_not_change_into_itself() -> None:
    """Six transitions can occur, not nine."""
    pairs = catalog.BREAKER_CHANGES.combinations()

    assert 6 == len(pairs)
    assert ("closed", "closed") not in pairs


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (events.CallOutcome, catalog.API_REQUEST.labels["outcome"]),
        (events.State, catalog.STATES),
        (events.SkipReason, catalog.RETRY_SKIPPED.labels["reason"]),
        (events.RejectingPolicy, catalog.REJECTED.labels["policy"]),
        (events.ActingPolicy, catalog.WOULD_ACT.labels["policy"]),
        (events.ActingPolicy, catalog.WOULD_SAVE.labels["policy"]),
        (events.ActingPolicy, catalog.WOULD_LOSE.labels["policy"]),
        (events.FallbackKind, catalog.FALLBACK.labels["kind"]),
        (events.FallbackOutcome, catalog.FALLBACK.labels["outcome"]),
    ],
)
def test_a_closed_label_has_every_word_that_is_told(
    words: object, values: tuple[str, ...]
) -> None:
    """An event with a word that has no series would be a fault of ours."""
    assert set(get_args(words)) == set(values)


def test_timeouts_are_named_by_the_phases_of_an_attempt() -> None:
    """Both for attempts that timed out and for the timeouts in force."""
    phases = {phase.value for phase in Phase}

    assert phases == set(catalog.TIMEOUT_KINDS)
    assert {"success", "error", *(f"timeout_{phase}" for phase in phases)} == set(
        catalog.ATTEMPT.labels["outcome"]
    )


def test_states_stand_at_their_value() -> None:
    """0 closed, 1 open, 2 half open, as rules and dashboards read them."""
    assert catalog.STATES == get_args(events.State)
