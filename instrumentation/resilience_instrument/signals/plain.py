"""Calls that succeed at once, each counted by two additions, and what they stand for.

Such a call is one call, one attempt, in the same bucket of two histograms, and was
under way for a while. All of that follows from how many began and which bucket each
ended in, so only that is kept: a block for each endpoint and library, written by
whoever calls and spread over the metrics by whoever reads.

Of a service of which there is nothing else to count, only how many calls are under
way and how it stands is kept beside that. The blocks of its metrics are made when
something happens; until then whoever reads shows them with zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from resilience_instrument.signals import catalog
from resilience_instrument.signals.layout import LAYOUTS, PLAIN_ENDED
from resilience_instrument.signals.store import ENDPOINT, OTHER, SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resilience_instrument.signals.ledger import Record
    from resilience_instrument.signals.store import Block

    Labels = tuple[str, ...]

BEGUN: Final = 0
"""How many calls began."""

ENDED: Final = PLAIN_ENDED
"""How many ended in the first bucket; the others follow."""

SECONDS: Final = 0
"""How long they took together."""

UNDER_WAY: Final = 0
"""Of a service: how many calls are told in full at this moment."""

BOUNDED: Final = ""
"""Stands for the library where the app gave a timeout."""

QUICK: Final = catalog.BUCKETS[0]
"""How many seconds a call takes at most that ends in the first bucket."""

_WIDTH: Final = len(catalog.BUCKETS) + 1
_E: Final = LAYOUTS[ENDPOINT]
_NUMBERS: Final = (
    _E.at(catalog.API_REQUEST, "success"),
    _E.at(catalog.ATTEMPT, "success"),
)
_HISTOGRAMS: Final = (
    (_E.at(catalog.API_REQUEST_DURATION), _E.sum_at(catalog.API_REQUEST_DURATION)),
    (
        _E.at(catalog.ATTEMPT_DURATION, "success"),
        _E.sum_at(catalog.ATTEMPT_DURATION, "success"),
    ),
)
_INFLIGHT: Final = LAYOUTS[SERVICE].at(catalog.INFLIGHT)
_UNBOUNDED: Final = LAYOUTS[catalog.UNBOUNDED.scope].at(catalog.UNBOUNDED)
_OVERFLOWS: Final = LAYOUTS[catalog.LABEL_OVERFLOW.scope]


class Share(NamedTuple):
    """What calls of this kind add to one block of the metrics.

    Attributes:
        scope: The block's scope.
        labels: The block's labels.
        counts: What is added to counts: where, and how much.
        sums: The same for sums.
    """

    scope: Labels
    labels: Labels
    counts: Sequence[tuple[int, int]]
    sums: Sequence[tuple[int, float]] = ()


def share_of_service(found: Record | Block) -> Share:
    """Return what is shown of what every service has."""
    under_way = found.counts[UNDER_WAY]
    return Share(SERVICE, found.labels, [(_INFLIGHT, under_way)])


def shares(found: Record | Block) -> Iterator[Share]:
    """Yield what a block of this kind adds to each block of the metrics."""
    service, endpoint, library = found.labels
    # In this order, no call that ends meanwhile is found under way.
    begun = found.counts[BEGUN]
    buckets = list(found.counts[ENDED : ENDED + _WIDTH])
    seconds = found.sums[SECONDS]
    total = sum(buckets)
    counts = [(cell, total) for cell in _NUMBERS]
    for first, _ in _HISTOGRAMS:
        counts += enumerate(buckets, first)
    sums = [(cell, seconds) for _, cell in _HISTOGRAMS]
    yield Share(ENDPOINT, (service, endpoint), counts, sums)
    yield Share(SERVICE, (service,), [(_INFLIGHT, begun - total)])
    if library != BOUNDED:
        yield Share(catalog.UNBOUNDED.scope, (service, library), [(_UNBOUNDED, total)])
    if OTHER in (service, endpoint):
        kind = "service" if service == OTHER else "endpoint"
        cell = _OVERFLOWS.at(catalog.LABEL_OVERFLOW, kind)
        yield Share(_OVERFLOWS.scope, (), [(cell, total)])


def without_gauges(counts: list[int]) -> None:
    """Say that no call is under way any more: their process is dead."""
    counts[BEGUN] = sum(counts[ENDED : ENDED + _WIDTH])
