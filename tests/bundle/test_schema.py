"""The dashboard agrees with the schema that Grafana publishes."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bundle import schema, sources

# What Grafana reads although its schema of 10.4 does not have it. `mended` in
# `dashboards/build.py` adds it and says why.
BEYOND = {
    "annotations.list[Circuits that opened].target.expr",
    "annotations.list[Circuits that opened].target.interval",
    "annotations.list[Circuits that opened].target.refId",
    "annotations.list[Circuits that opened].titleFormat",
    "annotations.list[Circuits that closed].target.expr",
    "annotations.list[Circuits that closed].target.interval",
    "annotations.list[Circuits that closed].target.refId",
    "annotations.list[Circuits that closed].titleFormat",
    "panels[Duration of all calls].options.tooltip.show",
}


def test_dashboard_has_nothing_that_the_schema_does_not_have() -> None:
    """Every field is known and every value allowed, but for what is listed."""
    assert BEYOND == schema.faults(sources.dashboard())


@pytest.mark.parametrize(
    ("panel", "steps", "value"),
    [
        pytest.param(None, ["refreshes"], "30s", id="of-the-dashboard"),
        pytest.param(None, ["graphTooltip"], 7, id="number-of-no-choice"),
        pytest.param(None, ["tags"], "resilience", id="one-instead-of-many"),
        pytest.param(None, ["editable"], "no", id="word-instead-of-yes-or-no"),
        pytest.param("Retry rate", ["color"], "red", id="of-a-panel"),
        pytest.param("Retry rate", ["gridPos", "z"], 1, id="of-its-place"),
        pytest.param("Retry rate", ["gridPos", "w"], True, id="yes-for-a-number"),
        pytest.param("Retry rate", ["repeatDirection"], "x", id="not-of-two"),
        pytest.param("Retry rate", ["options", "legends"], {}, id="option"),
        pytest.param(
            "Retry rate", ["options", "legend", "displayMode"], "tree", id="choice"
        ),
        pytest.param(
            "Retry rate", ["options", "legend", "calcs"], [1], id="item-of-a-list"
        ),
        pytest.param(
            "Retry rate", ["fieldConfig", "defaults", "units"], "s", id="of-a-field"
        ),
        pytest.param(
            "Retry rate",
            ["fieldConfig", "defaults", "custom", "drawStyle"],
            "curve",
            id="choice-of-the-kind-of-panel",
        ),
        pytest.param(
            "Retry rate",
            ["fieldConfig", "defaults", "custom", "lineWeight"],
            2,
            id="field-of-the-kind-of-panel",
        ),
        pytest.param(
            "Circuit breakers", ["options", "colorMode"], "solid", id="of-a-tile"
        ),
        pytest.param("Agents", ["transformations", 0, "ids"], "x", id="transformation"),
        pytest.param("Agents", ["transformations", 0, "disabled"], 1, id="its-value"),
        pytest.param("Agents", ["targets", 0, "expression"], "up", id="query"),
        pytest.param("Agents", ["targets", 0, "format"], "tables", id="of-a-query"),
        pytest.param(
            "Duration p50 and p99",
            ["fieldConfig", "overrides", 0, "properties", 0, "id"],
            "custom.lineStile",
            id="override",
        ),
        pytest.param(
            "Duration p50 and p99",
            ["fieldConfig", "overrides", 0, "properties", 1, "value"],
            "none",
            id="value-of-an-override",
        ),
    ],
)
def test_fault_is_found(panel: str | None, steps: list[Any], value: object) -> None:
    """A field that does not exist and a value that is not allowed are noticed."""
    document = copy.deepcopy(sources.dashboard())
    place: Any = document
    if panel is not None:
        place = next(p for p in document["panels"] if p["title"] == panel)
    *way, last = steps
    for step in way:
        place = place[step]

    place[last] = value

    assert BEYOND < schema.faults(document)
