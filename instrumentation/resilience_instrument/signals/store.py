"""The store: what was counted in this process, and nothing about how it is shown.

It is private. `prometheus_client`'s global registry and its multiprocess directory
belong to the app and are never touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from resilience_instrument.native import allocate_lock
from resilience_instrument.signals import catalog
from resilience_instrument.signals.layout import (
    CALM,
    LAYOUTS,
    PLAIN,
    counts_in,
    memory_of,
    sums_in,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableSequence

    from resilience_instrument.signals.layout import Cells, Layout

    Allocate = Callable[[Layout, tuple[str, ...]], Cells]

SERVICES: Final = 1024
"""Services that are told apart; further ones are counted as `other`."""

ENDPOINTS: Final = 10_000
"""Endpoints of all services that are told apart; further ones are `other`."""

OTHER: Final = "other"
"""The label of whatever is beyond a limit."""

ENDPOINT: Final = catalog.API_REQUEST.scope
SERVICE: Final = catalog.BREAKER_CHANGES.scope


# What each is laid in has to have room for one of these, as it is read in all ways.
_LEAST: Final = LAYOUTS[PLAIN].counts + LAYOUTS[PLAIN].sums


def in_memory(layout: Layout, labels: tuple[str, ...]) -> Cells:  # noqa: ARG001 - the shape of an allocator
    """Return cells for a block that nobody else reads."""
    words = max(layout.counts + layout.sums, _LEAST)
    return memory_of(memoryview(bytearray(words * 8))), 0


class Block:
    """The numbers of one scope: add to them where the layout says.

    Adding to one is atomic under the GIL: no call and no backward jump lies between
    reading and writing, so no other thread can come in between.

    Views of the counts and the sums alone are made when they are asked for: kept for
    every block, they would take more memory than the numbers.

    Attributes:
        first: Where in `whole` and `floats` they begin.
        floats: The memory that it shares with other blocks, as floats.
        labels: The values of the scope's labels.
        layout: What lies where.
        whole: The same memory as whole numbers.
    """

    __slots__ = ("first", "floats", "labels", "layout", "whole")

    def __init__(self, layout: Layout, labels: tuple[str, ...], cells: Cells) -> None:
        self.layout = layout
        self.labels = labels
        self.lay(cells)

    def lay(self, cells: Cells) -> None:
        """Keep the numbers somewhere else from now on."""
        (whole, floats, _, _), first = cells
        # At once: whoever adds finds all of it in the one place or in the other.
        self.whole, self.floats, self.first = whole, floats, first

    @property
    def counts(self) -> MutableSequence[int]:
        """The counts."""
        return counts_in(self.whole, self.first, self.layout)

    @property
    def sums(self) -> MutableSequence[float]:
        """The sums."""
        return sums_in(self.floats, self.first, self.layout)


@final
class Store:
    """Every block of this process.

    Args:
        services: How many services are told apart.
    """

    __slots__ = ("_allocate", "_blocks", "_endpoints", "_known", "_limit", "_lock")

    def __init__(self, services: int = SERVICES) -> None:
        self._limit = services
        self._start()

    def _start(self) -> None:
        # A real lock: the thread that serves the metrics is no greenlet.
        self._lock = allocate_lock()
        self._allocate: Allocate = in_memory
        self._blocks: dict[tuple[str, ...], dict[tuple[str, ...], Block]] = {
            scope: {} for scope in LAYOUTS
        }
        self._endpoints: dict[tuple[str, str], tuple[str, str]] = {}
        self._known: set[str] = set()
        self.block(catalog.LABEL_OVERFLOW.scope)

    def labels(self, service: str, endpoint: str) -> tuple[str, str]:
        """Return the labels of an endpoint, which are known from now on."""
        labels = service, endpoint
        found = self._endpoints.get(labels)
        if found is None:
            known = self._label(service)
            if known != service or len(self._endpoints) >= ENDPOINTS:
                return known, OTHER
            found = self._endpoints.setdefault(labels, labels)
        return found

    def endpoint(self, service: str, endpoint: str) -> Block:
        """Return the block of an endpoint; it begins with every child at 0."""
        self.service(service)
        return self.block(ENDPOINT, *self.labels(service, endpoint))

    def service(self, service: str) -> Block:
        """Return the block of a service; it begins with every child at 0."""
        return self.block(SERVICE, self._label(service))

    def calm(self, service: str) -> Block:
        """Return what every service has: most have nothing else to be counted."""
        return self.block(CALM, self._label(service))

    def block(
        self, scope: tuple[str, ...], *labels: str, kind: type[Block] = Block
    ) -> Block:
        """Return the block of a scope for these values of its labels.

        Args:
            scope: Which numbers it has.
            labels: Whose they are.
            kind: What is made of them, if there are none yet.
        """
        blocks = self._blocks[scope]
        found = blocks.get(labels)
        if found is None:
            with self._lock:
                found = blocks.get(labels)
                if found is None:
                    layout = LAYOUTS[scope]
                    cells = self._allocate(layout, labels)
                    found = blocks[labels] = kind(layout, labels, cells)
        return found

    def settle(self, allocate: Allocate) -> None:
        """Keep every block, and all that will come, in cells that `allocate` gives."""
        with self._lock:
            self._allocate = allocate
            for block in self._all_locked():
                cells = allocate(block.layout, block.labels)
                memory, first = cells
                counts_in(memory.whole, first, block.layout)[:] = block.counts
                sums_in(memory.floats, first, block.layout)[:] = block.sums
                block.lay(cells)

    def blocks(self) -> list[Block]:
        """Return every block there is at this moment."""
        with self._lock:
            return list(self._all_locked())

    def _all_locked(self) -> Iterator[Block]:
        for blocks in self._blocks.values():
            yield from blocks.values()

    def renew(self) -> None:
        """Begin with nothing, in a child that was just forked."""
        self._start()

    def _label(self, service: str) -> str:
        if service in self._known:
            return service
        with self._lock:
            if service not in self._known and len(self._known) >= self._limit:
                return OTHER
            self._known.add(service)
        return service
