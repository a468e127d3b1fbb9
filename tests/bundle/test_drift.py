"""Drift is impossible: whatever the bundle names exists in the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundle import promql, sources
from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from bundle.sources import Expression

EXPRESSIONS = [
    *sources.in_rules(),
    *sources.in_promtool(),
    *sources.in_dashboard(),
    *sources.in_pages(),
]
# Metrics that neither a rule nor a panel shows, each with its reason.
DELIBERATELY_UNUSED: dict[str, str] = {}


def where(expression: Expression) -> str:
    """Return the id of a test."""
    return expression.where


@pytest.mark.parametrize("expression", EXPRESSIONS, ids=where)
def test_expression_names_what_exists(expression: Expression) -> None:
    """Metric, labels and closed label values are those of the catalogue."""
    promql.check(expression.text)


@pytest.mark.parametrize("rule", sources.alerts(), ids=lambda rule: rule["alert"])
def test_annotations_use_labels_that_the_alert_has(rule: dict[str, str]) -> None:
    """No template of an annotation renders to nothing."""
    labels = promql.check(rule["expr"])

    used = set(promql.TEMPLATED.findall(str(rule["annotations"])))

    assert set() == used - labels


@pytest.mark.parametrize("target", sources.targets(), ids=where)
def test_legend_uses_labels_that_the_query_gives(target: sources.Target) -> None:
    """No legend of a panel shows a placeholder without a label."""
    labels = promql.check(target.text)

    assert set() == set(promql.PLACEHOLDER.findall(target.legend)) - labels


@pytest.mark.parametrize("metric", catalog.METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_in_a_rule_or_a_panel(metric: catalog.Metric) -> None:
    """What is measured is shown, or left out for a reason that is written down."""
    assert "" == unshown(metric.name, DELIBERATELY_UNUSED)


def unshown(metric: str, unused: dict[str, str]) -> str:
    """Return what is to be done about a metric that nobody would see, or nothing."""
    shown = [*sources.in_rules(), *sources.in_dashboard()]
    used = any(metric in promql.metrics_in(each.text) for each in shown)
    if used and metric in unused:
        return f"{metric} is shown by now: take it from DELIBERATELY_UNUSED"
    if used or unused.get(metric):
        return ""
    return (
        f"{metric} is in no rule and no panel: use it in alerts/resilience.rules.yml "
        "or dashboards/build.py, or say in DELIBERATELY_UNUSED of this file why not"
    )


@pytest.mark.parametrize(
    ("metric", "unused", "expected"),
    [
        ("api_request_total", {}, ""),
        ("api_request_total", {"api_request_total": "x"}, "is shown by now"),
        ("new_total", {}, "is in no rule and no panel"),
        ("new_total", {"new_total": ""}, "is in no rule and no panel"),
        ("new_total", {"new_total": "only for tests"}, ""),
    ],
)
def test_who_adds_a_metric_is_told_what_to_do(
    metric: str, unused: dict[str, str], expected: str
) -> None:
    """A metric is shown, or left out with a reason; never both, never neither."""
    assert expected in unshown(metric, unused)
    assert bool(expected) == bool(unshown(metric, unused))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("api_requests_total", id="metric"),
        pytest.param("api_request_duration_seconds_total", id="suffix"),
        pytest.param("job_service:api_request:rate7m", id="recording"),
        pytest.param('{__name__="api_request_total"}', id="no-name"),
        pytest.param('api_request_total{host="a"}', id="label"),
        pytest.param('api_request_total{outcome="failure"}', id="value"),
        pytest.param('api_request_total{outcome!="ok"}', id="negated-value"),
        pytest.param('api_request_total{outcome=~"error|fail"}', id="alternative"),
        pytest.param('api_request_duration_seconds_bucket{le="0.25"}', id="bucket"),
        pytest.param("sum by (host) (api_request_total)", id="by"),
        pytest.param("sum without (host) (api_request_total)", id="without"),
        pytest.param("sum by (le) (api_request_total)", id="le-of-a-counter"),
        pytest.param(
            "sum by (job) (up) / on (job, service) job_service:api_request:rate5m",
            id="on",
        ),
        pytest.param("up and on (service) api_request_total", id="and"),
        pytest.param('ALERTS{alertname="Nothing"}', id="alert"),
        pytest.param("max_over_time(nothing[5m])", id="in-a-function"),
        pytest.param("avg_over_time(nothing[1d:1m])", id="in-a-subquery"),
        pytest.param("topk(3, nothing)", id="in-an-aggregation"),
        pytest.param("1 - nothing", id="beside-a-number"),
    ],
)
def test_drift_is_found(text: str) -> None:
    """Each kind of name that does not exist is noticed."""
    with pytest.raises(promql.Drift):
        promql.check(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sum by (job) (rate(api_request_total[5m]))", {"job"}),
        (
            "sum without (instance, endpoint, outcome) (api_request_total)",
            {"job", "service"},
        ),
        ("sum(api_request_total)", set()),
        ("topk(3, up)", {"job", "instance"}),
        ("1 - up", {"job", "instance"}),
        ("up unless on (job, instance) resilience_agent_info", {"job", "instance"}),
        ("up or sum by (job) (up)", {"job"}),
        (
            (
                "histogram_quantile(0.9, sum by (service, le) "
                "(rate(api_request_duration_seconds_bucket[$__rate_interval])))"
            ),
            {"service"},
        ),
        (
            (
                "min by (job, service) (resilience_timeout_seconds)"
                " / on (service) sum by (service) (circuit_breaker_state)"
            ),
            {"service"},
        ),
        (
            'api_request_total{outcome=~"err.*",job=~"$job"}',
            {"job", "instance", "service", "endpoint", "outcome"},
        ),
        ("time()", promql.ANY),
    ],
)
def test_labels_of_a_result_are_known(text: str, expected: set[str]) -> None:
    """The labels that legends and annotations may use are computed right."""
    assert expected == set(promql.check(text))
