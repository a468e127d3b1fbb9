"""Additions without a lock are whole: nothing can come between their two halves.

The interpreter hands its lock on only where code is called or jumps back. A counter
that is read and written without either in between loses nothing. That is a matter of
bytecode, so the bytecode is looked at, on every version that runs these tests.
"""

from __future__ import annotations

import dis
import importlib
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fakes import FakeClock, service_settings
from resilience_instrument.fastpath import Lane
from resilience_instrument.policies import breaker as breaker_module
from resilience_instrument.policies.breaker import Breaker, Permit
from resilience_instrument.policies.budget import Budget
from resilience_instrument.verdict import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BREAKS = ("CALL", "JUMP_BACKWARD", "RESUME", "SEND", "YIELD", "FOR_ITER")


def is_break(instruction: dis.Instruction) -> bool:
    """Tell whether another thread may run after this instruction."""
    return instruction.opname.startswith(BREAKS)


def stretch(function: Any, first: str, last: str) -> list[dis.Instruction]:
    """Return what runs from the first look at one attribute to the store of another."""
    code = list(dis.get_instructions(function))
    begin = next(i for i, each in enumerate(code) if each.argval == first)
    end = next(
        i
        for i, each in enumerate(code)
        if each.opname == "STORE_ATTR" and each.argval == last
    )
    return code[begin : end + 1]


class Careless:
    """Adds in two steps, between which somebody is called."""

    total = 0

    def add(self) -> None:
        """Add one, and lose it now and then."""
        self.total = self.total + int("1")


@pytest.mark.parametrize(
    ("function", "first", "last"),
    [
        (Breaker.record, "calm", "good"),
        (Budget.deposit, "edge", "calls"),
        (Lane.succeed, "calm", "good"),
        (Lane.enter, "edge", "calls"),
    ],
)
def test_nothing_comes_between_the_look_and_the_addition(
    function: Callable[..., Any], first: str, last: str
) -> None:
    """From the flag that allows it to the written sum no other thread can run."""
    assert [] == [each for each in stretch(function, first, last) if is_break(each)]


@pytest.mark.parametrize(
    ("function", "name"),
    [(Breaker._fold_locked, "good"), (Budget._roll_locked, "calls")],
)
def test_nothing_comes_between_the_look_and_the_new_beginning(
    function: Callable[..., Any], name: str
) -> None:
    """What is added while a counter is taken in is taken in or stays, never lost."""
    assert [] == [each for each in stretch(function, name, name) if is_break(each)]


def test_a_careless_addition_is_found() -> None:
    """The test above can fail."""
    found = stretch(Careless.add, "total", "total")

    assert [] != [each for each in found if is_break(each)]


@pytest.fixture
def hurried() -> Iterator[None]:
    """Let threads take turns as often as possible."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_no_success_is_lost_between_threads() -> None:
    """Four threads record 80,000 successes; that many are counted."""
    clock = FakeClock()
    breaker = Breaker("svc", service_settings().breaker, clock.uniform)

    def work() -> None:
        for _ in range(20_000):
            permit, _change = breaker.acquire(clock.now)
            assert isinstance(permit, Permit)
            breaker.record(permit, Evidence.SUCCESS, clock.now)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with breaker._lock:
        breaker._fold_locked(clock.now)
    recent = breaker._ledger._recent
    assert recent is not None
    assert (80_000, 0) == (recent.total, recent.failures)


def test_without_the_interpreters_lock_the_breaker_takes_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where additions are not whole nothing is done without a lock."""
    monkeypatch.setattr(breaker_module, "_ADDS_ARE_WHOLE", False)
    clock = FakeClock()
    breaker = Breaker("svc", service_settings().breaker, clock.uniform)

    permit, _ = breaker.acquire(clock.now)
    assert isinstance(permit, Permit)
    breaker.record(permit, Evidence.SUCCESS, clock.now)

    assert not (breaker.free)
    assert not (breaker.calm)
    assert 0 == breaker.good
    assert breaker._ledger._recent is not None
    assert 1 == breaker._ledger._recent.total


def test_without_the_interpreters_lock_the_budget_takes_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same for what calls pay in."""
    module = importlib.import_module(Budget.__module__)
    monkeypatch.setattr(module, "_ADDS_ARE_WHOLE", False)
    budget = Budget(1.0, 0.0, 10.0)
    budget.deposit(1000.0)
    budget.deposit(1000.0)

    assert budget.withdraw(1000.0)
    assert budget.withdraw(1000.0)
    assert not budget.withdraw(1000.0)
