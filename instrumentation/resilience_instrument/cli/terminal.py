"""Print for people on a terminal, plain text into a pipe, JSON for machines."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Colour: TypeAlias = Literal["good", "bad", "quiet", "strong"]

_CODES: Final = {"good": "32", "bad": "31", "quiet": "2", "strong": "1"}


def paint(text: str, colour: Colour) -> str:
    """Return `text` in a colour where somebody looks at a terminal, else as it is."""
    if not has_colours():
        return text
    return f"\033[{_CODES[colour]}m{text}\033[0m"


def has_colours() -> bool:
    """Tell whether stdout is a terminal on which colours are wanted."""
    return (
        sys.stdout.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )


def print_json(content: object) -> None:
    """Print for a machine."""
    print(json.dumps(content, indent=2, default=_listed))


def _listed(value: object) -> object:
    """Return a set, which JSON does not have, as a list."""
    if isinstance(value, frozenset):
        return sorted(value)
    message = f"{type(value).__name__} cannot be printed"
    raise TypeError(message)


def print_table(rows: Iterable[Sequence[str]], indent: str = "") -> None:
    """Print rows under each other; the last column is as wide as it is."""
    table = [tuple(row) for row in rows]
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns[:-1]]
    for *cells, last in table:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        # The last column explains the others.
        print(f"{indent}{'  '.join(padded)}  {paint(last, 'quiet')}".rstrip())
