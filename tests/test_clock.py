"""Where time and chance come from."""

from __future__ import annotations

import time

from resilience_instrument.clock import SystemClock


def test_monotonic_time_does_not_go_back() -> None:
    """Two readings are in order, and on the same scale as the interpreter's."""
    clock = SystemClock()

    first, second = clock.monotonic(), clock.monotonic()

    assert first <= second
    assert abs(time.monotonic() - second) < 60.0


def test_wall_time_is_the_machines() -> None:
    """Dates in headers are compared with the machine's own date."""
    assert abs(time.time() - SystemClock().wall()) < 60.0


def test_chance_lies_between_its_bounds() -> None:
    """A drawn number is never outside what was asked for."""
    clock = SystemClock()

    drawn = [clock.uniform(2.0, 3.0) for _ in range(100)]

    assert 2.0 <= min(drawn) < max(drawn) <= 3.0


def test_a_new_seed_means_other_numbers() -> None:
    """A child that draws a new seed does not repeat its parent's numbers."""
    clock = SystemClock()
    state = clock._random.getstate()
    parents = [clock.uniform(0.0, 1.0) for _ in range(8)]
    clock._random.setstate(state)

    clock.reseed()

    assert parents != [clock.uniform(0.0, 1.0) for _ in range(8)]
