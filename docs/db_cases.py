"""The page of the database cases: which test shows which case for which driver.

It reads the tests: a docstring that begins with "Case 13:" shows case 13, for the
drivers that its file names in `TESTED`, without those that `UNFIT` excuses. What no
test shows needs a reason in `REASONS`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent / "tests" / "db"

DRIVERS = {
    "sqlite3": "sqlite3",
    "psycopg2": "psycopg2",
    "psycopg": "psycopg",
    "psycopg-async": "psycopg async",
    "asyncpg": "asyncpg",
    "pymysql": "PyMySQL",
    "mysql.connector": "mysql-connector",
    "mysqlclient": "mysqlclient",
    "aiomysql": "aiomysql",
}

CASES = {
    1: "A connection is one to C code: adapters, quoting, types",
    2: "The app's class stays on top: a logging connection logs once",
    3: "Named tuples from a factory",
    4: "Cursors of an own class are governed and still of that class",
    5: "`cursor_factory`, names and texts are unchanged",
    6: "Named cursors, `with`, two-phase commit, COPY, large objects, pools",
    7: "An asynchronous connection is left alone",
    8: "A `connect` that was imported before is governed",
    9: "Factories, backups and errors of arguments of sqlite3",
    10: "Every way to connect gives one connect",
    12: "Beside OpenTelemetry's own instrumentation: one span for each call",
    13: "A silent server ends a connect in time",
    14: "The app's own connect timeout wins; 0 is for ever",
    15: "A short connect timeout limits no query",
    16: "A frozen server ends a statement and stops no other thread",
    17: "A slow statement ends at the limit, on the server too",
    18: "A frozen server blocks no event loop",
    19: "A statement that just makes it spoils no other",
    20: "PgBouncer in transaction mode: no setting leaks",
    21: "Server-side limit by opt-in, with its way back behind a bouncer",
    22: "Server-side limit of MariaDB by opt-in",
    23: "A read timeout of the app stays",
    24: "Schema changes and awaited locks may take longer",
    25: "The limit holds in a forked child",
    26: "A server that restarts is reached",
    27: "A wrong login or database is tried once",
    28: "A lone statement that a deadlock undid is sent again",
    29: "A deadlock inside a transaction is the app's",
    30: "Nothing of an undone transaction is committed",
    31: "The first statement of a transaction is sent again",
    32: "A late update is not sent again",
    33: "A lost connection surfaces and is not mended in place",
    34: "Several statements in one text are never sent again",
    36: "A locked database is told from a mistake",
    37: "What is left of a deadline is respected",
    38: "An open circuit is the driver's own error, at once",
    39: "Answers of the server open no circuit",
    40: "An open circuit leaves SQLAlchemy's pool alone",
    41: "A circuit that opens inside a transaction lets it end",
    42: "Probes close the circuit",
    43: "Two databases have two circuits",
    44: "No literal in labels and attributes",
    45: "Names and memory are bounded",
    46: "Attempts are one call with its attributes",
    48: "A fault of ours never reaches the app",
    49: "`kill -9` under load: no write twice, reads come back",
    50: "`transaction()` runs a whole unit again, by proof",
    51: "Django: its own errors, blocks, savepoints, connections",
}

# Why a case is not shown for a driver, in the words of the note below the table.
_PATCHED = "Its classes are patched where they are: an app gets the driver's own."
_FACTORY = "Its factories and classes are case 9."
_OWN = "It is about psycopg2."
_NO_SERVER = "It has no server: there is neither a limit nor a circuit."
_POSTGRESQL = "It is about PostgreSQL."
_MYSQL = "It is about MySQL and MariaDB."
_SQLITE = "It is about sqlite3."
_EARLIER = (
    "A function that was taken before the agent came leads around it; the launcher"
    " comes before an app's first import."
)
_ENDED = "It is ended by whoever waits for it, before anything else can be sent."
_CLOSED = "Its connection is closed with it: there is no next statement."
_NO_THREAD = "Its limit needs no thread."
_SAME_THREAD = "Its limit is kept by the thread that psycopg2's test is about."
_TWO = "Shown with a driver whose cursors are derived from and one that is proxied."
_ONE = "Shown with one driver: it is about circuit and pool."
_NOT_DJANGO = "Django does not use it."
_OWN_BACKEND = "Django uses it by a backend that is part of the driver."

_PG = ("psycopg2", "psycopg", "psycopg-async", "asyncpg")
_MY = ("pymysql", "mysql.connector", "mysqlclient", "aiomysql")
_IN_PYTHON = (*_PG[1:], *_MY)


def _reasons(*groups: tuple[tuple[str, ...], str]) -> dict[str, str]:
    return {name: why for names, why in groups for name in names}


_OF_OBJECTS = _reasons((_IN_PYTHON, _PATCHED), (("sqlite3",), _FACTORY))
_OF_SERVERS = _reasons((("sqlite3",), _NO_SERVER))
_SERVER_CASES = (*range(13, 19), *range(26, 36), 37, *range(38, 44))

REASONS = {
    **dict.fromkeys(range(1, 7), _OF_OBJECTS),
    7: _reasons((("sqlite3", *_IN_PYTHON), _OWN)),
    8: _reasons((("sqlite3", *_PG[1:]), _EARLIER)),
    9: _reasons(((*_PG, *_MY), _SQLITE)),
    12: _reasons((_IN_PYTHON, _TWO)),
    **dict.fromkeys(_SERVER_CASES, _OF_SERVERS),
    19: _reasons(
        (("sqlite3",), _NO_SERVER),
        (_PG[1:], _ENDED),
        (_MY, _CLOSED),
    ),
    20: _reasons((("sqlite3", *_MY), _POSTGRESQL)),
    21: _reasons((("sqlite3", *_MY), _POSTGRESQL)),
    22: _reasons((("sqlite3", *_PG), _MYSQL)),
    23: _reasons(
        (("sqlite3", *_PG, *_MY[2:]), "It is about read timeouts of MySQL's.")
    ),
    25: _reasons(
        (("sqlite3",), _NO_SERVER),
        (_IN_PYTHON, _NO_THREAD),
        (("mysqlclient",), _SAME_THREAD),
    ),
    36: _reasons(((*_PG, *_MY), _SQLITE)),
    49: _reasons((("sqlite3",), _NO_SERVER), (_IN_PYTHON, _ONE)),
    51: _reasons(
        (("psycopg-async", "asyncpg", "aiomysql"), _NOT_DJANGO),
        (("mysql.connector",), _OWN_BACKEND),
    ),
}
"""For each case and driver that no test shows, why there is nothing to show."""

INTRO = """\
# Database drivers: the cases

What must hold for every driver, and where it is shown against real servers
(PostgreSQL 15, PgBouncer, MariaDB 10.11), behind a proxy that stalls, resets and
freezes. `yes`: a test shows it. A number: there is nothing to show, see the note. The
drivers' own test suites (case 11) are run by `make upstream`, their overhead (case 47)
is measured by `make bench`; Redis (case 35) is not governed.

mysqlclient is tried where it is installed: it is built with a compiler and a client
library. The column of mysql-connector is its pure kind. Its C extension passes the
same cases where it loads (wheels after 9.7 want an OpenSSL that Debian 12 does not
have), but keeps the limit that it was given at the connect: for schema changes as well
(case 24), and whatever the app's deadline says (case 37).

<!-- Made by docs/build.py from tests/db; edit that. -->
"""

_CASE = re.compile(r"Cases? ((?:\d+(?:, | and )?)+):")


def page() -> str:
    """Return the page."""
    shown: set[tuple[int, str]] = set()
    notes: dict[tuple[int, str], str] = {}
    for path in sorted(TESTS.glob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        _read(tree, shown, notes)
    for number, reasons in REASONS.items():
        notes |= {(number, name): why for name, why in reasons.items()}
    notes = {at: why for at, why in notes.items() if at not in shown}
    notes = {at: why for at, why in notes.items() if at[1] in DRIVERS}
    texts = sorted(set(notes.values()))
    lines = [INTRO, "| | case | " + " | ".join(DRIVERS.values()) + " |"]
    lines.append("|---|---|" + "---|" * len(DRIVERS))
    for number, title in CASES.items():
        cells = [_cell((number, name), shown, notes, texts) for name in DRIVERS]
        lines.append(f"| {number} | {title} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{place}. {text}" for place, text in enumerate(texts, 1))]
    return "\n".join(lines) + "\n"


def _read(
    tree: ast.Module,
    shown: set[tuple[int, str]],
    notes: dict[tuple[int, str], str],
) -> None:
    """Add what one file of tests shows."""
    tested = _literal(tree, "TESTED") or ()
    unfit = _literal(tree, "UNFIT") or {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            excuses = unfit.get(node.name, {})
            names = tested.get(node.name, ()) if isinstance(tested, dict) else tested
            for number in _cases(ast.get_docstring(node) or ""):
                shown |= {(number, name) for name in names if name not in excuses}
                notes |= {(number, name): why for name, why in excuses.items()}


def _cases(docstring: str) -> list[int]:
    match = _CASE.match(docstring)
    return [int(digits) for digits in re.findall(r"\d+", match[1])] if match else []


def _literal(tree: ast.Module, name: str) -> Any:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    return {}


def _cell(
    at: tuple[int, str],
    shown: set[tuple[int, str]],
    notes: dict[tuple[int, str], str],
    texts: list[str],
) -> str:
    if at in shown:
        return "yes"
    if at not in notes:
        message = f"no test shows case {at[0]} for {at[1]}, and nobody says why"
        raise ValueError(message)
    return str(texts.index(notes[at]) + 1)
