"""Scenario 40: a driver's own functions take a governed connection for theirs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agent.processes import environment, free_port, governed
from db.conftest import place, postgres

if TYPE_CHECKING:
    from db.servers import Postgres

pytestmark = [
    pytest.mark.slow,
    pytest.mark.scenario,
    pytest.mark.xdist_group("postgres"),
]
__all__ = ["place", "postgres"]

PSYCOPG2 = """\
import sys, uuid
import psycopg2
import psycopg2.extensions as ext
import psycopg2.extras

connection = psycopg2.connect(sys.argv[1])
psycopg2.extras.register_json(connection)
psycopg2.extras.register_uuid(conn_or_curs=connection)
print(isinstance(connection, ext.connection), ext.quote_ident("a b", connection))
with connection.cursor() as cursor:
    number = uuid.uuid4()
    cursor.execute("select %s::uuid, '{\\"a\\": 1}'::json", (number,))
    print(cursor.fetchone() == (number, {"a": 1}))
from resilience_instrument import _agent
blocks = _agent._Process.agent.store.blocks()
print(any(block.labels[1:2] == ("select",) for block in blocks))
"""


def test_40_the_functions_of_psycopg2_take_a_governed_connection(
    postgres: Postgres,
) -> None:
    """No TypeError from C, the class is theirs, and the statement was counted."""
    env = environment(RESILIENCE_METRICS_PORT=str(free_port()))
    where = f"host=127.0.0.1 port={postgres.port} user=app dbname=postgres"

    done = governed("python", "-c", PSYCOPG2, where, env=env)

    assert (0, 'True "a b"\nTrue\nTrue\n', "") == done
