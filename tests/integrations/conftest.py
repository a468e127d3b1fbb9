"""A governed library for each test, and no longer than the test."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

import pytest

from integrations.harness import HARNESSES
from resilience_instrument.clock import SystemClock
from resilience_instrument.config.load import from_environment
from resilience_instrument.integrations import _patch
from resilience_instrument.integrations._room import Runtime
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.harness import Harness
    from resilience_instrument.registry import ServicePolicies

# Short pauses; everything else is as an app finds it, unless a test says so.
QUICK = {"RETRY_BASE_DELAY": "0.01", "TIMEOUT_TOTAL": "20"}


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


@dataclasses.dataclass
class Governed:
    """The agent's inside for one test."""

    told: Told
    runtime: Runtime
    faults: list[tuple[str, Exception]]

    def policies(self) -> ServicePolicies:
        """Return the policies of the only service that was called."""
        (policies,) = self.runtime.registry.known()
        return policies

    def state(self) -> str:
        """Return the state of the only circuit."""
        return self.policies().breaker.state(self.runtime.clock.monotonic())


@contextlib.contextmanager
def governing(libraries: tuple[str, ...], **settings: str) -> Iterator[Governed]:
    """Govern these libraries while the block runs."""
    environ = {f"RESILIENCE_{k}": v for k, v in {**QUICK, **settings}.items()}
    clock = SystemClock()
    registry = Registry(from_environment(environ).defaults, clock)
    told, faults = Told(), []
    runtime = Runtime(
        registry,
        told,  # type: ignore[arg-type]
        clock,
        lambda where, error: faults.append((where, error)),
        lambda: None,
    )
    done = []
    for library in libraries:
        room = importlib.import_module(LIBRARIES[library])
        done += _patch.apply(room.targets(runtime))
    try:
        yield Governed(told, runtime, faults)
    finally:
        _patch.remove(done)


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest) -> Harness:
    """Each library in each way of using it."""
    return HARNESSES[request.param]()


@pytest.fixture
def govern(harness: Harness) -> Iterator[Callable[..., Governed]]:
    """Govern the harness's library with the settings that are given."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            governing((harness.library,), **settings)
        )
