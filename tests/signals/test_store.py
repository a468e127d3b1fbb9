"""The store: blocks of numbers by scope, bounded, and exact under threads."""

from __future__ import annotations

import dis
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from resilience_instrument.signals import catalog, ledger
from resilience_instrument.signals import store as store_module
from resilience_instrument.signals.layout import LAYOUTS, Layout
from resilience_instrument.signals.store import ENDPOINT, OTHER, SERVICE, Block, Store

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def add(block: Block, index: int, times: int) -> None:
    """Count as the observer does."""
    for _ in range(times):
        block.counts[index] += 1


def test_every_child_has_a_place_of_its_own() -> None:
    """No two series share a number, and no number lies outside the block."""
    for layout in LAYOUTS.values():
        cells: list[int] = []
        for place in layout.places:
            histogram = place.metric.kind == "histogram"
            size = len(catalog.BUCKETS) + 1 if histogram else 1
            cells.extend(range(place.cell, place.cell + size))

        assert list(range(layout.hidden_counts)) == cells
        sums = [place.total for place in layout.places if place.total >= 0]
        assert list(range(layout.hidden_sums)) == sums


def test_computed_gauges_have_no_place() -> None:
    """What is computed when it is read cannot be stale in a block."""
    names = {place.metric.name for place in Layout(SERVICE).places}

    assert catalog.BREAKER_STATE.name not in names
    assert catalog.INFLIGHT.name in names


def test_the_same_labels_are_the_same_block() -> None:
    """A block is made once and begins with zeros."""
    store = Store()

    block = store.endpoint("api", "/users")

    assert block is store.endpoint("api", "/users")
    assert block is store.block(ENDPOINT, "api", "/users")
    assert {0} == set(block.counts)
    assert {0.0} == set(block.sums)


def test_an_endpoint_makes_its_service_known() -> None:
    """The children of a service exist as soon as one endpoint was called."""
    store = Store()

    store.endpoint("api", "/users")

    assert (SERVICE, ("api",)) in {(b.layout.scope, b.labels) for b in store.blocks()}


def test_services_beyond_the_limit_are_other() -> None:
    """However many hosts are called, the labels are bounded."""
    store = Store(services=2)
    for number in range(5):
        store.endpoint(f"host-{number}", "/x")
        store.service(f"host-{number}")

    services = {b.labels[0] for b in store.blocks() if b.layout.scope == SERVICE}
    endpoints = {b.labels for b in store.blocks() if b.layout.scope == ENDPOINT}

    assert {"host-0", "host-1", OTHER} == services
    assert {("host-0", "/x"), ("host-1", "/x"), (OTHER, OTHER)} == endpoints


def test_a_child_begins_with_nothing() -> None:
    """After a fork the parent's numbers are the parent's."""
    store = Store()
    store.endpoint("api", "/users").counts[0] += 7

    store.renew()

    assert 0 == store.endpoint("api", "/users").counts[0]


def test_counting_loses_nothing_under_threads() -> None:
    """Eight threads add to one number and every addition is there."""
    block = Store().endpoint("api", "/users")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, [block] * 8, [0] * 8, [20_000] * 8))

    assert 160_000 == block.counts[0]


def test_nothing_can_come_between_reading_and_writing() -> None:
    """The addition holds no call and no backward jump, where threads switch."""
    names = [step.opname for step in dis.get_instructions(add)]
    start = next(i for i, name in enumerate(names) if name == "BINARY_SUBSCR")
    between = names[start : names.index("STORE_SUBSCR")]

    assert not [n for n in between if "CALL" in n or "JUMP" in n or n == "RESUME"]


def test_what_was_counted_moves_along(tmp_path: Path) -> None:
    """When the numbers get a place where others can read them, none is lost."""
    store = Store()
    block = store.endpoint("api", "/")
    block.counts[0], block.sums[0] = 3, 0.5
    path = tmp_path / "cells"
    path.touch()

    store.settle(ledger.Ledger(str(path)).allocate)
    block.counts[0] += 1

    found = {record.labels: record for record in ledger.read(str(path))}
    assert (4, 0.5) == (found["api", "/"].counts[0], found["api", "/"].sums[0])


def test_two_that_ask_at_once_get_the_same_block() -> None:
    """Who waited for the lock finds what the other one made."""
    store = Store()
    with ThreadPoolExecutor(8) as pool:
        blocks = list(pool.map(lambda _: store.block(SERVICE, "api"), range(200)))

    assert {id(blocks[0])} == {id(block) for block in blocks}


def test_endpoints_of_all_services_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit they are `other` of their service."""
    monkeypatch.setattr(store_module, "ENDPOINTS", 1)
    store = Store()

    store.endpoint("api", "/a")

    assert ("api", OTHER) == store.endpoint("api", "/b").labels


def test_who_waited_for_the_lock_finds_the_block(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second look, under the lock, sees what the first could not."""
    store = Store()
    made = store.block(SERVICE, "api")

    class Late(dict[Any, Any]):
        """Answers the first question as if the other thread were not done."""

        asked = 0

        def get(self, key: object, default: Any = None) -> Any:
            self.asked += 1
            return default if self.asked == 1 else super().get(key, default)

    monkeypatch.setitem(store._blocks, SERVICE, Late(store._blocks[SERVICE]))

    assert made is store.block(SERVICE, "api")
