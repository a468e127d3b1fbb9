"""The report: what a running app's metrics say, in words."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest

from fakes import a_call
from loopback import Server, Status
from resilience_instrument.cli import admin, report
from resilience_instrument.signals.exposition import Exposition
from resilience_instrument.signals.gather import gather
from resilience_instrument.signals.metrics import MetricsObserver
from resilience_instrument.signals.store import Store
from resilience_instrument.verdict import Evidence, Judgement, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the settings that matter out of the environment."""
    for name in ("METRICS_PORT", "METRICS_HOST", "CONFIG", "MODE"):
        monkeypatch.delenv(f"RESILIENCE_{name}", raising=False)


def exposition(store: Store) -> str:
    """Return what a scraper would read."""
    return Exposition(lambda: gather(store, None)).render("")[0].decode()


def observed() -> str:
    """Return the metrics of a service that was only observed."""
    store = Store()
    observer = MetricsObserver(store)
    call = a_call(unbounded=True)
    for seconds in (0.02, 0.04, 20.0):
        observer.call_started(call)
        observer.call_ended(call, "success", 1, seconds)
    observer.call_started(call)
    observer.call_ended(call, "error", 1, 0.5)
    observer.would_act(call, "retry", 0.0, 0)
    observer.would_act(call, "timeout", 10.4, 1)
    observer.would_act(call, "breaker", 0.6, 0)
    observer.would_act(call, "breaker", 0.6, 1)
    return exposition(store)


def enforced() -> str:
    """Return the metrics of two services that were governed."""
    store = Store()
    observer = MetricsObserver(store)
    call = a_call()
    good = Judgement(Verdict.SUCCESS, Evidence.SUCCESS)
    observer.call_started(call)
    observer.attempt_started(call, 2)
    observer.attempt_ended(call, 2, good, 0.1)
    observer.call_ended(call, "success", 2, 0.3)
    observer.call_started(call)
    observer.rejected(call, "breaker")
    observer.fell_back(call, "cache", "error")
    observer.fell_back(call, "static", "success")
    observer.call_ended(call, "fallback", 0, 0.0)
    quiet = a_call(service="quiet")
    observer.call_started(quiet)
    return exposition(store)


@pytest.fixture
def serving() -> Iterator[Any]:
    """Serve a text as the metrics of an app."""
    with Server() as server:

        def serve(text: str) -> str:
            server.script("/metrics", Status(200, body=text.encode()))
            return server.url("/metrics")

        yield serve


def test_what_would_have_been_done_is_said(
    serving: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what it would have saved, and what it would have cost."""
    url = serving(observed())

    assert 0 == admin.main(["report", url])

    lost = "1 of them succeeded"
    assert [
        f"from {url}",
        "",
        "payment-api",
        "  4 calls, 1 failed (25.0 %); mean 5.14 s, p50 0.05 s, p99 29.4 s",
        "  4 without a timeout of the app's own",
        f"  1 call would have been cut by a timeout, saving 10 s; {lost}",
        "  1 call would have been retried",
        f"  2 calls would have been refused by the breaker, saving 1 s; {lost}",
    ] == capsys.readouterr().out.splitlines()


def test_what_was_done_is_said(
    serving: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Retries, refusals and fallbacks; a service without calls has no times."""
    assert 0 == admin.main(["report", serving(enforced())])

    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "payment-api",
        "  2 calls, 1 failed (50.0 %); mean 0.15 s, p50 0.005 s, p99 0.298 s",
        "  1 call retried, 1 successfully",
        "  1 call refused by the breaker",
        "  1 call answered by a fallback",
        "",
        "quiet",
        "  0 calls, 0 failed",
    ]


def test_a_machine_gets_numbers(
    serving: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them."""
    assert 0 == admin.main(["report", "--json", serving(observed())])

    (service,) = json.loads(capsys.readouterr().out)["services"]
    assert "payment-api" == service["service"]
    assert {"timeout": 1.0, "retry": 1.0, "breaker": 2.0} == service["would_act"]
    assert {"timeout": 10.0, "breaker": 1.0} == {
        policy: seconds
        for policy, seconds in service["would_save_seconds"].items()
        if seconds
    }
    assert pytest.approx(20.56 / 4) == service["mean"]


def test_an_app_without_calls_says_so(
    serving: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is nothing to add up."""
    assert 0 == admin.main(["report", serving("")])

    assert "no calls yet" in capsys.readouterr().out


def test_the_ports_of_the_settings_are_tried(
    serving: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one that answers is the app's."""
    port = serving("").split(":")[2].partition("/")[0]
    monkeypatch.setenv("RESILIENCE_METRICS_HOST", "0.0.0.0")
    monkeypatch.setenv("RESILIENCE_METRICS_PORT", port)

    assert 0 == admin.main(["report"])

    assert f"from http://127.0.0.1:{port}/metrics" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"METRICS_PORT": "0"}, "the settings say that none are served"),
        ({"METRICS_PORT": "x"}, "RESILIENCE_METRICS_PORT='x': use a port"),
    ],
)
def test_settings_without_metrics_are_said(
    variables: dict[str, str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In one line."""
    for name, value in variables.items():
        monkeypatch.setenv(f"RESILIENCE_{name}", value)

    assert 1 == admin.main(["report"])

    assert capsys.readouterr().err.startswith(f"resilience report: no metrics: {said}")


def test_a_port_where_nobody_answers_is_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the system's reason."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        assert 1 == admin.main(["report", f"http://127.0.0.1:{port}/metrics"])
    assert "no metrics: [Errno 111]" in capsys.readouterr().err
    assert 1 == admin.main(["report", "metrics"])
    assert "no metrics: unknown url type" in capsys.readouterr().err


def test_a_quantile_lies_within_its_bucket() -> None:
    """Beyond the last bound nobody knows more than the bound."""
    service = report.Service("a", buckets={1.0: 1.0, 2.0: 3.0, float("inf"): 4.0})

    assert [1.0, 1.5, 2.0, 2.0] == [
        service.quantile(share) for share in (0.25, 0.5, 0.75, 1.0)
    ]
    assert report.Service("b").quantile(0.5) is None
