"""Governs libraries for one test and remembers what the agent was told."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

from resilience_instrument.clock import SystemClock
from resilience_instrument.config.load import from_environment
from resilience_instrument.integrations import _patch
from resilience_instrument.integrations._room import Runtime
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resilience_instrument.registry import ServicePolicies

# Short pauses; everything else is as an app finds it, unless a test says so.
QUICK = {"RETRY_BASE_DELAY": "0.01", "TIMEOUT_TOTAL": "20"}


# What is governed with a library, because it loads it.
CORES = {"httpx": "httpcore", "httpx2": "httpcore2"}


class Told:
    """An observer that remembers what it was told, without the call itself."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)

        def tell(call: Any, *facts: Any) -> None:
            if name == "call_started":
                self.calls.append(call)
            self.events.append((name, *facts))

        return tell

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """Return the facts of every event of this name."""
        return [event[1:] for event in self.events if event[0] == name]

    @property
    def outcomes(self) -> list[str]:
        """How each call ended."""
        return [facts[0] for facts in self.of("call_ended")]

    @property
    def skipped(self) -> list[str]:
        """Why transient failures were not retried."""
        return [facts[0] for facts in self.of("retry_skipped")]

    @property
    def retries(self) -> list[int]:
        """The numbers of the attempts after the first."""
        return [facts[0] for facts in self.of("attempt_started") if facts[0] > 1]


class ToldShort(Told):
    """The same, with a tally that says which calls went the short way."""

    def tally(self, _call: object) -> ShortTally:
        return ShortTally(self)

    @property
    def short(self) -> int:
        """How many calls went the short way to its end."""
        return len(self.of("short"))


class ShortTally:
    """Tells its observer what it counts."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self.under_way = 0

    def begin(self) -> None:
        self.under_way += 1

    def withdraw(self) -> None:
        self.under_way -= 1

    def succeed(self, seconds: float) -> None:
        self.withdraw()
        assert self.under_way >= 0
        self._told.events.append(("short", seconds))


@dataclasses.dataclass
class Governed:
    """The agent's inside for one test."""

    told: Told
    runtime: Runtime
    faults: list[tuple[str, Exception]]
    expected_faults: list[str] = dataclasses.field(default_factory=list)

    def policies(self) -> ServicePolicies:
        """Return the policies of the only service that was called."""
        (policies,) = self.runtime.registry.known()
        return policies

    def state(self) -> str:
        """Return the state of the only circuit."""
        return self.policies().breaker.state(self.runtime.clock.monotonic())


@contextlib.contextmanager
def governing(
    libraries: tuple[str, ...], *, fast: bool = False, **settings: str
) -> Iterator[Governed]:
    """Govern these libraries while the block runs.

    With `fast`, calls of which there is nothing to tell go the short way, and all that
    is told of them is `("short", seconds)`.
    """
    environ = {f"RESILIENCE_{k}": v for k, v in {**QUICK, **settings}.items()}
    clock = SystemClock()
    registry = Registry(from_environment(environ).defaults, clock)
    told, faults = (ToldShort() if fast else Told()), []
    runtime = Runtime(
        registry,
        told,
        clock,
        lambda where, error: faults.append((where, error)),
        lambda: None,
    )
    runtime.fast = fast
    done = []
    for library in (*libraries, *(CORES[name] for name in libraries if name in CORES)):
        room = importlib.import_module(LIBRARIES[library])
        done += _patch.apply(room.targets(runtime))
    governed = Governed(told, runtime, faults)
    try:
        yield governed
    finally:
        _patch.remove(done)
    # A fault lets calls through untouched: a test that wants one says so.
    assert governed.expected_faults == [where for where, _ in faults], faults
