"""Reads PromQL and says what in it does not exist.

Every series, label and label value is checked against the catalogue of metrics, the
recorded series of the rules, and the few series of Prometheus itself.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import promql_parser
from promql_parser import AggModifierType, MatchOp, VectorMatchCardinality

from bundle import sources
from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resilience_instrument.signals.catalog import Metric

TARGET = {"job": catalog.OPEN, "instance": catalog.OPEN}
STATES = ("pending", "firing")
# Grafana replaces these before Prometheus sees the query.
MACROS = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "1h"}
TEMPLATED = re.compile(r"\$labels\.(\w+)")
PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")
VARIABLE = re.compile(r"\$\{?\w+")
ANY = frozenset({"*"})


class Drift(Exception):  # noqa: N818 - what it is called in the pages
    """An expression names something that does not exist."""


def parse(text: str) -> Any:
    """Return the tree of an expression, Grafana's macros included."""
    for macro in sorted(MACROS, key=len, reverse=True):
        text = text.replace(macro, MACROS[macro])
    return promql_parser.parse(text)


@functools.cache
def known() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    """Return every series that there is, with its labels and their closed values."""
    series: dict[str, Mapping[str, tuple[str, ...]]] = {"up": TARGET}
    for metric in catalog.METRICS:
        series |= dict(_series(metric))
    for name in sources.recordings():
        series[name] = {"job": catalog.OPEN, "service": catalog.OPEN}
    return series | {"ALERTS": _of_alerts()}


def _of_alerts() -> Mapping[str, tuple[str, ...]]:
    labels: dict[str, set[str]] = {}
    for rule in sources.alerts():
        for name, value in rule["labels"].items():
            labels.setdefault(name, set()).add(value)
    opened = ("service", "job", "instance", "where", "library", "kind")
    return (
        dict.fromkeys(opened, catalog.OPEN)
        | {name: tuple(sorted(values)) for name, values in labels.items()}
        | {"alertname": tuple(sources.alert_names()), "alertstate": STATES}
    )


def _series(metric: Metric) -> Iterator[tuple[str, Mapping[str, tuple[str, ...]]]]:
    labels = dict(metric.labels) | TARGET
    yield metric.name, labels
    if metric.kind == "histogram":
        bounds = (*(f"{b:g}" for b in catalog.BUCKETS), "+Inf")
        yield f"{metric.name}_bucket", labels | {"le": bounds}
        yield f"{metric.name}_count", labels
        yield f"{metric.name}_sum", labels


def check(text: str) -> frozenset[str]:
    """Return the labels of the result; raise `Drift` if anything does not exist."""
    return _labels(parse(text))


def metrics_in(text: str) -> set[str]:
    """Return the metrics of the catalogue that an expression reads."""
    found = {node.name or "" for node in selectors(parse(text))}
    return {
        metric.name
        for metric in catalog.METRICS
        if any(name in found for name, _ in _series(metric))
    }


def selectors(tree: Any) -> list[Any]:
    """Return every selector of a series."""
    if isinstance(tree, promql_parser.VectorSelector):
        return [tree]
    return [s for child in children(tree) for s in selectors(child)]


def children(node: Any) -> list[Any]:
    """Return the expressions within an expression."""
    names = ("expr", "lhs", "rhs", "vector_selector", "param")
    found = [getattr(node, name, None) for name in names]
    return [c for c in (*found, *(getattr(node, "args", None) or ())) if _is_tree(c)]


def _is_tree(value: Any) -> bool:
    return isinstance(value, promql_parser.Expr)


def _labels(node: Any) -> frozenset[str]:
    if isinstance(node, promql_parser.VectorSelector):
        return _of_selector(node)
    if isinstance(node, promql_parser.AggregateExpr):
        return _of_aggregation(node)
    if isinstance(node, promql_parser.BinaryExpr):
        return _of_operation(node)
    labels = [_labels(child) for child in children(node)]
    vectors = [each for each in labels if each != ANY]
    inner = vectors[0] if vectors else ANY
    if isinstance(node, promql_parser.Call) and node.func.name == "histogram_quantile":
        return inner - {"le"}
    return inner


def _of_selector(node: Any) -> frozenset[str]:
    if node.name not in known():
        raise Drift(f"no metric is called {node.name}")
    labels = known()[node.name]
    for matcher in node.matchers.matchers:
        if matcher.name not in labels:
            raise Drift(f"{node.name} has no label {matcher.name}")
        values = labels[matcher.name]
        if values is not catalog.OPEN and not VARIABLE.search(matcher.value):
            _check_values(node.name, matcher, values)
    return frozenset(labels)


def _check_values(name: str, matcher: Any, values: tuple[str, ...]) -> None:
    plain = matcher.op in (MatchOp.Equal, MatchOp.NotEqual)
    asked = [matcher.value] if plain else matcher.value.split("|")
    for value in asked:
        found = value in values or (
            not plain and any(re.fullmatch(value, each) for each in values)
        )
        if not found:
            raise Drift(f"{matcher.name} of {name} is never {value}")


def _of_aggregation(node: Any) -> frozenset[str]:
    inner = _labels(node.expr)
    if node.modifier is None:
        # topk and its like keep the labels of what they choose.
        return inner if node.param is not None else frozenset()
    asked = frozenset(node.modifier.labels)
    _must_have(inner, asked)
    return asked if node.modifier.type == AggModifierType.By else inner - asked


def _of_operation(node: Any) -> frozenset[str]:
    left, right = _labels(node.lhs), _labels(node.rhs)
    if ANY in (left, right):
        return right if left == ANY else left
    matching = node.modifier.matching if node.modifier else None
    if matching is not None:
        asked = frozenset(matching.labels)
        _must_have(left, asked)
        _must_have(right, asked)
    operator = str(node.op)
    if operator in {"and", "unless"}:
        return left
    if operator == "or":
        return left & right
    if matching is not None and node.modifier.card == VectorMatchCardinality.OneToOne:
        return frozenset(matching.labels)
    return left


def _must_have(labels: frozenset[str], asked: frozenset[str]) -> None:
    if labels != ANY and not asked <= labels:
        lacking = ", ".join(sorted(asked - labels))
        raise Drift(f"nothing has the label {lacking} here")
