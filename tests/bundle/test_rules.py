"""The rules by themselves: promtool accepts them, and every alert does its part.

The scenarios in `promtool/` are played by pattern, which takes seconds where one file
for all takes minutes.
"""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from bundle import monitoring, sources
from bundle.firing import Watch, watches

SEVERITIES = {"critical", "warning", "info"}
SCENARIOS = sorted(sources.PROMTOOL.glob("*.yml"))


def called(rule: dict[str, Any]) -> str:
    """Return the id of a test."""
    return "-".join([rule["alert"], *rule["labels"].values()])


def promtool(*words: object) -> subprocess.CompletedProcess[str]:
    """Run promtool and return what it said."""
    return subprocess.run(
        [monitoring.find("promtool"), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_promtool_accepts_the_rules() -> None:
    """Every expression parses and every template renders."""
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", sources.RULES)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenarios_of_a_pattern_come_out_as_written(path: Any) -> None:
    """In each scenario exactly the alerts fire that it names, when it says so."""
    done = promtool("test", "rules", path)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", sources.alerts(), ids=called)
def test_alert_is_seen_firing_silent_and_clearing(rule: dict[str, Any]) -> None:
    """No alert is without a scenario in which it fires, rests and ends.

    Of several rules with one name, each; they differ in their long window.
    """
    name, long = rule["alert"], rule["labels"].get("long")
    label = f'long="{long}"' if long else ""
    seen = [watch for watch in watches() if watch.fires(name, label)]

    assert seen
    assert any(watch.rests(name, label) for watch in seen)
    assert any(watch.clears(name, label) for watch in seen)


@pytest.mark.parametrize(
    ("course", "expected"),
    [
        ("-!-", (True, True, True)),
        ("!-!", (True, False, False)),
        ("-!!", (True, True, False)),
        ("---", (False, False, False)),
    ],
)
def test_watch_tells_what_a_scenario_shows(
    course: str, expected: tuple[bool, bool, bool]
) -> None:
    """The reading of scenarios that the test above relies on is right."""
    shown = '{alertname="A", service="s"}'
    other = '{alertname="B", service="s"}'
    looks = [
        (60.0 * at, [shown, other] if mark == "!" else [other])
        for at, mark in enumerate(course)
    ]

    watch = Watch("name", looks, 'count by (alertname) (ALERTS{pattern="p"})')

    assert expected == (watch.fires("A"), watch.rests("A"), watch.clears("A"))
    assert (True, False) == (watch.fires("B"), watch.clears("B"))
    assert expected[0] == watch.fires("A", 'service="s"')
    assert not watch.fires("A", 'service="t"')
    assert not watch.fires("C")


@pytest.mark.parametrize("rule", sources.alerts(), ids=called)
def test_alert_says_how_bad_what_and_where_to_look(rule: dict[str, Any]) -> None:
    """Severity, pattern, two sentences and two links are on every alert."""
    annotations = rule["annotations"]

    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["labels"]["pattern"]
    assert {"summary", "description", "runbook_url", "dashboard_url"} == set(
        annotations
    )
    assert annotations["runbook_url"].endswith(f"/{rule['alert']}.md")
    assert "/d/resilience-api-health?var-job={{" in annotations["dashboard_url"]
    assert annotations["description"].endswith(".")


def test_alerts_with_the_names_of_the_tutorial_keep_its_thresholds() -> None:
    """Who knows these three finds them as they were: threshold, time and severity."""
    found = {
        rule["alert"]: (rule.get("for"), rule["labels"]["severity"], rule["expr"])
        for rule in sources.alerts()
    }

    assert ("1m", "critical") == found["CircuitBreakerOpen"][:2]
    assert ("5m", "warning") == found["HighRetryRate"][:2]
    assert ("5m", "warning") == found["HighTimeoutRate"][:2]
    assert "ratio_rate5m > 0.1\n" in found["HighRetryRate"][2]
    assert "ratio_rate5m > 0.05\n" in found["HighTimeoutRate"][2]
