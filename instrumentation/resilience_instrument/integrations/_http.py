"""What the HTTP clients share: facts about methods and statuses, and the frame.

A frame stands for one call of the app, redirects and authentication included. It
knows whether the app streams the answer and by when all of it must be over. The
attempts run below it, hop by hop, each hop judged for itself.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final
from urllib.parse import urlsplit, urlunsplit

from resilience_instrument.policies import retry_after
from resilience_instrument.policies.timeout import is_evidence
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping

    from resilience_instrument.call import AttributeValue
    from resilience_instrument.config.model import Timeouts

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110, section 9.2.2)."""

RETRIED: Final = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that may be gone at the next try. A 500 is the service's own bug."""

_KEYS: Final = ("Idempotency-Key", "X-Idempotency-Key")
_THROTTLED: Final = 429
_SERVER_ERROR: Final = 500
_METHODS: Final = IDEMPOTENT | {"POST", "PATCH", "CONNECT"}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_DRAIN: Final = 65536

_SUCCESSES: Final = {
    status: Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=status)
    for status in range(100, 500)
}


@final
class Frame:
    """One call of the app, from its entry to the library until it returns.

    Args:
        stream: Whether the app reads the body itself.
        parent: The frame around it, None if there is none.
    """

    __slots__ = ("deadline", "elapsed", "explicit", "parent", "response", "stream")

    def __init__(self, parent: Frame | None, *, stream: bool) -> None:
        self.parent = parent
        self.stream = stream
        self.deadline: float | None = parent.deadline if parent else None
        self.explicit = False
        self.response: Any = None
        self.elapsed = 0.0


FRAME: Final[ContextVar[Frame | None]] = ContextVar("resilience_frame", default=None)


def is_repeatable(method: str, headers: Mapping[str, Any]) -> bool:
    """Tell whether a request does no harm when it arrives twice."""
    return method in IDEMPOTENT or any(key in headers for key in _KEYS)


def service_name(scheme: str, host: str, port: int | None) -> str:
    """Return the label of a service: its host, and its port where it is unusual."""
    host = f"[{host}]" if ":" in host else host
    if port is None or port == _DEFAULT_PORTS.get(scheme):
        return host
    return f"{host}:{port}"


def method_label(method: str) -> str:
    """Return the method, or `_OTHER` for one that no standard knows."""
    return method if method in _METHODS else "_OTHER"


def judge_status(status: int, headers: Mapping[str, str]) -> Judgement:
    """Read an answer: what its status means for the call and for the breaker."""
    if status < _SERVER_ERROR and status not in RETRIED:
        found = _SUCCESSES.get(status)
        return found or Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=status)
    evidence = Evidence.FAILURE if status >= _SERVER_ERROR else Evidence.SUCCESS
    if status == _THROTTLED:
        evidence = Evidence.THROTTLED
    return Judgement(
        Verdict.TRANSIENT if status in RETRIED else Verdict.PERMANENT,
        evidence,
        retry_after=_asked_wait(status, headers),
        status=status,
        reason=str(status),
    )


def _asked_wait(status: int, headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After") if status in RETRIED else None
    if value is None:
        return None
    return retry_after.parse(value, headers.get("Date"), time.time())


def judge_timeout(
    error: Exception, phase: Phase, waited: float, settings: Timeouts, *, sent: bool
) -> Judgement:
    """Read a timeout in `phase` after `waited` seconds."""
    evident = is_evidence(phase, waited, settings)
    return Judgement(
        Verdict.TRANSIENT,
        Evidence.FAILURE if evident else Evidence.NEUTRAL,
        sent=sent,
        timeout=phase,
        reason=type(error).__name__,
    )


def judge_transport(error: Exception, *, sent: bool) -> Judgement:
    """Read a failure of the connection: refused, reset, closed, cut short."""
    if _is_untrusted(error):
        # It will not be trusted at the next try either, and the service is alive.
        return judge_ours(error)
    return Judgement(
        Verdict.TRANSIENT, Evidence.FAILURE, sent=sent, reason=type(error).__name__
    )


def judge_ours(error: Exception) -> Judgement:
    """Read an error that says nothing about the service: a bad URL, the app's own."""
    return Judgement(Verdict.PERMANENT, Evidence.NEUTRAL, reason=type(error).__name__)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what lies behind it: arguments, reasons, causes.

    Not `__context__`: there may lie whatever the app was handling at the time.
    """
    seen: set[int] = set()
    todo: list[BaseException] = [error]
    while todo:
        current = todo.pop(0)
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        todo.extend(_behind(current))


def _behind(error: BaseException) -> Iterable[BaseException]:
    candidates = (
        *error.args,
        getattr(error, "reason", None),
        getattr(error, "original_error", None),
        error.__cause__,
    )
    return (each for each in candidates if isinstance(each, BaseException))


def _is_untrusted(error: BaseException) -> bool:
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in chain(error))


def is_small(headers: Mapping[str, str]) -> bool:
    """Tell whether what is left of an answer is cheaper to read than to reconnect."""
    length = headers.get("Content-Length", "")
    return length.isdigit() and int(length) <= _DRAIN


def sleep_sync(seconds: float) -> None:
    """Wait, but never inside a running event loop: that would stop all its tasks."""
    if "asyncio" in sys.modules:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            return
    time.sleep(seconds)


@final
class Carried:
    """Puts headers into a request for one attempt, and takes them out again."""

    __slots__ = ("_before", "_headers")

    def __init__(
        self, headers: MutableMapping[str, str], carrier: Mapping[str, str]
    ) -> None:
        self._headers = headers
        self._before = {name: headers.get(name) for name in carrier}
        headers.update(carrier)

    def restore(self) -> None:
        """Leave the headers as the app made them."""
        for name, value in self._before.items():
            if value is None:
                self._headers.pop(name, None)
            else:
                self._headers[name] = value


def span_attributes(method: str, url: str) -> dict[str, AttributeValue]:
    """Return the attributes of a client span by the HTTP semantic conventions."""
    parts = urlsplit(url)
    attributes: dict[str, AttributeValue] = {
        "http.request.method": method_label(method),
        "server.address": parts.hostname or "",
        "url.full": redacted(url),
    }
    if attributes["http.request.method"] != method:
        attributes["http.request.method_original"] = method
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    if port is not None:
        attributes["server.port"] = port
    return attributes


def redacted(url: str) -> str:
    """Return a URL without credentials and without the values of its query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    names = [pair.partition("=")[0] for pair in parts.query.split("&") if pair]
    query = "&".join(f"{name}=REDACTED" for name in names)
    return urlunsplit((parts.scheme, host, parts.path, query, ""))
