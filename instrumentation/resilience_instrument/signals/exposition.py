"""Show the store in the formats that Prometheus reads.

`prometheus_client` writes them; it is loaded at the first scrape. It gets a
collector of ours that lives in no registry, the app's least of all.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.signals import catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from resilience_instrument.signals.catalog import Metric
    from resilience_instrument.signals.layout import Place
    from resilience_instrument.signals.snapshot import ServiceSnapshot
    from resilience_instrument.signals.store import Block, Store

    Sample = tuple[str, dict[str, str], float]

# An open circuit is the worst, a half-open one comes next.
_BADNESS: Final = {"closed": 0, "half_open": 1, "open": 2}
_BOUNDS: Final = (*catalog.BUCKETS, math.inf)


@final
class Exposition:
    """What the metrics port says.

    Args:
        store: What was counted.
        snapshots: Yields how every service stands now.
        infos: For each gauge that is always 1, the label values that it has.
    """

    __slots__ = ("_infos", "_snapshots", "_store")

    def __init__(
        self,
        store: Store,
        snapshots: Callable[[], Iterable[ServiceSnapshot]],
        infos: Mapping[str, set[tuple[str, ...]]],
    ) -> None:
        self._store = store
        self._snapshots = snapshots
        self._infos = infos

    def render(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their content type.

        Args:
            accept: The scraper's `Accept` header, empty if it sent none.
        """
        from prometheus_client import exposition  # noqa: PLC0415 - not before a scrape

        encode, content_type = exposition.choose_encoder(accept)
        return encode(self), content_type

    def collect(self) -> Iterator[Any]:
        """Yield every family, as `prometheus_client` asks a registry for them."""
        from prometheus_client import Metric as Family  # noqa: PLC0415 - as above

        samples = self._samples()
        for metric in catalog.METRICS:
            family = Family(
                metric.name.removesuffix("_total"), metric.help, metric.kind
            )
            for name, labels, value in samples.get(metric.name, ()):
                family.add_sample(name, labels, value)
            yield family

    def _samples(self) -> dict[str, list[Sample]]:
        found: dict[str, list[Sample]] = {}
        for block in self._store.blocks():
            for place in block.layout.places:
                samples = found.setdefault(place.metric.name, [])
                samples.extend(_stored(block, place))
        for name, values in self._infos.items():
            metric = next(m for m in catalog.METRICS if m.name == name)
            found[name] = [
                (name, dict(zip(metric.labels, v, strict=True)), 1.0)
                for v in sorted(values)
            ]
        for metric, labels, value in self._computed():
            found.setdefault(metric.name, []).append(
                (metric.name, dict(zip(metric.labels, labels, strict=True)), value)
            )
        return found

    def _computed(self) -> Iterator[tuple[Metric, tuple[str, ...], float]]:
        """Yield the gauges that say how each service stands now."""
        ordered = sorted(self._snapshots(), key=lambda s: s.service)
        for service, group in itertools.groupby(ordered, key=lambda s: s.service):
            routes = list(group)
            state = max((s.state for s in routes), key=_BADNESS.__getitem__)
            yield catalog.BREAKER_STATE, (service,), float(catalog.STATES.index(state))
            for each in catalog.STATES:
                processes = float(each == state)
                yield catalog.BREAKER_PROCESSES, (service, each), processes
            ratio = min(s.budget_ratio for s in routes)
            yield catalog.BUDGET_RATIO, (service,), ratio
            for kind, seconds in routes[0].timeouts.items():
                value = math.inf if seconds is None else seconds
                yield catalog.TIMEOUT, (service, kind), value


def _stored(block: Block, place: Place) -> Iterator[Sample]:
    metric = place.metric
    labels = dict(zip(block.layout.scope, block.labels, strict=True))
    labels.update(zip(metric.closed, place.values, strict=True))
    labels = {name: labels[name] for name in metric.labels}
    if metric.kind == "histogram":
        yield from _histogram(block, place, labels)
        return
    count = block.counts[place.cell]
    if count or place.values not in metric.on_demand:
        yield metric.name, labels, float(count)


def _histogram(block: Block, place: Place, labels: dict[str, str]) -> Iterator[Sample]:
    name = place.metric.name
    buckets = block.counts[place.cell : place.cell + len(_BOUNDS)]
    seen = 0
    for bound, count in zip(_BOUNDS, buckets, strict=True):
        seen += count
        le = "+Inf" if bound == math.inf else str(bound)
        yield f"{name}_bucket", {**labels, "le": le}, float(seen)
    # From the same numbers as the buckets, so that they agree in every scrape.
    yield f"{name}_count", labels, float(seen)
    yield f"{name}_sum", labels, block.sums[place.total]
