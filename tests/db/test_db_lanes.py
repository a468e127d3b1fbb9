"""The short way of statements and the long one come to the same."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import time
import types
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from db.harness import DRIVERS
from db.telling import Recorder
from fakes import open_circuit
from integrations.governing import QUICK, governing
from resilience_instrument import CircuitBreakerOpenError
from resilience_instrument.clock import SystemClock
from resilience_instrument.config.load import from_environment
from resilience_instrument.integrations import _dbapi, _dblane, _watchdog
from resilience_instrument.integrations import psycopg as psycopg_room
from resilience_instrument.integrations import psycopg2 as psycopg2_room
from resilience_instrument.integrations import pymysql as pymysql_room
from resilience_instrument.integrations._room import Runtime
from resilience_instrument.integrations._traced import Traced
from resilience_instrument.policies.deadline import CURRENT
from resilience_instrument.registry import Registry
from resilience_instrument.signals.spans import SpanObserver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from db.servers import Postgres
    from integrations.governing import Governed
    from resilience_instrument.call import Call
    from resilience_instrument.signals.spans import SpanTrail

    Govern = Callable[..., Governed]

TEXT = "SELECT a FROM t"


class EvenClock(SystemClock):
    """A clock whose chance is always the same."""

    def uniform(self, low: float, high: float) -> float:  # noqa: ARG002
        """Return the lower of the two."""
        return low


class Undone(psycopg2.OperationalError):  # type: ignore[misc]
    """The server undid the statement."""

    pgcode = "40001"


class Lost(psycopg2.OperationalError):  # type: ignore[misc]
    """The connection is gone."""

    pgcode = "57P01"


class Refused(psycopg2.ProgrammingError):  # type: ignore[misc]
    """The server did not like the statement."""

    pgcode = "42601"


class Late(psycopg2.OperationalError):  # type: ignore[misc]
    """The statement's time was over."""

    pgcode = "57014"


class Attempt:
    """A statement whose tries go as they are told to."""

    def __init__(self, steps: list[Any], *, whole: bool) -> None:
        self._steps = list(steps)
        self._whole = whole
        self.late = False
        self.limits: list[bool] = []

    def __call__(self, deadline: float | None) -> Any:
        """Make the next try."""
        self.limits.append(deadline is not None)
        step = self._steps.pop(0)
        self.late = step is Late
        if isinstance(step, type):
            raise step
        return step

    def is_whole(self) -> bool:
        """Tell what the test says."""
        return self._whole

    def restart(self) -> None:
        """Need nothing."""


class AsyncAttempt(Attempt):
    """The same where it is awaited."""

    async def __call__(self, deadline: float | None) -> Any:
        """Make the next try."""
        return super().__call__(deadline)

    async def restart(self) -> None:  # type: ignore[override]
        """Need nothing."""


class TracedRecorder(Recorder):
    """A recorder of an app whose calls have spans."""

    def trail(self, call: Call) -> SpanTrail:
        """Return what makes the spans of calls like this one."""
        return SpanObserver().trail(call, lambda *_: None)


class Room:
    """A room with one database, with the short way or without."""

    def __init__(self, *, fast: bool, **settings: str) -> None:
        environ = {f"RESILIENCE_{k}": v for k, v in {**QUICK, **settings}.items()}
        self.clock = EvenClock()
        self.told = Recorder()
        self.faults: list[tuple[str, Exception]] = []
        self.runtime = Runtime(
            Registry(from_environment(environ).defaults, self.clock),
            self.told,
            self.clock,
            lambda where, error: self.faults.append((where, error)),
            lambda: None,
        )
        self.runtime.fast = fast
        links = _dbapi.Links(self.runtime, psycopg2_room.DRIVER)
        self.link = links.find("host", 5432, "db")
        self.hastened = 0

    def lane(self, **facts: bool) -> _dblane.AnyLane | None:
        """Return the lane of the statement, if there is one by now."""
        return _dblane.find(self.link, TEXT, **facts)

    def play(self, attempt: Attempt, *, first: bool, own: bool) -> Any:
        """Send the statement; return what came of it."""
        lane = self.lane(first=first, own=own)
        statement = psycopg2_room.DRIVER.dialect.read(TEXT)
        link = self.link
        self.hastened += lane is not None
        try:
            if isinstance(attempt, AsyncAttempt):
                if lane is None:
                    sent = _dbapi.send_async(
                        link, attempt, statement, first=first, own=own
                    )
                else:
                    sent = _dbapi.hasten_async(link, lane, attempt, TEXT, own=own)
                return asyncio.run(_awaited(sent))
            if lane is None:
                return _dbapi.send(link, attempt, statement, first=first, own=own)
            return _dbapi.hasten(link, lane, attempt, TEXT, own=own)
        except (psycopg2.Error, KeyboardInterrupt) as error:
            return type(error)

    @property
    def state(self) -> tuple[Any, ...]:
        """What the policies know."""
        now = self.clock.monotonic()
        return tuple(
            (known.breaker.state(now), known.breaker.generation, known.budget)
            for known in self.runtime.registry.known()
        )


async def _awaited(sent: Any) -> Any:
    try:
        return await sent
    except KeyboardInterrupt as error:
        # A loop would end by it.
        return type(error)


SUCCESS: list[list[Any]] = [["row"], ["row"], ["row"]]
STORIES: dict[str, list[list[Any]]] = {
    "success": SUCCESS,
    "refused": [*SUCCESS, [Refused], ["row"]],
    "undone once": [*SUCCESS, [Undone, "row"], ["row"]],
    "undone for ever": [*SUCCESS, [Undone] * 5, ["row"]],
    "lost": [*SUCCESS, [Lost], ["row"]],
    "late": [*SUCCESS, [Late], ["row"]],
    "interrupted": [*SUCCESS, [KeyboardInterrupt], ["row"]],
    "until the circuit is open": [*SUCCESS, *[[Lost]] * 6, ["row"]],
}


@pytest.mark.parametrize("kind", [Attempt, AsyncAttempt])
@pytest.mark.parametrize("own", [False, True], ids=["ours", "own"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "within"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "part"])
@pytest.mark.parametrize("story", STORIES)
def test_both_ways_tell_the_same(
    monkeypatch: pytest.MonkeyPatch,
    story: str,
    kind: type[Attempt],
    *,
    own: bool,
    first: bool,
    whole: bool,
) -> None:
    """Whatever comes of statements: what is returned, told and known agrees."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    short, long = Room(fast=True), Room(fast=False)

    for steps in STORIES[story]:
        tries = [kind(steps, whole=whole) for _ in range(2)]
        came = [
            room.play(attempt, first=first, own=own)
            for room, attempt in zip((short, long), tries, strict=True)
        ]

        assert came[0] == came[1]
        assert tries[0].limits == tries[1].limits
        assert long.told.events == short.told.events
        assert [each[:2] for each in long.state] == [each[:2] for each in short.state]
    assert short.hastened >= len(STORIES[story]) - 1
    assert not long.hastened
    assert 0 == short.told.under_way
    assert [] == short.faults + long.faults


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """A room with the short way, whose statement was sent once in each place."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    made = Room(fast=True)
    for first in (True, False):
        made.play(Attempt(["row"], whole=True), first=first, own=False)
    return made


def test_a_lane_is_kept_where_nothing_changes(room: Room) -> None:
    """By its text alone, for each place of a statement and each kind of limit."""
    found = room.lane(first=True, own=False)

    assert found is not None
    assert found is room.lane(first=True, own=False)
    assert found is not room.lane(first=False, own=False)
    assert room.lane(first=True, own=True) is None


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE t (a int)",
        "SET statement_timeout = 5",
        "COMMIT",
        "BEGIN",
        f"SELECT '{'x' * 5000}'",
        sqlite3,
        None,
    ],
)
def test_what_may_change_something_goes_the_long_way(room: Room, text: Any) -> None:
    """It may run for long, set limits, begin or end something, or is no text."""
    assert _dblane.find(room.link, text, first=False, own=False) is None


def test_bytes_are_a_text_too(room: Room) -> None:
    """Some layers above a driver make them."""
    found = _dblane.find(room.link, TEXT.encode(), first=True, own=False)

    assert found is room.lane(first=True, own=False)


def test_a_text_that_was_never_sent_is_known_by_its_likes(room: Room) -> None:
    """Literals differ, what it is does not."""
    found = _dblane.find(room.link, f"{TEXT} WHERE a = 5", first=True, own=False)

    assert found is room.lane(first=True, own=False)


def test_texts_are_bounded(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that writes its literals into them fills no memory."""
    monkeypatch.setattr(_dblane, "TEXTS", 3)

    for number in range(10):
        text = f"{TEXT} WHERE a = {number}"
        assert _dblane.find(room.link, text, first=True, own=False) is not None

    assert 3 >= len(room.link.lanes[room.link].firsts[True])


def test_a_deadline_of_the_app_goes_the_long_way(room: Room) -> None:
    """There may be no time left."""
    token = CURRENT.set(room.clock.monotonic() + 5)

    try:
        assert room.lane(first=True, own=False) is None
        ending = psycopg2_room.DRIVER.dialect.read("COMMIT")
        assert _dblane.ending(room.link, ending, own=False) is None
    finally:
        CURRENT.reset(token)


def test_with_a_tracer_there_is_no_short_way(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call has a span, and a story."""
    provider = types.SimpleNamespace(_TRACER_PROVIDER=object())
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", provider)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", provider)

    assert room.lane(first=True, own=False) is None


@pytest.mark.parametrize("is_async", [False, True])
def test_an_open_circuit_refuses_what_is_recorded_too(
    monkeypatch: pytest.MonkeyPatch, *, is_async: bool
) -> None:
    """It is asked on the short way, and answers on the long one."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", TracerProvider())
    room = Room(fast=True)
    room.runtime.observer = TracedRecorder()
    make = AsyncAttempt if is_async else Attempt
    room.play(make(["rows"], whole=True), first=True, own=False)
    assert isinstance(room.lane(first=True, own=False), Traced)
    (known,) = room.runtime.registry.known()
    open_circuit(known.breaker, room.clock.monotonic())
    attempt = make([], whole=True)

    refused = room.play(attempt, first=True, own=False)

    assert issubclass(refused, CircuitBreakerOpenError)
    assert [] == attempt.limits


def test_lanes_are_forgotten_when_anything_changes(room: Room) -> None:
    """Other settings, and a child's own numbers."""
    room.runtime.registry.renew_locks()

    assert room.lane(first=True, own=False) is None
    assert _dblane.named(room.link, "COMMIT", unbounded=True) is None


def test_lanes_are_found_by_their_link_as_long_as_they_are_kept(room: Room) -> None:
    """Whoever finds them when all is forgotten meanwhile does not keep them."""
    link: Any = room.link
    kept = link.lanes[link]
    assert kept is link.known

    link.lanes.clear()
    assert link.known is None
    _dblane._make_known(link, kept)
    assert link.known is None
    link.lanes[link] = kept
    room.lane(first=True, own=False)

    assert kept is link.known


@pytest.mark.parametrize("mode", ["observe", "shadow"])
def test_no_lane_where_everything_has_to_be_told(mode: str) -> None:
    """Where a call is only observed, another story is played each time."""
    room = Room(fast=True, MODE=mode) if mode == "observe" else Room(fast=False)

    room.play(Attempt(["row"], whole=True), first=True, own=False)

    assert room.lane(first=True, own=False) is None


def test_no_lane_where_nobody_counts() -> None:
    """An observer without a tally wants to hear of every statement."""
    room = Room(fast=True)
    room.told.tally = None  # type: ignore[method-assign, assignment]

    for first in (True, False):
        room.play(Attempt(["row"], whole=True), first=first, own=False)

        assert room.lane(first=first, own=False) is None


def test_a_service_that_made_room_for_others_has_no_lane(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its policies are no longer those that hold."""
    room = Room(fast=True)
    monkeypatch.setattr(Registry, "keeps", lambda *_: False)

    room.play(Attempt(["row"], whole=True), first=True, own=False)

    assert room.lane(first=True, own=False) is None


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [Attempt, AsyncAttempt])
def test_faults_on_the_short_way_reach_nobody(
    room: Room, monkeypatch: pytest.MonkeyPatch, kind: type[Attempt], *, first: bool
) -> None:
    """Neither before a statement nor after it; it is sent once."""
    lane: Any = room.lane(first=first, own=False)

    def broken(*_: Any) -> None:
        message = "ours"
        raise RuntimeError(message)

    before, after = kind(["row"], whole=True), kind(["row"], whole=True)
    with monkeypatch.context() as patch:
        patch.setattr(type(lane), "enter", broken)
        assert "row" == room.play(before, first=first, own=False)
    monkeypatch.setattr(type(lane), "succeed", broken)
    assert "row" == room.play(after, first=first, own=False)

    assert ["engine"] == [where for where, _ in room.faults]


def test_a_fault_while_a_lane_is_kept_reaches_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The statement succeeded before."""
    room = Room(fast=True)

    def broken(*_: Any) -> None:
        message = "ours"
        raise RuntimeError(message)

    monkeypatch.setattr(_dblane, "keep", broken)

    assert "row" == room.play(Attempt(["row"], whole=True), first=True, own=False)
    assert ["describe"] == [where for where, _ in room.faults]


def test_nothing_is_told_twice_where_nothing_can_be_told(room: Room) -> None:
    """An observer that fails lets an error through as it is."""
    lane: Any = room.lane(first=False, own=False)
    room.runtime.observer = None  # type: ignore[assignment]

    with pytest.raises(Lost):
        _dbapi.hasten(room.link, lane, Attempt([Lost], whole=True), TEXT, own=False)

    assert ["engine"] == [where for where, _ in room.faults]


class Scenario:
    """What an app does with sqlite3."""

    def __init__(self, told: Recorder) -> None:
        self.told = told
        self.came: list[Any] = []

    def note(self, call: Callable[[], Any]) -> None:
        """Note what comes of a call."""
        try:
            found = call()
            if isinstance(found, sqlite3.Cursor):
                found = found.fetchall()
        except (sqlite3.Error, TypeError, KeyboardInterrupt) as error:
            found = (type(error), str(error))
        self.came.append(found)


class Interrupting:
    """Parameters during which somebody presses Ctrl-C."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, _: int) -> Any:
        raise KeyboardInterrupt


def _use(scenario: Scenario, path: str) -> None:
    connection = sqlite3.connect(path, timeout=0)
    other = sqlite3.connect(path, timeout=0)
    note = scenario.note
    insert = "INSERT INTO t VALUES (?)"
    note(lambda: connection.execute("CREATE TABLE t (a INTEGER UNIQUE)"))
    for number in range(3):
        note(lambda number=number: connection.execute(insert, (number,)))  # type: ignore[misc]
        note(connection.commit)
        note(lambda: other.execute("SELECT a FROM t WHERE a > ?", (0,)))
        note(connection.rollback)
        pairs = [(number + 10,), (number + 20,)]
        note(lambda pairs=pairs: connection.executemany(insert, pairs))  # type: ignore[misc]
        note(connection.rollback)
        note(lambda: connection.executescript("SELECT 1; SELECT 2"))
    note(lambda: connection.execute(insert, (0,)))  # not unique
    note(lambda: connection.execute(insert, (1, 2)))  # too many
    note(lambda: other.execute(insert, (99,)))  # locked
    note(lambda: connection.execute(insert, Interrupting()))
    note(lambda: connection.executemany(insert, [Interrupting()]))
    note(lambda: connection.execute(b"SELECT 1"))  # type: ignore[arg-type]
    note(connection.rollback)
    other.close()
    note(lambda: other.execute("SELECT a FROM t WHERE a > ?", (0,)))
    connection.close()


def test_sqlite3_tells_the_same_on_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Successes, mistakes, a lock, an interrupt: results and signals agree."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    played = []
    for fast in (False, True):
        directory = tmp_path / str(fast)
        directory.mkdir()
        with governing(("sqlite3",)) as inside:
            inside.runtime.fast = fast
            told = inside.runtime.observer = Recorder()
            scenario = Scenario(told)
            _use(scenario, str(directory / "data.db"))
        played.append(scenario)

    long, short = played
    assert long.came == short.came
    assert long.told.events == short.told.events
    assert 0 == long.told.short
    assert 12 < short.told.short
    assert 0 == short.told.under_way


def test_sqlite3_survives_faults_on_the_short_way(
    govern: Govern, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement runs once, whatever fails beside it."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    inside = govern("sqlite3")
    inside.runtime.fast = True
    inside.runtime.observer = Recorder()
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (a)")
    insert = "INSERT INTO t VALUES (1)"

    def broken(*_: Any) -> None:
        message = "ours"
        raise RuntimeError(message)

    from db import telling

    def statements() -> None:
        connection.execute(insert)
        connection.executemany("INSERT INTO t VALUES (?)", [(1,)])

    statements()
    for name in ("begin", "succeed"):
        with monkeypatch.context() as patch:
            patch.setattr(telling.RecordingTally, name, broken)
            statements()
    counted = connection.execute("SELECT count(*) FROM t").fetchone()
    connection.close()

    assert (6,) == counted
    inside.expected_faults = ["engine"] * len(inside.faults)
    assert 3 <= len(inside.faults)


def test_an_app_of_sqlite3_alone_shows_its_metrics(govern: Govern) -> None:
    """Its first call starts the server of the metrics, as any other's does."""
    inside = govern("sqlite3")
    begun: list[bool] = []
    inside.runtime.begin = lambda: begun.append(True)

    sqlite3.connect(":memory:").close()

    assert [True] == begun


def test_a_statement_that_nobody_cancelled_has_nothing_to_settle() -> None:
    """A strike may fail before it has asked for a cancel."""
    struck = psycopg2_room._Struck(None)

    struck.settle()

    assert 0 == struck.strikes


def test_what_is_armed_beside_others_is_watched_too() -> None:
    """The thread is there already, and sees it."""
    dog = _watchdog.Watchdog(lambda *_: None)
    dog.running = True
    slot = _watchdog.Slot(time.monotonic() + 60, lambda _: None)

    dog.arm(slot)

    assert [slot] == list(dog.armed.values())
    assert not dog.disarm(slot)


def test_a_connection_that_is_closed_already_is_not_cut() -> None:
    """PyMySQL forgets its socket when it closes it."""
    query = pymysql_room._Query(int, (), {})
    query.connection = types.SimpleNamespace(_sock=None)

    query.strike(1)

    assert not query.late


@pytest.mark.parametrize(
    ("text", "expected"), [(b"SELECT 1", True), (b"SELECT 1; SELECT 2", False)]
)
def test_bytes_are_read_for_whether_they_are_one_statement(
    text: bytes, *, expected: bool
) -> None:
    """What is sent again is sent as it was."""
    sending = _dbapi.Sending(int, (), {}, text)

    assert expected is sending.is_single(psycopg2_room.DRIVER.dialect)


def test_a_statement_within_another_is_left_alone(
    govern: Govern, postgres: Postgres
) -> None:
    """What psycopg sends while a statement is watched is part of it."""
    inside = govern("psycopg")
    driver = DRIVERS["psycopg"]()
    connection = driver.open(postgres.port)
    before = len(inside.told.calls)
    watch = psycopg_room._Watch(time.monotonic() + 60, inside.runtime.clock)
    token = psycopg_room._WATCH.set(watch)

    try:
        rows = driver.execute(connection, "SELECT 1")
    finally:
        psycopg_room._WATCH.reset(token)
        driver.finish()

    assert [(1,)] == rows
    assert before == len(inside.told.calls)


def test_a_long_text_of_sqlite3_is_not_looked_up(
    govern: Govern, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would have to be read as a whole, and kept."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    inside = govern("sqlite3")
    inside.runtime.fast = True
    told = inside.runtime.observer = Recorder()
    connection = sqlite3.connect(":memory:")
    text = f"SELECT '{'x' * 5000}'"

    for _ in range(3):
        connection.execute(text).close()
    link = connection._resilience  # type: ignore[attr-defined]
    connection.close()

    assert 4 == len([event for event in told.events if event[0] == "call_ended"])
    assert {} == link.lanes[link].others[False]
