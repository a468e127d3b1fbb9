"""Rules with one thing broken, to see whether a scenario notices.

A mutant is the whole rule file with one change in one rule. Only the alerts of the
scenario file that is played are kept with it, and what they are computed from: each
mutant then takes a second instead of ten.
"""

from __future__ import annotations

import copy
import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import promql_parser
import yaml

from bundle import sources
from bundle.firing import ALERTNAME, watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A number to compare with, or the objective's factor; `== 1` and `== 2` are states.
NUMBER = re.compile(r"(?<=[<>] )(\d+\.?\d*)|(?<=>= )(\d+)")
LINE = re.compile(r"^ *(?:and|or|unless) .*$", re.MULTILINE)
MATCHER = re.compile(r'\{\w+(?:=|!=|=~)"[^"]*"\}|, \w+="\w+"(?=\})')
DURATION = re.compile(r"(\d+)([smhd])")
# Lines whose change cannot be told from the outside.
EQUIVALENT = re.compile(
    # Times 0, whatever is counted.
    r"or 0 \* sum by .*"
    # promtool's input series cannot be native histograms before Prometheus 2.54.
    r"|or histogram_quantile\(0.99, sum by \(job, service\) .*"
)


class Mutant(NamedTuple):
    """One change of one rule.

    Attributes:
        rule: The name of the alert or the recorded series.
        change: What was changed, for the reader of a failure.
        place: The place of the rule among all rules.
        fields: The fields of the rule that are different; None removes one.
    """

    rule: str
    change: str
    place: int
    fields: dict[str, Any]


def mutants() -> list[Mutant]:
    """Return every mutant of every rule on which an alert depends."""
    found: list[Mutant] = []
    for index, rule in enumerate(sources.rules()):
        name = rule.get("alert") or rule["record"]
        if "record" in rule and not _dependents(name):
            continue
        changes = [*_of_times(rule), *_of_expression(rule["expr"])]
        found += [Mutant(name, change, index, fields) for change, fields in changes]
    return found


def _of_times(rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for field in ("for", "keep_firing_for"):
        if field in rule:
            twice = DURATION.sub(lambda m: f"{2 * int(m[1])}{m[2]}", rule[field])
            yield f"no {field}", {field: None}
            yield f"{field}: {twice}", {field: twice}


def _of_expression(expr: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for text, change in (*_numbers(expr), *_lines(expr), *_labels(expr)):
        try:
            promql_parser.parse(text)
        except ValueError:
            continue
        yield change, {"expr": text}


def _numbers(expr: str) -> Iterator[tuple[str, str]]:
    for match in NUMBER.finditer(expr):
        number = float(match[0])
        # Half of the zeros guard a division, where NaN compares as false anyway.
        if number == 0 and expr[match.end() :].startswith(")"):
            continue
        others = (number * 1.3, number * 0.7) if number else (2.5,)
        for other in others:
            text = f"{expr[: match.start()]}{other:.6g}{expr[match.end() :]}"
            yield text, f"{match[0]} -> {other:.6g} at {match.start()}"


def _lines(expr: str) -> Iterator[tuple[str, str]]:
    for match in LINE.finditer(expr):
        line = match[0].strip()
        if not EQUIVALENT.match(line):
            yield expr[: match.start()] + expr[match.end() :], f"without {line[:60]}"


def _labels(expr: str) -> Iterator[tuple[str, str]]:
    for match in MATCHER.finditer(expr):
        line = expr[expr.rfind("\n", 0, match.start()) + 1 : match.end()]
        if EQUIVALENT.match(line.strip()):
            continue
        text = expr[: match.start()] + expr[match.end() :]
        yield text, f"without {match[0]} at {match.start()}"
    if "by (job, service" in expr:
        yield expr.replace("by (job, service", "by (service"), "merges jobs"


@functools.cache
def _needs(expr: str) -> set[str]:
    """Return the recorded series that `expr` is computed from, to the last."""
    direct = {name for name in sources.recordings() if re.search(rf"{name}\b", expr)}
    return direct.union(*(_needs(sources.recordings()[name]) for name in direct))


@functools.cache
def _dependents(record: str) -> set[str]:
    """Return the alerts that are computed from `record`."""
    return {a["alert"] for a in sources.alerts() if record in _needs(a["expr"])}


def scenario_files(mutant: Mutant) -> list[str]:
    """Return the names of the scenario files that may notice `mutant`."""
    touched = _dependents(mutant.rule) or {mutant.rule}
    seen = {w.name.split(":")[0] for w in watches() for a in touched if w.fires(a)}
    # The cheap ones first: most mutants die there.
    return sorted(seen, key=lambda name: name.startswith("slo"))


def write(mutant: Mutant, scenarios: str, directory: Path) -> Path:
    """Write the mutated rules and the scenarios into `directory`, return the latter."""
    document = copy.deepcopy(sources.load(sources.RULES))
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    mutated = rules[mutant.place]
    mutated.update(mutant.fields)
    for field in [name for name, value in mutant.fields.items() if value is None]:
        del mutated[field]
    wanted = _wanted(mutant, mutated)
    for group in document["groups"]:
        group["rules"] = [rule for rule in group["rules"] if wanted(rule)]
    tests = copy.deepcopy(sources.load(sources.PROMTOOL / scenarios))
    kept = [rule for group in document["groups"] for rule in group["rules"]]
    _reduce(tests, kept)
    (directory / "rules.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    path = directory / scenarios
    path.write_text(yaml.safe_dump(tests), encoding="utf-8")
    return path


def _wanted(
    mutant: Mutant, mutated: dict[str, Any]
) -> Callable[[dict[str, Any]], bool]:
    """Return what says whether a rule has anything to do with the mutant."""
    dependents = [a for a in sources.alerts() if mutant.rule in _needs(a["expr"])]
    alerts = [mutated] if "alert" in mutated else dependents
    records = set().union(*(_needs(alert["expr"]) for alert in alerts))

    def wanted(rule: dict[str, Any]) -> bool:
        return rule in alerts or rule.get("record") in records

    return wanted


def _reduce(tests: dict[str, Any], kept: list[dict[str, Any]]) -> None:
    """Take out of the scenarios what the rules that are left cannot show."""
    tests["rule_files"] = ["rules.yml"]
    for test in tests["tests"]:
        test.pop("alert_rule_test", None)
        looks = [_look(look, kept) for look in test["promql_expr_test"]]
        test["promql_expr_test"] = [look for look in looks if look is not None]
    tests["tests"] = [test for test in tests["tests"] if test["promql_expr_test"]]


def _look(look: dict[str, Any], kept: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a look at the alerts that are left, or None if it is at something else."""
    if "ALERTS{" not in look["expr"]:
        records = {rule["record"] for rule in kept if "record" in rule}
        seen = {name for name in sources.recordings() if name in look["expr"]}
        return look if seen and seen <= records else None
    alerts = [rule for rule in kept if "alert" in rule]
    named = ALERTNAME.search(look["expr"])
    if named is not None and named[1] not in {rule["alert"] for rule in alerts}:
        return None
    samples = [s for s in look["exp_samples"] if _shows(s["labels"], alerts, named)]
    return look | {"exp_samples": samples}


def _shows(
    labels: str, alerts: list[dict[str, Any]], named: re.Match[str] | None
) -> bool:
    """Say whether one of `alerts` can have these labels."""
    return any(
        (named is not None or f'alertname="{rule["alert"]}"' in labels)
        and f'long="{rule["labels"].get("long", "")}"' in labels + 'long=""'
        for rule in alerts
    )
