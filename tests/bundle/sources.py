"""The bundle's files as data: rules, promtool tests, dashboard, pages."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "alerts" / "resilience.rules.yml"
PROMTOOL = ROOT / "tests" / "bundle" / "promtool"
DASHBOARD = ROOT / "dashboards" / "resilience-api-health.json"
RUNBOOKS = ROOT / "docs" / "runbooks"
VALUES = re.compile(r"label_values\((.+), (\w+)\)")
FENCE = re.compile(r"^```promql\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Expression(NamedTuple):
    """A PromQL expression and where it stands."""

    where: str
    text: str


class Target(NamedTuple):
    """A query of a panel.

    Attributes:
        where: The panel's title.
        text: The expression.
        legend: How Grafana names its series.
        instant: Whether it asks for one moment, not for a range.
    """

    where: str
    text: str
    legend: str
    instant: bool


@functools.cache
def load(path: Path) -> Any:
    """Return what a YAML file holds; it is read once, so leave it as it is."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), loader)


@functools.cache
def rules() -> tuple[dict[str, Any], ...]:
    """Return every rule, recording and alerting, in their order."""
    return tuple(rule for group in load(RULES)["groups"] for rule in group["rules"])


@functools.cache
def alerts() -> tuple[dict[str, Any], ...]:
    """Return the alerting rules; a name may occur in several."""
    return tuple(rule for rule in rules() if "alert" in rule)


@functools.cache
def alert_names() -> list[str]:
    """Return the name of every alert once."""
    return list(dict.fromkeys(rule["alert"] for rule in alerts()))


@functools.cache
def recordings() -> dict[str, str]:
    """Return the expression of every recorded series by its name."""
    return {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def in_rules() -> list[Expression]:
    """Return the expression of every rule."""
    return [Expression(r.get("alert") or r["record"], r["expr"]) for r in rules()]


def in_promtool() -> list[Expression]:
    """Return every expression and every input series of the promtool tests."""
    found: list[Expression] = []
    for path in sorted(PROMTOOL.glob("*.yml")):
        for test in load(path)["tests"]:
            where = f"{path.name}: {test['name']}"
            texts = [series["series"] for series in test["input_series"]]
            texts += [query["expr"] for query in test.get("promql_expr_test", ())]
            found += [Expression(where, text) for text in texts]
    return found


@functools.cache
def dashboard() -> dict[str, Any]:
    """Return the dashboard as Grafana gets it."""
    document: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return document


def panels() -> list[dict[str, Any]]:
    """Return the panels that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def targets() -> list[Target]:
    """Return the queries of every panel."""
    return [
        Target(panel["title"], each["expr"], each["legendFormat"], each["instant"])
        for panel in panels()
        for each in panel["targets"]
    ]


def in_dashboard() -> list[Expression]:
    """Return the expressions of panels, annotations and variables."""
    found = [Expression(each.where, each.text) for each in targets()]
    found += [
        Expression(annotation["name"], annotation["target"]["expr"])
        for annotation in dashboard()["annotations"]["list"]
        if "target" in annotation
    ]
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            asked = VALUES.fullmatch(variable["query"]["query"])
            assert asked is not None
            by = f"count by ({asked[2]}) ({asked[1]})"
            found.append(Expression(f"variable {variable['name']}", by))
    return found


def in_pages() -> list[Expression]:
    """Return every fenced `promql` block of the documentation."""
    pages = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/*.md"),
    ]
    return [
        Expression(str(page.relative_to(ROOT)), fence[1])
        for page in sorted(pages)
        for fence in FENCE.finditer(page.read_text(encoding="utf-8"))
    ]
