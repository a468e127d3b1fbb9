"""One performance of the catalogue of outages, and what was seen of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from bundle import promql, scaled, scenarios, sources
from bundle.stack import Stack, free_port, is_ready, wait_until
from bundle.upstreams import Upstream, healthy

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
# of the rules' minutes, longer where a busy machine needs it to tell all that is to be
# told, and never so long that it is not forgotten well before the slowest alert has
# waited its three hours (108 s).
# A killed job is missed from 42 s on, an hour and ten minutes after it was first there,
# until at 68 s nothing was there an hour ago either.
UNBOUNDED = 8.0
ASKED = 17.0
ANSWERED = 22.0
HEALED = 24.0
HEALED_AT_LAST = 45.0
KILLED = 32.0
MISSED = 65.0
SPAN = 12.0


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


def arrived(told: list[dict[str, Any]], job: str, service: str | None) -> set[str]:
    """Return the alerts that were told, with the long window where there is one."""
    return {
        " ".join(filter(None, (a["labels"]["alertname"], a["labels"].get("long"))))
        for a in told
        if a["labels"]["job"] == job and a["labels"].get("service") == service
    }


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


def steady(url: str, **more: Any) -> dict[str, Any]:
    """Return the plan of calls that are nothing special."""
    return {"url": url, "method": "GET", "timeout": 2.0, "pause": 1 / 8} | more


class Play:
    """One performance of the whole catalogue."""

    def __init__(self, directory: Path) -> None:
        self.upstreams = {s.name: Upstream(s.answer) for s in scenarios.SCENARIOS}
        self.other = Upstream(healthy)
        self.ports = {"shop": free_port(), "killed": free_port()}
        addresses = {job: f"127.0.0.1:{port}" for job, port in self.ports.items()}
        self.stack = Stack(directory, addresses)
        self.apps: list[subprocess.Popen[str]] = []

    def start(self, *more: dict[str, Any]) -> None:
        """Start the apps, the second with `more` to call, and the stack."""
        plan = [self._line(scenario) for scenario in scenarios.SCENARIOS]
        self._start("shop", plan)
        self._start("killed", [self._plain(), *more])
        self.stack.start()

    def perform(self) -> Played:
        """Play, heal, and return what was seen."""
        self.start()
        shop, victim = self.apps
        began = time.monotonic()
        self._sleep_until(began + UNBOUNDED)
        tell(shop, "bound")
        self._sleep_until(began + ASKED)
        answers = self._answers()
        self._sleep_until(began + HEALED)
        while not self._is_all_told() and time.monotonic() < began + HEALED_AT_LAST:
            time.sleep(0.1)
        # There is no database to come back: the app gives it up instead.
        tell(shop, "leave")
        for scenario in scenarios.SCENARIOS:
            if scenario.method != "CONNECT":
                self.upstreams[scenario.name].heal()
        self._sleep_until(began + KILLED)
        victim.kill()
        patience = began + MISSED - time.monotonic()
        wait_until(self._is_missed, "the killed app to be missed", patience)
        self._start("killed", [self._plain()])
        wait_until(lambda: not self.stack.firing(), "all to clear", 50, self._state)
        # Alertmanager tells what has cleared with its next notification of the group.
        wait_until(
            lambda: not self._unresolved(), "Alertmanager to say so", 20, self._state
        )
        names = {self._service(s): s.name for s in scenarios.SCENARIOS}
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

    def _start(self, job: str, plan: list[dict[str, Any]]) -> None:
        self.apps.append(govern(plan, self.ports[job]))
        url = f"http://127.0.0.1:{self.ports[job]}/metrics"
        wait_until(lambda: is_ready(url), url)

    def _service(self, scenario: scenarios.Scenario) -> str:
        """Return the name that the agent gives to the service of a scenario."""
        address = self.upstreams[scenario.name].service
        return f"mysql://{address}/db" if scenario.method == "CONNECT" else address

    def _line(self, scenario: scenarios.Scenario) -> dict[str, Any]:
        service = self._service(scenario)
        is_url = "://" in service
        url = service if is_url else f"http://{service}/orders/4711"
        return {
            "url": url,
            "method": scenario.method,
            "timeout": scenario.timeout,
            "pause": scenario.pause,
        }

    def _plain(self) -> dict[str, Any]:
        return steady(f"http://{self.other.service}/")

    def _is_all_told(self) -> bool:
        """Say whether each scenario's alerts arrived, but for those of a whole day.

        They wait for an hour, and while that the outage is not forgotten.
        """
        told = self.stack.webhook.alerts
        return all(
            {name for name in s.expected if not name.endswith(" 1d")}
            <= arrived(told, "shop", self._service(s))
            for s in scenarios.SCENARIOS
        )

    def _is_missed(self) -> bool:
        """Say whether the webhook was told that the killed app is absent."""
        return scenarios.KILLED <= arrived(self.stack.webhook.alerts, "killed", None)

    def _state(self) -> object:
        """Return what fires and what Alertmanager has not taken back."""
        return [alert["labels"] for alert in self.stack.firing()], self._unresolved()

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

        What was empty is asked again; healing does not wait for that on a busy machine.
        """
        answers = dict.fromkeys(expressions(), 0)
        end = time.monotonic() + ANSWERED - ASKED
        while time.monotonic() < end:
            for text in [text for text, found in answers.items() if not found]:
                answers[text] = len(self.stack.series(in_fast_time(text), SPAN))
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
