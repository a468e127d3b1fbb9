"""Real servers for the session, a proxy and a governed driver for each test."""

from __future__ import annotations

import contextlib
import re
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from db.proxy import Proxy
from db.servers import MariaDB, PgBouncer, Postgres
from integrations.governing import governing
from resilience_instrument import native

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.governing import Governed


@pytest.fixture(scope="session")
def place() -> Iterator[Path]:
    """Make a directory that the servers' users may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        path = Path(name)
        path.chmod(0o711)
        yield path


@pytest.fixture(scope="session")
def postgres(place: Path) -> Iterator[Postgres]:
    """Run a PostgreSQL."""
    server = Postgres(place / "postgres")
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def bouncer(place: Path, postgres: Postgres) -> Iterator[PgBouncer]:
    """Run a PgBouncer in transaction mode before the PostgreSQL."""
    server = PgBouncer(place / "bouncer", postgres)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def mariadb(place: Path) -> Iterator[MariaDB]:
    """Run a MariaDB."""
    server = MariaDB(place / "mariadb")
    yield server
    server.kill()


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    """Stand between a driver and the PostgreSQL."""
    with Proxy(postgres.port) as between:
        yield between


@pytest.fixture
def govern() -> Iterator[Callable[..., Governed]]:
    """Govern the library that is named, with the settings that are given."""
    with contextlib.ExitStack() as stack:

        def begin(library: str, **settings: Any) -> Governed:
            texts: dict[str, Any] = {k: str(value) for k, value in settings.items()}
            return stack.enter_context(governing((library,), **texts))

        yield begin


@pytest.fixture(autouse=True)
def traced_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let coverage see threads that gevent must not: it traces Python's own only."""

    def start(function: Callable[..., None], args: tuple[Any, ...]) -> None:
        threading.Thread(target=function, args=args, daemon=True).start()

    monkeypatch.setattr(native, "start_thread", start)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each server run in one worker only: two for all of them, not eight."""
    here = str(Path(__file__).parent)
    for item in items:
        if str(item.path).startswith(here):
            mysql = re.search("mysql|maria", item.nodeid, re.IGNORECASE)
            item.add_marker(pytest.mark.xdist_group("mysql" if mysql else "postgres"))
