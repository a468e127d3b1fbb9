"""What errors of databases mean by codes and texts, and where a connect leads."""

from __future__ import annotations

import importlib
import pickle
from typing import TYPE_CHECKING, Any

import asyncpg
import mysql.connector
import psycopg2
import pymysql
import pytest

from db.harness import DRIVERS
from resilience_instrument import CircuitBreakerOpenError
from resilience_instrument.integrations import _mysql, _postgresql
from resilience_instrument.integrations import asyncpg as asyncpg_room
from resilience_instrument.integrations import mysql_connector as connector_room
from resilience_instrument.integrations import pymysql as pymysql_room
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.verdict import Evidence, Verdict

if TYPE_CHECKING:
    from resilience_instrument.verdict import Judgement

LIBRARY_NAMES = sorted({kind.library for kind in DRIVERS.values()})

TRANSIENT = (Verdict.TRANSIENT, Evidence.FAILURE)
UNREACHABLE = (Verdict.PERMANENT, Evidence.FAILURE)
ANSWERED = (Verdict.PERMANENT, Evidence.SUCCESS)
LOCAL = (Verdict.PERMANENT, Evidence.NEUTRAL)


def read(judgement: Judgement) -> tuple[Verdict, Evidence]:
    """Return what a judgement says to the retry and to the breaker."""
    return judgement.verdict, judgement.evidence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("connection refused", TRANSIENT),
        ("server closed the connection unexpectedly", TRANSIENT),
        ("FATAL:  the database system is starting up", TRANSIENT),
        ("FATAL:  sorry, too many clients already", TRANSIENT),
        ("Consistent recovery state has not been yet reached.", TRANSIENT),
        ('could not translate host name "nowhere"', UNREACHABLE),
        ("FATAL:  password authentication failed", ANSWERED),
        ('FATAL:  database "x" does not exist', ANSWERED),
        ("SSL error: certificate verify failed", ANSWERED),
    ],
)
def test_connects_to_postgresql_are_read_by_their_texts(
    text: str, expected: tuple[Verdict, Evidence]
) -> None:
    """Libpq gives no code there."""
    judgement = _postgresql.judge_connect(
        psycopg2.OperationalError(text), "", is_own=True
    )

    assert expected == read(judgement)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("57P03", TRANSIENT),
        ("53300", TRANSIENT),
        ("28P01", ANSWERED),
        ("3D000", ANSWERED),
    ],
)
def test_connects_to_postgresql_are_read_by_their_codes(
    code: str, expected: tuple[Verdict, Evidence]
) -> None:
    """Where a driver gives one."""
    judgement = _postgresql.judge_connect(Exception("x"), code, is_own=True)

    assert expected == read(judgement)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("08006", TRANSIENT),
        ("53100", TRANSIENT),
        ("57P01", TRANSIENT),
        ("58030", TRANSIENT),
        ("XX000", TRANSIENT),
        ("25006", TRANSIENT),
        ("23505", ANSWERED),
        ("42601", ANSWERED),
        ("22003", ANSWERED),
        ("25P02", ANSWERED),
        ("55P03", ANSWERED),
        ("57014", ANSWERED),
    ],
)
def test_statements_of_postgresql_are_read_by_their_codes(
    code: str, expected: tuple[Verdict, Evidence]
) -> None:
    """Trouble of the server is a failure, an answer is none (case 39)."""
    judgement = _postgresql.judge_statement(Exception("x"), code, is_lost=False)

    assert expected == read(judgement)


def test_errors_that_are_not_the_servers_say_nothing() -> None:
    """A mistake of the app's is no evidence."""
    error = TypeError("x")

    assert LOCAL == read(_postgresql.judge_connect(error, "", is_own=False))
    assert LOCAL == read(_mysql.judge_connect(error, "", is_own=False))
    assert LOCAL == read(_postgresql.judge_statement(error, "", is_lost=False))
    assert LOCAL == read(_mysql.judge_statement(error, ""))
    assert LOCAL == read(_mysql.judge_statement(error, "0"))


@pytest.mark.parametrize(
    ("number", "connect", "statement"),
    [
        (2003, TRANSIENT, TRANSIENT),
        (1040, TRANSIENT, TRANSIENT),
        (2013, TRANSIENT, TRANSIENT),
        (2006, ANSWERED, TRANSIENT),
        (2005, UNREACHABLE, ANSWERED),
        (1045, ANSWERED, ANSWERED),
        (1049, ANSWERED, ANSWERED),
        (1062, ANSWERED, ANSWERED),
        (1290, ANSWERED, TRANSIENT),
    ],
)
def test_errors_of_mysql_are_read_by_their_numbers(
    number: int, connect: Any, statement: Any
) -> None:
    """Whatever class a driver gives them."""
    error = pymysql.err.OperationalError(number, "x")
    code = _mysql.number(error)

    assert connect == read(_mysql.judge_connect(error, code, is_own=True))
    assert statement == read(_mysql.judge_statement(error, code))
    assert "" == _mysql.number(ValueError())


def test_a_host_that_has_no_address_is_not_asked_again() -> None:
    """PyMySQL has one number for all that fails before the server is there."""
    error = pymysql.err.OperationalError(2003, "getaddrinfo failed")

    assert UNREACHABLE == read(pymysql_room.DRIVER.judge_connect(error))


def test_errors_of_asyncpg_are_read_by_their_classes() -> None:
    """It raises what the system raised, or an error with a code."""
    judge = asyncpg_room.DRIVER.judge_connect
    full = asyncpg.TooManyConnectionsError("x")

    assert TRANSIENT == read(judge(ConnectionRefusedError()))
    assert TRANSIENT == read(judge(asyncpg.ConnectionDoesNotExistError("x")))
    assert UNREACHABLE == read(judge(OSError("no address")))
    assert TRANSIENT == read(judge(full))
    assert LOCAL == read(judge(ValueError()))


def test_errors_of_mysql_connector_are_read_without_a_number() -> None:
    """A connection that ends within the handshake says so by its text alone."""
    lost = mysql.connector.errors.OperationalError("Lost connection to MySQL server")
    other = mysql.connector.errors.OperationalError("whatever")

    assert TRANSIENT == read(connector_room.DRIVER.judge_connect(lost))
    assert ANSWERED == read(connector_room.DRIVER.judge_connect(other))


# -- where a connect leads ------------------------------------------------------


class Links:
    """Returns where it is asked to lead."""

    def find(self, *where: Any) -> Any:
        """Return it as it comes."""
        return where


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ({"host": "a,b", "port": "1,2", "dbname": "d"}, {}, ("a", 1, "d")),
        ({"host": "/run/x", "user": "u"}, {}, ("localhost", 5432, "u")),
        ({}, {"PGHOST": "h", "PGPORT": "7", "PGDATABASE": "e"}, ("h", 7, "e")),
        ({"hostaddr": "::1", "port": "x", "dbname": "d"}, {}, ("::1", 5432, "d")),
    ],
)
def test_a_connect_to_postgresql_leads_where_libpq_goes(
    monkeypatch: pytest.MonkeyPatch,
    given: dict[str, str],
    environ: dict[str, str],
    expected: tuple[str, int, str],
) -> None:
    """The first of several hosts; a socket is a server on this machine."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert expected == _postgresql.link(Links(), given)  # type: ignore[arg-type]


def test_a_connect_to_mysql_leads_to_a_database() -> None:
    """A name may be bytes; what is not given has the usual value."""
    link: Any = _mysql.link

    assert ("localhost", 3306, "") == link(Links(), None, None, None)
    assert ("h", 7, "d") == link(Links(), "h", "7", b"d")


@pytest.mark.parametrize(
    ("dsn", "kwargs", "expected"),
    [
        ("postgresql://u:p@h:7/d", {}, ("h", 7, "u", "d")),
        ("postgresql://h1:1,h2:2/d", {}, ("h1", None, None, "d")),
        (None, {"host": ["a", "b"], "database": "d"}, ("a", None, None, "d")),
    ],
)
def test_a_dsn_of_asyncpg_is_read(
    dsn: str | None, kwargs: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """Arguments by name win over it."""
    found = asyncpg_room._parameters(dsn, kwargs)

    assert expected == (found["host"], found["port"], found["user"], found["dbname"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"connect_timeout": "3"}, 3.0),
        ({"connect_timeout": "0"}, None),
        ({"connect_timeout": "-1"}, None),
        ({"connect_timeout": "soon"}, 10.0),
        ({}, 10.0),
    ],
)
def test_a_limit_of_the_apps_ends_the_tries(
    given: dict[str, str], expected: float | None
) -> None:
    """0 means for ever; what cannot be read is for the driver to refuse."""
    assert expected == _postgresql.connect_limit(given, 10.0)


@pytest.mark.parametrize("name", LIBRARY_NAMES)
def test_errors_of_ours_pickle_and_read_well(name: str) -> None:
    """They keep their message, their facts and the driver's shape."""
    room = importlib.import_module(LIBRARIES[name])
    made = room.DRIVER.refusals[CircuitBreakerOpenError](
        "circuit of x is open", service="x", retry_after=1.5, last_error="y"
    )

    again = pickle.loads(pickle.dumps(made))

    assert type(made) is type(again)
    assert "circuit of x is open" == str(again)
    assert made.args == again.args
    assert ("x", 1.5, "y") == (again.service, again.retry_after, again.last_error)
