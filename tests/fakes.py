"""Stand-ins that tests of the heart share: time, chance, the world, a listener."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from resilience_instrument.call import Call
from resilience_instrument.config.load import from_environment
from resilience_instrument.engine import execute, run_sync
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.breaker import Permit
from resilience_instrument.registry import ServicePolicies
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilience_instrument.config.model import ServiceSettings
    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.policies.breaker import Breaker


class FakeClock:
    """Time that moves when it is told to, and chance that is no chance.

    Args:
        now: The monotonic time to begin with.
        share: Where between its bounds every random number lies, 0 to 1.
    """

    def __init__(self, now: float = 1000.0, share: float = 0.5) -> None:
        self.now = now
        self.share = share
        self.epoch = 1.7e9

    def monotonic(self) -> float:
        """Return the monotonic time."""
        return self.now

    def wall(self) -> float:
        """Return the seconds since the epoch."""
        return self.epoch

    def uniform(self, low: float, high: float) -> float:
        """Return the number that lies at `share` between the bounds."""
        return low + (high - low) * self.share

    def advance(self, seconds: float) -> float:
        """Let time pass, and return the new time."""
        self.now += seconds
        return self.now


@dataclasses.dataclass(frozen=True)
class Step:
    """One attempt as a script has it: what it comes to, and how long it takes."""

    outcome: Outcome | BaseException
    judgement: Judgement
    seconds: float = 0.0


def works(value: object = "ok", seconds: float = 0.0) -> Step:
    """Make an attempt that succeeds."""
    judgement = Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=200)
    return Step(Returned(value), judgement, seconds)


def answers(status: int, seconds: float = 0.0, **facts: Any) -> Step:
    """Make an attempt that gets an answer worth another try."""
    throttled = Evidence.THROTTLED if status == 429 else Evidence.FAILURE
    judgement = Judgement(
        Verdict.TRANSIENT, throttled, status=status, reason=str(status), **facts
    )
    return Step(Returned(status), judgement, seconds)


def breaks(
    error: Exception | None = None, *, sent: bool = True, seconds: float = 0.0
) -> Step:
    """Make an attempt whose connection breaks."""
    error = error or ConnectionResetError("reset")
    reason = type(error).__name__
    judgement = Judgement(Verdict.TRANSIENT, Evidence.FAILURE, sent=sent, reason=reason)
    return Step(Raised(error), judgement, seconds)


def times_out(seconds: float, evidence: Evidence = Evidence.FAILURE) -> Step:
    """Make an attempt that waits for its answer in vain."""
    judgement = Judgement(
        Verdict.TRANSIENT, evidence, timeout=Phase.READ, reason="TimeoutError"
    )
    return Step(Raised(TimeoutError("late")), judgement, seconds)


def is_refused(status: int) -> Step:
    """Make an attempt that would fail again."""
    judgement = Judgement(
        Verdict.PERMANENT, Evidence.FAILURE, status=status, reason=str(status)
    )
    return Step(Returned(status), judgement)


def interrupts(error: BaseException, seconds: float = 0.0) -> Step:
    """Make an attempt that is cancelled, or that reveals a fault of ours."""
    return Step(error, Judgement(Verdict.PERMANENT, Evidence.NEUTRAL), seconds)


class Script:
    """An `Io` that plays the steps it was given, the last one for ever.

    An attempt takes its seconds, but never longer than the deadline it is given.
    """

    def __init__(self, clock: FakeClock, *steps: Step) -> None:
        self.clock = clock
        self.steps = steps
        self.attempts: list[float] = []
        self.deadlines: list[float | None] = []
        self.slept: list[float] = []
        self.discarded: list[Outcome] = []
        self.during_sleep: Callable[[float], None] = lambda _: None
        self.during_discard: Callable[[], None] = lambda: None

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Play the step of this number."""
        assert number == len(self.attempts) + 1
        step = self.step
        seconds = step.seconds
        if deadline is not None:
            seconds = min(seconds, deadline - self.clock.now)
        self.attempts.append(seconds)
        self.deadlines.append(deadline)
        self.clock.advance(seconds)
        if isinstance(step.outcome, BaseException):
            raise step.outcome
        return step.outcome

    @property
    def step(self) -> Step:
        """The step that is next."""
        return self.steps[min(len(self.attempts), len(self.steps) - 1)]

    def judge(self, outcome: Outcome) -> Judgement:
        """Read the outcome as the script says."""
        step = self.steps[min(len(self.attempts), len(self.steps)) - 1]
        assert outcome is step.outcome
        return step.judgement

    def reject(self, error: ResilienceError) -> Exception:
        """Return the error as it is: there is no library here."""
        return error

    async def discard(self, outcome: Outcome) -> None:
        """Note what will not reach the app."""
        self.during_discard()
        self.discarded.append(outcome)

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.during_sleep(seconds)
        self.clock.advance(seconds)


class RecordingObserver:
    """Remembers what it was told, without the call itself."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Return what takes the event of this name."""
        return lambda _call, *facts: self.events.append((name, *facts))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Return the facts of every event of this name."""
        return [event[1:] for event in self.events if event[0] == name]

    @property
    def names(self) -> list[str]:
        """The names of all events, in order."""
        return [event[0] for event in self.events]


def service_settings(**environ: object) -> ServiceSettings:
    """Return the default settings, changed by variables without their prefix."""
    texts = {f"RESILIENCE_{name}": str(value) for name, value in environ.items()}
    return from_environment(texts).defaults


class World:
    """One service with its policies, and a way to call it."""

    def __init__(self, settings: ServiceSettings | None = None) -> None:
        self.clock = FakeClock()
        self.observer = RecordingObserver()
        self.policies = ServicePolicies(
            "payment-api", settings or service_settings(), self.clock
        )

    def script(self, *steps: Step) -> Script:
        """Return an `Io` of this world."""
        return Script(self.clock, *steps)

    def call(self, io: Script, **facts: Any) -> Outcome:
        """Make one call through the engine."""
        return run_sync(
            execute(a_call(**facts), self.policies, io, self.observer, self.clock)
        )

    def play(self, *steps: Step, **facts: Any) -> Outcome:
        """Make one call whose attempts go as the steps say."""
        return self.call(self.script(*steps), **facts)

    def events(self, name: str) -> Iterator[tuple[Any, ...]]:
        """Yield the facts of every event of this name."""
        yield from self.observer.of(name)


def open_circuit(breaker: Breaker, now: float) -> None:
    """Let attempts fail until the circuit is open."""
    while isinstance(permit := breaker.acquire(now)[0], Permit):
        breaker.record(permit, Evidence.FAILURE, now)


def a_call(**facts: Any) -> Call:
    """Return a call that may be repeated, unless the facts say otherwise."""
    given: dict[str, Any] = {
        "library": "fake",
        "service": "payment-api",
        "endpoint": "/orders/{id}",
        "operation": "GET",
        "repeatable": True,
    }
    return Call(**(given | facts))
