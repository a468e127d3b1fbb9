"""Limits of concurrency that learn."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_instrument.config.model import BulkheadSettings
from resilience_instrument.policies.limit import (
    Aimd,
    Fixed,
    Gradient2,
    gradient_step,
    limit_for,
)


@pytest.mark.parametrize(
    ("mode", "kind"), [("off", Fixed), ("aimd", Aimd), ("gradient2", Gradient2)]
)
def test_the_settings_say_how_the_limit_is_learnt(mode: str, kind: type) -> None:
    """It starts where they say."""
    settings = dataclasses.replace(
        BulkheadSettings(),
        adaptive=mode,  # type: ignore[arg-type]
    )

    found = limit_for(settings, 20)

    assert (kind, 20) == (type(found), found.value)


def test_a_fixed_limit_learns_nothing() -> None:
    """It is what it was set to."""
    limit = Fixed(20)

    limit.learn(1.0, 20, dropped=True)

    assert 20 == limit.value


def test_aimd_falls_by_a_tenth_for_each_lost_call() -> None:
    """From 20 in ten steps to 5, and never below 1."""
    limit = Aimd(20, 200)

    values = []
    for _ in range(10):
        limit.learn(1.0, 1, dropped=True)
        values.append(limit.value)

    assert [18, 16, 14, 12, 10, 9, 8, 7, 6, 5] == values
    for _ in range(10):
        limit.learn(1.0, 1, dropped=True)
    assert 1 == limit.value


@pytest.mark.parametrize(
    ("start", "inflight", "after"), [(20, 10, 21), (20, 9, 20), (200, 200, 200)]
)
def test_aimd_rises_by_one_where_the_limit_is_used(
    start: int, inflight: int, after: int
) -> None:
    """Half of it must be under way; 200 is the end."""
    limit = Aimd(start, 200)

    limit.learn(1.0, inflight, dropped=False)

    assert after == limit.value


@pytest.mark.parametrize(
    ("short", "inflight", "after"),
    [
        (100.0, 20, 20.8),
        (150.0, 20, 20.8),
        (200.0, 20, 19.8),
        (1000.0, 20, 18.8),
        (200.0, 9, 20.0),
        (200.0, 10, 19.8),
    ],
)
def test_a_gradient_step_follows_the_ratio(
    short: float, inflight: int, after: float
) -> None:
    """Half as long again is tolerated; a limit that is not used does not move."""
    assert after == pytest.approx(gradient_step(20.0, 100.0, short, inflight))


def test_gradient2_learns_what_is_usual_first() -> None:
    """Ten attempts make an average, the next ones move it by a 300th."""
    limit = Gradient2(20, 200)
    for seconds in (1.0, 3.0) * 5:
        limit.learn(seconds, 1, dropped=False)
    assert 2.0 == limit._long

    limit.learn(5.01, 1, dropped=False)

    assert 2.0 + 3.01 * 2 / 601 == pytest.approx(limit._long)
    assert 20 == limit.value


def test_gradient2_forgets_bad_days() -> None:
    """Where the usual is more than twice the latest it shrinks by a twentieth."""
    limit = Gradient2(20, 200)
    for _ in range(10):
        limit.learn(10.0, 1, dropped=False)

    limit.learn(1.0, 1, dropped=False)

    assert (10.0 - 9.0 * 2 / 601) * 0.95 == pytest.approx(limit._long)


def test_gradient2_falls_when_answers_become_slow() -> None:
    """Ten times slower than usual halves the aim, step by step."""
    limit = Gradient2(20, 200)
    for _ in range(10):
        limit.learn(0.1, 1, dropped=False)

    limit.learn(1.0, 20, dropped=False)

    assert 18 == limit.value


def test_gradient2_takes_no_sample_of_lost_calls() -> None:
    """A refusal is quick and says nothing about how long work takes."""
    limit = Gradient2(20, 200)

    limit.learn(0.001, 20, dropped=True)
    limit.learn(0.0, 20, dropped=False)

    assert (20, 0.0) == (limit.value, limit._long)


@given(
    st.sampled_from([Aimd, Gradient2]),
    st.lists(
        st.tuples(st.floats(0.0, 1e6), st.integers(0, 500), st.booleans()), max_size=200
    ),
)
def test_a_learnt_limit_stays_within_its_bounds(
    kind: type[Aimd | Gradient2], story: list[tuple[float, int, bool]]
) -> None:
    """Never below 1, never above the maximum."""
    limit = kind(20, 50)
    for seconds, inflight, dropped in story:
        limit.learn(seconds, inflight, dropped=dropped)

        assert 1 <= limit.value <= 50
