"""The whole chain: a governed app, its services failing, Prometheus, Alertmanager.

All scenarios of the catalogue are played at once, each with a service of its own, in a
time that runs a hundred times faster (see `scaled`). Then everything is healed. What
arrives at the webhook is compared with the catalogue, to the last alert.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bundle import promql, scaled, scenarios, sources
from bundle.stack import Stack, free_port, is_ready, wait_until
from bundle.upstreams import Upstream, healthy

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("end-to-end"),
]

APP = Path(__file__).with_name("outage_app.py")
# What the agent is told, in seconds that fit the faster time: a circuit is open for
# 0.15 s where it is 30 s by default.
SETTINGS = {
    "RESILIENCE_RETRY_BASE_DELAY": "0.02",
    "RESILIENCE_RETRY_RETRY_AFTER_MAX": "0.5",
    "RESILIENCE_TIMEOUT_READ": "0.5",
    "RESILIENCE_BREAKER_OPEN_FOR": "0.15",
    "RESILIENCE_BREAKER_OPEN_MAX": "1",
}
# When what happens, in seconds from the start of Prometheus. What fails does so for 40
# of the rules' minutes: long enough for a stuck circuit, and over early enough for the
# window of two hours to forget it before the slowest alert has waited its three hours.
UNBOUNDED = 8.0
ASKED = 17.0
KILLED = 22.0
HEALED = 24.0
REVIVED = 50.0
ASKS = 6


class Played(NamedTuple):
    """What was seen.

    Attributes:
        names: The scenario by its service.
        told: What arrived at the webhook.
        left: The alerts that still fired at the end.
        answers: How many series each expression gave during the outages.
    """

    names: dict[str, str]
    told: list[dict[str, Any]]
    left: list[dict[str, Any]]
    answers: dict[str, int]


def govern(plan: list[dict[str, Any]], port: int) -> subprocess.Popen[str]:
    """Start the app under the agent."""
    launcher = shutil.which(
        "resilience-instrument", path=str(Path(sys.executable).parent)
    )
    assert launcher is not None
    environment = {k: v for k, v in os.environ.items() if "RESILIENCE" not in k}
    return subprocess.Popen(
        [launcher, sys.executable, str(APP), json.dumps(plan)],
        env=environment | SETTINGS | {"RESILIENCE_METRICS_PORT": str(port)},
        stdin=subprocess.PIPE,
        text=True,
    )


def tell(app: subprocess.Popen[str], word: str) -> None:
    """Write a word to the app's stdin."""
    assert app.stdin is not None
    app.stdin.write(f"{word}\n")
    app.stdin.flush()


class Play:
    """One performance of the whole catalogue."""

    def __init__(self, directory: Path) -> None:
        self.upstreams = {s.name: Upstream(s.answer) for s in scenarios.SCENARIOS}
        self.other = Upstream(healthy)
        self.ports = {"shop": free_port(), "killed": free_port()}
        addresses = {job: f"127.0.0.1:{port}" for job, port in self.ports.items()}
        self.stack = Stack(directory, addresses)
        self.apps: list[subprocess.Popen[str]] = []

    def perform(self) -> Played:
        """Play, heal, and return what was seen."""
        shop = self._start("shop", [self._line(s) for s in scenarios.SCENARIOS])
        victim = self._start("killed", [self._plain()])
        self.stack.start()
        began = time.monotonic()
        self._sleep_until(began + UNBOUNDED)
        tell(shop, "bound")
        self._sleep_until(began + ASKED)
        answers = self._answers()
        self._sleep_until(began + KILLED)
        victim.kill()
        self._sleep_until(began + HEALED)
        for upstream in self.upstreams.values():
            upstream.heal()
        self._sleep_until(began + REVIVED)
        self._start("killed", [self._plain()])
        wait_until(lambda: not self.stack.firing(), "all to clear", 60)
        # Alertmanager tells what has cleared with its next notification of the group.
        wait_until(lambda: not self._unresolved(), "Alertmanager to say so", 20)
        names = {u.service: name for name, u in self.upstreams.items()}
        return Played(names, self.stack.webhook.alerts, self.stack.firing(), answers)

    def close(self) -> None:
        """End everything."""
        for app in self.apps:
            if app.poll() is None:
                tell(app, "end")
            app.wait(20)
            assert app.stdin is not None
            app.stdin.close()
        self.stack.stop()
        for upstream in (*self.upstreams.values(), self.other):
            upstream.close()

    def _start(self, job: str, plan: list[dict[str, Any]]) -> subprocess.Popen[str]:
        app = govern(plan, self.ports[job])
        self.apps.append(app)
        url = f"http://127.0.0.1:{self.ports[job]}/metrics"
        wait_until(lambda: is_ready(url), url)
        return app

    def _line(self, scenario: scenarios.Scenario) -> dict[str, Any]:
        url = f"http://{self.upstreams[scenario.name].service}/orders/4711"
        return {"url": url, "method": scenario.method, "timeout": scenario.timeout}

    def _plain(self) -> dict[str, Any]:
        return {"url": f"http://{self.other.service}/", "method": "GET", "timeout": 2.0}

    def _unresolved(self) -> set[str]:
        """Return the groups whose last word was not that all is well."""
        last: dict[str, str] = {}
        for alert in self.stack.webhook.alerts:
            last[alert["fingerprint"]] = alert["status"]
        muted = {
            alert["fingerprint"]
            for alert in self.stack.webhook.alerts
            if alert["labels"]["alertname"] == "CircuitBreakerOpen"
        }
        return {f for f, status in last.items() if status == "firing"} - muted

    def _answers(self) -> dict[str, int]:
        """Return how many series every expression of the bundle gives now.

        What looks at one of the rules' minutes may miss a transition: ask again.
        """
        answers: dict[str, int] = {}
        for _ in range(ASKS):
            for text in expressions():
                found = len(self.stack.query(in_fast_time(text)))
                answers[text] = max(found, answers.get(text, 0))
            time.sleep(0.4)
        return answers

    @staticmethod
    def _sleep_until(moment: float) -> None:
        time.sleep(max(0.0, moment - time.monotonic()))


def in_fast_time(text: str) -> str:
    """Return an expression as the scaled Prometheus must be asked."""
    for variable in ("$job", "$instance", "$service"):
        text = text.replace(f'"{variable}"', '".+"')
    return scaled.scale(text.replace("$__rate_interval", "5m"))


def expressions() -> dict[str, str]:
    """Return what is asked during the outages, and where it stands.

    Panels, annotations, variables and recordings are asked as they are. Of an alert,
    whose answer is empty while all is well, every series that it reads is asked.
    """
    asked = {each.text: each.where for each in sources.in_dashboard()}
    asked |= {expr: name for name, expr in sources.recordings().items()}
    for rule in sources.alerts():
        for selector in promql.selectors(promql.parse(rule["expr"])):
            selector.offset = None
            asked.setdefault(str(selector), rule["alert"])
    return asked


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Play the catalogue once."""
    play = Play(tmp_path_factory.mktemp("end-to-end"))
    try:
        return play.perform()
    finally:
        play.close()


def arrived(seen: Played, job: str, service: str | None) -> set[str]:
    """Return the alerts that arrived, with the long window where there is one."""
    return {
        " ".join(filter(None, (a["labels"]["alertname"], a["labels"].get("long"))))
        for a in seen.told
        if a["labels"]["job"] == job and a["labels"].get("service") == service
    }


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS, ids=lambda s: s.name)
def test_exactly_the_alerts_of_the_catalogue_arrive(
    played: Played, scenario: scenarios.Scenario
) -> None:
    """No alert is missing and none is too many."""
    (service,) = [s for s, name in played.names.items() if name == scenario.name]

    assert set(scenario.expected) == arrived(played, "shop", service)


def test_killed_app_is_noticed_and_its_return_too(played: Played) -> None:
    """A job whose metrics are gone alerts until they are back."""
    mine = [a for a in played.told if a["labels"]["job"] == "killed"]

    assert set(scenarios.KILLED) == arrived(played, "killed", None)
    assert "resolved" == mine[-1]["status"]


def test_no_alert_arrives_that_belongs_to_no_scenario(played: Played) -> None:
    """The agent's own alerts are silent."""
    assert set() == arrived(played, "shop", None)


def test_everything_clears(played: Played) -> None:
    """When all is well again, no alert is left, and Alertmanager has said so."""
    last = {a["fingerprint"]: a for a in played.told}
    stuck = {a["labels"]["alertname"] for a in last.values() if a["status"] == "firing"}

    assert [] == played.left
    # Muted by the worse alert, so its end is not told either.
    assert stuck <= {"CircuitBreakerOpen"}


def test_alerts_come_with_their_links(played: Played) -> None:
    """Each has its runbook and the dashboard with job and service filled in."""
    for alert in played.told:
        labels, annotations = alert["labels"], alert["annotations"]
        assert annotations["runbook_url"].endswith(f"/{labels['alertname']}.md")
        assert f"var-job={labels['job']}" in annotations["dashboard_url"]
        assert "{{" not in json.dumps(annotations)
        assert "<no value>" not in json.dumps(annotations)


def test_severity_decides_who_is_told(played: Played) -> None:
    """Critical alerts go to the pager, warnings to the channel."""
    paths = {(a["labels"]["severity"], a["path"]) for a in played.told}

    assert {("critical", "/pager"), ("warning", "/channel")} == paths


# Expressions without an answer while the catalogue is played, each with its reason.
EMPTY = {
    "resilience_fallback_total": "no scenario has a fallback",
    "resilience_would_act_total": "the agent enforces",
    "resilience_agent_error_total": "the agent has no fault",
    'status="failed"': "every library is patched",
    "< on (job, service) min by": "no p99 is just below the timeout in force",
    "p99_5m[1d": "a baseline needs more than an hour, which is 36 s here",
    "p99_5m_mean1d": "likewise",
    "p99_5m_stddev1d": "likewise",
    "p99_5m_zscore1d": "likewise",
    "p99_5m_minutes1d": "likewise",
}


@pytest.mark.parametrize(
    ("text", "where"), expressions().items(), ids=expressions().values()
)
def test_expression_gives_data(played: Played, text: str, where: str) -> None:
    """Against a real Prometheus that scraped a real app, nothing is empty."""
    expected_empty = any(part in text for part in EMPTY)

    assert expected_empty != (played.answers[text] > 0), where
