"""A process's numbers in a file, so that they outlive it and others can read them.

The file is mapped into memory: counting is an addition there, nothing is written
or flushed, and what was counted stays when the process is killed. It grows by
segments; each begins with how much of it holds records. A record says which block
it is and is complete before the segment says that it is there.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from resilience_instrument.signals.layout import LAYOUTS, counts_in, memory_of, sums_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from resilience_instrument.signals.layout import Cells, Layout

_WORD: Final = 8
_FIRST: Final = 1 << 16
_LARGEST: Final = 1 << 20
_SEPARATOR: Final = "\x1f"
_SCOPES: Final = list(LAYOUTS)
# Before 3.13 a mapping keeps a descriptor of its own, to no purpose of ours.
_UNTRACKED: Final[dict[str, Any]] = (
    {"trackfd": False} if sys.version_info >= (3, 13) else {}
)


class Record(NamedTuple):
    """One block as it was read from a file."""

    layout: Layout
    labels: tuple[str, ...]
    counts: list[int]
    sums: list[float]


@final
class Ledger:
    """The file of this process.

    Args:
        path: The file, which exists and is empty.

    Raises:
        OSError: There is no room for it.
    """

    __slots__ = ("_free", "_memory", "_path", "_segment", "_size", "_used")

    def __init__(self, path: str) -> None:
        self._path = path
        self._size = 0
        self._used = 0
        self._grow()

    def allocate(self, layout: Layout, labels: tuple[str, ...]) -> Cells:
        """Return the cells of a new block, all 0.

        The caller sees to it that one thread at a time is here.

        Raises:
            OSError: There is no room left.
        """
        text = _SEPARATOR.join(
            label.replace(_SEPARATOR, " ") for label in labels
        ).encode()
        words = -(-len(text) // _WORD)
        needed = 3 + words + layout.counts + layout.sums
        if needed > len(self._free) - self._used:
            self._grow()
        free, start = self._free, self._used
        free[start : start + 3] = memoryview(
            b"".join(
                number.to_bytes(_WORD, sys.byteorder)
                for number in (needed, _SCOPES.index(layout.scope), len(text))
            )
        ).cast("q")
        named = start + 3
        free[named : named + words] = memoryview(text.ljust(words * _WORD)).cast("q")
        first = named + words
        self._used = start + needed
        # From here on, readers find the record.
        free[0] = self._used
        return self._memory, first

    def _grow(self) -> None:
        size = _segment_size(self._size)
        descriptor = os.open(self._path, os.O_RDWR)
        try:
            # Room is taken now: a full disk found later, by writing, would be fatal.
            _reserve(descriptor, self._size, size)
            segment = mmap.mmap(descriptor, size, offset=self._size, **_UNTRACKED)
        finally:
            os.close(descriptor)
        self._memory = memory_of(memoryview(segment))
        self._free = self._memory.whole
        self._size += size
        self._used = 1
        self._free[0] = self._used


def read(path: str) -> list[Record]:
    """Return every block in a file; none if there is no such file.

    Each number is read in one piece, also while its process counts.
    """
    records: list[Record] = []
    with contextlib.suppress(FileNotFoundError, ValueError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            content = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
        finally:
            os.close(descriptor)
        with content, memoryview(content) as view, view.cast("q") as words:
            records.extend(_records(words))
    return records


def write(path: str, records: Iterable[Record]) -> None:
    """Write a new file with these blocks."""
    with open(path, "xb"):  # noqa: PTH123 - pathlib is not loaded in an app for this
        pass
    ledger = Ledger(path)
    for record in records:
        layout = record.layout
        memory, first = ledger.allocate(layout, record.labels)
        counts: Any = memoryview(_packed("q", record.counts)).cast("q")
        sums: Any = memoryview(_packed("d", record.sums)).cast("d")
        counts_in(memory.whole, first, layout)[:] = counts
        sums_in(memory.floats, first, layout)[:] = sums


def _packed(code: str, numbers: Sequence[float]) -> bytes:
    return struct.pack(f"{len(numbers)}{code}", *numbers)


def _truncate(descriptor: int, offset: int, length: int) -> None:
    os.ftruncate(descriptor, offset + length)


_reserve: Final = getattr(os, "posix_fallocate", _truncate)


def _segment_size(before: int) -> int:
    return min(_LARGEST, max(_FIRST, before))


def _records(words: memoryview) -> Iterator[Record]:
    start = 0
    while start < len(words):
        size = _segment_size(start * _WORD) // _WORD
        at, end = start + 1, start + min(words[start], size)
        while at < end:
            needed, scope, length = words[at : at + 3].tolist()
            named = at + 3
            layout = LAYOUTS[_SCOPES[scope]]
            first = named + -(-length // _WORD)
            text = words[named:first].tobytes()[:length].decode()
            sums = first + layout.counts
            yield Record(
                layout,
                tuple(text.split(_SEPARATOR)) if layout.scope else (),
                words[first:sums].tolist(),
                list(words[sums : sums + layout.sums].cast("B").cast("d")),
            )
            at += needed
        start += size
