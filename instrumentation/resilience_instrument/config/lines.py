"""Find the line of a key in a TOML text: `tomllib` keeps none.

It reads no values. Where a text is so odd that a key is not found, the nearest
table around it is; a finding then points a little too high, never nowhere.
"""

from __future__ import annotations

import re
from typing import Final, final

Path = tuple[str, ...]

_PART: Final = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED: Final = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE: Final = re.compile(rf"\s*\[\[?\s*({_DOTTED})\s*\]")
_KEY: Final = re.compile(rf"\s*({_DOTTED})\s*=")
_INLINE: Final = re.compile(rf"[{{,]\s*({_DOTTED})\s*=")
_PARTS: Final = re.compile(_PART)
_FENCES: Final = ('"""', "'''")


@final
class Lines:
    """The lines of every key of a text.

    Args:
        text: The file's content.
    """

    __slots__ = ("_found",)

    def __init__(self, text: str) -> None:
        self._found: dict[Path, int] = {}
        table: Path = ()
        fence = ""
        for number, line in enumerate(text.splitlines(), 1):
            if fence:
                fence = "" if line.count(fence) % 2 else fence
                continue
            header = _TABLE.match(line)
            if header is not None:
                table = _split(header[1])
                self._found.setdefault(table, number)
                continue
            self._note(table, line, number)
            fence = next((f for f in _FENCES if line.count(f) % 2), "")

    def _note(self, table: Path, line: str, number: int) -> None:
        key = _KEY.match(line)
        if key is None:
            return
        path = (*table, *_split(key[1]))
        self._found.setdefault(path, number)
        for inline in _INLINE.finditer(line, key.end()):
            # Deeper nesting than one level shares the line, so it need not be told.
            self._found.setdefault((*path, *_split(inline[1])), number)

    def of(self, path: Path) -> int | None:
        """Return the line of `path` or of what is nearest around it."""
        while path:
            if path in self._found:
                return self._found[path]
            path = path[:-1]
        return None


def _split(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PARTS.findall(dotted))
