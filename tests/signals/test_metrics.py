"""What is counted when: each call once, each attempt once, in every exit path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from prometheus_client import parser

from fakes import a_call
from resilience_instrument.events import Transition
from resilience_instrument.signals import catalog, exemplars, standing
from resilience_instrument.signals.exposition import Exposition
from resilience_instrument.signals.gather import Gathered, gather
from resilience_instrument.signals.layout import EXEMPLARS
from resilience_instrument.signals.metrics import MetricsObserver
from resilience_instrument.signals.standing import Standing
from resilience_instrument.signals.store import OTHER, Store
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

if TYPE_CHECKING:
    from resilience_instrument.signals.snapshot import ServiceSnapshot

GOOD = Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=200)
BAD = Judgement(Verdict.TRANSIENT, Evidence.FAILURE, status=503, reason="503")
LATE = Judgement(
    Verdict.TRANSIENT, Evidence.FAILURE, timeout=Phase.READ, reason="ReadTimeout"
)


class Counting:
    """An observer on a store, and what a scrape would say of it."""

    def __init__(self, services: int = 1024) -> None:
        self.store = Store(services)
        self.observer = MetricsObserver(self.store)
        self.snapshots: list[ServiceSnapshot] = []

    def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Return every sample by its name and labels."""
        blocks = gather(self.store, None).blocks
        shown = Exposition(lambda: Gathered(blocks, self.snapshots))
        text = shown.render("")[0].decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in parser.text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Return the sample with exactly these labels, None if it is not there."""
        if "service" not in labels and name.startswith(("api_", "resilience_")):
            labels = {"service": "payment-api", **labels}
        return self.samples().get((name, frozenset(labels.items())))

    def endpoint(self, name: str, **labels: str) -> float | None:
        """Return a sample of the endpoint that `a_call` calls."""
        return self.value(name, endpoint="/orders/{id}", **labels)


@pytest.fixture
def counting() -> Counting:
    """Count into an empty store."""
    return Counting()


def test_a_call_that_failed_twice_and_succeeded(counting: Counting) -> None:
    """One call, two retries by their numbers, one success after retries."""
    tell, call = counting.observer, a_call()
    tell.call_started(call)
    for number, judgement in enumerate((BAD, BAD, GOOD), start=1):
        tell.attempt_started(call, number)
        tell.attempt_ended(call, number, judgement, 0.2)
        tell.retry_scheduled(call, number + 1, 0.5, "503")
    tell.call_ended(call, "success", 3, 1.4)

    assert 1 == counting.endpoint("api_request_total", outcome="success")
    assert 0 == counting.endpoint("api_request_total", outcome="error")
    assert 1 == counting.endpoint("api_retry_total", attempt="2")
    assert 1 == counting.endpoint("api_retry_total", attempt="3")
    assert 1 == counting.endpoint("api_retry_success_total")
    assert 2 == counting.endpoint("resilience_attempt_total", outcome="error")
    assert 1 == counting.endpoint("resilience_attempt_total", outcome="success")


def test_a_first_success_is_no_success_after_retries(counting: Counting) -> None:
    """Only calls that were retried count as saved by it; a failed one does not."""
    counting.observer.call_ended(a_call(), "success", 1, 0.1)
    counting.observer.call_ended(a_call(), "error", 3, 0.1)

    assert 0 == counting.endpoint("api_retry_success_total")


def test_a_timeout_counts_by_its_phase(counting: Counting) -> None:
    """It is one timeout of the endpoint, and one of the part that it struck."""
    counting.observer.attempt_ended(a_call(), 1, LATE, 10.0)

    assert 1 == counting.endpoint("api_timeout_total")
    assert 1 == counting.endpoint("resilience_attempt_total", outcome="timeout_read")
    assert 1 == counting.endpoint(
        "resilience_attempt_duration_seconds_count", outcome="timeout"
    )


def test_a_cancelled_attempt_counts_as_nothing(counting: Counting) -> None:
    """The call is cancelled; no outcome of an attempt is."""
    counting.observer.call_started(a_call())
    counting.observer.attempt_started(a_call(), 1)
    counting.observer.attempt_cancelled(a_call(), 1)
    counting.observer.call_ended(a_call(), "cancelled", 1, 0.1)

    outcomes = catalog.ATTEMPT.labels["outcome"]
    counted = [
        counting.endpoint("resilience_attempt_total", outcome=o) for o in outcomes
    ]
    assert [0] * len(outcomes) == counted
    assert 1 == counting.endpoint("api_request_total", outcome="cancelled")
    assert 1 == counting.endpoint("api_request_duration_seconds_count")


def test_late_attempts_share_a_label(counting: Counting) -> None:
    """Attempt numbers are bounded, and rare ones appear when they occur."""
    assert counting.endpoint("api_retry_total", attempt="10+") is None
    for number in (9, 10, 11, 400):
        counting.observer.attempt_started(a_call(), number)

    assert 1 == counting.endpoint("api_retry_total", attempt="9")
    assert 3 == counting.endpoint("api_retry_total", attempt="10+")


def test_calls_under_way_are_counted_up_and_down(counting: Counting) -> None:
    """The gauge is what has started and not ended."""
    for _ in range(3):
        counting.observer.call_started(a_call())
    counting.observer.call_ended(a_call(), "success", 1, 0.1)

    assert 2 == counting.value("resilience_inflight")


def test_a_call_without_a_timeout_is_counted_by_library(counting: Counting) -> None:
    """The audit says through which library, when the call ends: however it does."""
    for outcome in ("success", "error", "cancelled"):
        for unbounded in (True, False):
            call = a_call(unbounded=unbounded)
            counting.observer.call_started(call)
            counting.observer.call_ended(call, outcome, 1, 0.1)

    assert 3 == counting.value("resilience_unbounded_call_total", library="fake")


def test_refusals_and_skipped_retries_are_counted_by_reason(counting: Counting) -> None:
    """Every refusal has its reason."""
    counting.observer.rejected(a_call(), "breaker")
    counting.observer.retry_skipped(a_call(), "budget")

    assert 1 == counting.value("resilience_rejected_total", policy="breaker")
    assert 1 == counting.value("resilience_retry_skipped_total", reason="budget")
    assert 0 == counting.value("resilience_retry_skipped_total", reason="body")


def test_transitions_are_counted(counting: Counting) -> None:
    """The service exists with zeros for the transitions that did not occur."""
    counting.observer.transitioned(
        a_call(), Transition("payment-api", "closed", "open")
    )
    labels = {"service": "payment-api", "from_state": "closed"}
    name = "circuit_breaker_state_changes_total"

    assert 1 == counting.value(name, **labels, to_state="open")
    assert 0 == counting.value(name, **labels, to_state="half_open")


def test_calls_beyond_the_labels_are_counted_as_such() -> None:
    """Once a call, for services and for endpoints."""
    counting = Counting(services=1)
    for labels in ({"endpoint": OTHER}, {"service": "second"}, {"service": "third"}):
        call = a_call(**labels)
        counting.observer.call_started(call)
        counting.observer.call_ended(call, "error", 1, 0.1)

    samples = counting.samples()
    name = "resilience_label_overflow_total"
    assert 1 == samples[name, frozenset({("kind", "endpoint")})]
    assert 2 == samples[name, frozenset({("kind", "service")})]


def test_faults_and_infos_are_shown(counting: Counting) -> None:
    """What the agent is, what it patched, and where it failed."""
    counting.observer.agent_error("engine")
    counting.observer.agent_info("1.0", "enforce", "3.11.7")
    counting.observer.patch_info("httpx", "0.28", "patched")

    samples = counting.samples()
    assert (
        1 == samples["resilience_agent_error_total", frozenset({("where", "engine")})]
    )
    info = {("version", "1.0"), ("mode", "enforce"), ("python", "3.11.7")}
    assert 1 == samples["resilience_agent_info", frozenset(info)]
    patched = {("library", "httpx"), ("version", "0.28"), ("status", "patched")}
    assert 1 == samples["resilience_agent_patch_info", frozenset(patched)]


class Traced:
    """Stands for the spans of a call."""

    def __init__(self, ids: tuple[int, int] | None) -> None:
        self._ids = ids

    def sampled(self) -> tuple[int, int] | None:
        return self._ids


@pytest.mark.parametrize("ids", [None, (7, 9)])
def test_a_sampled_call_is_an_example_of_its_bucket(
    counting: Counting, ids: tuple[int, int] | None
) -> None:
    """One that nobody recorded is none."""
    call = a_call()
    call.span = Traced(ids)

    counting.observer.call_started(call)
    counting.observer.call_ended(call, "success", 1, 0.07)

    block = counting.store.block(EXEMPLARS, "payment-api", "/orders/{id}")
    found = exemplars.read(block.counts, block.sums, 4)
    assert ids == (found and (int(found.trace_id, 16), int(found.span_id, 16)))


def test_how_a_service_stands_is_told_at_once_and_when_it_changes() -> None:
    """At its first call, at retries and at transitions; nothing for `other`."""
    asked: list[str] = []

    def stand(service: str) -> Standing | None:
        asked.append(service)
        if service == OTHER:
            return None  # it is no service that anybody knows
        timeouts = dict.fromkeys(catalog.TIMEOUT_KINDS, 1.0)
        return Standing("open", 100.0, 0.5, 100.0, timeouts)

    store = Store(services=1)
    observer = MetricsObserver(store, stand)
    observer.call_started(a_call())
    observer.call_started(a_call())
    observer.retry_scheduled(a_call(), 2, 0.1, "503")
    observer.transitioned(a_call(), Transition("payment-api", "closed", "open"))
    observer.call_started(a_call(service="beyond"))
    beyond = Transition("beyond", "closed", "open")
    observer.transitioned(a_call(service="beyond"), beyond)
    observer.renew()

    block, other = store.calm("payment-api"), store.calm("beyond")
    assert ["payment-api"] * 3 == asked[:3]
    shown = standing.read("payment-api", block.counts, block.sums, 0.0)
    assert shown is not None
    assert "open" == shown.state
    assert standing.read("beyond", other.counts, other.sums, 0.0) is None


def test_a_child_states_again_what_the_agent_is() -> None:
    """Once, however often it was stated."""
    store = Store()
    observer = MetricsObserver(store)
    for _ in range(2):
        observer.agent_info("1.0", "enforce", "3.11")
    store.renew()

    observer.repeat_infos()

    scope = catalog.AGENT_INFO.scope
    assert [("1.0", "enforce", "3.11")] == [
        block.labels for block in store.blocks() if block.layout.scope == scope
    ]


def test_what_the_agent_is_does_not_touch_what_it_found() -> None:
    """Another mode is another agent, beside the same libraries, each stated once."""
    store = Store()
    observer = MetricsObserver(store)
    observer.patch_info("requests", "2.32", "governed")
    observer.agent_info("1.0", "observe", "3.11")
    observer.agent_info("1.0", "enforce", "3.11")
    observer.patch_info("requests", "2.32", "governed")
    store.renew()

    observer.repeat_infos()

    stated = {block.labels for block in store.blocks() if block.counts[0] == 1}
    assert {("requests", "2.32", "governed"), ("1.0", "enforce", "3.11")} == stated
