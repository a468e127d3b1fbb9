"""What every HTTP client shares: facts about methods, statuses and failures."""

from __future__ import annotations

import os
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.policies import retry_after
from resilience_instrument.policies.deadline import nearer
from resilience_instrument.policies.timeout import call_deadline, is_evidence
from resilience_instrument.verdict import Evidence, Judgement, Phase, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, MutableMapping

    from resilience_instrument.config.model import Timeouts

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that may be sent twice (RFC 9110, section 9.2.2)."""

RETRIED: Final = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that may be gone at the next try. A 500 is the service's own bug."""

_KEYS: Final = ("Idempotency-Key", "X-Idempotency-Key")
_UNSAFE: Final = frozenset({"POST", "PATCH"})
_THROTTLED: Final = 429
_SERVER_ERROR: Final = 500
# Each by itself, so that endpoints which are kept share the word.
_METHODS: Final = {name: name for name in (*IDEMPOTENT, "POST", "PATCH", "CONNECT")}
_DRAIN: Final = 65536
_TEST_TOOLS: Final = frozenset({"respx", "vcr"})

FINE: Final = frozenset(range(100, _SERVER_ERROR)) - RETRIED
"""Statuses of which there is nothing to tell."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})

_SUCCESSES: Final = {
    status: Judgement(Verdict.SUCCESS, Evidence.SUCCESS, status=status)
    for status in range(100, 500)
}


def call_end(given: Timeouts, own: Timeouts, now: float) -> float | None:
    """Return the monotonic time by which a call that starts at `now` must end.

    Args:
        given: What holds for the call: the app's own timeouts, else `own` itself.
        own: The service's settings.
        now: The monotonic time.
    """
    if given is not own:
        return capped(call_deadline(given, own, now), own, now)
    return capped(None if own.total is None else now + own.total, own, now)


def capped(end: float | None, own: Timeouts, now: float) -> float | None:
    """Return the end of a call that the service's `max` may bring nearer."""
    return end if own.max is None else nearer(end, now + own.max)


def is_repeatable(method: str, headers: Mapping[str, Any]) -> bool:
    """Tell whether a request does no harm when it arrives twice."""
    return method in IDEMPOTENT or any(key in headers for key in _KEYS)


def fresh_key(
    method: str, headers: Mapping[str, Any], header: str | None
) -> dict[str, str]:
    """Return the header that makes a call repeatable, empty where none is wanted.

    Args:
        method: The method of the call.
        headers: Those that it has; a key of the app's own is enough.
        header: The header that the service honours, None for none.
    """
    if header is None or method not in _UNSAFE or header in headers:
        return {}
    return {header: os.urandom(16).hex()}


def method_label(method: str) -> str:
    """Return the method, or `_OTHER` for one that no standard knows."""
    return _METHODS.get(method, "_OTHER")


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
    return retry_after.asked(headers, time.time()) if status in RETRIED else None


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


def is_data(body: Any) -> bool:
    """Tell whether a body is plain data, which can be sent again as it is."""
    return body is None or isinstance(body, (bytes, str))


def position(body: Any) -> int | None:
    """Return where a file stands that can be read again from there, else None."""
    if not hasattr(body, "seek"):
        return None
    try:
        found: int = body.tell()
    except OSError:
        return None
    return found


def is_small(headers: Mapping[str, str]) -> bool:
    """Tell whether what is left of an answer is cheaper to read than to reconnect."""
    length = headers.get("Content-Length", "")
    return length.isdigit() and int(length) <= _DRAIN


def sleep_sync(seconds: float) -> None:
    """Wait, but never inside a running event loop: that would stop all its tasks."""
    if not _in_event_loop():
        time.sleep(seconds)


def _in_event_loop() -> bool:
    if "asyncio" not in sys.modules:
        return False
    import asyncio  # noqa: PLC0415 - an app without it must not pay for it

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def is_played(function: Any) -> bool:
    """Tell whether a test tool took the place of this function of a library.

    A test counts its calls and knows its own answers: it is left alone.
    """
    module: str = function.__module__
    return module.partition(".")[0] in _TEST_TOOLS


@final
class Carried:
    """Puts headers into a request for one attempt, and takes them out again."""

    __slots__ = ("_before", "_headers")

    def __init__(
        self, headers: MutableMapping[str, str], carrier: Mapping[str, str]
    ) -> None:
        self._headers = headers
        self._before: dict[str, str | None] = {}
        # One by one: mappings that are no dictionaries take long to update.
        for name, value in carrier.items():
            self._before[name] = headers.get(name)
            headers[name] = value

    def restore(self) -> None:
        """Leave the headers as the app made them."""
        for name, value in self._before.items():
            if value is not None:
                self._headers[name] = value
                continue
            # `pop` would look for it first; as a rule it is there.
            try:  # noqa: SIM105 - a context manager costs more than all of this
                del self._headers[name]
            except KeyError:
                pass
