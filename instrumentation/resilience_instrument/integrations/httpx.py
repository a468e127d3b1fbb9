"""httpx: the frame at `Client.send`, the attempts at `HTTPTransport`.

The transport sees every hop that goes over the network, and none that a test's
own transport answers. The module is a parameter of everything here, so that a
fork of httpx with the same shape can have the same room.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import sys
from typing import TYPE_CHECKING, Any, Final, final
from weakref import WeakKeyDictionary, WeakSet

import httpx

from resilience_instrument import errors
from resilience_instrument.call import Call
from resilience_instrument.config.model import Timeouts
from resilience_instrument.integrations import _http
from resilience_instrument.integrations._clamp import CLAMP, Clamp
from resilience_instrument.integrations._endpoint import Endpoints
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import (
    deliver,
    govern,
    govern_sync,
    suppressed,
)
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.deadline import CURRENT, nearer
from resilience_instrument.policies.timeout import Limits, call_deadline, limits
from resilience_instrument.verdict import Judgement, Phase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from resilience_instrument.errors import ResilienceError
    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.outcome import Outcome

_UPGRADED: Final = 101
_PIECE: Final = 65536


class CircuitBreakerOpenError(errors.CircuitBreakerOpenError, httpx.ConnectError):
    """The circuit is open; to an app of httpx, a host that is not there."""


class DeadlineExceededError(errors.DeadlineExceededError, httpx.ReadTimeout):
    """No time is left; to an app of httpx, a read timeout."""


_OWN: Final[dict[type[ResilienceError], Any]] = {
    errors.CircuitBreakerOpenError: CircuitBreakerOpenError,
    errors.DeadlineExceededError: DeadlineExceededError,
}


def targets(runtime: Runtime) -> list[Target]:
    """Return what is wrapped, for one `runtime`."""
    backend = importlib.import_module("httpcore._backends.sync")
    given = _Given()
    clients = (httpx.Client, httpx.AsyncClient)
    return [
        Target(backend.SyncStream, "read", _read_clamped),
        Target(backend.SyncStream, "write", _write_clamped),
        *(Target(client, "__init__", given.note_client) for client in clients),
        Target(httpx._client.BaseClient, "build_request", given.note_request),  # noqa: SLF001
        Target(httpx.HTTPTransport, "handle_request", _attempts(runtime)),
        Target(
            httpx.AsyncHTTPTransport, "handle_async_request", _async_attempts(runtime)
        ),
        Target(httpx.Client, "send", _frame(given)),
        Target(httpx.AsyncClient, "send", _async_frame(given)),
    ]


@final
class _Given:
    """Remembers where the app chose a timeout itself, be it "none".

    httpx fills its default of five seconds in before any call can be seen, so the
    choice is looked at where it is made.
    """

    __slots__ = ("_clients", "_requests")

    def __init__(self) -> None:
        self._clients: WeakSet[Any] = WeakSet()
        self._requests: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

    def note_client(
        self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wrap a client's `__init__`."""
        default = httpx._config.DEFAULT_TIMEOUT_CONFIG  # noqa: SLF001
        if kwargs.get("timeout", default) is not default:
            self._clients.add(instance)
        return wrapped(*args, **kwargs)

    def note_request(
        self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wrap `build_request`."""
        request = wrapped(*args, **kwargs)
        timeout = kwargs.get("timeout", httpx.USE_CLIENT_DEFAULT)
        chosen = timeout is not httpx.USE_CLIENT_DEFAULT
        inside = "timeout" in (kwargs.get("extensions") or {})
        self._requests[request] = chosen or inside or self._by_client(instance)
        return request

    def by_app(self, client: Any, request: Any) -> bool:
        """Tell whether the timeouts of `request` are the app's own choice."""
        noted = self._requests.get(request)
        if noted is not None:
            return noted
        return "timeout" in request.extensions or self._by_client(client)

    def _by_client(self, client: Any) -> bool:
        default = httpx._config.DEFAULT_TIMEOUT_CONFIG  # noqa: SLF001
        return client in self._clients or client.timeout != default


def _frame_of(
    given: _Given, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _http.Frame:
    stream = bool(kwargs.get("stream", False))
    frame = _http.Frame(_http.FRAME.get(), stream=stream)
    frame.explicit = given.by_app(client, args[0] if args else kwargs["request"])
    return frame


def _timed(frame: _http.Frame, response: Any) -> Any:
    if response is frame.response and not frame.stream:
        # Else it would include the attempts before, and the pauses.
        response.elapsed = dt.timedelta(seconds=frame.elapsed)
    return response


def _frame(given: _Given) -> Wrapper:
    def send(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        frame = _frame_of(given, instance, args, kwargs)
        token = _http.FRAME.set(frame)
        try:
            return _timed(frame, wrapped(*args, **kwargs))
        finally:
            _http.FRAME.reset(token)

    return send


def _async_frame(given: _Given) -> Wrapper:
    async def send(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        frame = _frame_of(given, instance, args, kwargs)
        token = _http.FRAME.set(frame)
        try:
            return _timed(frame, await wrapped(*args, **kwargs))
        finally:
            _http.FRAME.reset(token)

    return send


def _attempts(runtime: Runtime) -> Wrapper:
    endpoints = Endpoints()

    def handle_request(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if suppressed():
            return wrapped(*args, **kwargs)
        try:
            sending = _Sending(runtime, wrapped, instance, *args, **kwargs)
            call = sending.describe(endpoints)
        except Exception as fault:
            runtime.fault("describe", fault)
            return wrapped(*args, **kwargs)
        return govern_sync(runtime, call, sending.policies, sending)

    return handle_request


def _async_attempts(runtime: Runtime) -> Wrapper:
    endpoints = Endpoints()

    async def handle_async_request(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if suppressed():
            return await wrapped(*args, **kwargs)
        try:
            sending = _AsyncSending(runtime, wrapped, instance, *args, **kwargs)
            call = sending.describe(endpoints)
        except Exception as fault:
            runtime.fault("describe", fault)
            return await wrapped(*args, **kwargs)
        return deliver(await govern(runtime, call, sending.policies, sending))

    return handle_async_request


class _Facts:
    """What sync and async share: the facts of a request, and how to read it."""

    def __init__(
        self, runtime: Runtime, wrapped: Any, transport: Any, request: Any
    ) -> None:
        self._wrapped = wrapped
        self._transport = transport
        self._request = request
        self._clock = runtime.clock
        self._frame = _http.FRAME.get()
        self.last: Outcome | None = None
        url = request.url
        service = _http.service_name(url.scheme, url.host, url.port)
        self.policies = runtime.registry.policies(service, _proxy(transport))
        self._explicit = self._frame.explicit if self._frame else True
        phases = request.extensions.get("timeout", {})
        own = self.policies.settings.timeout
        self._given = _timeouts(phases) if self._explicit else own

    def describe(self, endpoints: Endpoints) -> Call:
        """State the facts of the call."""
        request, service = self._request, self.policies.service
        self.call = Call(
            library="httpx",
            service=service,
            endpoint=endpoints.label(service, request.url.path),
            operation=_http.method_label(request.method),
            repeatable=_http.is_repeatable(request.method, request.headers),
            replayable=_is_replayable(request.stream),
            app_retries="retry" in request.extensions,
            unbounded=self._is_unbounded(),
            deadline=self._deadline(),
            attributes=lambda: _http.span_attributes(request.method, str(request.url)),
        )
        return self.call

    def _is_unbounded(self) -> bool:
        return not self._explicit or self._given.read is None

    def _deadline(self) -> float | None:
        own = self.policies.settings.timeout
        end = call_deadline(self._given, own, self._clock.monotonic())
        frame = self._frame
        if frame is None:
            return nearer(end, CURRENT.get())
        frame.deadline = nearer(frame.deadline, nearer(end, CURRENT.get()))
        return frame.deadline

    def _begin(self, deadline: float | None) -> tuple[_http.Carried, dict[str, Any]]:
        """Give the request this attempt's timeouts and headers."""
        now = limits(self._given, deadline, self._clock.monotonic())
        self._limits: Limits = now
        self._phases: dict[str, float | None] = {
            "connect": now.connect,
            "read": now.read,
            "write": now.write,
            "pool": now.pool,
        }
        before = self._request.extensions
        self._request.extensions = {**before, "timeout": self._phases}
        return _http.Carried(self._request.headers, self.call.carrier), before

    def _streams(self, response: Any) -> bool:
        """Tell whether the app reads this body itself; no timeout of ours cuts it."""
        if self._frame is None or self._frame.stream or _is_handed_on(response):
            if not self._explicit:
                self._phases["read"] = None
            return True
        return False

    def _finish(self, response: Any) -> Outcome:
        """Take the response as what the attempt came to, and note how long it took."""
        if self._frame is not None:
            self._frame.response = response
            self._frame.elapsed = self._clock.monotonic() - self._limits.start
        return Returned(response)

    def judge(self, outcome: Outcome) -> Judgement:
        """Read what the last attempt came to."""
        if not isinstance(outcome, Raised):
            response: Any = outcome.value
            return _http.judge_status(response.status_code, response.headers)
        error = outcome.error
        sent = not isinstance(error, _NOT_SENT)
        for kind, phase in _PHASES:
            if isinstance(error, kind):
                waited = self._clock.monotonic() - self._limits.start
                phase = Phase.TOTAL if self._is_over() else phase  # noqa: PLW2901
                own = self.policies.settings.timeout
                return _http.judge_timeout(error, phase, waited, own, sent=sent)
        if isinstance(error, _TRANSPORT):
            return _http.judge_transport(error, sent=sent)
        return _http.judge_ours(error)

    def _is_over(self) -> bool:
        end = self._limits.end
        return end is not None and self._clock.monotonic() >= end

    def reject(self, error: ResilienceError) -> Exception:
        """Return `error` as one of httpx, with the request that it refuses."""
        own: Exception = _OWN[type(error)](
            str(error),
            service=error.service,
            retry_after=error.retry_after,
            last_error=error.last_error,
        )
        own.request = self._request  # type: ignore[attr-defined]
        return own


@final
class _Sending(_Facts):
    """One request on its way through a transport: the `Io` of its call."""

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002 - the body stands where it stood
        """Send the request once and, unless the app streams, read the answer."""
        carried, before = self._begin(deadline)
        clamp = Clamp(deadline, self._clock.monotonic, sending=False)
        token = CLAMP.set(clamp)
        try:
            response = self._wrapped(self._request)
            if not self._streams(response):
                response.stream = _Replayed(_read(response.stream))
            self.last = self._finish(response)
        except Exception as error:
            self.last = Raised(error)
        finally:
            CLAMP.reset(token)
            self._request.extensions = before
            carried.restore()
        return self.last

    async def discard(self, outcome: Outcome) -> None:
        """Give the connection back."""
        self.last = None
        if isinstance(outcome, Returned):
            response: Any = outcome.value
            if _http.is_small(response.headers):
                with contextlib.suppress(httpx.HTTPError):
                    _read(response.stream)
            response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait, as a thread waits."""
        _http.sleep_sync(seconds)

    async def untouched(self) -> Outcome:
        """Send the request as if the agent were not there."""
        try:
            return Returned(self._wrapped(self._request))
        except Exception as error:
            return Raised(error)


@final
class _AsyncSending(_Facts):
    """The same for an async transport, on asyncio and on trio."""

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002 - the body stands where it stood
        """Send the request once and, unless the app streams, read the answer."""
        import anyio  # noqa: PLC0415 - httpx has loaded it by now

        carried, before = self._begin(deadline)
        left = self._limits.remaining(self._limits.start)
        try:
            with anyio.move_on_after(left) as scope:
                self.last = await self._send()
            if scope.cancelled_caught:
                message = "the time for the whole call is over"
                self.last = Raised(httpx.ReadTimeout(message, request=self._request))
        finally:
            self._request.extensions = before
            carried.restore()
        if self.last is None:
            message = "an attempt ended without an outcome"
            raise RuntimeError(message)
        return self.last

    async def _send(self) -> Outcome:
        try:
            response = await self._wrapped(self._request)
            if not self._streams(response):
                response.stream = _Replayed(await _read_async(response.stream))
        except Exception as error:
            return Raised(error)
        return self._finish(response)

    async def discard(self, outcome: Outcome) -> None:
        """Give the connection back."""
        self.last = None
        if isinstance(outcome, Returned):
            response: Any = outcome.value
            if _http.is_small(response.headers):
                with contextlib.suppress(httpx.HTTPError):
                    await _read_async(response.stream)
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """Wait, as a task waits."""
        import anyio  # noqa: PLC0415 - httpx has loaded it by now

        await anyio.sleep(seconds)

    async def untouched(self) -> Outcome:
        """Send the request as if the agent were not there."""
        try:
            return Returned(await self._wrapped(self._request))
        except Exception as error:
            return Raised(error)


@final
class _Replayed(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that was read inside the attempt, for httpx to read once more."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


def _read(stream: Any) -> list[bytes]:
    try:
        return list(stream)
    finally:
        stream.close()


async def _read_async(stream: Any) -> list[bytes]:
    try:
        return [piece async for piece in stream]
    finally:
        await stream.aclose()


def _is_handed_on(response: Any) -> bool:
    """Tell whether httpx reads this body where it cannot fail: an upgrade, a hop."""
    return response.status_code == _UPGRADED or (
        response.status_code in {301, 302, 303, 307, 308}
        and "Location" in response.headers
    )


def _timeouts(phases: dict[str, Any]) -> Timeouts:
    return Timeouts(
        phases.get("connect"),
        phases.get("read"),
        phases.get("write"),
        phases.get("pool"),
        None,
    )


def _proxy(transport: Any) -> str | None:
    url = getattr(getattr(transport, "_pool", None), "_proxy_url", None)
    return None if url is None else str(url)


def _is_replayable(stream: Any) -> bool:
    if isinstance(stream, httpx.ByteStream):
        return True
    inner = getattr(stream, "_stream", None)
    # An iterable that is no generator and no file starts anew each time.
    return inner is not None and not (
        getattr(stream, "_is_generator", True) or hasattr(inner, "read")
    )


def _read_clamped(
    wrapped: Any,
    instance: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    clamp = CLAMP.get()
    if clamp is None:
        return wrapped(*args, **kwargs)
    size, timeout = _size_and_timeout(*args, **kwargs)
    try:
        wait = clamp.shorten(timeout)
    except TimeoutError as over:
        raise _core().ReadTimeout(str(over)) from over
    return wrapped(size, timeout=wait)


def _write_clamped(
    wrapped: Any,
    instance: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    clamp = CLAMP.get()
    if clamp is None:
        return wrapped(*args, **kwargs)
    data, timeout = _size_and_timeout(*args, **kwargs)
    view = memoryview(data)
    # In pieces: the end of the call is looked at before each.
    for start in range(0, len(view), _PIECE):
        try:
            wait = clamp.shorten(timeout)
        except TimeoutError as over:
            raise _core().WriteTimeout(str(over)) from over
        wrapped(bytes(view[start : start + _PIECE]), timeout=wait)
    return None


def _size_and_timeout(first: Any, timeout: Any = None) -> tuple[Any, Any]:
    return first, timeout


def _core() -> Any:
    return sys.modules["httpcore"]


_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
)
_TRANSPORT: Final = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError)
_PHASES: Final = (
    (httpx.ConnectTimeout, Phase.CONNECT),
    (httpx.ReadTimeout, Phase.READ),
    (httpx.WriteTimeout, Phase.WRITE),
    (httpx.PoolTimeout, Phase.POOL),
)
