"""A process whose threads call services while it forks: run by `test_fork.py`.

It prints how many children were forked, how many hung, how many saw the open circuit
of their parent, and how many different random numbers they drew.
"""

from __future__ import annotations

import dataclasses
import os
import select
import signal
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fakes import a_call, open_circuit, service_settings, works
from resilience_instrument.clock import SystemClock
from resilience_instrument.config.model import BulkheadSettings, ThrottleSettings
from resilience_instrument.engine import execute, run_sync
from resilience_instrument.registry import Registry

CLOCK = SystemClock()
SETTINGS = dataclasses.replace(
    service_settings(BREAKER_OPEN_FOR=3600, BREAKER_OPEN_MAX=3600),
    bulkhead=BulkheadSettings(1000),
    throttle=ThrottleSettings(enabled=True),
)
REGISTRY = Registry(SETTINGS, CLOCK)
STEP = works()
PATIENCE = 20.0


class Quiet:
    """An observer that is not interested."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: None


class AtOnce:
    """An `Io` whose attempts succeed at once."""

    async def attempt(self, number: int, deadline: float | None) -> object:
        """Succeed."""
        del number, deadline
        return STEP.outcome

    def judge(self, outcome: object) -> object:
        """Say that it succeeded."""
        del outcome
        return STEP.judgement


def call(service: str) -> None:
    """Make one call through everything that has a lock."""
    policies = REGISTRY.policies(service)
    # The lock of the breaker is taken as it would be after failures.
    policies.breaker.reconfigure(policies.settings.breaker, CLOCK.monotonic())
    policies.budget.withdraw(CLOCK.monotonic())
    run_sync(execute(a_call(), policies, AtOnce(), Quiet(), CLOCK))  # type: ignore[arg-type]


def hammer(stop: threading.Event) -> None:
    """Call services, some of them new, until it is over."""
    number = 0
    while not stop.is_set():
        number += 1
        call(f"service-{number % 50}")


def child(report: int) -> None:
    """Do what a forked worker does, and say how it went."""
    call("service-1")
    call("new")
    down = REGISTRY.policies("down").breaker
    state = down.state(CLOCK.monotonic())
    os.write(report, f"{state} {CLOCK.uniform(0.0, 1.0)}\n".encode())
    # No hook of anybody's must run at the end of this process.
    os.kill(os.getpid(), signal.SIGKILL)


def fork_one() -> str | None:
    """Fork a child; return what it said, None if it hung."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(writing)
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], PATIENCE)
    said = os.read(reading, 200).decode() if ready else None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(reading)
    return said


def main(forks: int) -> None:
    """Hammer with four threads, fork, and report."""
    os.register_at_fork(after_in_child=CLOCK.reseed)
    os.register_at_fork(after_in_child=REGISTRY.renew_locks)
    open_circuit(REGISTRY.policies("down").breaker, CLOCK.monotonic())
    stop = threading.Event()
    threads = [
        threading.Thread(target=hammer, args=(stop,), daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    said = [fork_one() for _ in range(forks)]
    stop.set()
    for thread in threads:
        thread.join()
    words = [each.split() for each in said if each]
    opened = sum(state == "open" for state, _ in words)
    drawn = len({number for _, number in words})
    sys.stdout.write(f"{forks} {said.count(None)} {opened} {drawn}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
