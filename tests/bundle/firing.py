"""What the promtool scenarios claim about which alert fires when."""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

from bundle import sources

ALERTNAME = re.compile(r'alertname="(\w+)"')
STEP = re.compile(r"(\d+)([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> float:
    """Return the seconds of a duration such as `1m45s`."""
    return float(sum(int(n) * SECONDS[unit] for n, unit in STEP.findall(duration)))


class Watch(NamedTuple):
    """The looks that one scenario takes at the firing alerts with one query.

    Attributes:
        name: File and name of the scenario.
        looks: When, and the label sets that must come back.
        query: The query; where it names an alert, its answer is about that one.
    """

    name: str
    looks: list[tuple[float, list[str]]]
    query: str

    def fires(self, alert: str, label: str = "") -> bool:
        """Say whether `alert`, with that label, fires at some time."""
        return any(self._course(alert, label).values())

    def rests(self, alert: str, label: str = "") -> bool:
        """Say whether `alert` is silent for what it fires for later."""
        return any(shown[0] == "-" for shown in self._course(alert, label).values())

    def clears(self, alert: str, label: str = "") -> bool:
        """Say whether `alert` is silent for what it fired for before."""
        return any(shown[-1] == "-" for shown in self._course(alert, label).values())

    def _course(self, alert: str, label: str) -> dict[str, str]:
        """Return `!` or `-` for each look, by the labels that fire at some time."""
        named = ALERTNAME.search(self.query)
        if named is not None and named[1] != alert:
            return {}
        marks = [label, "" if named else f'alertname="{alert}"']
        looks = sorted(self.looks)
        known = {
            labels
            for _, shown in looks
            for labels in shown
            if all(mark in labels for mark in marks)
        }
        return {
            labels: "".join("!" if labels in shown else "-" for _, shown in looks)
            for labels in known
        }


@functools.cache
def watches() -> list[Watch]:
    """Return one watch for every scenario and query that looks at firing alerts."""
    found = []
    for path in sorted(sources.PROMTOOL.glob("*.yml")):
        for test in sources.load(path)["tests"]:
            looks: dict[str, list[tuple[float, list[str]]]] = {}
            for look in test["promql_expr_test"]:
                if "ALERTS{" in look["expr"]:
                    shown = [sample["labels"] for sample in look["exp_samples"]]
                    at = seconds(look["eval_time"])
                    looks.setdefault(look["expr"], []).append((at, shown))
            found += [
                Watch(f"{path.name}: {test['name']}", seen, query)
                for query, seen in looks.items()
            ]
    return found
