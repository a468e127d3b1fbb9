"""Turn paths into endpoint labels of bounded variety.

`/users/4711` becomes `/users/{id}`: a segment that looks like an identifier is a
parameter. A service has at most `LIMIT` endpoints, further ones are `other`. No
query string ever becomes part of a label.
"""

from __future__ import annotations

import re
from typing import Final, final

LIMIT: Final = 200
"""Endpoints of one service that are told apart."""

OTHER: Final = "other"
"""The label of every endpoint beyond the limit."""

_MAX_SEGMENTS: Final = 8
_MAX_WORD: Final = 40
_CACHE: Final = 4096

# A version such as v1 is a word; a segment with a digit, or one that no word of a
# path looks like, is a parameter.
_WORD: Final = re.compile(r"v\d{1,3}|[A-Za-z][A-Za-z_.~-]*", re.ASCII)


@final
class Endpoints:
    """The endpoints of every service that was called."""

    __slots__ = ("_cache", "_known")

    def __init__(self) -> None:
        self._cache: dict[tuple[str, str], str] = {}
        self._known: dict[str, set[str]] = {}

    def label(self, service: str, path: str) -> str:
        """Return the endpoint label of `path`, which may carry a query string."""
        key = (service, path)
        found = self._cache.get(key)
        if found is None:
            found = self._bounded(service, template(path))
            if len(self._cache) >= _CACHE:
                self._cache.clear()
            self._cache[key] = found
        return found

    def _bounded(self, service: str, endpoint: str) -> str:
        known = self._known.setdefault(service, set())
        if endpoint not in known:
            if len(known) >= LIMIT:
                return OTHER
            known.add(endpoint)
        return endpoint


def template(path: str) -> str:
    """Return `path` without its query, its parameters replaced by `{id}`."""
    path = path.partition("?")[0].partition("#")[0]
    segments = [part for part in path.split("/") if part]
    kept = [_segment(part) for part in segments[:_MAX_SEGMENTS]]
    if len(segments) > _MAX_SEGMENTS:
        kept.append("{rest}")
    return "/" + "/".join(kept)


def _segment(text: str) -> str:
    if len(text) <= _MAX_WORD and _WORD.fullmatch(text):
        return text
    return "{id}"
