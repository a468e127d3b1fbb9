"""The file of a process: what was counted can be read by others, at any moment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from resilience_instrument.signals import ledger
from resilience_instrument.signals.layout import (
    LAYOUTS,
    counts_in,
    fingerprint,
    sums_in,
)
from resilience_instrument.signals.store import ENDPOINT, SERVICE


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return an empty file."""
    file = tmp_path / "1-1.cells"
    file.touch()
    return str(file)


def _numbers(book: ledger.Ledger, scope: tuple[str, ...], *labels: str) -> Any:
    """Return the counts and the sums of a new block."""
    layout = LAYOUTS[scope]
    memory, first = book.allocate(layout, labels)
    counts = counts_in(memory.whole, first, layout)
    return counts, sums_in(memory.floats, first, layout)


def test_what_is_counted_is_read(path: str) -> None:
    """Whole numbers, sums and labels, whatever letters those have."""
    book = ledger.Ledger(path)
    counts, sums = _numbers(book, ENDPOINT, "süd", "/a/{id}")
    counts[3] += 7
    sums[1] += 0.25
    book.allocate(LAYOUTS[()], ())

    first, second = ledger.read(path)

    assert (("süd", "/a/{id}"), 7, 0.25) == (
        first.labels,
        first.counts[3],
        first.sums[1],
    )
    assert ((), LAYOUTS[()]) == (second.labels, second.layout)


def test_it_grows_and_everything_stays(path: str) -> None:
    """Over several segments, each larger than the one before."""
    book = ledger.Ledger(path)
    for number in range(3000):
        counts, _ = _numbers(book, ENDPOINT, "s", f"/{number}")
        counts[0] = number

    found = ledger.read(path)

    assert list(range(3000)) == [record.counts[0] for record in found]
    assert [f"/{n}" for n in range(3000)] == [record.labels[1] for record in found]


def test_a_label_cannot_end_another(path: str) -> None:
    """The letter that stands between labels becomes a blank."""
    book = ledger.Ledger(path)

    book.allocate(LAYOUTS[ENDPOINT], ("a\x1fb", "/"))

    assert ("a b", "/") == ledger.read(path)[0].labels


@pytest.mark.parametrize("content", [None, b""])
def test_a_file_that_is_not_there_or_empty_has_nothing(
    tmp_path: Path, content: bytes | None
) -> None:
    """Its process may have ended while we looked, or not have begun."""
    path = tmp_path / "gone"
    if content is not None:
        path.write_bytes(content)

    assert [] == ledger.read(str(path))


def test_what_was_read_can_be_written(path: str, tmp_path: Path) -> None:
    """As a file that reads the same."""
    book = ledger.Ledger(path)
    counts, sums = _numbers(book, SERVICE, "api")
    counts[0], sums[0] = -5, 1.5

    ledger.write(str(tmp_path / "copy"), ledger.read(path))

    assert ledger.read(path) == ledger.read(str(tmp_path / "copy"))


def test_a_system_that_cannot_reserve_room_extends_the_file(path: str) -> None:
    """As far as one can there."""
    descriptor = os.open(path, os.O_RDWR)
    ledger._truncate(descriptor, 100, 28)
    os.close(descriptor)

    assert 128 == Path(path).stat().st_size


def test_the_format_has_a_name_of_its_own() -> None:
    """The same in every process of one version."""
    assert 8 == len(fingerprint())
    assert fingerprint() == fingerprint()
