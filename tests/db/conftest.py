"""Real servers for the session, a proxy and a governed driver for each test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from db.proxy import Proxy
from db.servers import MariaDB, PgBouncer, Postgres
from integrations.governing import governing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.governing import Governed


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """Run a PostgreSQL."""
    server = Postgres(tmp_path_factory.mktemp("postgres"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def bouncer(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres
) -> Iterator[PgBouncer]:
    """Run a PgBouncer in transaction mode before the PostgreSQL."""
    server = PgBouncer(tmp_path_factory.mktemp("bouncer"), postgres)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDB]:
    """Run a MariaDB."""
    server = MariaDB(tmp_path_factory.mktemp("mariadb"))
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
            texts = {name: str(value) for name, value in settings.items()}
            return stack.enter_context(governing((library,), **texts))

        yield begin
