"""What a status, a failure or a header means, whatever the library."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from email.utils import formatdate

import httpx
import pytest

from resilience_instrument.config.model import Timeouts
from resilience_instrument.integrations import _http
from resilience_instrument.verdict import Evidence, Phase, Verdict

OWN = Timeouts(3.0, 10.0, 10.0, 5.0, 30.0)


@pytest.mark.parametrize(
    ("status", "verdict", "evidence"),
    [
        (101, Verdict.SUCCESS, Evidence.SUCCESS),
        (200, Verdict.SUCCESS, Evidence.SUCCESS),
        (404, Verdict.SUCCESS, Evidence.SUCCESS),
        (99, Verdict.SUCCESS, Evidence.SUCCESS),
        (408, Verdict.TRANSIENT, Evidence.SUCCESS),
        (425, Verdict.TRANSIENT, Evidence.SUCCESS),
        (429, Verdict.TRANSIENT, Evidence.THROTTLED),
        (500, Verdict.PERMANENT, Evidence.FAILURE),
        (501, Verdict.PERMANENT, Evidence.FAILURE),
        (502, Verdict.TRANSIENT, Evidence.FAILURE),
        (503, Verdict.TRANSIENT, Evidence.FAILURE),
        (504, Verdict.TRANSIENT, Evidence.FAILURE),
    ],
)
def test_a_status_says_whether_to_retry_and_how_the_service_is(
    status: int, verdict: Verdict, evidence: Evidence
) -> None:
    """A client error is an answer; a server error is a failure."""
    judgement = _http.judge_status(status, {})

    assert (verdict, evidence) == (judgement.verdict, judgement.evidence)
    assert status == judgement.status


def test_retry_after_is_read_where_a_retry_is_possible() -> None:
    """In seconds, in milliseconds, and as a date, which counts from the answer's."""
    dates = {
        "Date": formatdate(1_000_000_000, usegmt=True),
        "Retry-After": formatdate(1_000_000_007, usegmt=True),
    }

    def asked(status: int, headers: dict[str, str]) -> float | None:
        return _http.judge_status(status, httpx.Headers(headers)).retry_after

    assert 5.0 == asked(503, {"Retry-After": "5"})
    assert 7.0 == asked(503, dates)
    assert 0.25 == asked(429, {"Retry-After": "5", "Retry-After-Ms": "250"})
    assert 1.5 == asked(429, {"X-Ms-Retry-After-Ms": "1500"})
    assert asked(503, {"Retry-After": "soon"}) is None
    assert asked(500, {"Retry-After": "5"}) is None


@pytest.mark.parametrize(
    ("method", "headers", "repeatable"),
    [
        ("GET", {}, True),
        ("DELETE", {}, True),
        ("POST", {}, False),
        ("PATCH", {}, False),
        ("POST", {"Idempotency-Key": "1"}, True),
        ("POST", {"X-Idempotency-Key": "1"}, True),
        ("BREW", {}, False),
    ],
)
def test_an_idempotent_method_or_a_key_makes_a_call_repeatable(
    method: str, headers: dict[str, str], *, repeatable: bool
) -> None:
    """Everything else may have had an effect."""
    assert repeatable == _http.is_repeatable(method, headers)


def test_an_unknown_method_is_no_label() -> None:
    """An app's own methods do not become label values."""
    assert ["GET", "_OTHER"] == [_http.method_label(m) for m in ("GET", "BREW")]


def test_without_a_timeout_of_the_app_the_settings_total_is_the_end() -> None:
    """Also where connect and read together would be longer."""
    short = Timeouts(3.0, 1.0, 1.0, 1.0, 1.0)
    endless = Timeouts(3.0, 1.0, 1.0, 1.0, None)

    assert 101.0 == _http.call_end(short, short, 100.0)
    assert _http.call_end(endless, endless, 100.0) is None


def test_a_timeout_of_the_app_moves_the_end() -> None:
    """One whole attempt by the app's own timeouts has to fit."""
    given = Timeouts(20.0, 40.0, 40.0, None, None)

    assert 160.0 == _http.call_end(given, OWN, 100.0)


def test_a_short_timeout_of_the_app_is_no_evidence() -> None:
    """One caller with a tiny timeout must not open the circuit for all."""
    error = TimeoutError()

    short = _http.judge_timeout(error, Phase.READ, 0.1, OWN, sent=True)
    full = _http.judge_timeout(error, Phase.READ, 10.0, OWN, sent=True)

    assert [Evidence.NEUTRAL, Evidence.FAILURE] == [short.evidence, full.evidence]
    assert "TimeoutError" == full.reason


def test_a_certificate_is_found_wherever_it_lies() -> None:
    """In arguments, reasons and causes, also of a chain that bites its tail."""
    inner = ssl.SSLCertVerificationError()
    outer = OSError(RuntimeError(inner))
    inner.__cause__ = outer

    judgement = _http.judge_transport(outer, sent=True)

    assert (Verdict.PERMANENT, Evidence.NEUTRAL) == (
        judgement.verdict,
        judgement.evidence,
    )


def test_a_broken_connection_is_a_failure() -> None:
    """It may be gone at the next try."""
    judgement = _http.judge_transport(OSError(), sent=False)

    assert (Verdict.TRANSIENT, Evidence.FAILURE, False) == (
        judgement.verdict,
        judgement.evidence,
        judgement.sent,
    )


@pytest.mark.parametrize(
    ("length", "small"),
    [("0", True), ("65536", True), ("65537", False), ("", False), ("-1", False)],
)
def test_a_small_rest_is_read(length: str, *, small: bool) -> None:
    """What is small is cheaper to read than to connect again."""
    assert small == _http.is_small({"Content-Length": length})


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What a thread would have slept."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def test_a_thread_sleeps(slept: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without asyncio in the process."""
    _http.sleep_sync(1.0)
    monkeypatch.delitem(sys.modules, "asyncio")
    _http.sleep_sync(2.0)

    assert [1.0, 2.0] == slept


def test_an_event_loop_never_sleeps(slept: list[float]) -> None:
    """A pause would stop all its tasks."""

    async def call() -> None:
        _http.sleep_sync(1.0)

    asyncio.run(call())

    assert [] == slept


def test_carried_headers_leave_no_trace() -> None:
    """What the app had set comes back, what it had not goes."""
    headers = {"traceparent": "app"}

    carried = _http.Carried(headers, {"traceparent": "ours", "tracestate": "x"})
    during = dict(headers)
    carried.restore()

    assert {"traceparent": "ours", "tracestate": "x"} == during
    assert {"traceparent": "app"} == headers


def test_a_carried_header_that_is_gone_stays_gone() -> None:
    """Somebody else may have taken it out meanwhile."""
    headers: dict[str, str] = {}
    carried = _http.Carried(headers, {"traceparent": "ours"})
    headers.clear()

    carried.restore()

    assert {} == headers
