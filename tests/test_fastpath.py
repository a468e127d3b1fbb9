"""The short way of a call and the long one come to the same."""

from __future__ import annotations

import dis
import sys
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tracing
from fakes import (
    FakeClock,
    Script,
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
from resilience_instrument import CircuitBreakerOpenError, engine
from resilience_instrument.engine import run_sync
from resilience_instrument.fastpath import NO_WAY, Begun, Lane, ResumedIo
from resilience_instrument.integrations._dblane import Within
from resilience_instrument.integrations._traced import traced
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.registry import ServicePolicies
from resilience_instrument.signals import exemplars
from resilience_instrument.signals.fanout import Fanout
from resilience_instrument.signals.gather import gather
from resilience_instrument.signals.layout import EXEMPLARS
from resilience_instrument.signals.metrics import MetricsObserver, PlainTally
from resilience_instrument.signals.spans import SpanObserver
from resilience_instrument.signals.store import ENDPOINT, Store
from resilience_instrument.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from fakes import Step
    from resilience_instrument.config.model import ServiceSettings
    from resilience_instrument.outcome import Outcome


class Recorder:
    """An observer that remembers what it was told; its tally tells the same."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def told(_call: object, *facts: Any) -> None:
            self.events.append((name, *map(_plain, facts)))

        return told

    def tally(self, call: object) -> RecordingTally:
        return RecordingTally(self, call)


class RecordingTally:
    """Tells its observer in full what a tally is told in short."""

    def __init__(self, recorder: Recorder, call: object) -> None:
        self._recorder = recorder
        self._call = call

    def begin(self) -> None:
        """Do nothing: it is told at the end."""

    withdraw = begin

    def succeed(self, seconds: float) -> None:
        told = self._recorder
        told.call_started(self._call)
        told.attempt_started(self._call, 1)
        told.attempt_ended(self._call, 1, "success", seconds)
        told.call_ended(self._call, "success", 1, seconds)


def _plain(fact: Any) -> Any:
    """Return what can be compared; of a success nothing else is known."""
    if isinstance(fact, Judgement):
        return "success" if fact.verdict is Verdict.SUCCESS else repr(fact)
    return fact


class Service:
    """One service that is called the long way, or the short one where there is one."""

    def __init__(self, settings: ServiceSettings, *, short: bool) -> None:
        self.clock = FakeClock()
        self.policies = ServicePolicies("payment-api", settings, self.clock)
        self.store = Store()
        self.metrics = MetricsObserver(self.store)
        self.recorder = Recorder()
        self._short = short

    def play(self, observer: Any, steps: tuple[Step, ...], **facts: Any) -> Any:
        """Make one call whose attempts go as the steps say; return what came of it."""
        io = Script(self.clock, *steps)
        try:
            if self._short:
                return self._on_lane(observer, io, facts)
            return run_sync(
                engine.execute(a_call(**facts), self.policies, io, observer, self.clock)
            )
        except KeyboardInterrupt as error:
            return error

    def _on_lane(self, observer: Any, io: Script, facts: dict[str, Any]) -> Any:
        call = a_call(**facts)
        lane: Any = Lane(call, self.policies, observer.tally(call), observer)
        lane = traced(observer, lane, lambda: (call.operation, call.attributes()), ())
        started = self.clock.now
        generation = lane.enter(started)
        if generation == NO_WAY:
            return run_sync(
                engine.execute(call, self.policies, io, observer, self.clock)
            )
        made: Outcome | BaseException
        try:
            made = run_sync(io.attempt(1, None))
        except BaseException as error:
            made = error
        if isinstance(made, (Returned, Raised)):
            judgement = io.judge(made)
            if judgement.verdict is Verdict.SUCCESS:
                now = self.clock.now
                lane.succeed(generation, started, now, judgement.status)
                return made
        begun = Begun(generation, started, made)
        lane.withdraw(begun)
        begun.hand_over(call)
        resumed = ResumedIo(io, begun)
        return run_sync(
            engine.resume(
                call,
                self.policies,
                resumed,
                observer,
                self.clock,
                started,
                generation,
            )
        )

    @property
    def state(self) -> tuple[Any, ...]:
        """Everything that the policies know."""
        now, policies = self.clock.now, self.policies
        return (
            now,
            policies.breaker.state(now),
            policies.breaker.generation,
            policies.budget.ratio_left(now),
            policies.used,
            [each.quantile(0.5, 1, now) for each in policies.latencies],
            [each.quantile(0.99, 1, now) for each in policies.latencies],
        )

    @property
    def counted_without_examples(self) -> dict[Any, Any]:
        """The same without exemplars, which are of another trace each time."""
        return {k: v for k, v in self.counted.items() if k[0] != EXEMPLARS}

    @property
    def counted(self) -> dict[Any, Any]:
        """Everything that was counted, as a scrape shows it."""
        return {
            (block.layout.scope, block.labels): (list(block.counts), list(block.sums))
            for block in gather(self.store, None).blocks
        }


def _steps() -> st.SearchStrategy[tuple[Step, ...]]:
    seconds = st.sampled_from([0.0, 0.004, 0.3, 2.5, 12.0])
    step = st.one_of(
        st.builds(works, seconds=seconds),
        st.builds(works, seconds=seconds),
        st.builds(answers, st.sampled_from([429, 503]), seconds),
        st.builds(lambda s: breaks(seconds=s), seconds),
        st.builds(times_out, seconds),
        st.builds(is_refused, st.sampled_from([404, 500])),
        st.builds(lambda s: interrupts(KeyboardInterrupt(), s), seconds),
    )
    return st.lists(step, min_size=1, max_size=4).map(tuple)


_FACTS = st.fixed_dictionaries(
    {
        "repeatable": st.booleans(),
        "unbounded": st.booleans(),
        "measured": st.booleans(),
        "endpoint": st.sampled_from(["/a", "/b", "other"]),
    }
)
_DEFAULTS = service_settings()
_HASTY = service_settings(BREAKER_CONSECUTIVE=2, RETRY_MAX_ATTEMPTS=1)
_SLOW_COUNTS = replace(
    _DEFAULTS,
    breaker=replace(
        _DEFAULTS.breaker, slow_rate=0.5, slow_after=1.0, min_calls=3, window=60.0
    ),
)
_ASKED_BY_OTHERS = {
    "bulkhead": replace(_DEFAULTS, bulkhead=replace(_DEFAULTS.bulkhead, limit=5)),
    "adaptive": replace(
        _DEFAULTS, adaptive=replace(_DEFAULTS.adaptive, mode="enforce")
    ),
    "budget": replace(_DEFAULTS, retry=replace(_DEFAULTS.retry, budget_mode="grpc")),
    "breaker": replace(_DEFAULTS, breaker=replace(_DEFAULTS.breaker, mode="disabled")),
}
_SETTINGS = st.sampled_from(
    [_DEFAULTS, _HASTY, _SLOW_COUNTS, *_ASKED_BY_OTHERS.values()]
)


@given(st.lists(st.tuples(_steps(), _FACTS), max_size=12), _SETTINGS)
def test_both_ways_count_the_same(
    calls: list[tuple[tuple[Step, ...], dict[str, Any]]], settings: ServiceSettings
) -> None:
    """Whatever comes of calls: outcomes, numbers and policies agree, call by call."""
    short, long = Service(settings, short=True), Service(settings, short=False)

    for steps, facts in calls:
        outcomes = [each.play(each.metrics, steps, **facts) for each in (short, long)]
        assert _same(*outcomes)

        assert long.counted == short.counted
        assert long.state == short.state


@given(st.lists(st.tuples(_steps(), _FACTS), max_size=12), _SETTINGS)
def test_both_ways_tell_the_same(
    calls: list[tuple[tuple[Step, ...], dict[str, Any]]], settings: ServiceSettings
) -> None:
    """An observer whose tally tells what it counts hears the same story.

    A circuit that opens by a slow success is told after the call and not during it.
    """
    short, long = Service(settings, short=True), Service(settings, short=False)

    for steps, facts in calls:
        for each in (short, long):
            each.play(each.recorder, steps, **facts)

        assert _in_any_order(long) == _in_any_order(short)


def _in_any_order(service: Service) -> list[str]:
    """Return what was told of the last call."""
    events, service.recorder.events = service.recorder.events, []
    return sorted(map(repr, events))


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Raised):
        # A refusal is made anew, everything else is the very same object.
        error = second.error
        return error is first.error or str(error) == str(first.error)
    return first is second


def test_no_short_way_while_the_circuit_is_open() -> None:
    """A call has to be refused, and that is a story."""
    service = Service(_DEFAULTS, short=True)
    lane = _lane(service)

    assert NO_WAY != lane.enter(service.clock.now)
    open_circuit(service.policies.breaker, service.clock.now)

    assert NO_WAY == lane.enter(service.clock.now)


@pytest.mark.parametrize("policy", sorted(_ASKED_BY_OTHERS))
def test_no_short_way_where_another_policy_asks(policy: str) -> None:
    """It knows of breaker, budget and durations only."""
    service = Service(_ASKED_BY_OTHERS[policy], short=True)

    assert NO_WAY == _lane(service).enter(service.clock.now)


def _lane(service: Service, look: Callable[[float], None] | None = None) -> Lane:
    call = a_call()
    observer = service.metrics
    return Lane(call, service.policies, observer.tally(call), observer, look)


def test_whoever_watches_the_file_is_told_the_time_of_each_call() -> None:
    """A changed configuration must be found on the short way too."""
    service = Service(_DEFAULTS, short=True)
    told: list[float] = []
    lane = _lane(service, told.append)

    for now in (5.0, 6.0):
        lane.enter(now)

    assert [5.0, 6.0] == told


def test_slow_successes_that_open_the_circuit_are_told() -> None:
    """A call that succeeds may be the one too many that took its time."""
    breaker = replace(
        _DEFAULTS.breaker,
        slow_after=2.0,
        slow_rate=0.5,
        min_calls=2,
        consecutive=None,
        window=30.0,
    )
    service = Service(replace(_DEFAULTS, breaker=breaker), short=True)
    call = a_call()
    tally = service.metrics.tally(call)
    lane = Lane(call, service.policies, tally, service.recorder)

    for _ in range(2):
        begun = service.clock.now
        generation = lane.enter(begun)
        service.clock.now += 3
        lane.succeed(generation, begun, service.clock.now)

    assert ["transitioned"] == [event[0] for event in service.recorder.events]
    assert NO_WAY == lane.enter(service.clock.now)


def test_a_resumed_call_is_refused_as_its_library_refuses() -> None:
    """In all but its first attempt it is what it stands for."""
    service = Service(_DEFAULTS, short=True)
    error = CircuitBreakerOpenError("open")
    io = Script(service.clock)

    resumed = ResumedIo(io, Begun(0, 0.0, Returned("x")))

    assert str(io.reject(error)) == str(resumed.reject(error))
    assert type(io.reject(error)) is type(resumed.reject(error))


def test_a_failed_attempt_is_not_kept_alive() -> None:
    """What the attempt came to is handed over once."""
    begun = Begun(0, 0.0, Returned("x"))

    assert isinstance(begun.take(), Returned)
    assert begun.take() is None


def test_a_fanout_counts_only_where_everybody_agrees() -> None:
    """Who has no tally wants to hear of every call, and two would hear it twice."""
    metrics = MetricsObserver(Store())

    def tally(*observers: object) -> object:
        return Fanout(observers, lambda *_: None).tally(a_call())

    class Silent:
        def tally(self, _call: object) -> None:
            """Have nothing to say."""

    assert isinstance(tally(Silent(), metrics, Silent()), PlainTally)
    assert tally(metrics, object()) is None
    assert tally(metrics, metrics) is None
    assert tally() is None


def _is_addition(instruction: dis.Instruction) -> bool:
    # 3.11 and later have one instruction for all operators.
    return instruction.opname == "BINARY_OP" and instruction.argrepr == "+="


@pytest.mark.parametrize(
    "function",
    [
        *(PlainTally.begin, PlainTally.succeed),
        *(Lane.succeed, Lane.enter),
        *(Within.succeed, Within.enter),
    ],
    ids=lambda function: function.__qualname__,
)
def test_nothing_comes_between_reading_and_writing_a_number(
    function: Callable[..., Any],
) -> None:
    """Threads change at calls and backward jumps only, so additions are whole."""
    names = [each.opname for each in dis.get_instructions(function)]
    additions = [
        index
        for index, each in enumerate(dis.get_instructions(function))
        if _is_addition(each)
    ]

    assert additions
    for index in additions:
        read = max(i for i in range(index) if names[i] == "COPY")
        written = next(
            i for i in range(index, len(names)) if names[i].startswith("STORE_")
        )
        assert not {"CALL", "PRECALL", "JUMP_BACKWARD"} & set(names[read:written])


@pytest.mark.slow
def test_threads_lose_no_count_where_a_careless_counter_does() -> None:
    """Eight threads at the shortest switch interval; the control must lose some."""
    service = Service(_DEFAULTS, short=True)
    lane = _lane(service)
    careless = [0]

    def work() -> None:
        for _ in range(5000):
            now = service.clock.monotonic()
            generation = lane.enter(now)
            value = careless[0]
            lane.succeed(generation, now, now)
            careless[0] = value + 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    counts, _ = service.counted[ENDPOINT, ("payment-api", "/orders/{id}")]
    assert {0, 40_000} == set(counts)
    assert 40_000 > careless[0]


_TOLD_IN_TRACES: dict[str, dict[str, Any]] = {
    "brief": {
        "brief": True,
        "attributes": lambda: {"db.query.summary": "SELECT t"},
    },
    "full": {"attributes": lambda: {"server.address": "pay.example"}},
}


@pytest.mark.parametrize("kind", sorted(_TOLD_IN_TRACES))
@pytest.mark.parametrize("place", tracing.PLACES)
@hypothesis.settings(max_examples=30)  # twelve times
@hypothesis.example(calls=[(works(seconds=2.5),)] * 3, settings=_SLOW_COUNTS)
@given(calls=st.lists(_steps(), max_size=6), settings=_SETTINGS)
def test_both_ways_leave_the_same_spans(
    calls: list[tuple[Step, ...]], settings: ServiceSettings, place: str, kind: str
) -> None:
    """Names, kinds, attributes, events, states and parents, whoever else traces."""
    left = []
    for short in (False, True):
        service = Service(settings, short=short)
        spans = SpanObserver(tracing.below(place))
        faults: list[object] = []
        observer = Fanout(
            [service.metrics, spans], lambda *fault, into=faults: into.append(fault)
        )
        with tracing.standing(place) as recorded:
            for steps in calls:
                service.play(observer, steps, **_TOLD_IN_TRACES[kind])
        left.append((recorded.told(), service.counted_without_examples, faults))

    assert left[0] == left[1]
    assert [] == left[0][2]


def test_the_trace_of_a_short_call_is_an_example() -> None:
    """The metrics lead to it, as they do on the long way."""
    examples = []
    for short in (False, True):
        service = Service(_DEFAULTS, short=short)
        observer = Fanout([service.metrics, SpanObserver()], print)
        with tracing.standing("nowhere") as recorded:
            service.play(observer, (works(seconds=0.3),))
        block = service.store.block(EXEMPLARS, "payment-api", "/orders/{id}")
        bucket = next(n for n in range(99) if block.sums[2 * n + 1])
        found = exemplars.read(block.counts, block.sums, bucket)
        call = recorded.spans[-1]
        assert found is not None
        assert f"{call.context.span_id:016x}" == found.span_id
        examples.append((bucket, found.value))

    assert examples[0] == examples[1]


def test_lanes_that_know_the_same_keep_it_once() -> None:
    """Thousands of endpoints are limited alike; whoever learns more leaves them be."""
    service = Service(_DEFAULTS, short=True)
    first, second, third = (_lane(service) for _ in range(3))

    for lane in (first, second, third):
        lane.note(None, (30.0, (3.0, 10.0)))
    third.note(5, (30.0, None))

    assert first.plans is second.plans
    assert {None: (30.0, (3.0, 10.0))} == second.plans
    assert {None: (30.0, (3.0, 10.0)), 5: (30.0, None)} == third.plans
