"""httpx and its forks: the frame at `Client.send`, the attempts at `HTTPTransport`.

The transport sees every hop that goes over the network, and none that a test's
own transport answers. The module is a parameter of everything here: a fork of the
same shape has the same room.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import importlib
import types
from abc import abstractmethod
from sys import modules
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from resilience_instrument.config.match import Destination
from resilience_instrument.config.model import Timeouts
from resilience_instrument.fastpath import NO_WAY, Begun
from resilience_instrument.integrations import _http
from resilience_instrument.integrations._clamp import CLAMP, Clamp
from resilience_instrument.integrations._fallback import Answer
from resilience_instrument.integrations._frame import FRAME, Frame
from resilience_instrument.integrations._http import FINE, IDEMPOTENT
from resilience_instrument.integrations._patch import (
    Replacement,
    Target,
    parameters,
)
from resilience_instrument.integrations._racing import Racing
from resilience_instrument.integrations._room import (
    deliver,
    deliver_as_made,
    described,
    govern,
    resume,
    resume_sync,
)
from resilience_instrument.integrations._sending import (
    Sending,
    Site,
    facts,
    tell_sync,
)
from resilience_instrument.integrations._stand_in import Keeper, StandIns
from resilience_instrument.integrations._traced import traced
from resilience_instrument.integrations._url import service_name
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.deadline import CURRENT, MIN_USEFUL
from resilience_instrument.policies.timeout import limits
from resilience_instrument.verdict import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from resilience_instrument.integrations._patch import AnyTarget
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.integrations._sending import OwnErrors
    from resilience_instrument.outcome import Outcome

    Fault = Callable[[str, Exception], None]

_UPGRADED: Final = 101
_CHOSEN: Final = "_resilience_chosen"
"""Says on requests and clients whether the app chose their timeouts."""
_PLANS: Final = 64
_READ: Final = (True, True)
_NO_END: Any = contextlib.nullcontext()
_OVER: Final = "the time for the whole call is over"


@final
class Kit:
    """What is to be known of a library of this shape.

    Args:
        library: The name that an app imports.
        own_errors: Our errors as classes of the library.
        proxied_errors: The same for a call through a proxy, where they differ.
    """

    def __init__(
        self, library: str, own_errors: OwnErrors, proxied_errors: OwnErrors
    ) -> None:
        module = importlib.import_module(library)
        self.library = library
        self.module = module
        self.pool: Any = None
        """The class of a pool without a proxy, once there was a call through one."""
        self.pool_handle: Any = None
        self.async_pool: Any = None
        """The same for what is awaited."""
        self.async_pool_handle: Any = None
        self.own_errors = own_errors
        self.proxied_errors = proxied_errors
        self.never_sent: tuple[Any, ...] = (
            module.ConnectError,
            module.ConnectTimeout,
            module.PoolTimeout,
            module.ProxyError,
        )
        self.unconnected: tuple[Any, ...] = (
            module.ConnectError,
            module.ConnectTimeout,
        )
        self.transport: tuple[Any, ...] = (
            module.NetworkError,
            module.RemoteProtocolError,
            module.ProxyError,
        )
        self.phases: tuple[tuple[Any, Phase], ...] = (
            (module.ConnectTimeout, Phase.CONNECT),
            (module.ReadTimeout, Phase.READ),
            (module.WriteTimeout, Phase.WRITE),
            (module.PoolTimeout, Phase.POOL),
        )


def targets(kit: Kit, runtime: Runtime) -> list[AnyTarget]:
    """Return what is wrapped, for one `runtime`."""
    module: Any = kit.module
    client, async_client = module.Client, module.AsyncClient
    given = _Given(module, runtime.fault)
    site = Site(runtime, kit.library, kit.own_errors, kit.proxied_errors)
    return [
        Target(client, "__init__", given.note_client),
        Target(async_client, "__init__", given.note_client),
        Replacement(module._client.BaseClient, "build_request", given.note_request),  # noqa: SLF001
        Replacement(
            module.HTTPTransport,
            "handle_request",
            functools.partial(_sender, kit, site),
        ),
        Replacement(
            module.AsyncHTTPTransport,
            "handle_async_request",
            functools.partial(_async_sender, kit, site),
        ),
        Replacement(client, "send", functools.partial(_frame, given)),
        Replacement(async_client, "send", functools.partial(_async_frame, given)),
    ]


@final
class _Given:
    """Remembers where the app chose a timeout itself, be it "none".

    httpx fills its default of five seconds in before any call can be seen, so the
    choice is looked at where it is made.
    """

    __slots__ = ("_default", "_fault", "unset")

    def __init__(self, module: Any, fault: Fault) -> None:
        self._fault = fault
        self._default = module._config.DEFAULT_TIMEOUT_CONFIG  # noqa: SLF001
        self.unset = module.USE_CLIENT_DEFAULT

    def note_client(
        self, wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Wrap a client's `__init__`."""
        result = wrapped(*args, **kwargs)
        if kwargs.get("timeout", self._default) is not self._default:
            try:
                setattr(instance, _CHOSEN, (instance.timeout, True))
            except Exception as fault:
                self._fault("describe", fault)
        return result

    def note_request(self, original: Any) -> Any:
        """Replace `build_request`."""
        unset, note = self.unset, self._note

        @functools.wraps(original)
        def build_request(self: Any, *args: Any, **kwargs: Any) -> Any:
            request = original(self, *args, **kwargs)
            timeout = kwargs.get("timeout", unset)
            note(self, request, timeout, kwargs.get("extensions"))
            return request

        # The same with the parameters by name, which saves packing them into a
        # dictionary and out of it again; for versions that have just these.
        @functools.wraps(original)
        def build_request_by_name(  # noqa: PLR0913
            self: Any,
            method: Any,
            url: Any,
            *,
            content: Any = None,
            data: Any = None,
            files: Any = None,
            json: Any = None,
            params: Any = None,
            headers: Any = None,
            cookies: Any = None,
            timeout: Any = unset,
            extensions: Any = None,
        ) -> Any:
            request = original(
                self,
                method,
                url,
                content=content,
                data=data,
                files=files,
                json=json,
                params=params,
                headers=headers,
                cookies=cookies,
                timeout=timeout,
                extensions=extensions,
            )
            if timeout is unset and extensions is None:
                try:
                    known, chosen = self._resilience_chosen
                    if known is self._timeout:
                        request._resilience_chosen = chosen  # noqa: SLF001 - as `_note`
                        return request
                except Exception:  # noqa: S110 - it meets it again, and tells
                    pass
            note(self, request, timeout, extensions)
            return request

        by_name: Any = build_request_by_name
        alike = parameters(original) == parameters(by_name)
        return build_request_by_name if alike else build_request

    def _note(self, client: Any, request: Any, timeout: Any, extensions: Any) -> None:
        """Keep with a request whether the app chose its timeouts."""
        try:
            # On the request itself: anything beside it costs as much as a call.
            request._resilience_chosen = (  # noqa: SLF001
                timeout is not self.unset
                or (extensions is not None and "timeout" in extensions)
                or self._by_client(client)
            )
        except Exception as fault:
            self._fault("describe", fault)

    def is_chosen(self, client: Any, request: Any) -> bool:
        """Tell whether the app chose the timeouts of a request that carries no note."""
        try:
            return "timeout" in request.extensions or self._by_client(client)
        except Exception as fault:
            self._fault("describe", fault)
            # As if it had: nothing of the app's is replaced by ours then.
            return True

    def _by_client(self, client: Any) -> bool:
        # The app may give its client another one at any time.
        timeout = client._timeout  # noqa: SLF001 - what its property returns
        noted: tuple[Any, bool] | None = getattr(client, _CHOSEN, None)
        if noted is None or noted[0] is not timeout:
            noted = (timeout, timeout != self._default)
            setattr(client, _CHOSEN, noted)
        return noted[1]


def _timed(frame: Frame, response: Any) -> Any:
    if not frame.stream:
        # Else it would include the attempts before, and the pauses.
        response.elapsed = dt.timedelta(seconds=frame.elapsed)
    return response


def _frame(given: _Given, original: Any) -> Any:
    unset, is_chosen = given.unset, given.is_chosen
    current, enter, leave = FRAME.get, FRAME.set, FRAME.reset

    @functools.wraps(original)
    def send(
        self: Any,
        request: Any,
        *,
        stream: bool = False,
        auth: Any = unset,
        follow_redirects: Any = unset,
    ) -> Any:
        # What `Frame.within` does: calling it would cost as much as all of this.
        frame = Frame()
        frame.stream = stream
        parent = current()
        if parent is not None:
            frame.deadline = parent.deadline
        try:
            frame.explicit = request._resilience_chosen  # noqa: SLF001 - as `_note`
        except AttributeError:
            frame.explicit = is_chosen(self, request)
        token = enter(frame)
        try:
            response = original(
                self,
                request,
                stream=stream,
                auth=auth,
                follow_redirects=follow_redirects,
            )
        finally:
            leave(token)
        return _timed(frame, response) if response is frame.response else response

    return send


def _async_frame(given: _Given, original: Any) -> Any:
    @functools.wraps(original)
    async def send(
        self: Any, request: Any, *, stream: bool = False, **kwargs: Any
    ) -> Any:
        frame = Frame.within(FRAME.get(), stream=stream)
        chosen = getattr(request, _CHOSEN, None)
        frame.explicit = given.is_chosen(self, request) if chosen is None else chosen
        token = FRAME.set(frame)
        try:
            response = await original(self, request, stream=stream, **kwargs)
            return _timed(frame, response) if response is frame.response else response
        finally:
            FRAME.reset(token)
            frame.forget()

    return send


def _sender(kit: Kit, site: Site, original: Any) -> Any:  # noqa: C901, PLR0915 - see below
    runtime = site.runtime
    monotonic, is_upload = runtime.clock.monotonic, runtime.registry.is_upload
    in_memory, reads = kit.module.ByteStream, site.lanes(_READ)

    def clamp_of(frame: Frame) -> Clamp:
        return Clamp(frame.deadline, monotonic, sending=False)

    @functools.wraps(original)
    def handle_request(self: Any, request: Any) -> Any:  # noqa: C901, PLR0912, PLR0915
        # One function on purpose: calling another for a part is a tenth of its cost.
        generation = NO_WAY
        frame: Any
        lane: Any
        made: Outcome | BaseException | None = None
        try:
            frame = FRAME.get()
            if (
                frame is not None
                and frame.deadline is None
                and not frame.stream
                and CURRENT.get() is None
                and type(self._pool) is kit.pool  # else it goes through a proxy
                and kit.pool.handle_request is kit.pool_handle
                and (request.method == "GET" or not is_upload(request.headers))
            ):
                before = request.extensions
                given, unbounded = None, True
                if frame.explicit:
                    given = tuple(before["timeout"].items())
                    unbounded = before["timeout"].get("read") is None
                url = request.url._uri_reference  # noqa: SLF001 - anything public is made anew
                key = (url.host, url.path, url.port, url.scheme)
                if unbounded and request.method in IDEMPOTENT:
                    lane = reads.get(key)
                else:
                    safe = _http.is_repeatable(request.method, request.headers)
                    kind = (unbounded, safe)
                    lane = site.lanes(kind).get(key)
                if lane is None:
                    lane = _lane(site, key, request, unbounded=unbounded)
                span, phases = lane.plans[given]
                if "opentelemetry.context" in modules:
                    what = (url, request.method)
                    lane = traced(runtime.observer, lane, facts, what, request.headers)
                started = monotonic()
                generation = lane.enter(started)
        except Exception:  # noqa: S110 - the long way meets it again, and tells
            pass
        if generation == NO_WAY:
            return _told(kit, site, original, self, request)
        if span is not None:
            frame.deadline = started + span
        frame.clamp = clamp_of
        if phases is not None:
            request.extensions = {**before, "timeout": dict(phases)}
        try:
            response = original(self, request)
            now = monotonic()
            status = response.status_code
            stream = response.stream
            if type(stream) is not in_memory and not _is_handed_on(response):
                pieces = _read(stream)
                response.stream = in_memory(b"".join(pieces))
                now = monotonic()
        except Exception as error:
            made = Raised(error)
        except BaseException as error:
            made = error
        frame.clamp = None
        request.extensions = before
        if made is None:
            if status in FINE:
                try:
                    lane.succeed(generation, started, now, status)
                except Exception as fault:
                    runtime.fault("engine", fault)
                return response
            made = Returned(response)
            frame.response, frame.elapsed = response, now - started
        begun = Begun(generation, started, made)
        # The error's traceback holds this frame; the frame must not hold the error.
        del made
        return _resumed(kit, site, lane, original, self, request, begun)

    return handle_request


def _lane(site: Site, key: Any, request: Any, *, unbounded: bool) -> Any:
    """Return the lane of a URL that is not known by `key` yet."""
    url = request.url
    kind = (unbounded, _http.is_repeatable(request.method, request.headers))
    service = service_name(url.scheme, url.host, url.port)
    to = Destination(url.scheme, url.host, url.port, url.path)
    return site.known(key, service, to, kind)


def _told(kit: Kit, site: Site, original: Any, transport: Any, request: Any) -> Any:
    """Send a request the long way: the engine tells all of it."""
    wrapped = types.MethodType(original, transport)
    sending = described(site.runtime, _governed, kit, site, wrapped, transport, request)
    if sending is None:
        return wrapped(request)
    return tell_sync(site.runtime, sending)


def _resumed(  # noqa: PLR0913, PLR0917 - all that was at hand
    kit: Kit,
    site: Site,
    lane: Any,
    original: Any,
    transport: Any,
    request: Any,
    begun: Begun,
) -> Any:
    """Go on the long way with a request that was sent."""
    lane = lane.withdraw(begun)
    wrapped = types.MethodType(original, transport)
    sending = described(site.runtime, _governed, kit, site, wrapped, transport, request)
    if sending is None:
        return deliver_as_made(begun)
    sending.take_over(begun)
    return resume_sync(site.runtime, lane, sending.call, sending, begun)


class _Begun(NamedTuple):
    """A call on the short way that is awaited."""

    lane: Any
    generation: int
    started: float
    span: float | None
    """Seconds that all of it may take."""
    phases: Mapping[str, float | None] | None
    """The timeouts to hand on, None for those that the request has."""


def _async_sender(kit: Kit, site: Site, original: Any) -> Any:
    runtime = site.runtime

    @functools.wraps(original)
    async def handle_async_request(self: Any, request: Any) -> Any:
        entered = None
        with contextlib.suppress(Exception):  # the long way meets it again, and tells
            entered = _enter(kit, site, self, request)
        if entered is None:
            return await _told_async(kit, site, original, self, request)
        lane, generation, started, span, phases = entered
        before = request.extensions
        if phases is not None:
            request.extensions = {**before, "timeout": dict(phases)}
        made: Outcome | BaseException
        try:
            made = await _received(kit, original, self, request, span)
        except BaseException as error:
            made = Raised(error) if isinstance(error, Exception) else error
        request.extensions = before
        if isinstance(made, Returned):
            response: Any = made.value
            now, status = runtime.clock.monotonic(), response.status_code
            if status in FINE:
                try:
                    lane.succeed(generation, started, now, status)
                except Exception as fault:
                    runtime.fault("engine", fault)
                return response
            frame: Any = FRAME.get()
            frame.response, frame.elapsed = response, now - started
        begun = Begun(generation, started, made)
        # The error's traceback holds this frame; the frame must not hold the error.
        del made
        return await _resumed_async(kit, site, lane, original, self, request, begun)

    return handle_async_request


async def _received(
    kit: Kit, original: Any, transport: Any, request: Any, span: float | None
) -> Outcome:
    """Send a request and read the answer, all within `span` seconds."""
    in_memory = kit.module.ByteStream
    with _until(span):
        response = await original(transport, request)
        stream = response.stream
        if type(stream) is not in_memory and not _is_handed_on(response):
            pieces = await _read_async(stream, _nothing)
            response.stream = in_memory(b"".join(pieces))
        return Returned(response)
    # It was the end of the call that came first.
    return Raised(kit.module.ReadTimeout(_OVER, request=request))


def _enter(kit: Kit, site: Site, transport: Any, request: Any) -> _Begun | None:
    """Let a call begin on the short way, None if it has to go the long one."""
    frame, pool = FRAME.get(), transport._pool  # noqa: SLF001 - as httpx has it
    if (
        frame is None
        or frame.deadline is not None
        or frame.stream
        or CURRENT.get() is not None
        or type(pool) is not kit.async_pool  # else it goes through a proxy
        or kit.async_pool.handle_async_request is not kit.async_pool_handle
        # There a read timeout of ours is no matter of the connection.
        or (getattr(pool, "_http2", False) and not frame.explicit)
        or (
            request.method != "GET" and site.runtime.registry.is_upload(request.headers)
        )
    ):
        return None
    given, unbounded = None, True
    if frame.explicit:
        timeouts = request.extensions["timeout"]
        given, unbounded = tuple(timeouts.items()), timeouts.get("read") is None
    url = request.url._uri_reference  # noqa: SLF001 - anything public is made anew
    key = (url.host, url.path, url.port, url.scheme)
    kind = (unbounded, _http.is_repeatable(request.method, request.headers))
    lane = site.lanes(kind).get(key)
    if lane is None:
        lane = _lane(site, key, request, unbounded=unbounded)
    span, phases = lane.plans[given]
    if "opentelemetry.context" in modules:
        what = (url, request.method)
        lane = traced(site.runtime.observer, lane, facts, what, request.headers)
    started = site.runtime.clock.monotonic()
    generation = lane.enter(started)
    if generation == NO_WAY:
        return None
    if span is not None:
        frame.deadline = started + span
    return _Begun(lane, generation, started, span, phases)


def _until(span: float | None) -> AbstractContextManager[object, bool]:
    """Return what ends whatever is awaited in it after `span` seconds."""
    if span is None:
        return _NO_END  # type: ignore[no-any-return]
    import anyio  # noqa: PLC0415 - loaded with the first call, not with httpx

    end: AbstractContextManager[object, bool] = anyio.move_on_after(span)
    return end


async def _told_async(
    kit: Kit, site: Site, original: Any, transport: Any, request: Any
) -> Any:
    """Send a request the long way: the engine tells all of it."""
    wrapped, runtime = types.MethodType(original, transport), site.runtime
    sending = described(
        runtime, _async_governed, kit, site, wrapped, transport, request
    )
    if sending is None:
        return await wrapped(request)
    outcome = await govern(runtime, sending.call, sending.policies, sending)
    if not isinstance(outcome, Raised):
        try:
            sending.plan()
        except Exception as fault:
            runtime.fault("describe", fault)
    try:
        return deliver(outcome)
    finally:
        del outcome


async def _resumed_async(  # noqa: PLR0913, PLR0917 - all that was at hand
    kit: Kit,
    site: Site,
    lane: Any,
    original: Any,
    transport: Any,
    request: Any,
    begun: Begun,
) -> Any:
    """Go on the long way with a request that was sent."""
    lane = lane.withdraw(begun)
    wrapped = types.MethodType(original, transport)
    sending = described(
        site.runtime, _async_governed, kit, site, wrapped, transport, request
    )
    if sending is None:
        return deliver_as_made(begun)
    sending.take_over(begun)
    return deliver(await resume(site.runtime, lane, sending.call, sending, begun))


def _governed(
    kit: Kit, site: Site, wrapped: Any, transport: Any, request: Any
) -> _SyncSending | None:
    pool = getattr(transport, "_pool", None)
    if pool is not None and _http.is_played(type(pool).handle_request):
        return None
    return _SyncSending(kit, site, wrapped, transport, request)


def _async_governed(
    kit: Kit, site: Site, wrapped: Any, transport: Any, request: Any
) -> _AsyncSending | None:
    pool = getattr(transport, "_pool", None)
    if pool is not None and _http.is_played(type(pool).handle_async_request):
        return None
    return _AsyncSending(kit, site, wrapped, transport, request)


class _Sending(Sending, StandIns):
    """What sync and async share: the facts of a request, and how to read it."""

    __slots__ = (
        "_explicit",
        "_given",
        "_kit",
        "_phases",
        "_pool",
        "_transport",
        "_wrapped",
    )

    def __init__(
        self, kit: Kit, site: Site, wrapped: Any, transport: Any, request: Any
    ) -> None:
        super().__init__(site, request)
        self._kit = kit
        self._wrapped = wrapped
        self._transport = transport
        url = self._url = request.url
        service = service_name(url.scheme, url.host, url.port)
        self._pool = getattr(transport, "_pool", None)
        to = Destination(url.scheme, url.host, url.port, url.path)
        own = self._find_policies(service, _proxy(self._pool), to, request.headers)
        self._explicit = self._frame.explicit if self._frame else True
        phases = request.extensions.get("timeout", {})
        self._given = _timeouts(phases) if self._explicit else own
        self._describe(
            method=request.method,
            path=url.path,
            headers=request.headers,
            replayable=_is_replayable(request.stream, kit.module.ByteStream),
            app_retries="retry" in request.extensions,
            unbounded=not self._explicit or self._given.read is None,
            ours=not self._explicit,
            streams=self._frame is None or self._frame.stream,
            end=_http.call_end(self._given, own, self._clock.monotonic()),
        )
        if self._observes:
            self._explicit, self._given = True, _timeouts(phases)

    def plan(self) -> None:
        """Note how calls like this one are limited, so that they may be shorter."""
        lane = self._site.remember(self)
        if lane is None or len(lane.plans) >= _PLANS:
            return
        self._note_pool(type(self._pool))
        phases = self._request.extensions.get("timeout", {})
        span = _http.call_end(self._given, self.policies.settings.timeout, 0.0)
        if span is not None and span < MIN_USEFUL:
            return
        now = limits(self._given, span, 0.0)
        ours = {
            "connect": now.connect,
            "read": now.read,
            "write": now.write,
            "pool": now.pool,
        }
        given = tuple(phases.items()) if self._explicit else None
        lane.note(given, (span, None if ours == phases else ours))

    @abstractmethod
    def _note_pool(self, kind: Any) -> None:
        """Remember the class of a pool without a proxy."""

    def take_over(self, begun: Begun) -> None:
        """Stand where the attempt has been made already."""
        self._limits = limits(self._given, self.call.deadline, begun.started)
        if isinstance(begun.made, (Returned, Raised)):
            self.last = begun.made

    def _begin(self, deadline: float | None) -> tuple[_http.Carried, dict[str, Any]]:
        """Give the request this attempt's timeouts and headers."""
        now = limits(self._given, deadline, self._clock.monotonic())
        self._limits = now
        self._phases: dict[str, float | None] = {
            "connect": now.connect,
            "read": now.read,
            "write": now.write,
            "pool": now.pool,
        }
        before = self._request.extensions
        self._request.extensions = {**before, "timeout": self._phases}
        return self._carried(), before

    def _streams(self, response: Any) -> bool:
        """Tell whether the app reads this body itself; no timeout of ours cuts it."""
        if self._frame is None or self._frame.stream or _is_handed_on(response):
            if not self._explicit:
                self._phases["read"] = None
            return True
        return False

    def _finish(self, response: Any, pieces: list[bytes] | None) -> Outcome:
        """Take the response as what the attempt came to, and note how long it took.

        Args:
            response: What the library returned.
            pieces: Its body where it was read, for httpx to read once more.
        """
        if pieces is not None:
            response.stream = self._kit.module.ByteStream(b"".join(pieces))
        if self._frame is not None:
            self._frame.response = response
            self._frame.elapsed = self._clock.monotonic() - self._limits.start
        return Returned(response)

    def _offer(self, response: Any, keeper: Keeper) -> None:
        if isinstance(response.stream, self._kit.module.ByteStream):
            headers = tuple(response.headers.multi_items())
            body = b"".join(response.stream)
            keeper.keep(Answer(response.status_code, headers, body))

    def _response(self, answer: Answer) -> Any:
        module = self._kit.module
        return module.Response(
            answer.status,
            headers=list(answer.headers),
            stream=module.ByteStream(answer.body),
        )

    def _request_to(self, url: str) -> Any:
        """Return the request as one to another URL."""
        headers = self._request.headers.copy()
        headers["Host"] = self._kit.module.URL(url).netloc.decode("ascii")
        headers.update(self._key)
        return self._request_like(url, headers)

    def _request_like(self, url: Any, headers: Any) -> Any:
        before = self._request
        return self._kit.module.Request(
            before.method,
            url,
            headers=headers,
            stream=before.stream,
            extensions=before.extensions,
        )

    def _phase(self, error: Exception) -> Phase | None:
        for kind, phase in self._kit.phases:
            if isinstance(error, kind):
                return phase
        return None

    def _is_never_sent(self, error: Exception) -> bool:
        return isinstance(error, self._kit.never_sent)

    def _is_transport(self, error: Exception) -> bool:
        return isinstance(error, self._kit.transport)

    def _is_retried_below(self, outcome: Outcome) -> bool:
        # A transport with retries repeats connecting, and nothing else.
        retries = getattr(self._pool, "_retries", 0)
        return bool(
            retries
            and isinstance(outcome, Raised)
            and isinstance(outcome.error, self._kit.unconnected)
        )


@final
class _SyncSending(_Sending):
    """One request on its way through a transport: the `Io` of its call."""

    __slots__ = ()

    def _note_pool(self, kind: Any) -> None:
        kit = self._kit
        kit.pool, kit.pool_handle = kind, getattr(kind, "handle_request", None)

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002 - the body stands where it stood
        """Send the request once and, unless the app streams, read the answer."""
        carried, before = self._begin(deadline)
        clamp = Clamp(deadline, self._clock.monotonic, sending=False)
        token = CLAMP.set(clamp)
        try:
            response = self._wrapped(self._request)
            pieces = None if self._streams(response) else _read(response.stream)
            self.last = self._finish(response, pieces)
        except Exception as error:
            self.last = Raised(error)
        finally:
            CLAMP.reset(token)
            self._request.extensions = before
            carried.restore()
        return self.last

    async def _send_to(self, url: str) -> Any:
        return self._transport.handle_request(self._request_to(url))

    async def _close(self, response: Any) -> None:
        response.close()

    async def discard(self, outcome: Outcome) -> None:
        """Give the connection back."""
        self.last = None
        if isinstance(outcome, Returned):
            response: Any = outcome.value
            if _http.is_small(response.headers):
                with contextlib.suppress(self._kit.module.HTTPError):
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
class _AsyncSending(_Sending, Racing):
    """The same for an async transport, on asyncio and on trio."""

    __slots__ = ()

    def _note_pool(self, kind: Any) -> None:
        handle = getattr(kind, "handle_async_request", None)
        self._kit.async_pool, self._kit.async_pool_handle = kind, handle

    def _same_request(self) -> object:
        return self._request_like(self._url, self._request.headers.copy())

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002 - the body stands where it stood
        """Send the request once and, unless the app streams, read the answer."""
        import anyio  # noqa: PLC0415 - loaded with the first call, not with httpx

        carried, before = self._begin(deadline)
        left = self._limits.remaining(self._limits.start)
        # The outcome if the end of the call comes first. It gets no name: the frames
        # of what httpcore raised hold this one.
        self.last = Raised(self._kit.module.ReadTimeout(_OVER, request=self._request))
        try:
            with anyio.move_on_after(left) as scope:
                self.last = await self._send(self._turn(scope))
        except BaseException:
            self.last = None
            raise
        finally:
            self._request.extensions = before
            carried.restore()
        return self.last

    def _turn(self, scope: Any) -> Callable[[], None]:
        """Return what is called when a piece arrived, and call it for the first.

        On HTTP/2 a read timeout belongs to the connection: it would end whatever
        else is under way there. So ours is kept by the scope of this call alone.
        """
        import anyio  # noqa: PLC0415 - likewise

        wait = self._phases["read"]
        if self._explicit or wait is None or not getattr(self._pool, "_http2", False):
            return _nothing
        self._phases["read"] = None
        end = scope.deadline

        def turn(more: float = 0.0) -> None:
            scope.deadline = min(end, anyio.current_time() + wait + more)

        # Until the headers a place in the pool and a connection are waited for too.
        turn((self._phases["pool"] or 0.0) + (self._phases["connect"] or 0.0))
        return turn

    async def _send(self, turn: Callable[[], None]) -> Outcome:
        try:
            response = await self._wrapped(self._request)
            turn()
            pieces = None
            if not self._streams(response):
                pieces = await _read_async(response.stream, turn)
        except Exception as error:
            return Raised(error)
        return self._finish(response, pieces)

    _waits = True

    async def _send_to(self, url: str) -> Any:
        return await self._transport.handle_async_request(self._request_to(url))

    async def _close(self, response: Any) -> None:
        await response.aclose()

    async def discard(self, outcome: Outcome) -> None:
        """Give the connection back."""
        self.last = None
        if isinstance(outcome, Returned):
            response: Any = outcome.value
            if _http.is_small(response.headers):
                with contextlib.suppress(self._kit.module.HTTPError):
                    await _read_async(response.stream, _nothing)
            await response.aclose()

    async def sleep(self, seconds: float) -> None:
        """Wait, as a task waits."""
        import anyio  # noqa: PLC0415 - likewise

        await anyio.sleep(seconds)

    async def untouched(self) -> Outcome:
        """Send the request as if the agent were not there."""
        try:
            return Returned(await self._wrapped(self._request))
        except Exception as error:
            return Raised(error)


def _read(stream: Any) -> list[bytes]:
    try:
        return list(stream)
    finally:
        stream.close()


async def _read_async(stream: Any, turn: Callable[[], None]) -> list[bytes]:
    pieces = []
    try:
        async for piece in stream:
            pieces.append(piece)
            turn()
    finally:
        await stream.aclose()
    return pieces


def _nothing() -> None:
    """Do nothing."""


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


def _proxy(pool: Any) -> str | None:
    url = getattr(pool, "_proxy_url", None)
    return None if url is None else str(url)


def _is_replayable(stream: Any, byte_stream: type[Any]) -> bool:
    if isinstance(stream, byte_stream):
        return True
    inner = getattr(stream, "_stream", None)
    # An iterable that is no generator and no file starts anew each time.
    return inner is not None and not (
        getattr(stream, "_is_generator", True) or hasattr(inner, "read")
    )
