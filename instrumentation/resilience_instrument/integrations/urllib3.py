"""urllib3 used directly: the frame at `urlopen`, the attempts at `_make_request`.

`urlopen` retries by itself, unless told otherwise: where the app said nothing it
is told to leave that to the agent, and only to follow redirects. Under requests
and other clients that are governed it passes untouched.
"""

from __future__ import annotations

import functools
import http.client
import io
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, cast, final

import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from resilience_instrument import errors
from resilience_instrument.config.match import Destination
from resilience_instrument.integrations import _http, _urllib3
from resilience_instrument.integrations._clamp import (
    CLAMP,
    Clamp,
    clamp_here,
    clamp_response,
    send_unhurried,
)
from resilience_instrument.integrations._fallback import Answer, decoded, without
from resilience_instrument.integrations._frame import FRAME, Frame, framed
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import described, govern_sync
from resilience_instrument.integrations._sending import Sending, Site, own_errors
from resilience_instrument.integrations._stand_in import Keeper, StandIns
from resilience_instrument.integrations._url import path_start, service_name
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.timeout import limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilience_instrument.config.model import FallbackSettings, Timeouts
    from resilience_instrument.events import FallbackKind
    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Judgement, Phase

_MANAGER: Final[ContextVar[Any]] = ContextVar("resilience_urllib3", default=None)
"""The manager through which the app calls, which knows the way to other hosts."""

_UNSET: Final = urllib3.Timeout.DEFAULT_TIMEOUT


class CircuitBreakerOpenError(  # type: ignore[misc]  # both say how they pickle
    errors.CircuitBreakerOpenError, urllib3.exceptions.NewConnectionError
):
    """The circuit is open; to an app of urllib3, a host that is not there."""

    def __init__(self, message: str, **facts: Any) -> None:
        _urllib3.begin(self, message, **facts)
        self.conn = None  # type: ignore[assignment]


class BulkheadFullError(  # type: ignore[misc]  # likewise
    errors.BulkheadFullError, urllib3.exceptions.NewConnectionError
):
    """Too many calls are under way; to an app of urllib3, a host that is not there."""

    def __init__(self, message: str, **facts: Any) -> None:
        _urllib3.begin(self, message, **facts)
        self.conn = None  # type: ignore[assignment]


class RateLimitedError(  # type: ignore[misc]  # likewise
    errors.RateLimitedError, urllib3.exceptions.NewConnectionError
):
    """The service is overloaded; to an app of urllib3, a host that is not there."""

    def __init__(self, message: str, **facts: Any) -> None:
        _urllib3.begin(self, message, **facts)
        self.conn = None  # type: ignore[assignment]


class DeadlineExceededError(  # type: ignore[misc]  # likewise
    errors.DeadlineExceededError, urllib3.exceptions.ReadTimeoutError
):
    """No time is left; to an app of urllib3, a read timeout."""

    def __init__(self, message: str, **facts: Any) -> None:
        _urllib3.begin(self, message, **facts)
        self.pool = self.url = None  # type: ignore[assignment]


@final
class LeftToAgent(urllib3.Retry):
    """Follows redirects as urllib3 does by default, and repeats nothing else."""


_LEFT_TO_AGENT: Final = LeftToAgent(
    total=urllib3.Retry.DEFAULT.total,
    connect=0,
    read=0,
    status=0,
    other=0,
    respect_retry_after_header=False,
)


def targets(runtime: Runtime) -> list[Target]:
    """Return what is wrapped, for one `runtime`; nothing in versions before 2."""
    if not hasattr(urllib3, "BaseHTTPResponse"):
        return []
    pool = urllib3.connectionpool.HTTPConnectionPool
    classes = own_errors(
        CircuitBreakerOpenError,
        BulkheadFullError,
        RateLimitedError,
        DeadlineExceededError,
    )
    site = Site(runtime, "urllib3", classes, {})
    return [
        Target(http.client.HTTPResponse, "__init__", clamp_response),
        Target(urllib3.connection.HTTPConnection, "request", send_unhurried),
        Target(pool, "_make_request", _attempts(site)),
        Target(pool, "urlopen", _pool_frame(runtime)),
        Target(urllib3.PoolManager, "urlopen", _managed),
    ]


_FRAMED: Final = framed(stream=False)


def _managed(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    managed = _MANAGER.set(instance)
    try:
        return _FRAMED(wrapped, instance, args, kwargs)
    finally:
        _MANAGER.reset(managed)


def _pool_frame(runtime: Runtime) -> Wrapper:
    def urlopen(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if clamp_here() is not None:
            # A client above is governed already.
            return wrapped(*args, **kwargs)
        frame = Frame.within(FRAME.get(), stream=False)
        given = kwargs
        try:
            given = _left_to_agent(runtime, frame, instance, args, kwargs)
        except Exception as fault:
            runtime.fault("describe", fault)
        token = FRAME.set(frame)
        try:
            return wrapped(*args, **given)
        finally:
            FRAME.reset(token)

    return urlopen


def _left_to_agent(
    runtime: Runtime,
    frame: Frame,
    pool: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> dict[str, Any]:
    """Return the arguments of `urlopen` with ours where the app gave none.

    An app that gives so much by position that its retries are among them has
    said enough.
    """
    frame.explicit = len(args) > _BEFORE_RETRIES or _is_chosen(
        kwargs.get("timeout", _UNSET), pool.timeout
    )
    if len(args) > _BEFORE_RETRIES or _is_left_alone(pool):
        return kwargs
    settings = runtime.registry.settings
    if not settings.enabled or settings.mode == "observe":
        return kwargs
    given = dict(kwargs)
    if given.get("retries") is None and pool.retries is urllib3.Retry.DEFAULT:
        given["retries"] = _LEFT_TO_AGENT
    if not frame.explicit:
        # Only the way to a proxy is made before the attempt, which knows better.
        own = settings.timeout
        given["timeout"] = urllib3.Timeout(connect=own.connect, read=own.read)
    return given


_BEFORE_RETRIES: Final = 4


def _is_chosen(timeout: Any, default: Any) -> bool:
    """Tell whether the app chose a timeout, for the call or for the pool."""
    chosen = default if timeout is _UNSET else timeout
    if not isinstance(chosen, urllib3.Timeout):
        return True
    parts = (chosen._connect, chosen._read)  # noqa: SLF001 - resolved, they hide it
    return chosen.total is not None or any(part is not _UNSET for part in parts)


def _attempts(site: Site) -> Wrapper:
    runtime = site.runtime

    def _make_request(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        sending = described(runtime, _governed, site, wrapped, instance, args, kwargs)
        if sending is None:
            return wrapped(*args, **kwargs)
        return govern_sync(runtime, sending.call, sending.policies, sending)

    return _make_request


def _governed(
    site: Site, wrapped: Any, pool: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Sending | None:
    if clamp_here() is not None or _is_left_alone(pool):
        return None
    if _is_of_requests(kwargs.get("retries")):
        # requests has a room of its own; whoever switched that off wants none.
        return None
    return _Sending(site, wrapped, pool, args, kwargs)


def _is_left_alone(pool: Any) -> bool:
    """Tell whether a test tool answers, or a client with a room of its own asks."""
    own_room = type(pool).__module__ == "botocore.awsrequest"
    return own_room or _http.is_played(pool.ConnectionCls)


def _is_of_requests(retries: Any) -> bool:
    """Tell whether these are the retries that requests says by default: none."""
    return getattr(retries, "total", None) == 0 and retries.read is False


@final
class _Sending(Sending, StandIns):
    """One request on its way through a pool: the `Io` of its call."""

    __slots__ = (
        "_arguments",
        "_asked_for",
        "_clamp",
        "_explicit",
        "_facts",
        "_given",
        "_is_replaced",
        "_options",
        "_position",
        "_wrapped",
    )

    def __init__(
        self,
        site: Site,
        wrapped: Any,
        pool: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(site, None)
        self._wrapped = wrapped
        self._arguments, self._options = args, kwargs
        self._is_replaced = False
        facts = self._facts = _Facts(*args, **kwargs)
        self._request = facts.conn
        self._position = _http.position(facts.body)
        absolute = not facts.url.startswith("/")
        start = path_start(facts.url) if absolute else 0
        service = service_name(pool.scheme, pool.host, pool.port)
        to = Destination(pool.scheme, pool.host.strip("[]"), pool.port)
        if absolute:
            service, to = site.addresses.origin(facts.url[:start])
        self._url = facts.url if absolute else f"{pool.scheme}://{service}{facts.url}"
        route = str(pool.proxy) if pool.proxy else None
        to = to._replace(path=facts.url[start:])
        headers = self._asked_for = _readable(facts.headers)
        own = self._find_policies(service, route, to, headers)
        self._explicit = self._frame is None or self._frame.explicit
        self._given = own
        if self._explicit:
            self._given = _urllib3.app_timeouts(facts.timeout) or _urllib3.NONE
        self._describe(
            method=facts.method.upper(),
            path=facts.url[start:],
            headers=headers,
            replayable=_http.is_data(facts.body) or self._position is not None,
            app_retries=not self._is_left_to_us(facts.retries),
            unbounded=not self._explicit,
            ours=not self._explicit,
            streams=not kwargs.get("preload_content", True),
            end=self._end(own),
        )
        if self._observes:
            self._explicit, self._given = True, _urllib3.NONE

    def _is_left_to_us(self, retries: Any) -> bool:
        """Tell whether retries are ours, or would be where they are only observed."""
        if self._observes:
            return retries is urllib3.Retry.DEFAULT
        return isinstance(retries, LeftToAgent)

    def _end(self, own: Timeouts) -> float | None:
        return _http.call_end(self._given, own, self._clock.monotonic())

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Send the request once; urllib3 reads the body unless it is streamed."""
        self._limits = limits(self._given, deadline, self._clock.monotonic())
        self._clamp = Clamp(deadline, self._clock.monotonic, sending=not self._explicit)
        options = self._for_attempt()
        token = CLAMP.set(self._clamp)
        try:
            if number > 1 and self._position is not None:
                options["body"].seek(self._position)
            response = self._wrapped(*self._arguments, **options)
            if not options.get("preload_content", True):
                self._clamp.release(free=not self._explicit)
            self.last = Returned(response)
        except Exception as error:
            self.last = Raised(error)
        finally:
            CLAMP.reset(token)
        return self.last

    def _for_attempt(self) -> dict[str, Any]:
        """Return the arguments with this attempt's timeouts and headers."""
        options = dict(self._options)
        if self._given is not _urllib3.NONE:
            options["timeout"] = urllib3.Timeout(
                connect=self._limits.connect, read=self._limits.read
            )
        if self._carrier:
            # A copy: the app's headers may be shared by all calls of its pool.
            options["headers"] = urllib3.HTTPHeaderDict(options.get("headers"))
            options["headers"].update(self._carrier)
        return options

    def _shown(self) -> object:
        return None  # there is none, only a connection

    def _judge_answer(self, response: Any) -> Judgement:
        return _http.judge_status(response.status, response.headers)

    def _is_over(self) -> bool:
        return self._clamp.fired or super()._is_over()

    def _phase(self, error: Exception) -> Phase | None:
        return _urllib3.phase(error)

    def _is_never_sent(self, error: Exception) -> bool:
        return _urllib3.is_never_sent(getattr(error, "original_error", error))

    def _is_transport(self, error: Exception) -> bool:
        return isinstance(error, _TRANSPORT)

    async def discard(self, outcome: Outcome) -> None:
        """Make the connection usable again: close it unless the body was read."""
        self.last = None
        if isinstance(outcome, Raised) or not self._options.get(
            "preload_content", True
        ):
            self._request.close()
        if self._is_replaced and self._options.get("response_conn") is not None:
            # The response that would have given it back is not the app's.
            self._pool._put_conn(self._request)  # noqa: SLF001 - there is no other way

    @property
    def _pool(self) -> Any:
        return self._wrapped.__self__

    async def stand_in(
        self,
        kind: FallbackKind,
        settings: FallbackSettings,
        outcome: Outcome,
        *,
        may_be_sent: bool,
    ) -> Outcome | None:
        """Return another answer, unless urllib3 is going to try again itself."""
        if self._comes_back(outcome):
            return None
        answer = await super().stand_in(
            kind, settings, outcome, may_be_sent=may_be_sent
        )
        self._is_replaced = isinstance(answer, Returned)
        return answer

    def _comes_back(self, outcome: Outcome) -> bool:
        """Tell whether the app's own retries repeat what came to `outcome`."""
        retries, method = self._facts.retries, self._facts.method
        if isinstance(retries, LeftToAgent) or not isinstance(retries, urllib3.Retry):
            return False
        response = error = None
        if isinstance(outcome, Raised):
            error = self._seen(outcome.error)
        else:
            response = cast("Any", outcome.value)
            asked = "Retry-After" in response.headers
            if not retries.is_retry(method, response.status, asked):
                return False
        try:
            retries.increment(method, self._facts.url, response, error)
        except Exception:
            # Out of retries: it raises whatever it was given.
            return False
        return True

    def _seen(self, error: Exception) -> Exception:
        if isinstance(error, urllib3.exceptions.HTTPError):
            return error
        # As `urlopen` would say it.
        return urllib3.exceptions.ProtocolError("Connection aborted.", error)

    def _asked(self) -> Iterable[tuple[str, str]]:
        return self._asked_for.items()

    def _status(self, response: Any) -> int:
        status: int = response.status
        return status

    def _offer(self, response: Any, keeper: Keeper) -> None:
        if not self._options.get("preload_content", True):
            return
        headers = tuple(response.headers.items())
        if self._options.get("decode_content", True):
            headers = decoded(headers)
        keeper.keep(Answer(response.status, headers, response.data))

    def _response(self, answer: Answer) -> Any:
        reading = ("preload_content", "decode_content")
        return urllib3.HTTPResponse(
            body=io.BytesIO(answer.body),
            headers=urllib3.HTTPHeaderDict(answer.headers),
            status=answer.status,
            reason=http.client.responses.get(answer.status),
            request_method=self._facts.method,
            request_url=self._facts.url,
            retries=self._facts.retries,
            **{name: self._options[name] for name in reading if name in self._options},
        )

    async def _send_to(self, url: str) -> Any:
        manager, facts = _MANAGER.get() or _others(), self._facts
        passed = ("chunked", "preload_content", "decode_content")
        options = {n: self._options[n] for n in passed if n in self._options}
        if self._explicit:
            options["timeout"] = facts.timeout
        if not isinstance(facts.retries, LeftToAgent):
            options["retries"] = facts.retries
        if self._position is not None:
            facts.body.seek(self._position)
        headers = urllib3.HTTPHeaderDict(without(self._asked(), {"host"}))
        headers.update(self._key)
        return manager.urlopen(
            facts.method, url, body=facts.body, headers=headers, **options
        )

    async def _close(self, response: Any) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait, as a thread waits."""
        _http.sleep_sync(seconds)

    async def untouched(self) -> Outcome:
        """Send the request as if the agent were not there."""
        try:
            return Returned(self._wrapped(*self._arguments, **self._options))
        except Exception as error:
            return Raised(error)


def _readable(given: Any) -> urllib3.HTTPHeaderDict:
    """Return headers in which names are found, also where they are bytes."""
    headers = urllib3.HTTPHeaderDict(given)
    pairs = list(headers.iteritems())
    if any(isinstance(part, bytes) for pair in pairs for part in pair):
        texts = ((_text(name), _text(value)) for name, value in pairs)
        headers = urllib3.HTTPHeaderDict(texts)
    return headers


def _text(part: str | bytes) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else part


@functools.cache
def _others() -> urllib3.PoolManager:
    """Return the way to other hosts for an app that uses a pool of one alone."""
    return urllib3.PoolManager()


@final
class _Facts:
    """The arguments of `_make_request` that say something about the call."""

    __slots__ = ("body", "conn", "headers", "method", "retries", "timeout", "url")

    def __init__(  # noqa: PLR0913, PLR0917 - the signature of `_make_request`
        self,
        conn: Any,
        method: str,
        url: str,
        body: Any = None,
        headers: Any = None,
        retries: Any = None,
        timeout: Any = _UNSET,
        **_: Any,
    ) -> None:
        self.conn = conn
        self.method = method
        self.url = url
        self.body = body
        self.headers = headers
        self.retries = retries
        self.timeout = timeout


_TRANSPORT: Final = (
    urllib3.exceptions.TimeoutError,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.ProxyError,
    urllib3.exceptions.SSLError,
    OSError,
    http.client.BadStatusLine,
    http.client.IncompleteRead,
)
