"""Turn paths into endpoint labels of bounded variety.

`/users/4711` becomes `/users/{id}`: a segment that looks like an identifier is a
parameter. So is a word where many words were seen already, such as a user's name.
A service has at most `LIMIT` endpoints, further ones are `other`. No query string
ever becomes part of a label.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias, final

LIMIT: Final = 200
"""Endpoints of one service that are told apart."""

FAN_OUT: Final = 20
"""Words in one place of a path that are told apart."""

SERVICES: Final = 1024
"""Services whose endpoints are told apart."""

OTHER: Final = "other"
"""The label of every endpoint beyond the limit."""

PARAMETER: Final = "{id}"

_Words: TypeAlias = tuple[str, ...] | set[str]

_MAX_SEGMENTS: Final = 8
_MAX_WORD: Final = 40
_CACHE: Final = 4096

# A version such as v1 is a word; a segment with a digit, or one that no word of a
# path looks like, is a parameter.
_WORD: Final = re.compile(r"v\d{1,3}|[A-Za-z][A-Za-z_.~-]*", re.ASCII)


_FEW: Final = 8


@final
class Endpoints:
    """The endpoints of every service that was called."""

    __slots__ = ("_cache", "_known")

    def __init__(self) -> None:
        self._cache: dict[tuple[str, str], str] = {}
        self._known: dict[str, _Service] = {}

    def label(self, service: str, path: str) -> str:
        """Return the endpoint label of `path`, which may carry a query string."""
        key = (service, path.partition("?")[0])
        found = self._cache.get(key)
        if found is None:
            found = self._find(service, key[1])
            if len(self._cache) >= _CACHE:
                self._cache.clear()
            self._cache[key] = found
        return found

    def _find(self, service: str, path: str) -> str:
        known = self._known.get(service)
        if known is None:
            if len(self._known) >= SERVICES:
                return OTHER
            known = self._known.setdefault(service, _Service())
        return known.label(path)


@final
class _Service:
    """The endpoints of one service, and the words seen in each place."""

    __slots__ = ("_endpoints", "_words")

    def __init__(self) -> None:
        self._endpoints: _Words = ()
        self._words: dict[str, _Words] = {}

    def label(self, path: str) -> str:
        endpoint = ""
        for segment in _segments(path):
            endpoint = f"{endpoint}/{self._in_place(endpoint, segment)}"
        endpoint = endpoint or "/"
        if endpoint not in self._endpoints:
            if self._is_full():
                return OTHER
            self._endpoints = _with(self._endpoints, endpoint)
        return endpoint

    def _in_place(self, before: str, segment: str) -> str:
        words = self._words.get(before, ())
        if segment in words or segment == PARAMETER:
            return segment
        # A full service learns nothing more, so that its memory is bounded too.
        if len(words) >= FAN_OUT or self._is_full():
            return PARAMETER
        self._words[before] = _with(words, segment)
        return segment

    def _is_full(self) -> bool:
        return len(self._endpoints) >= LIMIT


def _with(words: _Words, word: str) -> _Words:
    """Return words with one more: most services have few, for which a set is large."""
    if isinstance(words, tuple):
        more = (*words, word)
        return more if len(more) <= _FEW else set(more)
    words.add(word)
    return words


def _segments(path: str) -> list[str]:
    """Return the segments of a path, those that are no words as parameters."""
    segments = [part for part in path.partition("#")[0].split("/") if part]
    kept = [
        part if len(part) <= _MAX_WORD and _WORD.fullmatch(part) else PARAMETER
        for part in segments[:_MAX_SEGMENTS]
    ]
    if len(segments) > _MAX_SEGMENTS:
        kept.append("{rest}")
    return kept
