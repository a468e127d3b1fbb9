"""The page of the database cases: which test shows which case for which driver.

It reads the tests: a docstring that begins with "Case 13:" shows case 13, for the
drivers that its file names in `TESTED`, without those that `UNFIT` excuses.
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
}

INTRO = """\
# Database drivers: the cases

What must hold for every driver, and where it is shown against real servers
(PostgreSQL 15, PgBouncer, MariaDB 10.11), behind a proxy that stalls, resets and
freezes. `x`: a test shows it. A number: the driver cannot come into this situation, see
the note. Empty: the case is about other drivers, or nothing shows it yet.

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
    texts = sorted({text for at, text in notes.items() if at not in shown})
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
        return "x"
    return str(texts.index(notes[at]) + 1) if at in notes else ""
