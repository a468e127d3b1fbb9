"""Databases and the configuration: names, observe mode, the switch."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from integrations.governing import governing
from resilience_instrument.config.load import from_environment

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_is_done_to_a_database_that_is_observed(tmp_path: Path) -> None:
    """Its errors are its own, no limit holds, and no circuit opens."""
    file = tmp_path / "app.db"
    with governing(("sqlite3",), MODE="observe", BREAKER_CONSECUTIVE="1") as governed:
        connection = sqlite3.connect(file, isolation_level=None)
        other = sqlite3.connect(file, timeout=0, isolation_level=None)
        connection.execute("CREATE TABLE t (x)")
        connection.execute("BEGIN EXCLUSIVE")
        for _ in range(3):
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("INSERT INTO t VALUES (1)")
        connection.execute("ROLLBACK")
        connection.close()
        other.close()

    (policies,) = governed.runtime.registry.known()
    assert "closed" == policies.breaker.state(governed.runtime.clock.monotonic())
    assert [] == governed.told.of("rejected")
    assert [] == governed.told.of("transitioned")


def test_a_database_has_the_name_that_it_was_given(tmp_path: Path) -> None:
    """In metrics too; its pattern is the name of its file."""
    file = tmp_path / "app.db"
    config = tmp_path / "r.toml"
    text = '[services.orders-db]\nmatch = "sqlite:///app.db"\ntimeout.read = 7\n'
    config.write_text(text, encoding="utf-8")

    with governing(("sqlite3",)) as governed:
        registry: Any = governed.runtime.registry
        registry.adopt(from_environment({"RESILIENCE_CONFIG": str(config)}))
        connection = sqlite3.connect(file)
        connection.execute("SELECT 1").fetchall()
        connection.close()

    names = {call.service for call in governed.told.calls}
    (policies,) = registry.known()
    assert {"orders-db"} == names
    assert ("orders-db", 7.0) == (policies.service, policies.settings.timeout.read)
