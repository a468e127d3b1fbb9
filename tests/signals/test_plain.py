"""Calls that succeed at once: two additions that a scrape turns into the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakes import a_call
from resilience_instrument.signals import catalog
from resilience_instrument.signals.gather import gather
from resilience_instrument.signals.layout import LAYOUTS
from resilience_instrument.signals.ledger import Ledger
from resilience_instrument.signals.metrics import MetricsObserver
from resilience_instrument.signals.rundir import RunDirectory
from resilience_instrument.signals.store import ENDPOINT, OTHER, SERVICE, Store
from resilience_instrument.verdict import Evidence, Judgement, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from resilience_instrument.signals.metrics import PlainTally

_CALLS = LAYOUTS[ENDPOINT].at(catalog.API_REQUEST, "success")
_ATTEMPTS = LAYOUTS[ENDPOINT].at(catalog.ATTEMPT, "success")
_CALL_BUCKETS = LAYOUTS[ENDPOINT].at(catalog.API_REQUEST_DURATION)
_CALL_SUM = LAYOUTS[ENDPOINT].sum_at(catalog.API_REQUEST_DURATION)
_ATTEMPT_BUCKETS = LAYOUTS[ENDPOINT].at(catalog.ATTEMPT_DURATION, "success")
_ATTEMPT_SUM = LAYOUTS[ENDPOINT].sum_at(catalog.ATTEMPT_DURATION, "success")
_INFLIGHT = LAYOUTS[SERVICE].at(catalog.INFLIGHT)
_PLACE = ("payment-api", "/orders/{id}")
GOOD = Judgement(Verdict.SUCCESS, Evidence.SUCCESS)


@pytest.fixture
def store() -> Store:
    """A store with room for two services."""
    return Store(services=2)


def _tally(store: Store, **facts: Any) -> PlainTally:
    return MetricsObserver(store).tally(a_call(**facts))


def _shown(store: Store, scope: tuple[str, ...], *labels: str) -> Any:
    """Return the block that a scrape shows under these labels."""
    blocks = gather(store, None).blocks
    (found,) = [b for b in blocks if (b.layout.scope, b.labels) == (scope, labels)]
    return found


def test_a_call_is_one_call_and_one_attempt_in_both_histograms(store: Store) -> None:
    """Two additions stand for all of it."""
    tally = _tally(store)

    tally.begin()
    tally.succeed(0.03)

    shown = _shown(store, ENDPOINT, *_PLACE)
    bucket = next(i for i, bound in enumerate(catalog.BUCKETS) if bound >= 0.03)
    assert (1, 1) == (shown.counts[_CALLS], shown.counts[_ATTEMPTS])
    assert 1 == shown.counts[_CALL_BUCKETS + bucket]
    assert 1 == shown.counts[_ATTEMPT_BUCKETS + bucket]
    assert (0.03, 0.03) == (shown.sums[_CALL_SUM], shown.sums[_ATTEMPT_SUM])
    assert 4 == sum(shown.counts)


def test_what_was_told_in_full_is_added(store: Store) -> None:
    """Calls of one endpoint that went either way are one number."""
    observer = MetricsObserver(store)
    call = a_call()
    observer.call_started(call)
    observer.call_ended(call, "success", 1, 0.5)
    tally = observer.tally(call)

    tally.begin()
    tally.succeed(0.25)

    shown = _shown(store, ENDPOINT, *_PLACE)
    assert (2, 0.75) == (shown.counts[_CALLS], shown.sums[_CALL_SUM])


def test_a_call_is_under_way_until_it_ends_or_is_told_otherwise(store: Store) -> None:
    """The gauge is what began and has not ended."""
    tally = _tally(store)

    seen = []
    for step in (tally.begin, tally.begin, tally.withdraw, lambda: tally.succeed(1.0)):
        step()
        seen.append(_shown(store, SERVICE, "payment-api").counts[_INFLIGHT])

    assert [1, 2, 1, 0] == seen


def test_calls_without_a_timeout_are_counted_by_library(store: Store) -> None:
    """And calls that have one are not."""
    for unbounded in (True, False):
        tally = _tally(store, unbounded=unbounded, library="requests")
        tally.begin()
        tally.succeed(0.1)

    shown = _shown(store, catalog.UNBOUNDED.scope, "payment-api", "requests")
    assert [1] == shown.counts
    assert 2 == _shown(store, ENDPOINT, *_PLACE).counts[_CALLS]


@pytest.mark.parametrize("kind", ["service", "endpoint"])
def test_calls_beyond_the_labels_are_counted_as_such(store: Store, kind: str) -> None:
    """As they are on the long way."""
    facts = {"endpoint": OTHER}
    if kind == "service":
        for name in ("first", "second"):
            store.service(name)
        facts = {"service": "third"}
    tally = _tally(store, **facts)

    tally.begin()
    tally.succeed(0.1)

    layout = LAYOUTS[catalog.LABEL_OVERFLOW.scope]
    cell = layout.at(catalog.LABEL_OVERFLOW, kind)
    assert 1 == _shown(store, layout.scope).counts[cell]


def test_of_a_dead_process_only_what_ended_remains(
    store: Store, tmp_path: Path
) -> None:
    """It was killed during a call; what it counted stays, also when it is folded."""
    home, directory = RunDirectory(str(tmp_path)), RunDirectory(str(tmp_path))
    victim = Store()
    victim.settle(Ledger(directory.join()).allocate)
    tally = _tally(victim)
    for _ in range(3):
        tally.begin()
    tally.succeed(0.1)

    shown = [gather(store, home).blocks]
    directory.leave_to_parent()
    shown += [gather(store, home).blocks for _ in range(2)]

    under_way = []
    for blocks in shown:
        found = {(b.layout.scope, b.labels): b for b in blocks}
        assert 1 == found[ENDPOINT, _PLACE].counts[_CALLS]
        under_way.append(found[SERVICE, ("payment-api",)].counts[_INFLIGHT])
    assert [2, 0, 0] == under_way


def test_a_call_that_has_only_begun_is_shown_with_zeros(store: Store) -> None:
    """So that `rate()` sees its first end; no block of a metric was made for that."""
    MetricsObserver(store).call_started(a_call())

    scopes = {block.layout.scope for block in store.blocks()}
    assert not {ENDPOINT, SERVICE} & scopes
    assert {0} == set(_shown(store, ENDPOINT, *_PLACE).counts)
    shown = _shown(store, SERVICE, "payment-api").counts
    assert (1, 1) == (shown[_INFLIGHT], sum(shown))


def test_a_success_at_once_counts_alike_on_either_way(store: Store) -> None:
    """Told in full it lies in the same cells, so an endpoint needs one block."""
    observer, other = MetricsObserver(store), Store()
    call = a_call(unbounded=True)
    observer.call_started(call)
    observer.attempt_ended(call, 1, GOOD, 0.25)
    observer.call_ended(call, "success", 1, 0.25)
    tally = _tally(other, unbounded=True)

    tally.begin()
    tally.succeed(0.25)

    for scope, labels in (
        (ENDPOINT, _PLACE),
        (SERVICE, _PLACE[:1]),
        (catalog.UNBOUNDED.scope, (_PLACE[0], "fake")),
    ):
        short, long = (_shown(each, scope, *labels) for each in (other, store))
        assert (short.counts, short.sums) == (long.counts, long.sums)


def test_a_success_after_which_something_happened_counts_in_full(
    store: Store,
) -> None:
    """The attempt took less than the call: each is in its own bucket."""
    observer, call = MetricsObserver(store), a_call()
    observer.call_started(call)
    observer.attempt_ended(call, 1, GOOD, 0.25)
    observer.call_ended(call, "fallback", 1, 4.0)

    shown = _shown(store, ENDPOINT, *_PLACE)
    assert (0, 1) == (shown.counts[_CALLS], shown.counts[_ATTEMPTS])
    assert (4.0, 0.25) == (shown.sums[_CALL_SUM], shown.sums[_ATTEMPT_SUM])
