"""Turns on a connection: what is watched most often, without a look-up."""

from __future__ import annotations

import contextlib
import dis
import gc
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from resilience_instrument.integrations import _watchdog
from resilience_instrument.integrations import psycopg2 as psycopg2_room
from resilience_instrument.integrations import pymysql as pymysql_room

if TYPE_CHECKING:
    from collections.abc import Callable

FAR = 3600.0


class Connection:
    """Something whose turns are watched."""

    def __init__(self) -> None:
        self.struck = threading.Event()
        self.dog = _watchdog.Watchdog(lambda *_: None)
        self.turn: Any = _watchdog.Turn(self.dog, Connection.slot, self)

    def slot(self) -> _watchdog.Watched:
        """Return what ends its statement."""
        return _watchdog.Slot(0.0, self._strike)

    def _strike(self, _: int) -> None:
        self.struck.set()


def test_a_turn_that_takes_too_long_is_struck() -> None:
    """What ends it is made when it has to be, and once."""
    connection = Connection()
    end = connection.turn.end = time.monotonic() + 0.05
    connection.dog.start()

    assert connection.struck.wait(10)
    slot: Any = connection.turn.over(end)

    assert 1 == slot.strikes
    assert connection.turn.end is None
    assert connection.turn.over(end) is None


def test_a_turn_that_is_over_in_time_is_left_alone() -> None:
    """Nobody strikes at what the connection does next."""
    connection = Connection()
    end = connection.turn.end = time.monotonic() + FAR

    assert connection.turn.over(end) is None
    assert connection.turn.end is None
    assert connection.dog._look(threading.Lock()) > 0
    assert not connection.struck.is_set()


def test_a_turn_of_another_is_left_alone() -> None:
    """Whoever asks twice, as an interrupt came, does not end what began since."""
    turn = Connection().turn
    theirs = turn.end = time.monotonic() + FAR

    assert turn.over(time.monotonic()) is None
    assert theirs is turn.end


def test_the_nearest_turn_says_when_to_look_again() -> None:
    """A limit that is shorter than a tick is kept all the same."""
    connection = Connection()
    connection.turn.end = time.monotonic() + 0.02

    assert 0.02 >= connection.dog._look(threading.Lock())


def test_what_was_struck_is_not_struck_again() -> None:
    """Until its thread has noticed, it is nobody's turn."""
    connection = Connection()
    connection.turn.end = 0.0
    dog = connection.dog

    dog._look(threading.Lock())
    connection.struck.clear()
    dog._look(threading.Lock())

    assert connection.turn.end is not None
    assert not connection.struck.is_set()


def test_a_turn_that_ended_meanwhile_is_not_struck() -> None:
    """Whoever puts something else there first has decided."""
    connection = Connection()
    connection.turn.end = 0.0

    class Meanwhile:
        """The statement is over while the watchdog waits for its lock."""

        def __enter__(self) -> None:
            connection.turn.end = None

        def __exit__(self, *_: object) -> None:
            pass

    connection.dog._look(Meanwhile())  # type: ignore[arg-type]

    assert not connection.struck.is_set()


@pytest.mark.parametrize("kind", ["armed", "timed"])
def test_what_ended_while_the_watchdog_took_the_lock_is_not_struck(kind: str) -> None:
    """Whoever takes it out first has decided."""
    connection = Connection()
    watched: Any = {
        "armed": _watchdog.Slot(0.0, connection._strike),
        "timed": (0.0, Connection.slot, connection),
    }[kind]
    kept = getattr(connection.dog, kind)
    kept[1] = watched

    class Lock:
        """Somebody is done before whoever asked for it has it."""

        def __enter__(self) -> None:
            kept.clear()

        def __exit__(self, *_: object) -> None:
            pass

    lock: Any = Lock()
    connection.dog._look(lock)

    assert not connection.struck.is_set()
    assert connection.dog.struck(1) is None


def test_the_watchdog_does_not_rest_during_a_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that was taken while it went to rest wakes it again."""
    monkeypatch.setattr(_watchdog, "IDLE", 0)
    started: list[Any] = []

    def start(dog: _watchdog.Watchdog) -> None:
        started.append(dog)

    monkeypatch.setattr(_watchdog.Watchdog, "start", start)
    connection = Connection()

    connection.dog._watch(threading.Lock())
    connection.turn.end = time.monotonic() + FAR
    connection.dog._watch(threading.Lock())

    assert [connection.dog] == started


def test_a_connection_that_is_gone_is_not_watched() -> None:
    """The watchdog keeps neither it nor its turn."""
    connection = Connection()
    dog = connection.dog
    assert 1 == len(dog._turns)

    del connection
    gc.collect()

    assert {} == dog._turns


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_child_inherits_no_turn() -> None:
    """A strike there would hit the connection of its parent."""
    connection = Connection()
    connection.turn.end = time.monotonic() + FAR
    reading, writing = os.pipe()

    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            os.write(writing, str(connection.turn.end).encode())
        os._exit(0)
    os.waitpid(child, 0)
    told = os.read(reading, 100)
    os.close(reading)
    os.close(writing)

    assert b"None" == told
    assert connection.turn.end is not None


def _query(*_: Any) -> None:
    """Stand in for the driver's own."""


@pytest.mark.parametrize(
    "function",
    [psycopg2_room._Cursor.execute, pymysql_room._hastening(_query)(_query)],
    ids=["psycopg2", "pymysql"],
)
def test_nothing_comes_between_looking_whose_turn_it_is_and_taking_it(
    function: Callable[..., Any],
) -> None:
    """Threads change at calls and backward jumps only, so nobody takes it twice."""
    found = [(each.opname, each.argval) for each in dis.get_instructions(function)]
    written = [i for i, each in enumerate(found) if each == ("STORE_ATTR", "end")]

    assert 2 == len(written)
    for index in written:
        read = max(i for i in range(index) if found[i] == ("LOAD_ATTR", "end"))
        names = {name for name, _ in found[read:index]}
        assert not {"CALL", "PRECALL", "JUMP_BACKWARD", "RESUME"} & names
