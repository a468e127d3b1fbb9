"""The story of a call: what is attempted, what surfaces, what is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fakes import (
    World,
    a_call,
    answers,
    breaks,
    interrupts,
    is_refused,
    open_circuit,
    service_settings,
    times_out,
    works,
)
from resilience_instrument.engine import execute, run_sync
from resilience_instrument.errors import CircuitBreakerOpenError, DeadlineExceededError
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from resilience_instrument.outcome import Outcome


def value(outcome: Outcome) -> object:
    """Return what the outcome returned."""
    assert isinstance(outcome, Returned)
    return outcome.value


def error(outcome: Outcome) -> Exception:
    """Return what the outcome raised."""
    assert isinstance(outcome, Raised)
    return outcome.error


def test_a_success_is_one_attempt() -> None:
    """Where all is well nothing happens but the attempt."""
    world = World()
    io = world.script(works("answer", seconds=0.25))

    outcome = world.call(io)

    assert "answer" == value(outcome)
    assert [0.25] == io.attempts
    assert ["call_started", "attempt_started", "attempt_ended", "call_ended"] == (
        world.observer.names
    )
    assert [("success", 1, 0.25)] == world.observer.of("call_ended")


def test_a_transient_failure_is_tried_again_after_a_pause() -> None:
    """Failed attempts are discarded, the last one's result is the app's."""
    world = World()
    io = world.script(answers(503), answers(503), works())

    outcome = world.call(io)

    assert "ok" == value(outcome)
    assert [0.5, 1.0] == io.slept
    assert [503, 503] == [value(failed) for failed in io.discarded]
    assert [(2, 0.5, "503"), (3, 1.0, "503")] == world.observer.of("retry_scheduled")
    assert [("success", 3, 1.5)] == world.observer.of("call_ended")


def test_the_last_failure_surfaces_when_attempts_are_used_up() -> None:
    """The app gets the very object that its library raised, with a note."""
    world = World()
    last = ConnectionResetError("the last")

    outcome = world.play(breaks(), breaks(), breaks(last))

    assert last is error(outcome)
    assert ["resilience: 3 attempts were made"] == last.__notes__
    assert [("attempts",)] == world.observer.of("retry_skipped")
    assert [("error", 3, 1.5)] == world.observer.of("call_ended")


def test_a_single_failure_gets_no_note() -> None:
    """An error that no retry preceded is left as it was."""
    world = World()
    only = ConnectionResetError("once")

    world.play(breaks(only), repeatable=False)

    assert not hasattr(only, "__notes__")
    assert [("not_idempotent",)] == world.observer.of("retry_skipped")


def test_a_permanent_failure_is_no_reason_to_try_again() -> None:
    """What would fail again is handed on at once, and nobody skipped a retry."""
    world = World()
    io = world.script(is_refused(500))

    assert 500 == value(world.call(io))
    assert 1 == len(io.attempts)
    assert [] == world.observer.of("retry_skipped")


def test_a_timeout_is_how_the_call_ends() -> None:
    """A call whose last attempt timed out counts as a timeout."""
    world = World(service_settings(RETRY_MAX_ATTEMPTS=1))

    world.play(times_out(10.0))

    assert [("timeout", 1, 10.0)] == world.observer.of("call_ended")


def test_an_open_circuit_refuses_without_an_attempt() -> None:
    """The error says why, since what, and when to come back."""
    world = World(service_settings(RETRY_MAX_ATTEMPTS=1))
    for _ in range(5):
        world.play(breaks())
    io = world.script(works())

    refused = error(world.call(io))

    assert isinstance(refused, CircuitBreakerOpenError)
    assert [] == io.attempts
    assert (
        "circuit of payment-api is open after 5 failures in a row"
        " (last: ConnectionResetError); next try in 33.0 s"
    ) == str(refused)
    assert ("payment-api", 33.0, "ConnectionResetError") == (
        refused.service,
        refused.retry_after,
        refused.last_error,
    )
    assert [("breaker",)] == world.observer.of("rejected")
    assert ("rejected", 0, 0.0) == world.observer.of("call_ended")[-1]


def test_a_probe_under_way_is_named_in_the_refusal() -> None:
    """While a probe runs nobody can say when the next one may."""
    world = World(service_settings(RETRY_MAX_ATTEMPTS=1))
    for _ in range(5):
        world.play(breaks())
    world.clock.advance(60.0)
    world.policies.breaker.acquire(world.clock.now)

    refused = error(world.play(works()))

    assert str(refused).endswith("; a probe is under way")


def test_an_order_is_named_in_the_refusal() -> None:
    """Who forced the circuit open wants to be found."""
    world = World(service_settings(BREAKER_MODE="forced_open"))

    refused = error(world.play(works()))

    assert "circuit of payment-api was opened by order" == str(refused)


def test_changes_of_the_circuit_are_told() -> None:
    """Opening, probing and closing are told in this order, once each."""
    world = World(service_settings(RETRY_MAX_ATTEMPTS=1))
    for _ in range(5):
        world.play(breaks())
    world.clock.advance(60.0)
    for _ in range(2):
        world.play(works())

    told = [(t.from_state, t.to_state) for (t,) in world.events("transitioned")]
    assert [
        ("closed", "open"),
        ("open", "half_open"),
        ("half_open", "closed"),
    ] == told


def test_a_circuit_that_opens_ends_the_call_with_the_real_failure() -> None:
    """The attempt that opens the circuit is the last, and its own result stands."""
    world = World(service_settings(BREAKER_CONSECUTIVE=2))
    io = world.script(answers(503))

    outcome = world.call(io)

    assert 503 == value(outcome)
    assert 2 == len(io.attempts)
    assert [("open",)] == world.observer.of("retry_skipped")


def test_a_circuit_that_opens_during_the_pause_ends_the_call() -> None:
    """Whoever wakes up to an open circuit keeps the failure it has."""
    world = World()
    io = world.script(answers(503))

    def others_fail(_: float) -> None:
        open_circuit(world.policies.breaker, world.clock.now)

    io.during_sleep = others_fail

    assert 503 == value(world.call(io))
    assert 1 == len(io.attempts)
    assert [] == io.discarded
    assert [("open",)] == world.observer.of("retry_skipped")


def test_no_attempt_starts_without_useful_time() -> None:
    """With 49 ms left the call is refused, and the breaker learns nothing."""
    world = World()
    io = world.script(works())

    refused = error(world.call(io, deadline=world.clock.now + 0.049))

    assert isinstance(refused, DeadlineExceededError)
    assert "no time left for a call to payment-api" == str(refused)
    assert [] == io.attempts
    assert [("deadline",)] == world.observer.of("rejected")
    assert [("timeout", 0, 0.0)] == world.observer.of("call_ended")


def test_attempts_are_told_the_deadline() -> None:
    """The room gets the moment by which an attempt must be over."""
    world = World()
    io = world.script(works())

    world.call(io, deadline=world.clock.now + 5.0)

    assert [1005.0] == io.deadlines


@pytest.mark.parametrize(
    "interruption", [asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit()]
)
def test_a_cancelled_attempt_counts_as_nothing(interruption: BaseException) -> None:
    """It passes on, its permit is handed back, and nobody counts a failure."""
    world = World(service_settings(BREAKER_CONSECUTIVE=1))

    with pytest.raises(type(interruption)) as caught:
        world.play(interrupts(interruption))

    assert interruption is caught.value
    assert [(1,)] == world.observer.of("attempt_cancelled")
    assert [("cancelled", 1, 0.0)] == world.observer.of("call_ended")
    assert "closed" == world.policies.breaker.state(world.clock.now)


def test_a_cancelled_probe_makes_room_for_the_next() -> None:
    """Cancellation says nothing about the service, so the next caller may ask."""
    world = World(service_settings(BREAKER_CONSECUTIVE=1, RETRY_MAX_ATTEMPTS=1))
    world.play(breaks())
    world.clock.advance(60.0)

    with pytest.raises(KeyboardInterrupt):
        world.play(interrupts(KeyboardInterrupt()))

    assert "ok" == value(world.play(works()))


def test_a_fault_of_ours_is_raised_as_what_it_is() -> None:
    """Whoever called the engine must learn of it to let the call through."""
    world = World()
    fault = RuntimeError("ours")

    with pytest.raises(RuntimeError) as caught:
        world.play(interrupts(fault))

    assert fault is caught.value
    assert [("error", 1, 0.0)] == world.observer.of("call_ended")


def test_a_fault_while_discarding_hands_the_permit_back() -> None:
    """A probe is not lost because a response could not be closed."""
    world = World(service_settings(BREAKER_CONSECUTIVE=1))
    world.play(breaks(), repeatable=False)
    world.clock.advance(60.0)
    io = world.script(times_out(0.1, Evidence.NEUTRAL))

    def fail() -> None:
        raise OSError

    io.during_discard = fail
    with pytest.raises(OSError):  # noqa: PT011 - the very one from above
        world.call(io)

    assert "ok" == value(world.play(works()))


def test_a_synchronous_io_must_not_suspend() -> None:
    """A coroutine that waits for somebody cannot be finished in one go."""

    async def suspends() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="a synchronous Io suspended"):
        run_sync(suspends())


def test_async_calls_take_the_same_way() -> None:
    """An Io that really suspends sees the same story."""
    world = World()

    async def story() -> Any:
        io = world.script(answers(503), works())

        async def sleep(seconds: float) -> None:
            await asyncio.sleep(0)
            world.clock.advance(seconds)

        io.sleep = sleep  # type: ignore[method-assign]
        return await execute(a_call(), world.policies, io, world.observer, world.clock)

    assert "ok" == value(asyncio.run(story()))
    assert [("success", 2, 0.5)] == world.observer.of("call_ended")
