"""The time by which a whole call must be over."""

from __future__ import annotations

import time

import pytest

import resilience_instrument
from fakes import World, answers, service_settings, times_out, works
from resilience_instrument.policies.deadline import CURRENT, Within, nearer


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(None, None, None), (None, 2.0, 2.0), (1.0, None, 1.0), (3.0, 2.0, 2.0)],
)
def test_the_nearer_deadline_holds(
    first: float | None, second: float | None, expected: float | None
) -> None:
    """The nearer of two deadlines holds; none is no deadline."""
    assert expected == nearer(first, second)


def test_there_is_no_deadline_unless_somebody_sets_one() -> None:
    """A call outside of any deadline is not hurried."""
    assert CURRENT.get() is None


def test_a_block_has_its_deadline_and_no_longer() -> None:
    """After it there is again what was before."""
    with Within(1002.0):
        assert 1002.0 == CURRENT.get()

    assert CURRENT.get() is None


def test_of_nested_deadlines_the_nearer_holds() -> None:
    """Ten seconds inside of two are two."""
    with Within(1002.0):
        with Within(1010.0):
            assert 1002.0 == CURRENT.get()
        with Within(1001.0):
            assert 1001.0 == CURRENT.get()
        assert 1002.0 == CURRENT.get()


def test_leaving_twice_is_harmless() -> None:
    """A block that was left has nothing more to restore."""
    block = Within(1002.0)
    block.__enter__()
    block.__exit__()

    block.__exit__()

    assert CURRENT.get() is None


def test_an_app_can_set_a_deadline() -> None:
    """In seconds from now, by the public name."""
    before = time.monotonic()
    with resilience_instrument.deadline(60.0):
        end = CURRENT.get()

    assert end is not None
    assert before + 60.0 <= end <= time.monotonic() + 60.0


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
def test_a_deadline_lies_ahead(seconds: float) -> None:
    """What cannot be kept is refused where it is asked for."""
    with pytest.raises(ValueError, match="use a number from 0 on"):
        resilience_instrument.deadline(seconds)


@pytest.mark.parametrize(
    ("seconds", "attempts", "slept", "total"),
    [
        (5.0, [3.0, 1.5], [0.5], 5.0),
        (10.0, [3.0, 3.0, 2.5], [0.5, 1.0], 10.0),
        (3.2, [3.0], [], 3.0),
    ],
)
def test_no_pause_reaches_beyond_the_deadline(
    seconds: float, attempts: list[float], slept: list[float], total: float
) -> None:
    """Attempts of three seconds and pauses of half the bound fill what there is."""
    world = World(service_settings(BREAKER_CONSECUTIVE="off"))
    begun = world.clock.now
    io = world.script(times_out(3.0))

    world.call(io, deadline=begun + seconds)

    assert (attempts, slept) == (io.attempts, io.slept)
    assert total == pytest.approx(world.clock.now - begun)


def test_a_pause_is_not_begun_that_leaves_no_useful_time() -> None:
    """0.5 s of pause and 50 ms of attempt fit into 0.55 s, not into less."""
    for seconds, slept in ((0.551, 1), (0.549, 0)):
        world = World()
        io = world.script(answers(503), works())

        world.call(io, deadline=world.clock.now + seconds)

        assert slept == len(io.slept)
