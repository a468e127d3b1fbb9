"""The whole chain: a governed app, its services failing, Prometheus, Alertmanager.

All scenarios of the catalogue are played at once, each with a service of its own, in a
time that runs a hundred times faster (see `scaled`). Then everything is healed. What
arrives at the webhook is compared with the catalogue, to the last alert.
"""

from __future__ import annotations

import json

import pytest

from bundle import scenarios
from bundle.play import Play, Played, arrived, expressions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("end-to-end"),
]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """Play the catalogue once."""
    play = Play(tmp_path_factory.mktemp("end-to-end"))
    try:
        return play.perform()
    finally:
        play.close()


@pytest.mark.parametrize("scenario", scenarios.SCENARIOS, ids=lambda s: s.name)
def test_exactly_the_alerts_of_the_catalogue_arrive(
    played: Played, scenario: scenarios.Scenario
) -> None:
    """No alert is missing and none is too many."""
    (service,) = [s for s, name in played.names.items() if name == scenario.name]

    assert set(scenario.expected) == arrived(played.told, "shop", service)


def test_killed_app_is_noticed_and_its_return_too(played: Played) -> None:
    """A job whose metrics are gone alerts until they are back."""
    mine = [a for a in played.told if a["labels"]["job"] == "killed"]

    assert set(scenarios.KILLED) == arrived(played.told, "killed", None)
    assert "resolved" == mine[-1]["status"]


def test_no_alert_arrives_that_belongs_to_no_scenario(played: Played) -> None:
    """The agent's own alerts are silent."""
    assert set() == arrived(played.told, "shop", None)


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
    "resilience_would_save_seconds_total": "likewise",
    "resilience_would_lose_total": "likewise",
    "resilience_agent_error_total": "the agent has no fault",
    'status="failed"': "every library is patched",
    "p99_5m[1d": "a baseline needs more than an hour, which is 36 s here",
    "p99_5m_mean1d": "likewise",
    "p99_5m_stddev1d": "likewise",
    "p99_5m_zscore1d": "likewise",
    "p99_5m_minutes1d": "likewise",
}
# Expressions whose answer depends on how busy the machine is; they are asked all the
# same, which a fault in them would fail.
EITHER_WAY = {
    "< on (job, service) min by": "a p99 just below the timeout in force",
}


@pytest.mark.parametrize(
    ("text", "where"), expressions().items(), ids=expressions().values()
)
def test_expression_gives_data(played: Played, text: str, where: str) -> None:
    """Against a real Prometheus that scraped a real app, nothing is empty."""
    expected_empty = any(part in text for part in EMPTY)
    found = played.answers[text] > 0

    assert expected_empty != found or any(part in text for part in EITHER_WAY), where
