"""Real database servers on this machine, quiet and reached by a Unix socket.

They are those of the tests, which know how to start them; the benchmarks find them
in the environment, as a worker does that is given other ones.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.harness.workers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRESQL: Final = "BENCHMARK_POSTGRESQL"
"""The DSN of a PostgreSQL."""

MYSQL: Final = "BENCHMARK_MYSQL"
"""The path of the socket of a MySQL or MariaDB with a user `app`, password `pw`."""

_NEEDED: Final = {"psycopg2": POSTGRESQL, "psycopg": POSTGRESQL, "pymysql": MYSQL}


def is_there(target: str) -> bool:
    """Tell whether the server that a target needs was started."""
    return target not in _NEEDED or _NEEDED[target] in os.environ


@contextlib.contextmanager
def running() -> Iterator[None]:
    """Run a PostgreSQL and a MariaDB, unless others are given."""
    with contextlib.ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
        )
        directory.chmod(0o711)
        if POSTGRESQL not in os.environ:
            os.environ[POSTGRESQL] = _postgresql(directory / "pg", stack)
            stack.callback(os.environ.pop, POSTGRESQL)
        if MYSQL not in os.environ:
            os.environ[MYSQL] = _mysql(directory / "my", stack)
            stack.callback(os.environ.pop, MYSQL)
        yield


def _postgresql(directory: Path, stack: contextlib.ExitStack) -> str:
    sys.path.append(str(ROOT / "tests"))
    from db.servers import Postgres  # noqa: PLC0415

    class Quiet(Postgres):
        def command(self) -> list[str]:
            """Return the command; the tests let it log every statement."""
            return [*super().command(), "--log_statement=none"]

    server = Quiet(directory)
    server.start()
    stack.callback(server.kill)
    return f"host={directory} port={server.port} user=app dbname=postgres"


def _mysql(directory: Path, stack: contextlib.ExitStack) -> str:
    sys.path.append(str(ROOT / "tests"))
    from db.servers import MariaDB  # noqa: PLC0415

    server = MariaDB(directory)
    stack.callback(server.kill)
    server.sql("CREATE USER app@localhost IDENTIFIED BY 'pw'")
    return str(server.socket)
