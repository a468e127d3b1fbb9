"""Where each sample lies: blocks of plain numbers, laid out by the catalogue.

All series that share their open labels (a service and an endpoint, say) lie in one
block: whole numbers for counts, floats for the sums of histograms. Counting is an
addition at an index that is known when this module is loaded; names and labels
come in only when somebody reads.

Behind what is shown as it is, a block may have hidden cells: facts from which a
gauge is computed when it is read, by whichever process does that.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast, final

from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableSequence

    from resilience_instrument.signals.catalog import Metric

INFOS: Final = {
    metric.scope: metric for metric in (catalog.AGENT_INFO, catalog.PATCH_INFO)
}
"""Gauges that are always 1, where at least one process says that they hold."""

COUNTED: Final = frozenset(m.name for m in (catalog.INFLIGHT, *INFOS.values()))
"""Gauges that are kept in blocks; all others are computed when they are read."""


PLAIN: Final = ("service", "endpoint", "library")
"""The scope of calls that succeed at once, see `plain.py`: all its cells are hidden."""

CALM: Final = ("service", "calm")
"""The scope of what every service has, see `plain.py`: all its cells are hidden."""

PLAIN_ENDED: Final = 1
"""Where in it the buckets of calls that ended begin; before them is who began."""

EXEMPLARS: Final = ("service", "endpoint", "exemplars")
"""The scope of `exemplars.py`; the labels are those of an endpoint."""

_WORD: Final = 8
# `standing.py`: a state; until when, budget, until when, timeouts.
_STANDING: Final = (1, 3 + len(catalog.TIMEOUT_KINDS))

HIDDEN: Final[dict[tuple[str, ...], tuple[int, int]]] = {
    catalog.BREAKER_STATE.scope: _STANDING,
    # How many calls are under way, and how the service stands.
    CALM: (1 + _STANDING[0], _STANDING[1]),
    # `exemplars.py`, for each bucket: a trace in two halves, a span; value, time.
    EXEMPLARS: (3 * (len(catalog.BUCKETS) + 1), 2 * (len(catalog.BUCKETS) + 1)),
    # How many began, how many ended in each bucket; how long they took.
    PLAIN: (1 + len(catalog.BUCKETS) + 1, 1),
}
"""For each scope that has some, how many hidden counts and sums."""


class Memory(NamedTuple):
    """Memory that many blocks share.

    Attributes:
        whole: All of it as whole numbers.
        floats: All of it as floats.
        ended: As whole numbers from where, at the beginning of a block of calls that
            succeed at once, it says how many ended in the first bucket.
        spent: As floats from where such a block says how long they took. So all that
            is added up for such a call lies at one number, and none has to be made.
    """

    whole: memoryview[int]
    floats: memoryview[float]
    ended: memoryview[int]
    spent: memoryview[float]


def memory_of(room: memoryview[int]) -> Memory:
    """Return room for blocks in all the ways that it is read."""
    ended: Any = room[_WORD * PLAIN_ENDED :]
    spent: Any = room[_WORD * LAYOUTS[PLAIN].counts :]
    floats: Any = room.cast("d")
    return Memory(room.cast("q"), floats, ended.cast("q"), spent.cast("d"))


Cells: TypeAlias = "tuple[Memory, int]"
"""The memory of one block, its counts and then its sums, and where in it they begin."""


def counts_in(
    whole: memoryview[int], first: int, layout: Layout
) -> MutableSequence[int]:
    """Return the counts alone of what begins at `first`."""
    found: Any = whole[first : first + layout.counts]
    return cast("MutableSequence[int]", found)


def sums_in(
    floats: memoryview[float], first: int, layout: Layout
) -> MutableSequence[float]:
    """Return the sums alone of what begins at `first`."""
    start = first + layout.counts
    found: Any = floats[start : start + layout.sums]
    return cast("MutableSequence[float]", found)


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

    __slots__ = (
        "_index",
        "counts",
        "hidden_counts",
        "hidden_sums",
        "places",
        "scope",
        "sums",
    )

    def __init__(self, scope: tuple[str, ...]) -> None:
        self.scope = scope
        self.counts = 0
        self.sums = 0
        self.places: list[Place] = []
        for metric in catalog.METRICS:
            if metric.scope == scope and _is_stored(metric):
                self._add(metric)
        self._index = {(p.metric.name, p.values): p for p in self.places}
        self.hidden_counts = self.counts
        self.hidden_sums = self.sums
        counts, sums = HIDDEN.get(scope, (0, 0))
        self.counts += counts
        self.sums += sums

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
    yield PLAIN
    yield CALM
    yield EXEMPLARS


LAYOUTS: Final = {scope: Layout(scope) for scope in _scopes()}
"""A layout for every scope that has something to store."""


def fingerprint() -> str:
    """Return a word for how everything lies, the same in every process of a version."""
    facts = [
        (layout.scope, layout.counts, layout.sums, [p[1:] for p in layout.places])
        for layout in LAYOUTS.values()
    ]
    return f"{zlib.crc32(repr((facts, catalog.BUCKETS)).encode()):08x}"
