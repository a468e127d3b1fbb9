"""How long attempts took lately."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from resilience_instrument.policies import latency
from resilience_instrument.policies.latency import Latencies

if TYPE_CHECKING:
    import pytest


def filled(*durations: float, window: float = 300.0) -> Latencies:
    """Return durations that were all taken at 1000."""
    latencies = Latencies(window)
    for seconds in durations:
        latencies.add(seconds, 1000.0)
    return latencies


def test_a_quantile_is_a_duration_that_was() -> None:
    """The nearest rank: of a hundred the 99th, not the slowest."""
    latencies = filled(*[0.12] * 90, *[0.30] * 8, *[0.45] * 2)

    assert 0.45 == latencies.quantile(0.99, 100, 1000.0)
    assert 0.30 == latencies.quantile(0.98, 100, 1000.0)
    assert 0.12 == latencies.quantile(0.5, 100, 1000.0)


def test_too_few_say_nothing() -> None:
    """99 are no hundred; of none there is no quantile at all."""
    assert filled(*[0.1] * 99).quantile(0.99, 100, 1000.0) is None
    assert filled().quantile(0.99, 0, 1000.0) is None


def test_what_is_too_old_does_not_count() -> None:
    """Part by part, within the window's length."""
    latencies = filled(5.0)
    latencies.add(0.1, 1100.0)

    assert 5.0 == latencies.quantile(0.99, 1, 1100.0)
    assert 0.1 == latencies.quantile(0.99, 1, 1305.0)
    assert latencies.quantile(0.99, 1, 5000.0) is None


def test_an_instant_is_a_duration_too() -> None:
    """A clock may not have moved at all."""
    assert 0.0 == filled(0.0).quantile(0.5, 1, 1000.0)


def test_what_waits_to_be_sorted_in_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy service does not pile durations up until somebody asks."""
    monkeypatch.setattr(latency, "MANY", 10)

    latencies = filled(*[0.1] * 100)

    assert 10 >= len(latencies)
    assert 0.1 == latencies.quantile(0.99, 100, 1000.0)


def test_what_comes_while_it_is_sorted_in_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread appends between the look at the durations and their removal."""
    latencies = filled(*[0.1] * 5)

    class Late(float):
        """A duration that is compared while another one arrives."""

        def __lt__(self, other: float) -> bool:
            latencies.append(0.2)
            return float(self) < other

    monkeypatch.setattr(latency, "MANY", 6)
    latencies.append(Late(0.1))

    latencies.add(0.1, 1000.0)

    assert {0.1, 0.2} == set(latencies)
    assert 0.2 == latencies.quantile(1.0, 8, 1000.0)


def test_a_child_starts_without_durations() -> None:
    """After a fork nothing was measured yet, and no lock is held."""
    latencies = filled(1.0)
    latencies._lock.acquire()

    latencies.renew_lock()

    assert latencies.quantile(0.5, 1, 1000.0) is None


@given(
    st.lists(st.floats(1e-4, 100.0), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]),
)
def test_a_quantile_is_never_too_short_and_hardly_too_long(
    durations: list[float], share: float
) -> None:
    """At most two per cent above the exact nearest rank, and never below it."""
    rank = math.ceil(round(share * len(durations), 6))
    exact = sorted(durations)[rank - 1]

    found = filled(*durations).quantile(share, 1, 1000.0)

    assert found is not None
    assert exact <= found <= exact * 1.0201
