"""A server that dies under load, seen through SQLAlchemy and its pool."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from db.servers import Postgres
    from integrations.governing import Governed

    Govern = Callable[..., Governed]

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.long]

TESTED = ("psycopg2",)


@contextlib.contextmanager
def engine(port: int, **options: Any) -> Iterator[sa.Engine]:
    """Make an engine whose pool is emptied at the end."""
    url = f"postgresql+psycopg2://app@127.0.0.1:{port}/postgres"
    made = sa.create_engine(url, **options)
    try:
        yield made
    finally:
        made.dispose()


class Load:
    """Threads that read and write, and what they were told.

    Args:
        pool: The engine that they share.
    """

    def __init__(self, pool: sa.Engine) -> None:
        self.pool = pool
        self.done: set[int] = set()
        self.unsure: set[int] = set()
        self.reads: list[float] = []
        self.longest = 0.0
        self._numbers = itertools.count()
        self._stop = threading.Event()
        work = [self._write] * 10 + [self._read] * 10
        self._threads = [threading.Thread(target=self._run, args=(w,)) for w in work]

    def __enter__(self) -> Load:  # noqa: PYI034 - it is never derived from
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(40)
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self, work: Callable[[], None]) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            with contextlib.suppress(sa.exc.DBAPIError, sa.exc.TimeoutError):
                work()
            self.longest = max(self.longest, time.monotonic() - begun)
            self._stop.wait(0.02)

    def _write(self) -> None:
        number = next(self._numbers)
        self.unsure.add(number)
        with self.pool.begin() as connection:
            insert = sa.text("INSERT INTO ledger VALUES (:n)")
            connection.execute(insert, {"n": number})
        self.unsure.discard(number)
        self.done.add(number)

    def _read(self) -> None:
        with self.pool.connect() as connection:
            connection.execute(sa.text("SELECT count(*) FROM ledger")).scalar()
        self.reads.append(time.monotonic())


def test_a_server_that_is_killed_costs_no_write_twice(
    govern: Govern, postgres: Postgres
) -> None:
    """Case 49: 20 threads, 10 s of nothing: writes happen once, reads come back."""
    inside = govern(
        "psycopg2",
        TIMEOUT_CONNECT=2,
        TIMEOUT_READ=5,
        BREAKER_OPEN_FOR=2,
        BREAKER_OPEN_MAX=2,
        BREAKER_OPEN_JITTER=0,
    )
    # No key: a row that was written twice shows.
    postgres.sql("DROP TABLE IF EXISTS ledger", "CREATE TABLE ledger (id bigint)")
    with engine(postgres.port, pool_size=20, max_overflow=0, pool_timeout=5) as pool:
        with Load(pool) as load:
            time.sleep(2)
            postgres.kill()
            time.sleep(3)
            opened = inside.state()
            time.sleep(7)
            postgres.start()
            up = time.monotonic()
            time.sleep(6)
        back = min(moment for moment in load.reads if moment > up)
        rows = [int(row) for row in postgres.sql("SELECT id FROM ledger").split()]

    assert len(set(rows)) == len(rows)
    assert load.done <= set(rows)
    assert set(rows) <= load.done | load.unsure
    assert opened != "closed"
    # One open time and two seconds.
    assert back - up < 4
    # Whatever it waited for: connection, statement and place in the pool.
    assert load.longest < 12
    assert [] == inside.told.retries or max(inside.told.retries) <= 3
