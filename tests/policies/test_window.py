"""Windows over the last attempts: running totals that are always right."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import FakeClock
from resilience_instrument.policies.window import (
    BUCKETS,
    FAILED,
    GOOD,
    SLOW,
    CountWindow,
    TimeWindow,
)

MARKS = st.sampled_from([GOOD, FAILED, SLOW, FAILED | SLOW])


def failures_at(moments: list[float]) -> TimeWindow:
    """Return a window of ten seconds with failures at these moments."""
    window = TimeWindow(10.0)
    for moment in moments:
        window.roll(moment)
        window.add(FAILED)
    return window


def left_at(window: TimeWindow, now: float) -> int:
    """Return how many failures the window holds at `now`."""
    window.roll(now)
    return window.failures


def test_a_time_window_forgets_a_tenth_at_a_time() -> None:
    """Ten failures in ten seconds: 10, then 9 a second later, then none."""
    window = failures_at([1000.0 + second for second in range(10)])

    assert 10 == left_at(window, 1009.0)
    assert 9 == left_at(window, 1010.0)
    assert 0 == left_at(window, 1019.99)


def test_a_failure_is_forgotten_with_its_bucket() -> None:
    """At 1000.95 it counts for 9.04 s and is gone at 9.05 s, with its second."""
    window = failures_at([1000.95])

    assert 1 == left_at(window, 1009.99)
    assert 0 == left_at(window, 1010.00)


def test_time_that_goes_back_is_the_present() -> None:
    """A source that returns 999 after 1000 fills the newest bucket."""
    window = failures_at([1000.0, 999.0])

    assert 2 == window.total
    assert 2 == left_at(window, 1009.0)
    assert 0 == left_at(window, 1010.0)


def test_a_long_silence_forgets_all() -> None:
    """After an hour nothing is left, and the totals know it."""
    window = failures_at([1000.0, 1001.0, 1002.0])

    window.roll(4600.0)

    assert (0, 0, 0) == (window.total, window.failures, window.slow)


@given(st.lists(st.tuples(st.floats(0, 4), MARKS), max_size=80), st.floats(1, 60))
def test_a_time_window_agrees_with_a_list(
    story: list[tuple[float, int]], seconds: float
) -> None:
    """Its totals are those of all attempts in the newest ten buckets."""
    window, width, seen, now = TimeWindow(seconds), seconds / BUCKETS, [], 1000.0
    for pause, mark in story:
        now += pause
        window.roll(now)
        window.add(mark)
        seen.append((now // width, mark))
        recent = [m for head, m in seen if head > now // width - BUCKETS]
        assert len(recent) == window.total
        assert sum(m & FAILED for m in recent) == window.failures
        assert sum(m // SLOW for m in recent) == window.slow


@given(st.lists(MARKS, max_size=60), st.integers(1, 12), st.integers(1, 12))
def test_a_count_window_agrees_with_a_list(
    marks: list[int], size: int, other: int
) -> None:
    """Its totals are those of the newest attempts, also after a change of size."""
    window = CountWindow(size)
    for mark in marks:
        window.add(mark)
    resized = window.resized(other)
    for found, kept in ((window, marks[-size:]), (resized, marks[-min(size, other) :])):
        assert len(kept) == found.total
        assert sum(m & FAILED for m in kept) == found.failures
        assert sum(m // SLOW for m in kept) == found.slow
    resized.add(FAILED, other)
    assert other == resized.failures == resized.total


@pytest.mark.parametrize("count", [1, 3, 4, 5, 100])
def test_many_alike_are_taken_in_at_once(count: int) -> None:
    """Successes that were only counted push as many failures out."""
    window = CountWindow(4)
    window.add(FAILED, 4)

    window.add(GOOD, count)

    assert 4 == window.total
    assert max(0, 4 - count) == window.failures


def test_slow_attempts_of_one_part_are_forgotten_together() -> None:
    """None of them stays behind."""
    window = TimeWindow(10.0)
    window.roll(1000.0)
    for _ in range(3):
        window.add(SLOW)

    window.roll(1010.0)

    assert (0, 0, 0) == (window.total, window.failures, window.slow)


def test_a_shorter_time_window_keeps_what_fits() -> None:
    """Of ten seconds the last five remain, in all three totals."""
    window = failures_at([1000.5, 1006.5, 1009.5])
    window.add(SLOW)

    shorter = window.resized(5.0, 1009.9)

    assert (3, 2, 1) == (shorter.total, shorter.failures, shorter.slow)
    assert 0 == left_at(shorter, 1009.9 + 5.0)


def test_a_longer_time_window_forgets_nothing() -> None:
    """All of ten seconds fit into thirty, and leave them as attempts do."""
    window = failures_at([1000.5, 1006.5, 1009.5])

    longer = window.resized(30.0, 1009.9)

    assert 3 == longer.total
    assert 3 == left_at(longer, 1025.0)
    assert 0 == left_at(longer, 1041.0)


def test_an_unused_time_window_can_be_resized() -> None:
    """Nothing stays nothing."""
    assert 0 == TimeWindow(10.0).resized(20.0, 1000.0).total


def test_the_edge_is_where_the_newest_bucket_ends() -> None:
    """Until then whoever owns the window need not roll it."""
    window = TimeWindow(10.0)
    assert -math.inf == window.edge

    window.roll(FakeClock().now)

    assert 1001.0 == window.edge


@pytest.mark.parametrize(
    ("now", "left"),
    [(1008.5, 1), (1011.9, 1), (1012.0, 0), (1012.5, 0)],
)
def test_what_moves_to_a_shorter_window_is_taken_for_young(
    now: float, left: int
) -> None:
    """A part of two seconds counts from its end on: 1002, for ten seconds."""
    window = TimeWindow(20.0)
    window.roll(1000.5)
    window.add(FAILED)

    shorter = window.resized(10.0, min(now, 1008.5))

    assert left == left_at(shorter, now)


def test_what_is_just_too_old_for_a_shorter_window_is_left_behind() -> None:
    """It must not land among the newest."""
    window = TimeWindow(20.0)
    window.roll(1000.5)
    window.add(FAILED)

    assert 0 == window.resized(10.0, 1012.5).total


def test_a_resized_window_has_as_many_parts() -> None:
    """Five parts of two seconds become five of four."""
    window = TimeWindow(10.0, 5)

    assert 1004.0 == window.resized(20.0, 1001.0).edge


def test_the_very_beginning_of_time_is_a_time() -> None:
    """A clock that starts at nothing is served as any other."""
    window = TimeWindow(10.0)
    window.roll(0.5)
    window.add(FAILED)

    assert 1 == left_at(window.resized(20.0, 0.5), 0.5)
    assert 1 == left_at(window, 9.9)
    assert 0 == left_at(window, 10.0)


def test_a_spotless_window_stays_so_at_another_length() -> None:
    """Nothing failed and nothing was slow, in whichever part it belongs to."""
    window = TimeWindow(10.0)
    window.roll(5.0)
    window.add(GOOD, 3)

    resized = window.resized(20.0, 5.0)

    assert (3, 0, 0) == (resized.total, resized.failures, resized.slow)
