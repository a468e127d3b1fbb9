"""The story of a call: what is attempted, what surfaces, what is told."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
import traceback
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import (
    Script,
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
    from fakes import Step
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Judgement


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


def test_what_a_shadow_would_have_refused_is_told() -> None:
    """How long the caller waited for it, and whether it was worth it."""
    world = World(service_settings(BREAKER_MODE="shadow"))
    for _ in range(5):
        world.play(breaks(), repeatable=False)

    world.play(breaks(seconds=2.0), repeatable=False)
    world.play(works(seconds=0.5))

    assert [("breaker", 2.0, 0), ("breaker", 0.5, 1)] == world.observer.of("would_act")
    assert [] == world.observer.of("rejected")
    assert "closed" == world.policies.breaker.state(world.clock.now)


def test_a_call_that_two_shadows_would_refuse_is_told_once() -> None:
    """From the moment at which the first attempt would have been refused."""
    world = World(service_settings(BREAKER_MODE="shadow"))
    for _ in range(5):
        world.play(breaks(), repeatable=False)

    world.play(breaks(seconds=2.0), works(seconds=0.5))

    assert [("breaker", 3.0, 1)] == world.observer.of("would_act")


def test_a_disabled_circuit_would_do_nothing() -> None:
    """It lets everybody through and has no opinion."""
    world = World(service_settings(BREAKER_MODE="disabled"))

    world.play(works())

    assert [] == world.observer.of("would_act")


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


@pytest.mark.parametrize(
    "interruption", [KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_who_is_interrupted_while_waiting_leaves_no_response_open(
    interruption: BaseException,
) -> None:
    """The response of the failed attempt reaches nobody, so it is released."""
    world = World()
    io = world.script(answers(503))

    def interrupt(_: float) -> None:
        raise interruption

    io.during_sleep = interrupt
    with pytest.raises(type(interruption)) as caught:
        world.call(io)

    assert interruption is caught.value
    assert [503] == [value(outcome) for outcome in io.discarded]
    assert "cancelled" == world.observer.of("call_ended")[0][0]


def test_an_interruption_is_not_hidden_by_a_failing_release() -> None:
    """Cancellation passes on, whatever happens while tidying up."""
    world = World()
    io = world.script(answers(503))

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    def fail() -> None:
        raise OSError

    io.during_sleep, io.during_discard = interrupt, fail

    with pytest.raises(KeyboardInterrupt):
        world.call(io)


def test_a_call_that_is_closed_does_not_wait_again() -> None:
    """A coroutine that nobody awaits any more must end at once."""
    world = World()
    io = world.script(answers(503))

    def close(_: float) -> None:
        raise GeneratorExit

    io.during_sleep = close
    with pytest.raises(GeneratorExit):
        world.call(io)

    assert [] == io.discarded


def test_settings_may_name_what_is_tried_again() -> None:
    """A 500 is tried again where the settings say so."""
    settings = service_settings()
    retry = dataclasses.replace(settings.retry, on_statuses=frozenset({500}))
    world = World(dataclasses.replace(settings, retry=retry))
    io = world.script(is_refused(500), works())

    assert "ok" == value(world.call(io))
    assert 2 == len(io.attempts)


def test_budgets_that_settle_hear_of_every_attempt() -> None:
    """Six failures in a row leave less than half of ten tokens: no more retries."""
    settings = service_settings(BREAKER_CONSECUTIVE="off")
    retry = dataclasses.replace(settings.retry, budget_mode="grpc", jitter="immediate")
    world = World(dataclasses.replace(settings, retry=retry))

    for _ in range(3):
        world.play(answers(503))

    assert [("attempts",), ("budget",), ("budget",)] == (
        world.observer.of("retry_skipped")
    )
    assert 0.4 == world.policies.budget.ratio_left(world.clock.now)


def test_a_response_dies_with_its_call() -> None:
    """Three failed attempts leave no cycle: nothing waits for the garbage collector."""

    class Body:
        """Stands for a response's megabytes."""

    world = World()
    bodies = [Body() for _ in range(3)]
    watched = [weakref.ref(body) for body in bodies]
    steps = [
        dataclasses.replace(answers(503), outcome=Returned(body)) for body in bodies
    ]
    io = world.script(*steps)
    del steps, bodies
    gc.disable()
    try:
        outcome = world.call(io)
        del outcome, io

        assert [None] * 3 == [body() for body in watched]
    finally:
        gc.enable()


def test_an_error_dies_with_its_call() -> None:
    """Nor do errors that were really raised, with all that their frames hold."""

    class BodyError(ConnectionError):
        """Stands for an error that holds its response."""

    judgement = breaks().judgement
    watched: list[weakref.ref[BodyError]] = []

    class Raising(Script):
        async def attempt(self, number: int, deadline: float | None) -> Outcome:
            del number, deadline
            try:
                self.connect()
            except BodyError as caught:
                return Raised(caught)

        def connect(self) -> NoReturn:
            failure = BodyError("down")
            watched.append(weakref.ref(failure))
            try:
                raise failure
            finally:
                del failure

        def judge(self, outcome: Outcome) -> Judgement:
            del outcome
            return judgement

        async def discard(self, outcome: Outcome) -> None:
            del outcome  # else this object, which the traceback holds, would hold it

    world = World()
    gc.disable()
    try:
        assert isinstance(world.call(Raising(world.clock)), Raised)

        assert [None] * 3 == [body() for body in watched]
    finally:
        gc.enable()


def depth(refused: Exception) -> int:
    """Return how many frames the error's traceback has once it was raised."""
    try:
        raise refused
    except CircuitBreakerOpenError as caught:
        return len(list(traceback.walk_tb(caught.__traceback__)))


@pytest.mark.slow
def test_refusals_are_fresh_and_do_not_grow() -> None:
    """Five thousand refusals are as many errors, each with a traceback of its own."""
    world = World(service_settings(BREAKER_MODE="forced_open"))
    lengths = set()
    tracemalloc.start()
    try:
        for number in range(5000):
            if number == 500:
                before, _ = tracemalloc.get_traced_memory()
            refused = error(world.play(works()))
            assert refused.__traceback__ is None
            lengths.add(depth(refused))
            world.observer.events.clear()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert {1} == lengths
    assert after - before < 1_000_000


def test_two_refusals_are_two_errors() -> None:
    """Nobody's traceback grows on somebody else's error."""
    world = World(service_settings(BREAKER_MODE="forced_open"))

    assert error(world.play(works())) is not error(world.play(works()))


def test_the_call_that_opens_the_circuit_raises_its_own_error() -> None:
    """The very object that the library raised, not a refusal."""
    world = World(service_settings(BREAKER_CONSECUTIVE=1))
    own = ConnectionResetError("own")

    assert own is error(world.play(breaks(own)))
    assert "open" == world.policies.breaker.state(world.clock.now)


def test_five_returned_503s_open_the_circuit() -> None:
    """A failure need not be raised to be one."""
    world = World(service_settings(RETRY_MAX_ATTEMPTS=1))

    for _ in range(5):
        world.play(answers(503))

    assert "open" == world.policies.breaker.state(world.clock.now)


def test_attempts_run_beside_each_other() -> None:
    """Ten threads through one circuit are ten at once: no lock is held meanwhile."""
    world = World()
    together = threading.Barrier(10, timeout=10.0)
    step = works()

    class Meeting(Script):
        async def attempt(self, number: int, deadline: float | None) -> Outcome:
            del number, deadline
            together.wait()
            return step.outcome  # type: ignore[return-value]

        def judge(self, outcome: Outcome) -> Judgement:
            del outcome
            return step.judgement

    with ThreadPoolExecutor(10) as pool:
        calls = [pool.submit(world.call, Meeting(world.clock, step)) for _ in range(10)]

        assert ["ok"] * 10 == [value(call.result()) for call in calls]


def test_of_fifty_threads_one_is_the_probe() -> None:
    """When the open time is up, one attempt is made and 49 callers are refused."""
    world = World(service_settings(BREAKER_CONSECUTIVE=1))
    open_circuit(world.policies.breaker, world.clock.now)
    world.clock.advance(60.0)
    all_here, refused = threading.Barrier(50, timeout=30.0), threading.Semaphore(0)
    step = works()
    ran = []

    class Probing(Script):
        async def attempt(self, number: int, deadline: float | None) -> Outcome:
            del number, deadline
            ran.append(1)
            for _ in range(49):
                assert refused.acquire(timeout=30.0)
            return step.outcome  # type: ignore[return-value]

        def judge(self, outcome: Outcome) -> Judgement:
            del outcome
            return step.judgement

    def caller() -> str:
        all_here.wait()
        outcome = world.call(Probing(world.clock, step))
        if isinstance(outcome, Raised):
            refused.release()
        return type(outcome).__name__

    with ThreadPoolExecutor(50) as pool:
        ends = [call.result() for call in [pool.submit(caller) for _ in range(50)]]

    assert [1] == ran
    assert ["Raised"] * 49 + ["Returned"] == sorted(ends)


def test_of_fifty_tasks_one_is_the_probe() -> None:
    """The same for coroutines of one thread."""
    world = World(service_settings(BREAKER_CONSECUTIVE=1))
    open_circuit(world.policies.breaker, world.clock.now)
    world.clock.advance(60.0)
    ios = [world.script(works()) for _ in range(50)]

    async def attempt(io: Script) -> Outcome:
        original = io.attempt

        async def slow(number: int, deadline: float | None) -> Outcome:
            await asyncio.sleep(0)
            return await original(number, deadline)

        io.attempt = slow  # type: ignore[method-assign]
        return await execute(a_call(), world.policies, io, world.observer, world.clock)

    async def all_at_once() -> list[Outcome]:
        return await asyncio.gather(*(attempt(io) for io in ios))

    outcomes = asyncio.run(all_at_once())

    assert 1 == sum(isinstance(outcome, Returned) for outcome in outcomes)
    assert 1 == sum(len(io.attempts) for io in ios)


def test_two_failures_and_a_success_are_counted_as_such() -> None:
    """One call, attempts 2 and 3 as retries, one success after retries."""
    world = World()

    world.play(breaks(), breaks(), works())

    assert 1 == len(world.observer.of("call_started"))
    assert [(1,), (2,), (3,)] == world.observer.of("attempt_started")
    assert [("success", 3, 1.5)] == world.observer.of("call_ended")


@pytest.mark.parametrize(
    ("facts", "step", "attempts"),
    [
        ({"repeatable": False}, times_out(10.0), 1),
        ({"repeatable": False}, breaks(ConnectionRefusedError(), sent=False), 3),
        ({"repeatable": True}, answers(503), 3),
        ({"repeatable": True}, is_refused(500), 1),
        ({"replayable": False}, answers(503), 1),
        ({"app_retries": True}, answers(503), 1),
    ],
)
def test_attempts_are_made_by_proof(
    facts: dict[str, bool], step: Step, attempts: int
) -> None:
    """A POST that timed out once; one that was refused, or with a key, thrice."""
    world = World(service_settings(BREAKER_CONSECUTIVE="off"))
    io = world.script(step)

    world.call(io, **facts)

    assert attempts == len(io.attempts)


def test_a_circuit_that_opens_on_the_fifth_attempt_ends_the_call() -> None:
    """Of ten allowed attempts five are made; the fifth's own error is raised."""
    world = World(service_settings(RETRY_MAX_ATTEMPTS=10))
    errors = [ConnectionResetError(str(number)) for number in range(1, 6)]
    io = world.script(*map(breaks, errors), works())

    assert errors[-1] is error(world.call(io))
    assert 5 == len(io.attempts)


def test_the_wall_clock_moves_nothing() -> None:
    """An hour forth or back while open: the circuit neither opens nor freezes."""
    world = World()
    open_circuit(world.policies.breaker, world.clock.now)

    for step in (3600.0, -7200.0):
        world.clock.epoch += step
        assert "open" == world.policies.breaker.state(world.clock.now)
        assert isinstance(world.play(works()), Raised)
    world.clock.advance(33.0)

    assert "ok" == value(world.play(works()))


@given(
    st.lists(st.sampled_from(["works", "breaks", "refused", "late"]), min_size=1),
    st.integers(1, 6),
    st.booleans(),
    st.none() | st.floats(0.0, 20.0),
)
def test_no_call_exceeds_what_it_was_allowed(
    story: list[str],
    most: int,
    repeatable: bool,
    allowed: float | None,
) -> None:
    """Never more attempts or time; each call and attempt is told once."""
    world = World(service_settings(RETRY_MAX_ATTEMPTS=most))
    steps = {
        "works": works(seconds=0.2),
        "breaks": breaks(seconds=0.1),
        "refused": breaks(ConnectionRefusedError(), sent=False),
        "late": times_out(3.0),
    }
    io = world.script(*(steps[name] for name in story))
    begun = world.clock.now
    deadline = None if allowed is None else begun + allowed

    world.call(io, repeatable=repeatable, deadline=deadline)

    made = len(io.attempts)
    assert made <= most
    assert deadline is None or world.clock.now <= deadline + 1e-9
    assert [(n,) for n in range(1, made + 1)] == world.observer.of("attempt_started")
    assert made == len(world.observer.of("attempt_ended"))
    assert 1 == len(world.observer.of("call_ended"))
    if not repeatable:
        sent = [story[min(n, len(story) - 1)] != "refused" for n in range(made - 1)]
        assert not any(sent)


def test_an_estimate_needs_a_limit_to_stay_below() -> None:
    """Where nothing is limited, attempts take what they take."""
    settings = service_settings(ADAPTIVE_MODE="enforce")
    timeout = dataclasses.replace(settings.timeout, read=None, total=None)
    world = World(dataclasses.replace(settings, timeout=timeout))
    io = world.script(works(seconds=3600.0))

    world.call(io)

    assert [None] == io.deadlines
    assert [("success", 1, 3600.0)] == world.observer.of("call_ended")
