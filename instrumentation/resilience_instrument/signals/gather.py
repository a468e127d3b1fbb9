"""Put together what all processes of the command counted.

Live processes are read where they count. What dead ones counted is added to
`base` once, so that no counter ever goes back, and their files are removed. The
names of added files stand in `base` until they are gone: whoever is killed half
way through leaves nothing that would be added twice.
"""

from __future__ import annotations

import contextlib
import operator
import os
import time
from typing import TYPE_CHECKING, Final, NamedTuple, final

from resilience_instrument.native import sleep
from resilience_instrument.signals import catalog, exemplars, ledger, plain, standing
from resilience_instrument.signals.layout import (
    CALM,
    EXEMPLARS,
    INFOS,
    LAYOUTS,
    PLAIN,
)
from resilience_instrument.signals.ledger import Record
from resilience_instrument.signals.store import ENDPOINT, ENDPOINTS, OTHER, SERVICE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilience_instrument.signals.rundir import RunDirectory
    from resilience_instrument.signals.snapshot import ServiceSnapshot
    from resilience_instrument.signals.store import Block, Store

_INFLIGHT: Final = LAYOUTS[SERVICE].at(catalog.INFLIGHT)
_STANDING: Final = frozenset({SERVICE, CALM})
_FILES: Final = LAYOUTS[catalog.AGENT_ERROR.scope]
CROWD: Final = 16
"""Files that may lie there until the next scrape."""
PRESS: Final = 48
"""Files that are too many for processes which end before their thread has run."""


class Gathered(NamedTuple):
    """Everything that a scrape shows.

    Attributes:
        blocks: The sum of every block over all processes, dead ones included.
        snapshots: How each service stands in each live process.
    """

    blocks: Sequence[Record | Block]
    snapshots: Sequence[ServiceSnapshot]


@final
class _Sum:
    """Adds blocks of the same scope and labels up."""

    __slots__ = ("blocks", "endpoints")

    def __init__(self) -> None:
        self.blocks: dict[tuple[tuple[str, ...], tuple[str, ...]], Record] = {}
        self.endpoints = 0

    def add(self, found: Record | Block) -> None:
        """Add one block."""
        layout = found.layout
        if layout.scope == PLAIN:
            for share in plain.shares(found):
                self._add_share(share)
            return
        if layout.scope == CALM:
            self._add_share(plain.share_of_service(found))
            return
        labels = self._labels(layout.scope, found.labels)
        present = self.blocks.get((layout.scope, labels))
        if present is None:
            self.blocks[layout.scope, labels] = _copied(found, labels)
        else:
            _add(present, found)

    def _labels(
        self, scope: tuple[str, ...], labels: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Return the labels under which a block is shown: there may be too many."""
        if scope == ENDPOINT and (scope, labels) not in self.blocks:
            self.endpoints += 1
            if self.endpoints > ENDPOINTS:
                return labels[0], OTHER
        return labels

    def _add_share(self, share: plain.Share) -> None:
        labels = self._labels(share.scope, share.labels)
        present = self.blocks.get((share.scope, labels))
        if present is None:
            present = self.blocks[share.scope, labels] = _empty(share.scope, labels)
        for cell, number in share.counts:
            present.counts[cell] += number
        for cell, seconds in share.sums:
            ticks = _ticks(present.sums[cell]) + _ticks(seconds)
            present.sums[cell] = _seconds(ticks)


def _empty(scope: tuple[str, ...], labels: tuple[str, ...]) -> Record:
    layout = LAYOUTS[scope]
    return Record(layout, labels, [0] * layout.counts, [0.0] * layout.sums)


def _copied(found: Record | Block, labels: tuple[str, ...]) -> Record:
    layout = found.layout
    copy = Record(layout, labels, list(found.counts), list(found.sums))
    for place in layout.places:
        if place.total >= 0:
            copy.sums[place.total] = _seconds(_ticks(copy.sums[place.total]))
    return copy


def _add(to: Record, found: Record | Block) -> None:
    """Add one block to another; what its hidden cells say is no number to add."""
    layout = to.layout
    if layout.scope == EXEMPLARS:
        exemplars.keep_latest(to.counts, to.sums, found.counts, found.sums)
        return
    shown = layout.hidden_counts
    to.counts[:shown] = list(map(operator.add, to.counts[:shown], found.counts[:shown]))
    for place in layout.places:
        if place.total >= 0:
            ticks = _ticks(to.sums[place.total]) + _ticks(found.sums[place.total])
            to.sums[place.total] = _seconds(ticks)


# Sums are added as whole microseconds. Floats added in another order, when a dead
# process moves to the base, could come out a hair smaller; a counter that goes
# back by a hair is a reset to Prometheus.


def _ticks(seconds: float) -> int:
    return round(seconds * 1e6)


def _seconds(ticks: int) -> float:
    return ticks / 1e6


def gather(store: Store, directory: RunDirectory | None) -> Gathered:
    """Read every process of the command.

    Args:
        store: What this process counted.
        directory: Where the others are found, None if there are none.
    """
    total, snapshots = _Sum(), []
    now = time.monotonic()
    processes: list[Sequence[Record | Block]] = [store.blocks()]
    processes += _elsewhere(directory)
    for blocks in processes:
        for block in blocks:
            total.add(block)
            if block.layout.scope in _STANDING:
                found = standing.read(block.labels[0], block.counts, block.sums, now)
                if found is not None:
                    snapshots.append(found)
        # Whoever waits for the interpreter gets it, however much there is to read.
        sleep(0)
    return Gathered(list(total.blocks.values()), snapshots)


def _elsewhere(directory: RunDirectory | None) -> list[list[Record]]:
    """Return the blocks of the dead together, and of each live process."""
    if directory is None:
        return []
    with directory.folding():
        live, dead = directory.others()
        base = _fold(directory, dead)
        return [base, *map(ledger.read, live)]


def fold_crowd(directory: RunDirectory, most: int) -> None:
    """Fold the files of dead processes if there are more files than `most`.

    Each process looks when it begins to count, so that their number is bounded
    also where nobody ever asks for the metrics.
    """
    if directory.crowd() > most:
        with directory.folding():
            _fold(directory, directory.others()[1])


def _fold(directory: RunDirectory, dead: Sequence[str]) -> list[Record]:
    """Add the files of dead processes to the base, and return that."""
    path = directory.file("base")
    base = ledger.read(path)
    done = {record.labels for record in base if _is_note(record)}
    base = [record for record in base if not _is_note(record)]
    new = [file for file in dead if _noted(file).labels not in done]
    if new:
        total = _Sum()
        for record in base:
            total.add(record)
        for file in new:
            for record in filter(_outlives, ledger.read(file)):
                total.add(_without_gauges(record))
        base = list(total.blocks.values())
        # Always the same: who was killed here left one, which nobody else needs.
        hidden = directory.file(".base")
        _remove(hidden)
        ledger.write(hidden, [*base, *map(_noted, dead)])
        os.replace(hidden, path)  # noqa: PTH105 - pathlib is not loaded
    for file in dead:
        _remove(file)
    return base


_NOTE: Final = "\x00"


def _noted(file: str) -> Record:
    """Return a block that says that this file is in the base."""
    labels = (_NOTE + os.path.basename(file),)  # noqa: PTH119 - pathlib is not loaded
    return Record(_FILES, labels, [0] * _FILES.counts, [0.0] * _FILES.sums)


def _is_note(record: Record) -> bool:
    return record.layout is _FILES and record.labels[0].startswith(_NOTE)


def _outlives(record: Record) -> bool:
    scope = record.layout.scope
    return scope not in INFOS and scope != EXEMPLARS


def _without_gauges(record: Record) -> Record:
    """Return what remains true of a block when its process is dead."""
    layout = record.layout
    counts, sums = list(record.counts), list(record.sums)
    counts[layout.hidden_counts :] = [0] * (layout.counts - layout.hidden_counts)
    sums[layout.hidden_sums :] = [0.0] * (layout.sums - layout.hidden_sums)
    if layout.scope == SERVICE:
        counts[_INFLIGHT] = 0
    if layout.scope == PLAIN:
        # Hidden as they are, these count.
        counts[:], sums[:] = record.counts, record.sums
        plain.without_gauges(counts)
    return Record(layout, record.labels, counts, sums)


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - as above
