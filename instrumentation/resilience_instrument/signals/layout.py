"""Where each sample lies: blocks of plain numbers, laid out by the catalogue.

All series that share their open labels (a service and an endpoint, say) lie in one
block: whole numbers for counts, floats for the sums of histograms. Counting is an
addition at an index that is known when this module is loaded; names and labels
come in only when somebody reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, final

from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resilience_instrument.signals.catalog import Metric

COUNTED: Final = frozenset({catalog.INFLIGHT.name})
"""Gauges that are kept in blocks; all others are computed when they are read."""


class Place(NamedTuple):
    """Where one child of a metric lies.

    Attributes:
        metric: The metric.
        values: The values of its closed labels.
        cell: The index of its count, or of the first bucket of a histogram.
        total: The index of a histogram's sum, -1 for other kinds.
    """

    metric: Metric
    values: tuple[str, ...]
    cell: int
    total: int


@final
class Layout:
    """The places of every series of one scope.

    Args:
        scope: The open labels that the series share.
    """

    __slots__ = ("_index", "counts", "places", "scope", "sums")

    def __init__(self, scope: tuple[str, ...]) -> None:
        self.scope = scope
        self.counts = 0
        self.sums = 0
        self.places: list[Place] = []
        for metric in catalog.METRICS:
            if metric.scope == scope and _is_stored(metric):
                self._add(metric)
        self._index = {(p.metric.name, p.values): p for p in self.places}

    def _add(self, metric: Metric) -> None:
        histogram = metric.kind == "histogram"
        for values in metric.combinations():
            total = self.sums if histogram else -1
            self.places.append(Place(metric, values, self.counts, total))
            # One more bucket than bounds: the one that ends at infinity.
            self.counts += len(catalog.BUCKETS) + 1 if histogram else 1
            self.sums += histogram

    def at(self, metric: Metric, *values: str) -> int:
        """Return the index of a child's count, or of its first bucket."""
        return self._index[metric.name, values].cell

    def sum_at(self, metric: Metric, *values: str) -> int:
        """Return the index of a histogram's sum."""
        return self._index[metric.name, values].total


def _is_stored(metric: Metric) -> bool:
    return metric.kind != "gauge" or metric.name in COUNTED


def _scopes() -> Iterator[tuple[str, ...]]:
    for metric in catalog.METRICS:
        if _is_stored(metric):
            yield metric.scope


LAYOUTS: Final = {scope: Layout(scope) for scope in _scopes()}
"""A layout for every scope that has something to store."""
