"""Log lines: one when a circuit opens, one when it closes, silence by default."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

from fakes import a_call
from resilience_instrument.events import Transition
from resilience_instrument.signals.log import LogObserver

if TYPE_CHECKING:
    import pytest

OPENED = Transition("payment-api", "closed", "open", 5, "ReadTimeout", 30.0)


def test_an_opened_circuit_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """It says which service, why, and for how long."""
    LogObserver().transitioned(a_call(), OPENED)

    (record,) = caplog.records
    assert logging.WARNING == record.levelno
    assert "payment-api is open for 30.0 s after 5 failures" in record.message
    assert "ReadTimeout" in record.message
    assert "open" == record.__dict__["to_state"]


def test_a_closed_circuit_is_an_information(caplog: pytest.LogCaptureFixture) -> None:
    """On-call engineers see the end as well as the beginning; probes are noise."""
    caplog.set_level(logging.INFO, "resilience_instrument")

    LogObserver().transitioned(a_call(), Transition("payment-api", "open", "half_open"))
    LogObserver().transitioned(
        a_call(), Transition("payment-api", "half_open", "closed")
    )

    (record,) = caplog.records
    assert logging.INFO == record.levelno
    assert "payment-api is closed again" in record.message


def test_a_retry_is_a_detail(caplog: pytest.LogCaptureFixture) -> None:
    """Its fields are there for whoever writes structured logs."""
    caplog.set_level(logging.DEBUG, "resilience_instrument")

    LogObserver().retry_scheduled(a_call(), 2, 1.25, "503")

    (record,) = caplog.records
    assert "payment-api GET /orders/{id}: attempt 2 in 1.25 s (503)" == record.message
    fields = [record.__dict__[name] for name in ("service", "attempt", "delay")]
    assert ["payment-api", 2, 1.25] == fields


def test_other_events_are_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    """A healthy app's log grows by nothing."""
    caplog.set_level(logging.DEBUG, "resilience_instrument")
    log, call = LogObserver(), a_call()

    log.call_started(call)
    log.attempt_started(call, 1)
    log.attempt_ended(call, 1, None, 0.1)  # type: ignore[arg-type]
    log.attempt_cancelled(call, 1)
    log.retry_skipped(call, "budget")
    log.rejected(call, "breaker")
    log.call_ended(call, "success", 1, 0.1)

    assert [] == caplog.records


def test_an_app_without_logging_sees_nothing() -> None:
    """Python's last resort does not print our warnings on stderr."""
    script = (
        "from resilience_instrument.signals.log import LOGGER;"
        " LOGGER.warning('a circuit opened')"
    )

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert ("", "") == (done.stdout, done.stderr)
