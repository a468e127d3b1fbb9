"""The cascade under observation: a plain run, and a report that comes true."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import TYPE_CHECKING, NamedTuple

import pytest
from stage import Stage

from resilience_instrument.cli import report

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.long]

# Fine, once too slow, fine, failing until B's circuit opens, fine again.
WEATHER = ["0.01 fine"] * 4 + ["1 fine"] + ["0.01 fine"] * 2
WEATHER += ["0.01 broken"] * 7 + ["0.01 fine"] * 3
OFF = {"RESILIENCE_ENABLED": "0"}
B = {
    "RESILIENCE_TIMEOUT_READ": "0.4",
    "RESILIENCE_RETRY_BASE_DELAY": "0",
    "RESILIENCE_RETRY_BUDGET_MIN": "100",
    "RESILIENCE_BREAKER_OPEN_FOR": "60",
}


class Run(NamedTuple):
    """What people saw, and what B's metrics say about C."""

    statuses: list[int]
    stock: report.Service | None


def run(directory: Path, mode: str | None) -> Run:
    """Let people come one after the other; B runs in `mode`, or plain."""
    directory.mkdir()
    b = B | {"RESILIENCE_MODE": mode} if mode is not None else {}
    stage = Stage(directory, None if mode is None else {"a": OFF, "b": b, "c": OFF})
    try:
        stage.open()
        statuses = []
        for number, weather in enumerate(WEATHER):
            stage.query(weather)
            statuses.append(get(f"http://127.0.0.1:{stage.port}/orders/{number}"))
        if mode is None:
            return Run(statuses, None)
        url = f"http://127.0.0.1:{stage.metrics_ports['b']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            (stock,) = report.read(answer.read().decode())
        return Run(statuses, stock)
    finally:
        stage.close()


def get(url: str) -> int:
    """Return the status of an answer."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_cascade_is_predicted(tmp_path: Path) -> None:
    """People see what they see without the agent; then what was predicted happens."""
    plain = run(tmp_path / "plain", None)
    observed = run(tmp_path / "observed", "observe")
    enforced = run(tmp_path / "enforced", "enforce")

    assert plain.statuses == observed.statuses
    assert 200 == plain.statuses[4] != enforced.statuses[4]
    assert observed.stock is not None
    assert enforced.stock is not None
    would, did = observed.stock.would_act, enforced.stock
    assert (1.0, 5.0) == (would["retry"], would["breaker"])
    assert (did.retried, did.rejected["breaker"]) == (would["retry"], would["breaker"])
    # The slow answer and the three good ones would have been lost.
    lost = sum(observed.stock.would_lose.values())
    assert 4.0 == lost == did.failed - observed.stock.failed
