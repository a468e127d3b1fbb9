"""sqlite3: counted and measured, and otherwise as Python has it."""

from __future__ import annotations

import functools
import pickle
import sqlite3
import sqlite3.dbapi2
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from resilience_instrument.integrations import sqlite3 as room

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from integrations.governing import Governed

    Govern = Callable[..., Governed]


TESTED = ("sqlite3",)


@pytest.fixture
def inside(govern: Govern) -> Governed:
    """Govern sqlite3."""
    return govern("sqlite3")


def endpoints(inside: Governed) -> list[str]:
    """Return the endpoints of the calls, in their order."""
    return [call.endpoint for call in inside.told.calls]


def test_statements_are_counted_by_their_names(inside: Governed) -> None:
    """Each of them once, however it is run, and no circuit is asked."""
    connection = sqlite3.connect(":memory:")

    connection.execute("CREATE TABLE t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])
    connection.commit()
    connection.commit()
    cursor = connection.cursor()
    cursor.execute("SELECT a FROM t WHERE a > ?", (0,))
    connection.execute("DELETE FROM t")
    connection.rollback()
    connection.rollback()
    cursor.executescript("SELECT 1; SELECT 2")
    connection.executescript("SELECT 1")
    rows = cursor.execute("SELECT a FROM t").fetchall()
    connection.close()

    assert [(1,), (2,)] == rows
    assert [
        "CONNECT",
        "CREATE TABLE t",
        "BATCH INSERT t",
        "COMMIT",
        "SELECT t",
        "DELETE t",
        "ROLLBACK",
        "BATCH SELECT SELECT",
        "BATCH SELECT",
        "SELECT t",
    ] == endpoints(inside)
    assert {"sqlite::memory:"} == {call.service for call in inside.told.calls}
    assert {"success"} == set(inside.told.outcomes)


@pytest.mark.parametrize(
    ("database", "service"),
    [("data.db", "sqlite:data.db"), ("", "sqlite:temporary")],
)
def test_a_service_is_the_name_of_a_file(
    inside: Governed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database: str,
    service: str,
) -> None:
    """No directory is told, and a file without a name has one."""
    monkeypatch.chdir(tmp_path)

    sqlite3.connect(database).close()

    assert [service] == [call.service for call in inside.told.calls]


def test_what_python_offers_is_unchanged(inside: Governed, tmp_path: Path) -> None:
    """Case 9: factories, backups, and errors of arguments."""

    class Own(sqlite3.Connection):
        pass

    class OwnCursor(sqlite3.Cursor):
        pass

    by_name = sqlite3.connect(":memory:", factory=Own)
    by_place = sqlite3.connect(":memory:", 5.0, 0, None, True, Own)
    target = sqlite3.connect(tmp_path / "copy.db")
    by_name.backup(target)

    assert isinstance(by_name, Own)
    assert isinstance(by_place, Own)
    assert "Own" == type(by_name).__name__
    assert isinstance(by_name.cursor(OwnCursor), OwnCursor)
    assert isinstance(by_name.cursor(functools.partial(OwnCursor)), OwnCursor)
    with pytest.raises(TypeError):
        by_name.cursor(None)
    with pytest.raises(TypeError):
        by_name.cursor().execute(5)  # type: ignore[arg-type]
    for connection in (by_name, by_place, target):
        connection.close()
    assert [] == inside.faults


@pytest.mark.usefixtures("inside")
def test_a_pickled_connect_is_the_governed_one() -> None:
    """Though its own name is that of the plain one; by either of its places."""
    for connect in (sqlite3.connect, sqlite3.dbapi2.connect):
        packed = pickle.dumps(connect)

        assert connect is pickle.loads(packed)
        assert b"resilience" not in packed


def test_both_names_of_connect_lead_here(inside: Governed) -> None:
    """Case 10: SQLAlchemy takes the one, apps take the other."""
    sqlite3.connect(":memory:").close()
    sqlite3.dbapi2.connect(":memory:").close()
    plain = functools.partial(sqlite3.Connection)
    sqlite3.connect(":memory:", factory=plain).close()  # type: ignore[call-overload]

    assert ["CONNECT"] * 3 == endpoints(inside)


def test_a_connection_that_is_made_twice_over_is_governed_once(
    inside: Governed,
) -> None:
    """An app may hand on the class that it found."""
    first = sqlite3.connect(":memory:")

    second = sqlite3.connect(":memory:", factory=type(first))
    second.execute("SELECT 1").close()
    for connection in (first, second):
        connection.close()

    assert ["CONNECT", "CONNECT", "SELECT"] == endpoints(inside)


def test_a_locked_database_is_told_from_a_mistake(
    inside: Governed, tmp_path: Path
) -> None:
    """Case 36: somebody else's lock may be gone soon; a bad statement stays bad."""
    path = tmp_path / "data.db"
    holder = sqlite3.connect(path)
    holder.execute("CREATE TABLE t (a)")
    holder.execute("BEGIN EXCLUSIVE")
    other = sqlite3.connect(path, timeout=0)

    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(sqlite3.OperationalError):
        other.execute("SELEC")
    with pytest.raises(sqlite3.Error):
        sqlite3.connect(tmp_path / "no" / "where.db")
    for connection in (holder, other):
        connection.close()

    assert 3 == inside.told.outcomes.count("error")
    assert ["transaction"] == inside.told.skipped


@pytest.fixture
def patient(govern: Govern, monkeypatch: pytest.MonkeyPatch) -> Governed:
    """Govern sqlite3, which is asked to be patient."""
    monkeypatch.setenv("RESILIENCE_DATABASE_RETRY_BUSY", "1")
    return govern("sqlite3", RETRY_MAX_ATTEMPTS=10, RETRY_BASE_DELAY=0.05)


@pytest.mark.parametrize("level", ["", None])
def test_a_busy_database_is_tried_again_where_it_is_asked_for(
    patient: Governed, tmp_path: Path, level: Any
) -> None:
    """Case 36: outside a transaction, and the row is there once."""
    path = tmp_path / "data.db"
    holder = sqlite3.connect(path, check_same_thread=False)
    holder.execute("PRAGMA journal_mode = wal")
    holder.execute("CREATE TABLE t (a)")
    holder.execute("BEGIN IMMEDIATE")
    other = sqlite3.connect(path, timeout=0, isolation_level=level)

    def release() -> None:
        while not patient.told.retries:
            time.sleep(0.01)
        holder.rollback()

    releasing = threading.Thread(target=release)
    releasing.start()
    other.execute("INSERT INTO t VALUES (1)")
    other.commit()
    releasing.join()

    assert [(1,)] == other.execute("SELECT a FROM t").fetchall()
    assert 2 == patient.told.retries[0]
    assert "closed" == patient.state()
    for connection in (holder, other):
        connection.close()


def test_patience_ends_inside_a_transaction(patient: Governed, tmp_path: Path) -> None:
    """Case 36: a snapshot that is too old stays so; mistakes are as ever."""
    path = tmp_path / "data.db"
    holder = sqlite3.connect(path)
    holder.execute("PRAGMA journal_mode = wal")
    holder.execute("CREATE TABLE t (a)")
    other = sqlite3.connect(path, timeout=0)
    other.execute("BEGIN")
    other.execute("SELECT * FROM t").fetchall()
    holder.execute("INSERT INTO t VALUES (1)")
    holder.commit()

    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
        other.execute("INSERT INTO t VALUES (2)")
    other.rollback()
    other.executemany("INSERT INTO t VALUES (?)", [(3,)])
    other.commit()
    with pytest.raises(sqlite3.OperationalError):
        other.execute("SELEC")
    with pytest.raises(TypeError):
        other.execute(5)  # type: ignore[arg-type]
    for connection in (holder, other):
        connection.close()

    assert "SQLITE_BUSY_SNAPSHOT" == caught.value.sqlite_errorname
    assert ["transaction"] == patient.told.skipped
    assert [] == patient.told.retries


def test_a_fault_of_ours_is_no_end_of_patience(
    patient: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 48: what cannot be described runs all the same."""
    connection = sqlite3.connect(":memory:")
    with monkeypatch.context() as patched:
        patched.setattr(room, "SQLITE", None)
        assert (0,) == connection.execute("SELECT 0").fetchone()
    patient.runtime.registry = None  # type: ignore[assignment]
    link: Any = connection._resilience_patient  # type: ignore[attr-defined]
    link._endpoints = None

    assert (1,) == connection.execute("SELECT 1").fetchone()
    connection.close()

    assert len(patient.faults) > 1
    patient.faults.clear()


def test_a_query_that_is_interrupted_counts_as_nothing(inside: Governed) -> None:
    """Ctrl-C inside a statement is nobody's failure."""
    connection = sqlite3.connect(":memory:")
    call = inside.told.calls[0]

    class Interrupted:
        late = False

        def __call__(self, _: float | None) -> None:
            raise KeyboardInterrupt

    from resilience_instrument.integrations import _dbapi

    link = connection._resilience  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        _dbapi.counted(link, call, Interrupted(), None)  # type: ignore[arg-type]
    connection.close()

    assert "cancelled" == inside.told.outcomes[-1]


def test_sqlalchemy_works_on_top(inside: Governed) -> None:
    """An engine of its own sees nothing but sqlite3."""
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (a integer)"))
        connection.execute(sa.text("INSERT INTO t VALUES (:a)"), {"a": 1})
    with engine.connect() as connection:
        assert 1 == connection.execute(sa.text("SELECT a FROM t")).scalar()
    engine.dispose()

    assert {"INSERT t", "SELECT t", "COMMIT"} <= set(endpoints(inside))


def test_the_file_of_a_watcher_is_no_call_of_the_apps(inside: Governed) -> None:
    """What measures a program's coverage keeps it in a database of its own."""
    watcher: dict[str, Any] = {"__name__": "coverage.sqldata"}

    exec("import sqlite3; made = sqlite3.connect(':memory:')", watcher)
    watcher["made"].execute("SELECT 1")
    watcher["made"].close()

    assert [] == endpoints(inside)


def test_faults_of_ours_let_everything_pass(inside: Governed) -> None:
    """Case 48: neither describing nor telling keeps a statement from running."""
    connection = sqlite3.connect(":memory:")
    inside.told.events = None  # type: ignore[assignment]

    assert (1,) == connection.execute("SELECT 1").fetchone()
    inside.runtime.observer = None  # type: ignore[assignment]
    assert (2,) == connection.execute("SELECT 2").fetchone()
    link = connection._resilience  # type: ignore[attr-defined]
    link._plain = None
    assert (3,) == connection.execute("SELECT 3").fetchone()
    inside.runtime.registry = None  # type: ignore[assignment]
    sqlite3.connect(":memory:").close()
    connection.close()

    assert len(inside.faults) >= 3
    inside.faults.clear()


def test_nothing_is_retried_here() -> None:
    """The room has no proof to offer."""
    attempt = room._Attempt(int, (), {})

    attempt.restart()

    assert not attempt.is_whole()
    assert "ValueError" == room.DRIVER.judge_connect(ValueError()).reason
