"""How long to wait before the next attempt."""

from __future__ import annotations

import random

from fakes import FakeClock
from resilience_instrument.policies.backoff import full_jitter


def test_full_jitter_doubles_up_to_its_cap() -> None:
    """The upper bounds are 1, 2, 4, ... and never more than the cap."""
    most, half = FakeClock(share=1.0).uniform, FakeClock(share=0.5).uniform

    assert [1, 2, 4, 8, 16, 32, 60, 60] == [
        full_jitter(n, 1.0, 60.0, most) for n in range(8)
    ]
    assert [0.5, 1, 2, 4, 8, 16, 30, 30] == [
        full_jitter(n, 1.0, 60.0, half) for n in range(8)
    ]


def test_full_jitter_draws_from_the_given_chance() -> None:
    """A known seed gives known pauses."""
    uniform = random.Random(42).uniform

    drawn = [round(full_jitter(n, 1.0, 60.0, uniform), 6) for n in range(3)]

    assert [0.639427, 0.050022, 1.100117] == drawn


def test_a_late_attempt_does_not_overflow() -> None:
    """The bound is the cap at the 5000th retry too."""
    assert 60.0 == full_jitter(5000, 1.0, 60.0, FakeClock(share=1.0).uniform)
