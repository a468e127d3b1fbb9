"""How long to wait before the next attempt."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, get_args

import pytest

from fakes import FakeClock
from resilience_instrument.config.model import Jitter
from resilience_instrument.policies.backoff import (
    decorrelated_jitter,
    equal_jitter,
    fixed,
    full_jitter,
    immediate,
    pause,
    proportional_jitter,
)

if TYPE_CHECKING:
    from collections.abc import Callable

LEAST = FakeClock(share=0.0).uniform
HALF = FakeClock(share=0.5).uniform
MOST = FakeClock(share=1.0).uniform


def test_full_jitter_doubles_up_to_its_cap() -> None:
    """The upper bounds are 1, 2, 4, ... and never more than the cap."""
    assert [1, 2, 4, 8, 16, 32, 60, 60] == [
        full_jitter(n, 1.0, 60.0, MOST) for n in range(8)
    ]
    assert [0.5, 1, 2, 4, 8, 16, 30, 30] == [
        full_jitter(n, 1.0, 60.0, HALF) for n in range(8)
    ]


def test_full_jitter_draws_from_the_given_chance() -> None:
    """A known seed gives known pauses."""
    uniform = random.Random(42).uniform

    drawn = [round(full_jitter(n, 1.0, 60.0, uniform), 6) for n in range(3)]

    assert [0.639427, 0.050022, 1.100117] == drawn


def test_a_late_attempt_does_not_overflow() -> None:
    """The bound is the cap at the 5000th retry too."""
    assert 60.0 == full_jitter(5000, 1.0, 60.0, MOST)


def test_equal_jitter_waits_at_least_half() -> None:
    """Between the half and the whole of 1, 2, 4, 8, 16, 32, 60."""
    bounds = [
        (equal_jitter(n, 1.0, 60.0, LEAST), equal_jitter(n, 1.0, 60.0, MOST))
        for n in range(7)
    ]

    assert [
        (0.5, 1),
        (1, 2),
        (2, 4),
        (4, 8),
        (8, 16),
        (16, 32),
        (30, 60),
    ] == bounds


def follow(uniform: Callable[[float, float], float], count: int) -> list[float]:
    """Return pauses of decorrelated jitter, each drawn after the one before."""
    pauses, previous = [], 1.0
    for _ in range(count):
        previous = decorrelated_jitter(previous, 1.0, 30.0, uniform)
        pauses.append(previous)
    return pauses


def test_decorrelated_jitter_grows_from_the_pause_before() -> None:
    """Up to three times as long, from the base on, up to the cap."""
    assert [3, 9, 27, 30, 30] == follow(MOST, 5)
    assert [2, 3.5, 5.75, 9.125] == follow(HALF, 4)
    assert [1, 1, 1] == follow(LEAST, 3)


def test_proportional_jitter_adds_a_tenth() -> None:
    """The bound in full, and up to a tenth of it on top."""
    assert [1, 2, 4, 60] == [
        proportional_jitter(n, 1.0, 60.0, LEAST) for n in (0, 1, 2, 9)
    ]
    assert [1.1, 2.2] == [proportional_jitter(n, 1.0, 60.0, MOST) for n in (0, 1)]


def test_fixed_and_immediate_know_no_chance() -> None:
    """For those who ask for them: the same pause each time, or none."""
    assert [2, 2] == [fixed(n, 2.0, 60.0, MOST) for n in (0, 5)]
    assert 1.0 == fixed(0, 2.0, 1.0, MOST)
    assert 0.0 == immediate(3, 2.0, 60.0, MOST)


@pytest.mark.parametrize("kind", get_args(Jitter))
def test_every_kind_stays_between_nothing_and_its_cap(kind: Jitter) -> None:
    """Also at the five thousandth retry; a tenth may come on top."""
    for retry in (0, 1, 100, 5000):
        for uniform in (LEAST, HALF, MOST):
            drawn = pause(kind, retry, 7.0, 1.0, 60.0, uniform)

            assert 0.0 <= drawn <= 66.0
