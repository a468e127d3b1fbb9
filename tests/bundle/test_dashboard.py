"""The dashboard as Grafana, its reader and its linter want it."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
from promql_parser import Call, MatchOp, MatrixSelector, VectorSelector

from bundle import promql, sources

DOCUMENT = sources.dashboard()
VARIABLES = {each["name"]: each for each in DOCUMENT["templating"]["list"]}
UNITS = {"none", "s", "percentunit", "reqps", "ops", "short"}
PAGE = sources.ROOT / "docs" / "dashboard.md"


def panel(title: str) -> dict[str, Any]:
    """Return the panel with that title."""
    return next(each for each in sources.panels() if each["title"] == title)


def title(each: dict[str, Any]) -> str:
    """Return the id of a test."""
    return str(each["title"])


def test_file_is_what_the_script_writes() -> None:
    """Nobody edits the file by hand."""
    script = sources.ROOT / "dashboards" / "build.py"

    done = subprocess.run([sys.executable, script, "--check"], check=False)

    assert done.returncode == 0


def test_dashboard_is_found_by_its_name_and_loads_without_an_edit() -> None:
    """Title, UID and a data source that is a variable, never an `__inputs`."""
    assert "API Health Dashboard" == DOCUMENT["title"]
    assert "resilience-api-health" == DOCUMENT["uid"]
    assert {"__inputs", "__requires", "id"}.isdisjoint(DOCUMENT)
    assert ("30s", "now-1h") == (DOCUMENT["refresh"], DOCUMENT["time"]["from"])
    assert 38 == DOCUMENT["schemaVersion"]
    assert not DOCUMENT["editable"]
    assert "resilience" in DOCUMENT["tags"]


def test_variables_are_those_of_the_dashboard_linter() -> None:
    """Data source, job, instance and service; the last three several at once."""
    assert ["datasource", "job", "instance", "service"] == list(VARIABLES)
    assert "prometheus" == VARIABLES["datasource"]["query"]
    for name in ("job", "instance", "service"):
        variable = VARIABLES[name]
        assert (True, True, ".+", 2) == (
            variable["multi"],
            variable["includeAll"],
            variable["allValue"],
            variable["refresh"],
        )
        assert variable["datasource"]["uid"] == "${datasource}"
        assert variable["label"] == name.title()


@pytest.mark.parametrize("each", sources.panels(), ids=title)
def test_panel_says_what_it_shows_in_which_unit(each: dict[str, Any]) -> None:
    """Title, description, unit and the data source variable are on every panel."""
    assert each["title"]
    assert each["description"].endswith((".", "`."))
    assert each["fieldConfig"]["defaults"]["unit"] in UNITS
    assert each["datasource"]["uid"] == "${datasource}"
    assert each["targets"]
    assert all(t["datasource"]["uid"] == "${datasource}" for t in each["targets"])


@pytest.mark.parametrize("target", sources.targets(), ids=lambda t: t.where)
def test_query_obeys_the_variables(target: sources.Target) -> None:
    """Every series is chosen by job and instance, and by service where it has one."""
    for selector in promql.selectors(promql.parse(target.text)):
        asked = {(m.name, m.value) for m in selector.matchers.matchers}
        named = {"job", "instance", "service"} & promql.known()[selector.name].keys()

        assert {(name, f"${name}") for name in named} <= asked
        assert all(
            m.op == MatchOp.Re
            for m in selector.matchers.matchers
            if m.value.startswith("$")
        )


@pytest.mark.parametrize("target", sources.targets(), ids=lambda t: t.where)
def test_counter_is_shown_as_a_rate(target: sources.Target) -> None:
    """No panel shows a bare counter, or a rate over anything but the right window."""
    window = "1h" if "past hour" in target.where else "$__rate_interval"

    assert set() == {
        name for name in bare(promql.parse(target.text)) if is_counter(name)
    }
    assert {window} >= set(re.findall(r"\[([^\]]+)\]", target.text))


def is_counter(name: str) -> bool:
    """Say whether a series only goes up."""
    return name.endswith(("_total", "_bucket", "_count", "_sum"))


def bare(node: Any) -> list[str]:
    """Return the series that are read without a function over a range."""
    if isinstance(node, Call) and any(isinstance(a, MatrixSelector) for a in node.args):
        assert node.func.name in {"rate", "increase"}
        return []
    if isinstance(node, VectorSelector):
        return [node.name or ""]
    return [name for child in promql.children(node) for name in bare(child)]


def test_panels_lie_side_by_side_and_have_numbers_of_their_own() -> None:
    """No panel covers another or is wider than the page."""
    taken: set[tuple[int, int]] = set()
    for each in DOCUMENT["panels"]:
        grid = each["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert grid["x"] + grid["w"] <= 24
        assert not cells & taken
        taken |= cells
    numbers = [each["id"] for each in DOCUMENT["panels"]]
    assert sorted(set(numbers)) == sorted(numbers)


def test_tiles_are_red_yellow_and_green_by_the_state() -> None:
    """1 is OPEN on red, 2 HALF on yellow, 0 OK on green, in tile and timeline."""
    expected = {"0": ("OK", "green"), "1": ("OPEN", "red"), "2": ("HALF", "yellow")}

    for name in ("Circuit breakers", "State over time"):
        (mapping,) = panel(name)["fieldConfig"]["defaults"]["mappings"]
        shown = {k: (v["text"], v["color"]) for k, v in mapping["options"].items()}
        assert expected == shown
    assert panel("Circuit breakers")["options"]["colorMode"] == "background_solid"


@pytest.mark.parametrize(
    ("name", "alert", "expected"),
    [
        ("Retry rate (past hour)", "HighRetryRate", ("yellow", 0.1)),
        ("Retry rate (past hour)", "RetryStorm", ("red", 0.5)),
        ("Timeout rate (past hour)", "HighTimeoutRate", ("yellow", 0.05)),
        ("Retry rate", "HighRetryRate", ("red", 0.1)),
        ("Timeout rate", "HighTimeoutRate", ("red", 0.05)),
        ("Answers from a fallback", "HighFallbackRate", ("red", 0.05)),
    ],
)
def test_threshold_is_that_of_the_alert(
    name: str, alert: str, expected: tuple[str, float]
) -> None:
    """A panel changes its color where its alert fires."""
    rule = next(each for each in sources.alerts() if each["alert"] == alert)
    (limit, *_) = re.findall(r"> (0\.\d+)", rule["expr"])
    steps = panel(name)["fieldConfig"]["defaults"]["thresholds"]["steps"]

    assert expected in [(step["color"], step["value"]) for step in steps]
    assert expected[1] == float(limit)


def test_bars_of_the_past_hour_end_at_a_fifth() -> None:
    """The scale of the two bars is the one that people know: 20 %."""
    for name in ("Retry rate (past hour)", "Timeout rate (past hour)"):
        defaults = panel(name)["fieldConfig"]["defaults"]
        assert (0, 0.2) == (defaults["min"], defaults["max"])


def test_every_panel_is_on_the_page_about_the_dashboard() -> None:
    """Who reads the page learns of every panel."""
    page = " ".join(PAGE.read_text(encoding="utf-8").split())

    assert [] == [
        each["title"] for each in sources.panels() if each["title"] not in page
    ]
