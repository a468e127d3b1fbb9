"""The bulkhead: so many attempts are under way, and no more."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes import (
    FakeClock,
    World,
    answers,
    breaks,
    interrupts,
    open_circuit,
    service_settings,
    works,
)
from resilience_instrument.config.model import BulkheadSettings
from resilience_instrument.errors import BulkheadFullError
from resilience_instrument.outcome import Raised
from resilience_instrument.policies.bulkhead import Bulkhead, Slot, Ticket

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = FakeClock().now


def make(limit: int = 2, **settings: Any) -> Bulkhead:
    """Return a bulkhead."""
    return Bulkhead(BulkheadSettings(limit, **settings), limit)


def enter(bulkhead: Bulkhead) -> Slot:
    """Take a slot that must be free."""
    slot = bulkhead.enter(NOW)
    assert isinstance(slot, Slot)
    return slot


def wait(bulkhead: Bulkhead) -> Ticket:
    """Take a place in the queue that must be free."""
    ticket = bulkhead.enter(NOW)
    assert isinstance(ticket, Ticket)
    return ticket


def test_the_eleventh_of_ten_is_refused() -> None:
    """At once, and whoever leaves makes room for one."""
    bulkhead = make(10)
    slots = [enter(bulkhead) for _ in range(10)]

    assert bulkhead.enter(NOW) is None

    bulkhead.release(slots[0])
    enter(bulkhead)
    assert bulkhead.enter(NOW) is None


def test_a_slot_is_given_back_once() -> None:
    """Giving it back again makes no second room."""
    bulkhead = make(2)
    slot = enter(bulkhead)
    enter(bulkhead)

    bulkhead.release(slot)
    bulkhead.record(slot, NOW, dropped=False, success=True)
    bulkhead.release(slot)

    enter(bulkhead)
    assert bulkhead.enter(NOW) is None


def test_a_queue_is_served_in_its_order() -> None:
    """Who came first goes first; a newcomer does not jump the queue."""
    bulkhead = make(1, queue=2, wait=1.0)
    slot = enter(bulkhead)
    first, second = wait(bulkhead), wait(bulkhead)
    assert bulkhead.enter(NOW) is None
    assert NOW + 1.0 == first.until
    assert bulkhead.call_up(first, NOW) is None

    bulkhead.release(slot)

    assert bulkhead.call_up(second, NOW) is None
    assert bulkhead.enter(NOW) is None
    served = bulkhead.call_up(first, NOW)
    assert isinstance(served, Slot)
    assert bulkhead.call_up(second, NOW) is None
    bulkhead.release(served)
    assert isinstance(bulkhead.call_up(second, NOW), Slot)


def test_who_leaves_the_queue_makes_room_in_it() -> None:
    """Also twice, and a ticket that was given up gets nothing."""
    bulkhead = make(1, queue=1, wait=1.0)
    slot = enter(bulkhead)
    ticket = wait(bulkhead)

    bulkhead.leave(ticket)
    bulkhead.leave(ticket)

    wait(bulkhead)
    bulkhead.release(slot)
    assert bulkhead.call_up(ticket, NOW) is None


def test_what_is_learnt_becomes_the_limit() -> None:
    """A lost call lowers it, a good one raises it, a failure of its own neither."""
    bulkhead = make(20, adaptive="aimd")
    bulkhead.record(enter(bulkhead), NOW, dropped=True, success=False)
    assert 18 == bulkhead.limit

    slots = [enter(bulkhead) for _ in range(10)]
    bulkhead.record(slots.pop(), NOW, dropped=False, success=False)
    assert 18 == bulkhead.limit
    bulkhead.record(slots.pop(), NOW, dropped=False, success=True)

    assert 19 == bulkhead.limit


def test_a_child_starts_with_nobody_inside() -> None:
    """After a fork the parent's attempts are not the child's, nor is its lock."""
    bulkhead = make(1, queue=1, wait=1.0)
    slot = enter(bulkhead)
    wait(bulkhead)
    bulkhead._lock.acquire()

    bulkhead.renew_lock()
    bulkhead.release(slot)

    enter(bulkhead)
    wait(bulkhead)
    assert bulkhead.enter(NOW) is None


class Crowd:
    """Callers that come, wait, are served and go."""

    def __init__(self) -> None:
        self.bulkhead = make(3, queue=2, wait=1.0)
        self.slots: list[Slot] = []
        self.tickets: list[Ticket] = []

    def come(self) -> None:
        """Ask for a slot."""
        found = self.bulkhead.enter(NOW)
        if isinstance(found, Slot):
            self.slots.append(found)
        elif found is not None:
            self.tickets.append(found)

    def go(self) -> None:
        """Give the latest slot back."""
        if self.slots:
            self.bulkhead.release(self.slots.pop())

    def ask(self) -> None:
        """Ask again with the oldest ticket."""
        if self.tickets and (slot := self.bulkhead.call_up(self.tickets[0], NOW)):
            self.tickets.pop(0)
            self.slots.append(slot)

    def lose_patience(self) -> None:
        """Leave the queue from its end."""
        if self.tickets:
            self.bulkhead.leave(self.tickets.pop())


MOVES = st.sampled_from([Crowd.come, Crowd.go, Crowd.ask, Crowd.lose_patience])


@given(st.lists(MOVES, max_size=100))
def test_never_more_than_the_limit(moves: list[Callable[[Crowd], None]]) -> None:
    """However slots and places are taken and given back."""
    crowd = Crowd()
    for move in moves:
        move(crowd)

        assert len(crowd.slots) <= 3
        assert len(crowd.tickets) <= 2
        assert len(crowd.slots) == crowd.bulkhead._inflight


def walled_world(**bulkhead: Any) -> World:
    """Return a service that one attempt may be under way to."""
    settings = dataclasses.replace(
        service_settings(BREAKER_CONSECUTIVE=2),
        bulkhead=BulkheadSettings(1, **bulkhead),
    )
    return World(settings)


def occupy(world: World) -> Slot:
    """Take the only place."""
    assert world.policies.bulkhead is not None
    return enter(world.policies.bulkhead)


def test_a_full_bulkhead_refuses_without_an_attempt() -> None:
    """The breaker learns nothing of it, and it is told as what it is."""
    world = walled_world()
    occupy(world)
    io = world.script(works())

    outcome = world.call(io)

    assert isinstance(outcome, Raised)
    assert isinstance(outcome.error, BulkheadFullError)
    assert "too many calls to payment-api are under way" == str(outcome.error)
    assert [] == io.attempts
    assert [("bulkhead",)] == world.observer.of("rejected")
    assert [("rejected", 0, 0.0)] == world.observer.of("call_ended")
    assert "closed" == world.policies.breaker.state(world.clock.now)


@pytest.mark.parametrize("step", [works(), breaks()])
def test_every_attempt_gives_its_slot_back(step: Any) -> None:
    """After success and failure alike, and between attempts."""
    world = walled_world()

    world.play(step, works())

    occupy(world)


def test_a_cancelled_attempt_gives_its_slot_back() -> None:
    """Whatever interrupts it."""
    world = walled_world()

    with pytest.raises(KeyboardInterrupt):
        world.play(interrupts(KeyboardInterrupt()))

    occupy(world)


def test_a_slot_goes_back_when_the_breaker_refuses() -> None:
    """A refusal further in must not keep a place for ever."""
    world = walled_world()
    open_circuit(world.policies.breaker, world.clock.now)

    for _ in range(3):
        world.play(works())

    assert [("breaker",)] * 3 == world.observer.of("rejected")
    occupy(world)


def test_a_call_waits_in_the_queue() -> None:
    """It looks every ten milliseconds whether its turn has come."""
    world = walled_world(queue=1, wait=1.0)
    slot = occupy(world)
    io = world.script(works())

    def leave(_: float) -> None:
        if len(io.slept) == 3:
            slot.home.release(slot)

    io.during_sleep = leave
    world.call(io)

    assert [0.01] * 3 == io.slept
    assert "success" == world.observer.of("call_ended")[0][0]


@pytest.mark.parametrize(("deadline", "waited"), [(None, 0.035), (1000.07, 0.02)])
def test_a_call_waits_no_longer_than_it_may(
    deadline: float | None, waited: float
) -> None:
    """Neither beyond the queue's time nor into the deadline; then it is refused."""
    world = walled_world(queue=1, wait=0.035)
    occupy(world)
    io = world.script(works())

    world.call(io, deadline=deadline)

    assert waited == pytest.approx(sum(io.slept))
    assert [("bulkhead",)] == world.observer.of("rejected")


def test_who_is_interrupted_in_the_queue_leaves_it() -> None:
    """The next one gets the place in it."""
    world = walled_world(queue=1, wait=1.0)
    occupy(world)
    io = world.script(works())

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    io.during_sleep = interrupt
    with pytest.raises(KeyboardInterrupt):
        world.call(io)

    assert world.policies.bulkhead is not None
    wait(world.policies.bulkhead)


def test_a_retry_without_a_place_is_not_made() -> None:
    """The failure that the call has already is what the app gets."""
    world = walled_world()
    io = world.script(answers(503), works())

    def others_come(_: float) -> None:
        occupy(world)

    io.during_sleep = others_come
    world.call(io)

    assert 1 == len(io.attempts)
    assert [("bulkhead",)] == world.observer.of("retry_skipped")
