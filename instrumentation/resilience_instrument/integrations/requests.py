"""requests: the frame at `Session.send`, the attempts at `HTTPAdapter.send`.

`HTTPAdapter.send` sees every physical request, redirect hops and second legs of
an authentication included, and adapters of an app's own reach it by `super()`.
Test tools replace it, and so see every call exactly once.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import http.client
import io
import types
from sys import modules
from typing import TYPE_CHECKING, Any, Final, final

import requests
import requests.adapters
import requests.exceptions
import requests.utils
import urllib3
import urllib3.connection
import urllib3.connectionpool
import urllib3.exceptions

from resilience_instrument import errors
from resilience_instrument.fastpath import NO_WAY, Begun
from resilience_instrument.integrations import _http, _urllib3
from resilience_instrument.integrations._clamp import (
    CLAMP,
    Clamp,
    clamp_response,
    send_unhurried,
)
from resilience_instrument.integrations._fallback import Answer, decoded
from resilience_instrument.integrations._frame import FRAME, Frame
from resilience_instrument.integrations._http import (
    FINE,
    IDEMPOTENT,
    REDIRECTS,
    is_repeatable,
)
from resilience_instrument.integrations._patch import (
    Replacement,
    Target,
    parameters,
)
from resilience_instrument.integrations._room import (
    deliver_as_made,
    described,
    resume_sync,
)
from resilience_instrument.integrations._sending import (
    Sending,
    Site,
    facts,
    own_errors,
    tell_sync,
)
from resilience_instrument.integrations._stand_in import Keeper, StandIns
from resilience_instrument.integrations._traced import traced
from resilience_instrument.integrations._url import path_start
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.deadline import CURRENT, MIN_USEFUL
from resilience_instrument.policies.timeout import Limits, limits, shorter

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.config.model import Timeouts
    from resilience_instrument.integrations._patch import AnyTarget
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Phase

    Given = tuple[Any, Any, Any, Any, Any]


class CircuitBreakerOpenError(
    errors.CircuitBreakerOpenError, requests.exceptions.ConnectionError
):
    """The circuit is open; to an app of requests, a host that is not there."""


class ProxyCircuitBreakerOpenError(
    CircuitBreakerOpenError, requests.exceptions.ProxyError
):
    """The circuit of a service behind a proxy is open."""


class BulkheadFullError(errors.BulkheadFullError, requests.exceptions.ConnectionError):
    """Too many calls are under way; to an app of requests, a host that is not there."""


class RateLimitedError(errors.RateLimitedError, requests.exceptions.ConnectionError):
    """The service is overloaded; to an app of requests, a host that is not there."""


class DeadlineExceededError(
    errors.DeadlineExceededError, requests.exceptions.ReadTimeout
):
    """No time is left; to an app of requests, a read timeout."""


def targets(runtime: Runtime) -> list[AnyTarget]:
    """Return what is wrapped, for one `runtime`."""
    return [
        Target(http.client.HTTPResponse, "__init__", clamp_response),
        Target(urllib3.connection.HTTPConnection, "request", send_unhurried),
        Replacement(requests.adapters.HTTPAdapter, "send", _attempts(runtime)),
        Replacement(requests.Session, "send", _frame),
    ]


def _frame(original: Any) -> Any:
    current, enter, leave = FRAME.get, FRAME.set, FRAME.reset

    @functools.wraps(original)
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        frame = Frame()
        parent = current()
        if parent is not None:
            frame.deadline = parent.deadline
        frame.stream = kwargs.get("stream", self.stream) if kwargs else self.stream
        token = enter(frame)
        try:
            # Where there is nothing to hand on, nothing is packed for it.
            response = (
                original(self, request, **kwargs) if kwargs else original(self, request)
            )
        finally:
            leave(token)
        if response is frame.response:
            # Else it would include the attempts before, and the body.
            response.elapsed = dt.timedelta(0, frame.elapsed)
        return response

    return send


def _attempts(runtime: Runtime) -> Callable[[Any], Any]:
    site = Site(
        runtime,
        "requests",
        own_errors(
            CircuitBreakerOpenError,
            BulkheadFullError,
            RateLimitedError,
            DeadlineExceededError,
        ),
        own_errors(ProxyCircuitBreakerOpenError),
    )
    return functools.partial(_sender, site)


def _sender(site: Site, original: Any) -> Any:  # noqa: C901, PLR0915 - see below
    runtime = site.runtime
    monotonic, is_upload = runtime.clock.monotonic, runtime.registry.is_upload

    def own_clamp(frame: Frame) -> Clamp:
        return Clamp(frame.deadline, monotonic, sending=True)

    def given_clamp(frame: Frame) -> Clamp:
        return Clamp(frame.deadline, monotonic, sending=False)

    reads = site.lanes(_READ)
    pool, connection, loaded, deadline = _POOL, _CONNECTION, modules, CURRENT.get
    idempotent, current = IDEMPOTENT, FRAME.get
    ordered = parameters(original)[2:] == _NAMES

    @functools.wraps(original)
    def send(  # noqa: C901, PLR0912, PLR0913, PLR0915, PLR0917 - the signature of the original
        self: Any,
        request: Any,
        stream: Any = False,  # noqa: FBT002
        timeout: Any = None,
        verify: Any = True,  # noqa: FBT002
        cert: Any = None,
        proxies: Any = None,
    ) -> Any:
        # One function on purpose: calling another for a part is a tenth of its cost.
        generation = NO_WAY
        frame: Any
        lane: Any
        made: Outcome | BaseException | None = None
        try:
            frame = current()
            if (
                frame is not None
                and frame.deadline is None
                and not frame.stream
                and deadline() is None
                and not proxies
                and pool.ConnectionCls is connection
                and (request.body is None or not is_upload(request.headers))
            ):
                url, method = request.url, request.method
                if timeout is None and method in idempotent:
                    lane = reads.get(url) or site.lane(url, _READ)
                else:
                    repeatable = is_repeatable(method, request.headers)
                    kind = (timeout is None, repeatable)
                    lane = site.lanes(kind).get(url) or site.lane(url, kind)
                span, limit = lane.plans[timeout]
                if "opentelemetry.context" in loaded:
                    key = (url, (method or "").upper())
                    lane = traced(runtime.observer, lane, facts, key, request.headers)
                started = monotonic()
                generation = lane.enter(started)
        except Exception:  # noqa: S110 - the long way meets it again, and tells
            pass
        if generation == NO_WAY:
            given = (stream, timeout, verify, cert, proxies)
            return _told(site, original, self, request, given)
        if span is not None:
            frame.deadline = started + span
        frame.clamp = given_clamp if limit is None else own_clamp
        try:
            if limit is None:
                limit = timeout
            # By position where that is sure to mean the same, as it costs half.
            response = (
                original(self, request, stream, limit, verify, cert, proxies)
                if ordered
                else original(
                    self,
                    request,
                    stream=stream,
                    timeout=limit,
                    verify=verify,
                    cert=cert,
                    proxies=proxies,
                )
            )
            headed = now = monotonic()
            status = response.status_code
            # Asked for as requests itself asks, when there is something to read.
            if response._content is False and (  # noqa: SLF001
                status not in REDIRECTS or not response.is_redirect
            ):
                response.content  # noqa: B018 - reads the body into the response
                now = monotonic()
                if now - headed > _NOTICEABLE:
                    frame.response, frame.elapsed = response, headed - started
        except Exception as error:
            made = Raised(error)
        except BaseException as error:
            made = error
        clamp, frame.clamp = frame.clamp, None
        if made is None:
            if status == _OK or status in FINE:
                try:
                    lane.succeed(generation, started, now, status)
                except Exception as fault:
                    runtime.fault("engine", fault)
                return response
            made = Returned(response)
            frame.response, frame.elapsed = response, headed - started
        given = (stream, timeout, verify, cert, proxies)
        begun = Begun(generation, started, made)
        # The error's traceback holds this frame; the frame must not hold the error.
        del made
        return _resumed(site, lane, original, self, request, given, clamp, begun)

    return send


def _told(site: Site, original: Any, adapter: Any, request: Any, given: Given) -> Any:
    """Send a request the long way: the engine tells all of it."""
    sending = _describe(site, original, adapter, request, given)
    if sending is None:
        return original(adapter, request, **_named(given))
    return tell_sync(site.runtime, sending)


def _resumed(  # noqa: PLR0913, PLR0917 - all that was at hand
    site: Site,
    lane: Any,
    original: Any,
    adapter: Any,
    request: Any,
    given: Given,
    clamp: Any,
    begun: Begun,
) -> Any:
    """Go on the long way with a request that was sent."""
    lane = lane.withdraw(begun)
    sending = _describe(site, original, adapter, request, given)
    if sending is None:
        return deliver_as_made(begun)
    sending.take_over(clamp, begun)
    return resume_sync(site.runtime, lane, sending.call, sending, begun)


def _describe(
    site: Site, original: Any, adapter: Any, request: Any, given: Given
) -> _Sending | None:
    wrapped = types.MethodType(original, adapter)
    named = _named(given)
    return described(site.runtime, _governed, site, wrapped, adapter, request, named)


def _governed(site: Site, *args: Any) -> _Sending | None:
    return None if _http.is_played(_POOL.ConnectionCls) else _Sending(site, *args)


def _named(given: Given) -> dict[str, Any]:
    return dict(zip(_NAMES, given, strict=True))


@final
class _Sending(Sending, StandIns):
    """One request on its way through an adapter: the `Io` of its call."""

    __slots__ = ("_adapter", "_clamp", "_given", "_kwargs", "_timeout", "_wrapped")

    def __init__(
        self,
        site: Site,
        wrapped: Any,
        adapter: Any,
        request: Any,
        kwargs: dict[str, Any],
    ) -> None:
        super().__init__(site, request)
        self._kwargs = kwargs
        self._wrapped = wrapped
        self._adapter = adapter
        self._timeout = self._kwargs["timeout"]
        url = self._url = request.url
        start = path_start(url)
        proxies = self._kwargs["proxies"]
        proxy = requests.utils.select_proxy(url, proxies) if proxies else None
        service, origin = site.addresses.origin(url[:start])
        to = origin._replace(path=url[start:])
        own = self._find_policies(service, proxy, to, request.headers)
        self._given: Timeouts | None = own
        if self._timeout is not None:
            self._given = _urllib3.app_timeouts(self._timeout)
        end = None
        if self._given is not None:
            end = _http.call_end(self._given, own, self._clock.monotonic())
        if self._observes:
            self._given = None
        self._describe(
            method=(request.method or "").upper(),
            path=url[start:],
            headers=request.headers,
            replayable=_is_replayable(request),
            app_retries=_retries(adapter),
            unbounded=self._timeout is None,
            ours=self._timeout is None,
            streams=self._frame is None or bool(self._frame.stream),
            end=end,
        )

    def plan(self) -> None:
        """Note how calls like this one are limited, so that they may be shorter."""
        lane, timeout, given = self._site.remember(self), self._timeout, self._given
        if lane is None or given is None or len(lane.plans) >= _PLANS:
            return
        parts = timeout if type(timeout) is tuple else (timeout,)
        if not all(type(part) in _STEADY for part in parts):
            return
        own = self.policies.settings.timeout
        span = _http.call_end(given, own, 0.0)
        if span is not None and span < MIN_USEFUL:
            return
        limit = None
        within = (shorter(given.connect, span), shorter(given.read, span))
        if timeout is None:
            limit = within
        elif within != (given.connect, given.read):
            # Somebody limits what the app allows: its own object does not hold.
            return
        lane.note(timeout, (span, limit))

    def take_over(self, clamp: Any, begun: Begun) -> None:
        """Stand where the attempt has been made already."""
        # Where no socket asked for a clamp, none was cut short.
        none = Clamp(None, self._clock.monotonic, sending=False)
        self._clamp: Clamp = clamp if isinstance(clamp, Clamp) else none
        given = self._given or self.policies.settings.timeout
        self._limits = limits(given, self.call.deadline, begun.started)
        if isinstance(begun.made, (Returned, Raised)):
            self.last = begun.made

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Send the request once and, unless the app streams, read the answer."""
        now = self._clock.monotonic()
        given = self._given or self.policies.settings.timeout
        self._limits = limits(given, deadline, now)
        self._clamp = Clamp(
            deadline, self._clock.monotonic, sending=self._timeout is None
        )
        carried = self._carried()
        token = CLAMP.set(self._clamp)
        try:
            if number > 1:
                _rewind(self._request)
            self.last = Returned(self._send(now))
        except Exception as error:
            self.last = Raised(error)
        finally:
            CLAMP.reset(token)
            carried.restore()
        return self.last

    def _send(self, begun: float) -> Any:
        kwargs = {**self._kwargs, "timeout": self._attempt_timeout(self._limits)}
        response = self._wrapped(self._request, **kwargs)
        frame = self._frame
        if frame is not None:
            frame.response = response
            frame.elapsed = self._clock.monotonic() - begun
        if frame is None or frame.stream:
            self._clamp.release(free=self._timeout is None)
        elif not response.is_redirect:
            response.content  # noqa: B018 - reads the body into the response
        return response

    def _attempt_timeout(self, now: Limits) -> Any:
        """Return the timeout to hand on: the app's own object where it still holds."""
        given = self._given
        if given is None or (
            self._timeout is not None
            and (now.connect, now.read) == (given.connect, given.read)
        ):
            return self._timeout
        return (now.connect, now.read)

    def _is_over(self) -> bool:
        return self._clamp.fired

    def _phase(self, error: Exception) -> Phase | None:
        if not isinstance(error, requests.exceptions.RequestException):
            return None
        return _urllib3.phase(error)

    def _is_never_sent(self, error: Exception) -> bool:
        if not isinstance(error, requests.exceptions.ConnectionError):
            return False
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        return _urllib3.is_never_sent(getattr(reason, "original_error", reason))

    def _is_transport(self, error: Exception) -> bool:
        return isinstance(error, _TRANSPORT)

    async def discard(self, outcome: Outcome) -> None:
        """Give the connection back: read a small rest, else close."""
        self.last = None
        if isinstance(outcome, Returned):
            response: Any = outcome.value
            if _http.is_small(response.headers):
                with contextlib.suppress(requests.exceptions.RequestException):
                    response.content  # noqa: B018 - reads what is left
            response.close()

    def _offer(self, response: Any, keeper: Keeper) -> None:
        if response._content is not False:  # noqa: SLF001 - reading it would wait
            headers = decoded(response.headers.items())
            keeper.keep(Answer(response.status_code, headers, response.content))

    def _response(self, answer: Answer) -> Any:
        raw = urllib3.HTTPResponse(
            body=io.BytesIO(answer.body),
            headers=urllib3.HTTPHeaderDict(answer.headers),
            status=answer.status,
            reason=http.client.responses.get(answer.status),
            preload_content=False,
        )
        return self._adapter.build_response(self._request, raw)

    async def _send_to(self, url: str) -> Any:
        request = self._request.copy()
        request.url = url
        request.headers.pop("Host", None)
        request.headers.update(self._key)
        _rewind(request)
        return self._adapter.send(request, **self._kwargs)

    async def _close(self, response: Any) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait, as a thread waits."""
        _http.sleep_sync(seconds)

    async def untouched(self) -> Outcome:
        """Send the request as if the agent were not there."""
        try:
            return Returned(self._wrapped(self._request, **self._kwargs))
        except Exception as error:
            return Raised(error)


def _is_replayable(request: Any) -> bool:
    return _http.is_data(request.body) or isinstance(
        getattr(request, "_body_position", None), int
    )


def _rewind(request: Any) -> None:
    # Without a position nothing was read: it failed before the body's turn.
    if isinstance(getattr(request, "_body_position", None), int):
        requests.utils.rewind_body(request)


def _retries(adapter: Any) -> bool:
    """Tell whether the app mounted an adapter that retries by itself."""
    retries = adapter.max_retries
    return not (retries.total == 0 and retries.read is False)


_POOL: Final = urllib3.connectionpool.HTTPConnectionPool
_CONNECTION: Final = _POOL.ConnectionCls
_READ: Final = (True, True)
_OK: Final = 200
_NAMES: Final = ("stream", "timeout", "verify", "cert", "proxies")
# Objects that cannot change, so that what was found out about them still holds.
_STEADY: Final = frozenset({int, float, type(None)})
_PLANS: Final = 64
# Seconds that reading a body may take before an app could see them in `elapsed`.
_NOTICEABLE: Final = 1e-4

_TRANSPORT: Final = (
    requests.exceptions.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.RetryError,
)
