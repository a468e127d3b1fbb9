"""What a scraper reads: valid in both formats, in agreement with itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as _read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from fakes import a_call
from resilience_instrument.signals import catalog, exemplars
from resilience_instrument.signals import exposition as exposition_module
from resilience_instrument.signals.exposition import Exposition, prefers_openmetrics
from resilience_instrument.signals.gather import Gathered
from resilience_instrument.signals.layout import EXEMPLARS, LAYOUTS
from resilience_instrument.signals.metrics import MetricsObserver
from resilience_instrument.signals.snapshot import ServiceSnapshot
from resilience_instrument.signals.store import ENDPOINT, Store

read_openmetrics: Any = _read_openmetrics  # it is not typed

TIMEOUTS = {"connect": 3.0, "read": 10.0, "write": 10.0, "pool": 5.0, "total": None}


def exposition(*snapshots: ServiceSnapshot) -> Exposition:
    """Return what is shown after one call of 0.25 s."""
    store = Store()
    observer = MetricsObserver(store)
    observer.agent_info("1.0", "enforce", "3.11")
    observer.call_started(a_call())
    observer.call_ended(a_call(), "success", 1, 0.25)
    return Exposition(lambda: Gathered(store.blocks(), snapshots))


def snapshot(state: str, left: float = 1.0, service: str = "api") -> ServiceSnapshot:
    """Return a service whose circuit is in this state."""
    return ServiceSnapshot(service, state, left, TIMEOUTS)  # type: ignore[arg-type]


def values(shown: Exposition, name: str) -> dict[tuple[str, ...], float]:
    """Return the samples of this name by the values of their labels."""
    text = shown.render("")[0].decode()
    return {
        tuple(sample.labels.values()): sample.value
        for family in read_text(text)
        for sample in family.samples
        if sample.name == name
    }


def test_the_text_format_is_the_default() -> None:
    """A scraper that asks for nothing gets what every Prometheus reads."""
    body, content_type = exposition().render("")

    assert content_type.startswith("text/plain; version=")
    assert b'api_request_total{endpoint="/orders/{id}",outcome="success"' in body


def test_openmetrics_is_there_for_who_asks() -> None:
    """The same numbers in the format that carries more."""
    body, content_type = exposition(snapshot("open")).render(
        "application/openmetrics-text; version=1.0.0"
    )

    assert content_type.startswith("application/openmetrics-text")
    families = list(read_openmetrics(body.decode()))
    assert {m.name.removesuffix("_total") for m in catalog.METRICS} == {
        family.name for family in families
    }


def test_a_histogram_agrees_with_itself() -> None:
    """Buckets add up, the last one is the count, and the sum is there."""
    shown = exposition()

    buckets = values(shown, "api_request_duration_seconds_bucket")
    by_bound = {float(labels[1]): count for labels, count in buckets.items()}
    assert 0 == by_bound[0.2]
    assert 1 == by_bound[0.3] == by_bound[math.inf]
    assert [1] == list(values(shown, "api_request_duration_seconds_count").values())
    assert [0.25] == list(values(shown, "api_request_duration_seconds_sum").values())


def test_the_state_is_a_number_by_its_place() -> None:
    """0 closed, 1 open, 2 half-open."""
    shown = exposition(
        snapshot("closed", service="a"),
        snapshot("open", service="b"),
        snapshot("half_open", service="c"),
    )

    expected = {("a",): 0.0, ("b",): 1.0, ("c",): 2.0}
    assert expected == values(shown, "circuit_breaker_state")


def test_the_worst_of_several_processes_is_shown() -> None:
    """Open is worse than half-open, the least of the budgets counts; all are told."""
    shown = exposition(
        snapshot("half_open", 0.5), snapshot("open", 0.25), snapshot("closed")
    )

    assert {("api",): 1.0} == values(shown, "circuit_breaker_state")
    assert {("api",): 0.25} == values(shown, "resilience_retry_budget_ratio")
    processes = values(shown, "resilience_breaker_processes")
    assert {
        ("api", "open"): 1.0,
        ("api", "closed"): 1.0,
        ("api", "half_open"): 1.0,
    } == (processes)


def test_no_limit_is_infinity() -> None:
    """A timeout that is not there is no timeout of zero."""
    shown = values(exposition(snapshot("closed")), "resilience_timeout_seconds")

    by_kind = {key[0] if key[0] in TIMEOUTS else key[1]: v for key, v in shown.items()}
    assert {**TIMEOUTS, "total": math.inf} == by_kind


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("text/plain;version=0.0.4;q=0.3,application/openmetrics-text; q=0.5", True),
        ("text/plain;q=0.9, application/openmetrics-text;q=0.5", False),
    ],
)
def test_a_scraper_gets_what_it_likes_better(accept: str, *, expected: bool) -> None:
    """By the weights that it gives, and plain text in doubt."""
    assert expected == prefers_openmetrics(accept)


def test_exemplars_are_shown_where_they_can_be() -> None:
    """In OpenMetrics, at their bucket, and nowhere in plain text."""
    store = Store()
    block = store.endpoint("api", "/")
    block.counts[LAYOUTS[ENDPOINT].at(catalog.API_REQUEST_DURATION) + 4] = 1
    traced = store.block(EXEMPLARS, "api", "/")
    exemplars.note(
        *(traced.counts, traced.sums, 4), trace_id=7, span_id=9, value=0.07, time=1e9
    )
    shown = Exposition(lambda: Gathered(store.blocks(), ()))

    text = shown.render("application/openmetrics-text")[0].decode()

    found = [
        (sample.labels["le"], sample.exemplar)
        for family in read_openmetrics(text)
        for sample in family.samples
        if sample.exemplar
    ]
    ((bound, exemplar),) = found
    assert ("0.1", 0.07, 1e9) == (bound, exemplar.value, float(exemplar.timestamp))
    assert {"trace_id": f"{7:032x}", "span_id": f"{9:016x}"} == exemplar.labels
    assert b"trace_id" not in shown.render("")[0]


def test_odd_letters_in_labels_are_escaped() -> None:
    """Every label comes back as it was."""
    store = Store()
    odd = 'a"b\\c\nd'
    store.service(odd)
    shown = Exposition(lambda: Gathered(store.blocks(), ()))

    assert {(odd,)} == set(values(shown, "resilience_inflight"))


def test_names_that_are_gone_are_forgotten() -> None:
    """What is prepared for a series goes when the series goes."""
    blocks = [Store().endpoint(f"s{number}", "/") for number in range(9)]
    shown = Exposition(lambda: Gathered(blocks, ()))
    shown.render("")
    assert 9 == len(shown._known)
    del blocks[1:]

    shown.render("")
    shown.render("")

    assert 1 == len(shown._known)


def test_whoever_waits_for_the_interpreter_gets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A long scrape stands aside again and again."""
    asides: list[float] = []
    monkeypatch.setattr(exposition_module, "sleep", asides.append)
    monkeypatch.setattr(exposition_module, "_TURN", -1.0)

    exposition().render("")

    assert {0} == set(asides)
