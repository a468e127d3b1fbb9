"""Statements that one function of ours sends: what only these can meet."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from db.harness import DRIVERS
from db.proxy import Proxy
from db.telling import Recorder, RecordingTally
from integrations.governing import governing
from resilience_instrument.integrations import _dbapi, _dblane, _watchdog
from resilience_instrument.integrations import psycopg as psycopg_room
from resilience_instrument.integrations import psycopg2 as psycopg2_room
from resilience_instrument.integrations import pymysql as pymysql_room
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.harness import Driver
    from db.servers import MariaDB, Postgres
    from integrations.governing import Governed

TEXT = "SELECT 5"


class Place:
    """A driver with a connection that has sent `SELECT 5` twice."""

    def __init__(
        self, driver: Driver, inside: Governed, port: int, **given: Any
    ) -> None:
        self.driver = driver
        self.inside = inside
        self.told: Any = inside.runtime.observer
        self.connection = driver.open(port, **given)
        driver.autocommit(self.connection)
        for _ in range(2):
            self.ask()

    def ask(self, text: str = TEXT) -> Any:
        """Send a statement; return its rows or the class of its error."""
        try:
            return self.driver.execute(self.connection, text)
        except self.driver.any_error as error:
            return type(error)
        except KeyboardInterrupt:
            return KeyboardInterrupt

    @property
    def ended(self) -> list[Any]:
        """How each call ended."""
        return [each[4] for each in self.told.events if each[0] == "call_ended"]


@contextlib.contextmanager
def opening(
    name: str, server: Any, port: int | None = None, **given: Any
) -> Iterator[Place]:
    """Open a connection of a governed driver, with a limit of one second."""
    with governing((DRIVERS[name].library,), TIMEOUT_READ="1") as inside:
        inside.runtime.fast = True
        inside.runtime.observer = Recorder()
        driver = DRIVERS[name]()
        try:
            yield Place(driver, inside, port or server.port, **given)
        finally:
            driver.finish()


@pytest.fixture(params=["psycopg2", "psycopg", "pymysql"])
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each driver that has such a function, where nothing traces."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    found: str = request.param
    return found


@pytest.fixture
def server(name: str, request: pytest.FixtureRequest) -> Postgres | MariaDB:
    """Run the driver's server."""
    wanted = "mariadb" if name == "pymysql" else "postgres"
    found: Postgres | MariaDB = request.getfixturevalue(wanted)
    return found


def end_by_hand(connection: Any) -> None:
    """Let statements be part of transactions, which the app ends itself."""
    autocommit = connection.autocommit
    if callable(autocommit):
        autocommit(False)
    else:
        connection.autocommit = False


def never(*_: Any, **__: Any) -> None:
    """Stand in for what must not be called."""
    message = "it went another way"
    raise AssertionError(message)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no statement go any other way."""
    for way in ("hasten", "send"):
        monkeypatch.setattr(_dbapi, way, never)


def test_a_statement_that_is_known_goes_the_shortest_way(
    name: str, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the engine nor what several drivers share has a part in it."""
    with opening(name, server) as place:
        forbid(monkeypatch)
        before = len(place.ended)

        rows = [place.ask() for _ in range(3)]

        assert [[(5,)]] * 3 == [[tuple(row) for row in each] for each in rows]
        assert ["success"] * 3 == place.ended[before:]
        assert 0 == place.told.under_way
    assert [] == place.inside.faults


@pytest.mark.parametrize("command", ["commit", "rollback"])
def test_a_transaction_that_ends_is_known_by_its_command(
    name: str, server: Any, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It is told as the first one was, and limited as that was."""
    with opening(name, server) as place:
        end_by_hand(place.connection)
        end = getattr(place.connection, command)
        told: list[Any] = []

        def ended() -> list[Any]:
            place.ask()
            del place.told.events[:]
            end()
            return list(place.told.events)

        told = [ended() for _ in range(3)]
        monkeypatch.setattr(_dbapi, "send", never)
        monkeypatch.setattr(_dblane, "ending", never)
        told += [ended() for _ in range(3)]

        assert [told[0]] * 6 == told
        assert ("call_ended", command.upper()) == (told[0][-1][0], told[0][-1][2])
        assert 0 == place.told.under_way
        assert not watched(place.connection)
    assert [] == place.inside.faults


@pytest.mark.parametrize("name", ["psycopg2", "psycopg"])
def test_where_nothing_is_under_way_nothing_ends(
    name: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver sends nothing then, so there is nothing to tell."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    with opening(name, postgres) as place:
        end_by_hand(place.connection)
        del place.told.events[:]

        place.connection.commit()
        place.connection.rollback()

        assert [] == place.told.events


def test_what_is_no_error_of_psycopg_is_raised_as_it_was(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hides where its own errors come from, and not where others do."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)

    def odd(*_: Any, **__: Any) -> None:
        message = "odd"
        raise ValueError(message)

    with opening("psycopg", postgres) as place:
        with monkeypatch.context() as patch:
            patch.setattr("psycopg.waiting.wait", odd)
            with pytest.raises(ValueError, match="odd") as caught:
                place.ask()

        assert "odd" in [each.name for each in caught.traceback]
        assert "error" == place.ended[-1]
        assert 0 == place.told.under_way


def test_a_transaction_ends_in_full_within_a_deadline(
    name: str, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the app allows it may be less than what it has else."""
    with opening(name, server) as place:
        end_by_hand(place.connection)
        for _ in range(3):
            place.ask()
            place.connection.commit()
        ways: list[str] = []
        real = _dblane.ending

        def ending(link: Any, statement: Any, *, own: bool) -> Any:
            ways.append(statement.verb)
            return real(link, statement, own=own)

        monkeypatch.setattr(_dblane, "ending", ending)
        place.ask()
        token = CURRENT.set(time.monotonic() + 60)
        try:
            place.connection.commit()
        finally:
            CURRENT.reset(token)

        assert ["COMMIT"] == ways
        assert "success" == place.ended[-1]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("psycopg2", {"options": "-c statement_timeout=5000"}),
        ("psycopg", {"options": "-c statement_timeout=5000"}),
        ("pymysql", {"read_timeout": 5}),
    ],
)
def test_a_limit_of_the_apps_own_holds_on_the_shortest_way(
    name: str,
    given: dict[str, Any],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It wins: what takes longer than our limit may."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    maria = name == "pymysql"
    server: Any = request.getfixturevalue("mariadb" if maria else "postgres")
    slow = "SELECT SLEEP(1.2)" if maria else "SELECT pg_sleep(1.2)"
    with opening(name, server, **given) as place:
        rows = [place.ask(slow) for _ in range(3)]

        assert all(isinstance(each, list) for each in rows)
        assert {"success"} == set(place.ended)


@pytest.mark.parametrize("point", ["begin", "succeed"])
def test_faults_on_the_shortest_way_reach_nobody(
    name: str, server: Any, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """The statement is sent once, and its rows are what they were."""
    with opening(name, server) as place:

        def broken(*_: Any) -> None:
            message = "ours"
            raise RuntimeError(message)

        monkeypatch.setattr(RecordingTally, point, broken)

        assert [(5,)] == [tuple(row) for row in place.ask()]

        found = [where for where, _ in place.inside.faults]
        place.inside.expected_faults = found
        assert {"engine"} >= set(found)


def test_what_is_interrupted_is_watched_no_more(
    name: str, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strike at it would hit whatever the connection does then."""
    with opening(name, server) as place:
        connection = place.connection
        where, method = {
            "psycopg2": (psycopg2_room, "_execute"),
            "psycopg": (type(connection), "_wait_for"),
            "pymysql": (type(connection), "_execute_command"),
        }[name]

        def interrupted(*_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            if name == "psycopg":
                patch.setattr("psycopg.waiting.wait", interrupted)
            else:
                patch.setattr(where, method, interrupted)
            came = place.ask()

        assert KeyboardInterrupt is came
        assert "cancelled" == place.ended[-1]
        assert 0 == place.told.under_way
        assert not watched(connection)


def watched(connection: Any) -> Any:
    """Return what is still watched of a connection."""
    last = connection._resilience_terms[-1]
    return last if isinstance(last, set) else last.dog.timed or last.end


@pytest.mark.parametrize("name", ["psycopg2", "psycopg"])
def test_a_server_that_goes_silent_ends_the_shortest_way_too(
    name: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the limit and the grace; the connection is not used again."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    with Proxy(postgres.port) as proxy, opening(name, postgres, proxy.port) as place:
        forbid(monkeypatch)
        proxy.mode = "frozen"
        begun = time.monotonic()
        came = place.ask()
        seconds = time.monotonic() - begun

        assert issubclass(came, place.driver.error)
        assert 0.9 < seconds < 6
        assert place.driver.is_closed(place.connection)
        assert "timeout" in str(place.told.events[-4:])
        assert not watched(place.connection)
        proxy.mode = "pass"


@pytest.mark.parametrize("name", ["psycopg2", "pymysql"])
def test_a_strike_that_came_too_late_harms_nobody(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The statement had succeeded: it is a success."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    maria = name == "pymysql"
    server: Any = request.getfixturevalue("mariadb" if maria else "postgres")
    kind: Any = pymysql_room._Cut if maria else psycopg2_room._Struck
    monkeypatch.setattr(kind, "strike", lambda *_: None)
    slow = "SELECT SLEEP(1.4)" if maria else "SELECT pg_sleep(1.4)"
    with opening(name, server) as place:
        for _ in range(2):
            place.ask(slow)
        forbid(monkeypatch)

        rows = place.ask(slow)

        assert isinstance(rows, list)
        assert "success" == place.ended[-1]
        assert not watched(place.connection)


def test_a_connection_of_psycopg_that_is_shared_limits_each_thread(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second statement waits for the first, and has a limit as well."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    came: list[Any] = []
    slow = "SELECT pg_sleep(60)"
    with opening("psycopg", postgres) as place:

        def ask() -> None:
            came.append(place.ask(slow))

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

        assert not any(thread.is_alive() for thread in threads)
        assert ["QueryCanceled"] * 3 == [each.__name__ for each in came]
        assert not watched(place.connection)


@pytest.mark.parametrize("slow", [False, True], ids=["in time", "late"])
@pytest.mark.parametrize("name", ["psycopg2", "pymysql"])
def test_a_connection_that_is_shared_limits_each_thread(
    name: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    *,
    slow: bool,
) -> None:
    """Another thread has its turn: the statement has a limit of its own."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    maria = name == "pymysql"
    server: Any = request.getfixturevalue("mariadb" if maria else "postgres")
    text = TEXT
    if slow:
        text = "SELECT SLEEP(60)" if maria else "SELECT pg_sleep(60)"
    with opening(name, server) as place:
        link, *_, turn = place.connection._resilience_terms
        kinds = link.known.firsts[1]
        kinds[text] = kinds[TEXT]
        forbid(monkeypatch)
        turn.end = theirs = time.monotonic() + 3600

        came = place.ask(text)

        assert slow is not isinstance(came, list)
        assert slow is ("timeout" in place.ended)
        assert theirs is turn.end
        assert not turn.dog.timed
        turn.end = None


def test_psycopg_succeeds_though_it_was_about_to_be_cancelled(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came just before the server heard of it is a success, and the next fails."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    slow = "SELECT pg_sleep(1.3)"
    with opening("psycopg", postgres) as place:
        connection = place.connection
        connection._resilience.known.firsts[1][slow] = (
            connection._resilience.known.firsts[1][TEXT]
        )
        monkeypatch.setattr(type(connection), "cancel_safe", lambda *_, **__: None)
        forbid(monkeypatch)

        rows = place.ask(slow)

        assert [("",)] == rows
        assert "success" == place.ended[-1]
        assert not watched(connection)


@pytest.mark.parametrize("name", ["execute", "wait"])
def test_psycopg_goes_another_way_where_it_is_not_as_expected(
    name: str, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What somebody else has put around the driver's own is heard."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    psycopg: Any = pytest.importorskip("psycopg")
    owner = psycopg.Cursor if name == "execute" else psycopg.Connection
    own, heard = getattr(owner, name), []

    def around(self: Any, *args: Any, **kwargs: Any) -> Any:
        heard.append(name)
        return own(self, *args, **kwargs)

    monkeypatch.setattr(owner, name, around)
    with opening("psycopg", postgres) as place:
        heard.clear()

        rows = [place.ask() for _ in range(3)]

        assert [[(5,)]] * 3 == rows
        assert [name] * 3 == heard
        assert {"success"} == set(place.ended)


@pytest.mark.parametrize("before", [0, 1])
def test_what_fails_in_a_pipeline_is_not_sent_again(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """Its error belongs to whatever was sent before."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    with opening("psycopg", postgres) as place:
        connection = place.connection
        cursor: Any = connection.cursor()
        with connection.pipeline():
            for _ in range(before):
                cursor.execute(TEXT)
            with pytest.raises(Exception, match="placeholders"):
                cursor.execute(TEXT, [1])

        assert [(5,)] == place.ask()


@pytest.mark.parametrize(
    ("wait", "expected"),
    [
        (lambda self, gen, interval, timeout: (self, gen, interval, timeout), True),
        (lambda self, gen, timeout: (self, gen, timeout), False),
        (len, False),
    ],
)
def test_a_wait_without_a_limit_is_known(
    wait: Callable[..., Any], *, expected: bool
) -> None:
    """Before 3.3 it has none, and what others have wrapped may have none."""
    assert expected is psycopg_room._is_brief(wait)


def test_what_is_known_by_its_end_alone_is_struck() -> None:
    """What ends it is made when it has to be."""
    faults: list[str] = []
    dog = _watchdog.Watchdog(lambda where, _: faults.append(where))
    struck = threading.Event()

    def make(about: Any) -> Any:
        def strike(_: int) -> None:
            assert "it" == about
            struck.set()

        return _watchdog.Slot(0.0, strike)

    timed = (time.monotonic() + 0.05, make, "it")
    dog.timed[id(timed)] = timed
    dog.start()

    assert struck.wait(10)
    slot: Any = dog.struck(id(timed))
    assert 1 == slot.strikes
    assert dog.struck(id(timed)) is None
    assert [] == faults


@pytest.mark.parametrize("fails", [False, True])
def test_where_nothing_limits_nothing_is_watched(
    name: str, server: Any, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """The owner of the app may have switched the limit off."""
    with opening(name, server) as place:
        wrong = "SELECT 1 / 0" if name != "pymysql" else "SELECT EXP(100000)"
        text = wrong if fails else TEXT
        if fails:
            known = place.connection._resilience
            lanes = known.lanes[known]
            for kind in (lanes.firsts, lanes.others):
                kind[True][wrong] = lanes.firsts[True][TEXT]
        place.connection._resilience.limit = None
        forbid(monkeypatch)

        came = place.ask(text)

        assert fails is not isinstance(came, list)
        assert fails is not ("success" == place.ended[-1])
        assert not watched(place.connection)


@pytest.mark.parametrize("name", ["psycopg2", "pymysql"])
def test_the_shortest_way_starts_the_watchdog(
    name: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread ends when there is nothing to watch for a while."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    wanted = "mariadb" if name == "pymysql" else "postgres"
    started: list[bool] = []
    with opening(name, request.getfixturevalue(wanted)) as place:
        forbid(monkeypatch)
        dog = place.connection._resilience_terms[-1].dog
        before, dog.running = dog.running, False
        monkeypatch.setattr(_watchdog.Watchdog, "start", lambda _: started.append(True))

        place.ask()

        dog.running = before
    assert [True] == started


def test_what_was_never_struck_has_nothing_to_settle() -> None:
    """An interrupt may come before it was watched at all."""
    dog = _watchdog.Watchdog(lambda *_: None)
    about = threading.Event()
    turn = _watchdog.Turn(dog, lambda _: _watchdog.Slot(0.0, lambda _: None), about)

    assert not psycopg2_room._settle(turn.over(5.0))
    assert turn.end is None


def test_pymysql_goes_on_where_it_cannot_be_described(
    mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement does not wait for us to be right; those of a connect are its own."""
    monkeypatch.delitem(sys.modules, "opentelemetry.context", raising=False)
    with opening("pymysql", mariadb, init_command="SET @a = 5") as place:
        del place.connection._resilience_own
        place.connection._resilience_terms = None

        rows = place.ask("SELECT @a")

        place.inside.expected_faults = ["describe"]
    assert [(5,)] == [tuple(row) for row in rows]
    assert "SELECT" == place.told.events[-1][2]
