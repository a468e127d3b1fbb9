"""Write what was gathered in the formats that Prometheus reads.

The text is put together from prefixes that are made once a series: with
`prometheus_client`, 10,000 series take more than a third of a second in OpenMetrics
and calls of the app would wait for the interpreter meanwhile. Its parsers judge
this writer in the tests.
"""

from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING, Final, NamedTuple, final

from resilience_instrument.native import sleep
from resilience_instrument.signals import catalog, exemplars
from resilience_instrument.signals.layout import EXEMPLARS, INFOS, LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from resilience_instrument.signals.catalog import Metric
    from resilience_instrument.signals.gather import Gathered
    from resilience_instrument.signals.layout import Place
    from resilience_instrument.signals.ledger import Record
    from resilience_instrument.signals.snapshot import ServiceSnapshot
    from resilience_instrument.signals.store import Block

    Key = tuple[tuple[str, ...], tuple[str, ...]]

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

# An open circuit is the worst, a half-open one comes next.
_BADNESS: Final = {"closed": 0, "half_open": 1, "open": 2}
_BOUNDS: Final = (*map(str, catalog.BUCKETS), "+Inf")
# Whoever waits for the interpreter gets it after so long. Seconds.
_TURN: Final = 0.0005


class _Series(NamedTuple):
    """One child of a metric: where its numbers lie, and what is written before them."""

    place: Place
    prefixes: Sequence[str]


@final
class Exposition:
    """What the metrics port says.

    Args:
        gather: Returns what all processes counted and how they stand.
    """

    __slots__ = ("_gather", "_known")

    def __init__(self, gather: Callable[[], Gathered]) -> None:
        self._gather = gather
        self._known: dict[Key, Mapping[str, list[_Series]]] = {}

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type.

        Args:
            accept: The scraper's `Accept` header, empty if it sent none.
        """
        openmetrics = prefers_openmetrics(accept)
        gathered = self._gather()
        lines: list[str] = []
        turn = time.perf_counter() + _TURN
        for written in self._written(gathered, openmetrics=openmetrics):
            lines += written
            if time.perf_counter() > turn:
                sleep(0)
                turn = time.perf_counter() + _TURN
        self._forget(gathered)
        lines.append("# EOF\n" if openmetrics else "")
        return "\n".join(lines).encode(), OPENMETRICS if openmetrics else TEXT

    def _written(
        self, gathered: Gathered, *, openmetrics: bool
    ) -> Iterator[Iterable[str]]:
        """Yield the lines of the exposition, a few at a time."""
        computed = _computed(gathered.snapshots)
        scopes: dict[tuple[str, ...], list[Record | Block]] = {}
        for block in gathered.blocks:
            scopes.setdefault(block.layout.scope, []).append(block)
        examples = {block.labels: block for block in scopes.get(EXEMPLARS, ())}
        for metric in catalog.METRICS:
            yield _head(metric, openmetrics=openmetrics)
            yield computed.get(metric.name, ())
            for block in scopes.get(metric.scope, ()):
                if INFOS.get(metric.scope) is metric:
                    if block.counts[0]:
                        yield [_prefix(metric.name, metric, block.labels) + "1.0"]
                    continue
                for series in self._series(block).get(metric.name, ()):
                    lines = _values(block, series)
                    if openmetrics and metric is catalog.API_REQUEST_DURATION:
                        _add_exemplars(lines, examples.get(block.labels))
                    yield lines

    def _series(self, block: Record | Block) -> Mapping[str, list[_Series]]:
        key = (block.layout.scope, block.labels)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = _series_of(block)
        return found

    def _forget(self, gathered: Gathered) -> None:
        """Keep the prefixes of what is there, so that they stay bounded too."""
        if len(self._known) > 2 * len(gathered.blocks):
            self._known = {}


def prefers_openmetrics(accept: str) -> bool:
    """Tell whether a scraper likes OpenMetrics at least as much as plain text."""
    liking = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for entry in accept.split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        if kind in liking:
            liking[kind] = max(liking[kind], _quality(parameters))
    return liking["application/openmetrics-text"] >= max(liking["text/plain"], 0.001)


def _quality(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _head(metric: Metric, *, openmetrics: bool) -> list[str]:
    name = metric.name.removesuffix("_total") if openmetrics else metric.name
    return [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]


def _series_of(block: Record | Block) -> Mapping[str, list[_Series]]:
    found: dict[str, list[_Series]] = {}
    for place in LAYOUTS[block.layout.scope].places:
        metric = place.metric
        labels = (*block.labels, *place.values)
        if metric.kind == "histogram":
            name = f"{metric.name}_bucket"
            prefixes = [_prefix(name, metric, labels, le=bound) for bound in _BOUNDS]
            # Count and sum come from the same reading as the buckets.
            prefixes.append(_prefix(f"{metric.name}_count", metric, labels))
            prefixes.append(_prefix(f"{metric.name}_sum", metric, labels))
        else:
            prefixes = [_prefix(metric.name, metric, labels)]
        found.setdefault(metric.name, []).append(_Series(place, prefixes))
    return found


def _prefix(name: str, metric: Metric, values: Sequence[str], **more: str) -> str:
    names = (*_open_first(metric), *more)
    pairs = zip(names, (*values, *more.values()), strict=True)
    inside = ",".join(f'{label}="{_escaped(value)}"' for label, value in sorted(pairs))
    return f"{name}{{{inside}}} " if inside else f"{name} "


def _open_first(metric: Metric) -> tuple[str, ...]:
    """Return the labels in the order in which a block and a place have them."""
    return (*metric.scope, *metric.closed)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _values(block: Record | Block, series: _Series) -> list[str]:
    place, prefixes = series
    metric = place.metric
    if metric.kind != "histogram":
        # Read while its process counts, a gauge may be below nothing for a moment.
        count = max(0, block.counts[place.cell])
        shown = count or place.values not in metric.on_demand
        return [f"{prefixes[0]}{count}.0"] if shown else []
    buckets = block.counts[place.cell : place.cell + len(_BOUNDS)]
    seen = list(itertools.accumulate(buckets))
    lines = [f"{p}{n}.0" for p, n in zip(prefixes, [*seen, seen[-1]], strict=False)]
    lines.append(f"{prefixes[-1]}{block.sums[place.total]!r}")
    return lines


def _add_exemplars(lines: list[str], block: Record | Block | None) -> None:
    if block is None:
        return
    for bucket in range(len(_BOUNDS)):
        found = exemplars.read(block.counts, block.sums, bucket)
        if found is not None:
            lines[bucket] += (
                f' # {{trace_id="{found.trace_id}",span_id="{found.span_id}"}}'
                f" {found.value!r} {found.time:.3f}"
            )


def _computed(snapshots: Iterable[ServiceSnapshot]) -> Mapping[str, list[str]]:
    """Return the lines of the gauges that say how each service stands now."""
    found: dict[str, list[str]] = {}

    def show(metric: Metric, value: float, *labels: str) -> None:
        text = "+Inf" if value == math.inf else repr(float(value))
        line = _prefix(metric.name, metric, labels) + text
        found.setdefault(metric.name, []).append(line)

    ordered = sorted(snapshots, key=lambda s: s.service)
    for service, group in itertools.groupby(ordered, key=lambda s: s.service):
        processes = list(group)
        states = [process.state for process in processes]
        worst = max(states, key=_BADNESS.__getitem__)
        show(catalog.BREAKER_STATE, catalog.STATES.index(worst), service)
        for state in catalog.STATES:
            show(catalog.BREAKER_PROCESSES, states.count(state), service, state)
        left = min(process.budget_ratio for process in processes)
        show(catalog.BUDGET_RATIO, left, service)
        for kind, seconds in processes[0].timeouts.items():
            limit = math.inf if seconds is None else seconds
            show(catalog.TIMEOUT, limit, service, kind)
    return found
