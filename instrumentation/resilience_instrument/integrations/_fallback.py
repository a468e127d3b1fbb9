"""Fallbacks by HTTP: answers as no library has them, and where they come from.

A room says how its library makes a response out of an answer, and how it sends a
request to another host. All else is here.
"""

from __future__ import annotations

import importlib
import json
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from dataclasses import dataclass
else:
    from resilience_instrument.frozen import dataclass

HEADER: Final = "Resilience-Fallback"
"""The header by which an app sees that something else answered."""

STANDING_IN: Final[ContextVar[bool]] = ContextVar(
    "resilience_standing_in", default=False
)
"""Whether a call is on its way to another host already: that one has no stand-in."""

_KEPT_STATUS: Final = 200
# What differs from request to request and means nothing to the answer.
_PASSING: Final = frozenset(
    {
        "baggage",
        "connection",
        "content-length",
        "traceparent",
        "tracestate",
        "user-agent",
        "x-correlation-id",
        "x-request-id",
    }
)
# They belong to the connection, or to the moment.
_NOT_KEPT: Final = frozenset({"connection", "set-cookie", "transfer-encoding"})


class Answer(NamedTuple):
    """An answer as no library has it.

    Attributes:
        status: The status.
        headers: Names and values.
        body: The body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def marked(self, kind: str) -> Answer:
        """Return the answer with the header that says where it comes from."""
        return self._replace(headers=(*self.headers, (HEADER, kind)))


@final
@dataclass(frozen=True, slots=True)
class FailedCall:
    """What a fallback function gets.

    Attributes:
        service: The name of the service.
        method: The method.
        url: The URL that was called.
        headers: The headers of the request.
        status: The status of the last answer, None if there was none.
        error: The last error, None if there was an answer.
    """

    service: str
    method: str
    url: str
    headers: Mapping[str, str]
    status: int | None
    error: Exception | None


def key_of(url: str, headers: Iterable[tuple[str, str]]) -> tuple[object, ...]:
    """Return what an answer is kept under: who asks otherwise gets none of it.

    All headers count, since any of them may say who asks; only those do not that
    differ each time or describe the connection.
    """
    counted = ((name.lower(), value) for name, value in headers)
    return (url, *sorted(pair for pair in counted if pair[0] not in _PASSING))


def kept(answer: Answer, most: int) -> Answer | None:
    """Return what may be kept of an answer, None for nothing.

    Args:
        answer: The answer to a GET.
        most: Bytes of the longest body that is kept.
    """
    if answer.status != _KEPT_STATUS or len(answer.body) > most:
        return None
    headers = {name.lower(): value.lower() for name, value in answer.headers}
    if "no-store" in headers.get("cache-control", "") or headers.get("vary") == "*":
        return None
    return answer._replace(headers=without(answer.headers, _NOT_KEPT))


def decoded(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return the headers that still hold for a body that was decoded."""
    return without(headers, {"content-encoding", "content-length"})


def without(
    headers: Iterable[tuple[str, str]], names: Container[str]
) -> tuple[tuple[str, str], ...]:
    """Return headers without those of these names, in lower case."""
    return tuple((name, value) for name, value in headers if name.lower() not in names)


def elsewhere(base: str, url: str) -> str:
    """Return `url` at another host: `base`, then the path and the query."""
    there, here = urlsplit(base), urlsplit(url)
    path = there.path.rstrip("/") + (here.path or "/")
    return urlunsplit((there.scheme, there.netloc, path, here.query, ""))


async def called(function: str, failed: FailedCall, *, waits: bool) -> Answer | None:
    """Return what a function gives for a call that failed, None for nothing.

    Args:
        function: Its name, as `module:function`.
        failed: What it gets.
        waits: Whether it may be a coroutine function.

    Raises:
        Exception: Whatever it raises, or what is wrong with what it gives.
    """
    module, _, name = function.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    given = found(failed)
    import inspect  # noqa: PLC0415 - slow to load

    if inspect.isawaitable(given):
        if not waits:
            if inspect.iscoroutine(given):
                given.close()
            raise TypeError(f"{function} is a coroutine function, the client is none")
        given = await given
    return None if given is None else answer_of(given)


def answer_of(given: Any) -> Answer:
    """Return the answer that a function means by what it gave.

    Args:
        given: A body; or data, which is sent as JSON; or status, headers and body.

    Raises:
        TypeError: It is nothing of that.
    """
    if isinstance(given, tuple):
        status, headers, body = given
        return Answer(int(status), tuple(dict(headers).items()), _bytes(body))
    if isinstance(given, (bytes, str)):
        return Answer(200, (), _bytes(given))
    if isinstance(given, (dict, list)):
        headers = (("Content-Type", "application/json"),)
        return Answer(200, headers, json.dumps(given).encode())
    raise TypeError(f"a fallback function gave {type(given).__name__}")


def _bytes(body: bytes | str) -> bytes:
    return body.encode() if isinstance(body, str) else bytes(body)
