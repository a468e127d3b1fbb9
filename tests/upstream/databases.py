"""Run the test suites of database drivers with and without the agent, and compare.

    python tests/upstream/databases.py                   # all of them
    python tests/upstream/databases.py psycopg2          # or some
    python tests/upstream/databases.py pymysql=~/pymysql # or a checkout

As `compare.py` does it for HTTP clients, but against real servers, which are started
here. Two runs a suite: plain, and under the agent with one attempt and no breaker.
Tests whose outcome the agent changes are listed; there must be none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from db.servers import MariaDB, Postgres  # noqa: E402 - see above
from upstream.compare import (  # noqa: E402
    BUILD,
    ROOT,
    TRANSPARENT,
    Results,
    Suite,
    differences,
    fetch,
    read_results,
    summary,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SQLALCHEMY = Suite("2.1.9", "", ("pytest", "pytest-xdist", "psycopg2-binary==2.9.13"))

SUITES = {
    "psycopg2": Suite("2.9.13", "", ("pytest", "psycopg2-binary==2.9.13")),
    "pymysql": Suite("1.2.0", "", ("pytest<10", "cryptography", "PyNaCl>=1.4.0")),
    "sqlalchemy-psycopg2": SQLALCHEMY,
    "sqlalchemy-psycopg": Suite("2.1.9", "", ("pytest", "psycopg[binary]>=3.2")),
    "sqlalchemy-pymysql": Suite("2.1.9", "", ("pytest", "pymysql==1.2.4")),
    "sqlalchemy-sqlite": Suite("2.1.9", "", ("pytest",)),
}

Servers = tuple[Postgres, MariaDB]

CHECKOUTS = {"pymysql": "https://github.com/PyMySQL/PyMySQL"}
"""Where the tests of those lie whose source distributions have none."""


def prepare_psycopg2(postgres: Postgres, _: MariaDB, source: Path) -> list[str]:
    """Return the arguments for psycopg2's tests, which read the environment."""
    postgres.sql("CREATE DATABASE psycopg2_test")
    os.environ.update(
        PSYCOPG2_TESTDB_HOST="127.0.0.1",
        PSYCOPG2_TESTDB_PORT=str(postgres.port),
        PSYCOPG2_TESTDB_USER="app",
    )
    # It has no configuration of its own, and must not find ours.
    return ["-c", os.devnull, "--rootdir", str(source), "tests"]


def prepare_pymysql(_: Postgres, mariadb: MariaDB, source: Path) -> list[str]:
    """Return the arguments for PyMySQL's tests, which read a file."""
    mariadb.sql(
        "CREATE DATABASE IF NOT EXISTS test1 DEFAULT CHARACTER SET utf8mb4",
        "ALTER DATABASE test2 DEFAULT CHARACTER SET utf8mb4",
        "CREATE USER IF NOT EXISTS test2 IDENTIFIED BY 'some password'",
        "GRANT ALL ON test2.* TO test2",
        "GRANT ALL ON *.* TO app@'127.0.0.1' WITH GRANT OPTION",
        "SET GLOBAL local_infile = ON",
        "INSTALL SONAME 'auth_ed25519'",
        "CREATE FUNCTION IF NOT EXISTS ed25519_password RETURNS STRING"
        " SONAME 'auth_ed25519.so'",
    )
    where = {"host": "127.0.0.1", "port": mariadb.port}
    databases = [
        {
            **where,
            "user": "app",
            "password": "pw",
            "database": "test1",
            "use_unicode": True,
            "local_infile": True,
        },
        {**where, "user": "test2", "password": "some password", "database": "test2"},
    ]
    file = source / "pymysql" / "tests" / "databases.json"
    file.write_text(json.dumps(databases), encoding="utf-8")
    return ["-c", os.devnull, "--rootdir", str(source), "pymysql/tests"]


def prepare_sqlalchemy(scheme: str) -> Callable[[Postgres, MariaDB, Path], list[str]]:
    """Return what prepares SQLAlchemy's dialect suite for a driver."""

    def prepare(postgres: Postgres, mariadb: MariaDB, _: Path) -> list[str]:
        if scheme == "sqlite":
            uri = "sqlite:///:memory:"
        elif "mysql" in scheme:
            uri = f"{scheme}://app:pw@127.0.0.1:{mariadb.port}/test"
            mariadb.sql(
                "CREATE DATABASE IF NOT EXISTS test_schema",
                "ALTER DATABASE test DEFAULT CHARACTER SET utf8mb4",
                "ALTER DATABASE test_schema DEFAULT CHARACTER SET utf8mb4",
            )
        else:
            uri = f"{scheme}://app@127.0.0.1:{postgres.port}/postgres"
            postgres.sql(
                "CREATE SCHEMA IF NOT EXISTS test_schema",
                "CREATE SCHEMA IF NOT EXISTS test_schema_2",
                "CREATE EXTENSION IF NOT EXISTS hstore",
                "CREATE EXTENSION IF NOT EXISTS citext",
            )
        return ["test/dialect/test_suite.py", "--dburi", uri]

    return prepare


PREPARE = {
    "psycopg2": prepare_psycopg2,
    "pymysql": prepare_pymysql,
    "sqlalchemy-psycopg2": prepare_sqlalchemy("postgresql+psycopg2"),
    "sqlalchemy-psycopg": prepare_sqlalchemy("postgresql+psycopg"),
    "sqlalchemy-pymysql": prepare_sqlalchemy("mysql+pymysql"),
    "sqlalchemy-sqlite": prepare_sqlalchemy("sqlite"),
}


def environment(name: str, source: Path) -> Path:
    """Return the directory of programs of an environment for the suite."""
    home = BUILD / f"{name}-environment"
    if not (home / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q"]
        own = [str(source)] if name.startswith("sqlalchemy") else []
        needs = [*own, *SUITES[name].needs, "-e", str(ROOT)]
        subprocess.run([*pip, *needs], check=True)
        (home / "complete").touch()
    return home / "bin"


def run(
    name: str, programs: Path, source: Path, arguments: list[str], *, governed: bool
) -> Results:
    """Run the suite, under the agent if it is asked for."""
    report = BUILD / f"{name}-{'governed' if governed else 'plain'}.xml"
    command = [str(programs / "python"), "-P", "-m", "pytest", "-q", "--tb=short"]
    settings: dict[str, str] = {}
    if governed:
        command.insert(0, str(programs / "resilience-instrument"))
        settings = {**TRANSPARENT, "RESILIENCE_METRICS_PORT": "0"}
    with report.with_suffix(".log").open("w", encoding="utf-8") as log:
        subprocess.run(
            [*command, "-p", "no:cacheprovider", f"--junitxml={report}", *arguments],
            cwd=source,
            env={**os.environ, **settings},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return read_results(report)


def check_out(name: str) -> Path:
    """Return a checkout of a library at the version of its suite."""
    source = BUILD / f"{name}-checkout"
    if not source.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        tag = ["--branch", f"v{SUITES[name].version}"]
        clone = ["git", "clone", "-q", "--depth", "1", *tag, CHECKOUTS[name]]
        if subprocess.run([*clone, str(source)], check=False).returncode != 0:
            sys.exit(
                f"{CHECKOUTS[name]} could not be cloned; point to a checkout of it:"
                f" make upstream ARGS={name}=/path/to/{name}"
            )
    return source


def compare(name: str, source: Path | None, servers: Servers) -> bool:
    """Compare the two runs of a suite; tell whether nothing was changed."""
    library = name.partition("-")[0]
    postgres, mariadb = servers
    if source is None:
        known = name in CHECKOUTS
        source = check_out(name) if known else fetch(library, SUITES[name])
    programs = environment(name, source)
    arguments = PREPARE[name](postgres, mariadb, source)
    plain = run(name, programs, source, arguments, governed=False)
    governed = run(name, programs, source, arguments, governed=True)
    print(f"{name}, plain: {summary(plain)}", flush=True)
    print(f"{name}, governed: {summary(governed)}", flush=True)
    changed = differences(plain, governed)
    for line in changed:
        print(f"  {line}", flush=True)
    return not changed


def named(arguments: list[str]) -> dict[str, str]:
    """Return the suites that are named and where their sources are; all for none.

    `sqlalchemy` names that of each driver.
    """
    chosen: dict[str, str] = {}
    for argument in arguments:
        name, _, source = argument.partition("=")
        found = [each for each in SUITES if f"{each}-".startswith(f"{name}-")]
        if not found:
            sys.exit(f"there is no suite {name!r}; there are {', '.join(SUITES)}")
        chosen |= dict.fromkeys(found, source)
    return chosen or dict.fromkeys(SUITES, "")


def main(arguments: list[str]) -> int:
    """Compare the suites that are named, or all."""
    chosen = named(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        place = Path(name)
        place.chmod(0o711)
        postgres, mariadb = Postgres(place / "postgres"), MariaDB(place / "mariadb")
        postgres.start()
        try:
            unchanged = [
                compare(
                    each,
                    Path(source).expanduser().resolve() if source else None,
                    (postgres, mariadb),
                )
                for each, source in chosen.items()
            ]
        finally:
            postgres.kill()
            mariadb.kill()
    return 0 if all(unchanged) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
