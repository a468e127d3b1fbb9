"""aiohttp: the frame at `ClientSession._request`, the attempts in a middleware.

The innermost middleware sees every hop. aiohttp itself sends an idempotent request
once more when a connection breaks; it then gets the outcome that stands already.
Bodies are the app's to read: an attempt ends with the headers.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import http.client
import inspect
import types
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

import aiohttp
import aiohttp.base_protocol
import aiohttp.client
import aiohttp.helpers
import aiohttp.payload
import multidict

from resilience_instrument import errors
from resilience_instrument.config.match import Destination
from resilience_instrument.config.model import Timeouts
from resilience_instrument.integrations import _http
from resilience_instrument.integrations._fallback import (
    HEADER,
    Answer,
    decoded,
    without,
)
from resilience_instrument.integrations._frame import FRAME, Frame
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._racing import Racing
from resilience_instrument.integrations._room import deliver, described, govern
from resilience_instrument.integrations._sending import Sending, Site, own_errors
from resilience_instrument.integrations._stand_in import Keeper, StandIns
from resilience_instrument.integrations._url import service_name
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.timeout import limits, shorter
from resilience_instrument.port import run_sync
from resilience_instrument.verdict import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Judgement


class CircuitBreakerOpenError(
    errors.CircuitBreakerOpenError, aiohttp.ClientConnectionError
):
    """The circuit is open; to an app of aiohttp, a host that is not there."""


class BulkheadFullError(errors.BulkheadFullError, aiohttp.ClientConnectionError):
    """Too many calls are under way; to an app of aiohttp, a host that is not there."""


class RateLimitedError(errors.RateLimitedError, aiohttp.ClientConnectionError):
    """The service is overloaded; to an app of aiohttp, a host that is not there."""


class DeadlineExceededError(errors.DeadlineExceededError, aiohttp.ServerTimeoutError):
    """No time is left; to an app of aiohttp, a timeout."""


def targets(runtime: Runtime) -> list[Target]:
    """Return what is wrapped, for one `runtime`; nothing before 3.12."""
    session = aiohttp.ClientSession
    if "middlewares" not in inspect.signature(session._request).parameters:  # noqa: SLF001 - where every call comes through
        return []
    classes = own_errors(
        CircuitBreakerOpenError,
        BulkheadFullError,
        RateLimitedError,
        DeadlineExceededError,
    )
    site = Site(runtime, "aiohttp", classes, {})
    return [
        Target(aiohttp.BaseConnector, "connect", _connect),
        Target(aiohttp.TCPConnector, "_create_connection", _create),
        Target(session, "_request", _frame(site)),
    ]


_CURRENT: Final[ContextVar[Sequence[_Sending]]] = ContextVar(
    "resilience_aiohttp", default=()
)
"""The attempt under way, if any. A connection that stays open keeps the context in
which it was opened: a list that is emptied afterwards keeps no request alive."""


async def _create(
    wrapped: Any,
    instance: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Note that a place in the pool was found and a connection is being made."""
    for sending in _CURRENT.get():
        sending.enter(Phase.CONNECT)
    return await wrapped(*args, **kwargs)


async def _connect(
    wrapped: Any,
    instance: Any,  # noqa: ARG001 - the shape of a wrapper
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Note that there is a connection."""
    connection = await wrapped(*args, **kwargs)
    for sending in _CURRENT.get():
        sending.enter(Phase.READ)
    return connection


def _frame(site: Site) -> Wrapper:
    runtime = site.runtime

    async def _request(
        wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        frame = Frame.within(FRAME.get(), stream=True)
        try:
            middleware = _Middleware(site, instance, kwargs)
            chosen = kwargs.get("middlewares")
            if chosen is None:
                chosen = instance._middlewares  # noqa: SLF001 - what holds otherwise
            kwargs = {**kwargs, "middlewares": (*chosen, middleware)}
        except Exception as fault:
            runtime.fault("describe", fault)
        token = FRAME.set(frame)
        try:
            return await wrapped(*args, **kwargs)
        finally:
            FRAME.reset(token)
            frame.forget()

    return _request


@final
class _Middleware:
    """Governs each hop of one call.

    Args:
        site: What all calls have at hand.
        session: The session of the call.
        options: What the app gave to the call.
    """

    __slots__ = (
        "_error",
        "_failed",
        "_site",
        "decodes",
        "session",
        "started",
        "timeout",
    )

    def __init__(self, site: Site, session: Any, options: dict[str, Any]) -> None:
        self._site = site
        self.session = session
        self.started = site.runtime.clock.monotonic()
        self._error: Exception | None = None
        self._failed: object = None
        given = options.get("timeout")
        if given is None or given is aiohttp.helpers.sentinel:
            given = session._timeout  # noqa: SLF001 - what holds otherwise
        self.timeout = None if given is aiohttp.client.DEFAULT_TIMEOUT else given
        decodes = options.get("auto_decompress")
        self.decodes = session.auto_decompress if decodes is None else decodes

    async def __call__(self, request: Any, handler: Any) -> Any:
        """Send the request of one hop by `handler`, as often as it takes."""
        if isinstance(self._error, _REPEATED) and request is not self._failed:
            # aiohttp makes a second request of it by itself: the outcome stands.
            raise self._error
        site, runtime = self._site, self._site.runtime
        sending = described(runtime, _Sending, site, self, handler, request)
        if sending is None:
            return await handler(request)
        outcome = await govern(runtime, sending.call, sending.policies, sending)
        if isinstance(outcome, Raised) and sending.acts:
            self._error, self._failed = outcome.error, request
        return deliver(outcome)


@final
class _Sending(Sending, StandIns, Racing):
    """One request on its way to a connector: the `Io` of its call."""

    __slots__ = ("_app", "_explicit", "_given", "_handler", "_part", "_scope")

    def __init__(
        self, site: Site, app: _Middleware, handler: Any, request: Any
    ) -> None:
        super().__init__(site, request)
        self._app, timeout = app, app.timeout
        self._handler = handler
        url = self._url = request.url
        service = service_name(url.scheme, url.host, url.port)
        proxy = request.proxy
        route = None if proxy is None else str(proxy)
        to = Destination(url.scheme, url.host, url.port, url.raw_path)
        own = self._find_policies(service, route, to, request.headers)
        self._explicit = timeout is not None
        self._given = own if timeout is None else _app_timeouts(timeout)
        total = self._given.total
        self._describe(
            method=request.method,
            path=url.raw_path,
            headers=request.headers,
            replayable=_is_replayable(request.body),
            app_retries=False,
            unbounded=not self._explicit,
            ours=not self._explicit,
            streams=False,  # every attempt ends with the headers
            end=_http.capped(
                None if total is None else app.started + total, own, app.started
            ),
        )
        if self._observes:
            # aiohttp keeps the app's timeouts itself.
            self._explicit = True

    def _shown(self) -> object:
        return None  # it cannot be pickled

    def enter(self, part: Phase) -> None:
        """Let the next part of the attempt begin, with a timeout of its own.

        Where the app chose its timeouts aiohttp keeps them.
        """
        self._part = part
        now = self._clock.monotonic()
        wait = self._limits.remaining(now)
        if not self._explicit:
            wait = shorter(wait, getattr(self._limits, part.value))
        loop = asyncio.get_running_loop()
        self._scope.reschedule(None if wait is None else loop.time() + wait)

    async def attempt(self, number: int, deadline: float | None) -> Outcome:  # noqa: ARG002 - a payload winds itself back
        """Send the request once, up to the headers of the answer."""
        self._limits = limits(self._given, deadline, self._clock.monotonic())
        carried = self._carried()
        current = [self]
        token = _CURRENT.set(current)
        try:
            async with asyncio.timeout(None) as self._scope:
                self.enter(Phase.POOL)
                self.last = await self._send()
        except TimeoutError:
            # Ours, since what the library raises is an outcome.
            self.last = Raised(self._too_late())
        finally:
            _CURRENT.reset(token)
            current.clear()
            carried.restore()
        if getattr(self._request.body, "consumed", False):
            self.call.replayable = False
        return self.last

    def _same_request(self) -> object | None:
        if self._request.body:
            return None  # a payload is written by one request at a time
        same: Any = copy.copy(self._request)
        same.headers = self._request.headers.copy()
        return same  # type: ignore[no-any-return]

    async def _send(self) -> Outcome:
        try:
            return Returned(await self._handler(self._request))
        except Exception as error:
            return Raised(error)

    def _too_late(self) -> Exception:
        where = f"{self.policies.service} took too long ({self._part.value})"
        if self._part is Phase.READ:
            return aiohttp.SocketTimeoutError(where)
        return aiohttp.ConnectionTimeoutError(where)

    def _judge_answer(self, response: Any) -> Judgement:
        return _http.judge_status(response.status, response.headers)

    def _phase(self, error: Exception) -> Phase | None:
        if isinstance(error, TimeoutError):
            return self._part
        return None

    def _is_never_sent(self, error: Exception) -> bool:
        return isinstance(error, _NEVER_SENT)

    def _is_transport(self, error: Exception) -> bool:
        return isinstance(error, (aiohttp.ClientConnectionError, OSError))

    async def discard(self, outcome: Outcome) -> None:
        """Give the connection back: read a small rest, else close."""
        self.last = None
        if isinstance(outcome, Returned):
            response: Any = outcome.value
            if _http.is_small(response.headers):
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with asyncio.timeout(self._limits.read):
                        await response.read()
            response.close()

    _waits = True

    def _status(self, response: Any) -> int:
        status: int = response.status
        return status

    def _mark(self, response: Any) -> None:
        headers = multidict.CIMultiDict(response.headers)
        headers[HEADER] = "service"
        # What was read of it stands in a cache that the property looks at first.
        response._headers = multidict.CIMultiDictProxy(headers)  # noqa: SLF001
        response._cache.pop("headers", None)  # noqa: SLF001

    def _offer(self, response: Any, keeper: Keeper) -> None:
        encoded = "Content-Encoding" in response.headers and not self._app.decodes
        if type(response) is aiohttp.ClientResponse and not encoded:
            # Not an attribute with a function: the two would hold each other.
            response.__class__ = _Kept
            response.__dict__[_KEEPER] = keeper

    def _response(self, answer: Answer) -> Any:
        request = self._request
        facts = {
            "writer": None,
            "continue100": None,
            "timer": None,
            "request_info": request.request_info,
            "traces": [],
            "loop": request.loop,
            "session": self._app.session,
            "stream_writer": types.SimpleNamespace(output_size=0),
        }
        wanted = {name: facts[name] for name in _RESPONSE_FACTS if name in facts}
        response = request.response_class(
            request.method, request.original_url, **wanted
        )
        # It never waits, since the answer is there.
        return run_sync(response.start(_Connection(request.loop, answer)))

    async def _send_to(self, url: str) -> Any:
        request = self._request
        headers = without(request.headers.items(), {"host", "content-length"})
        options: dict[str, Any] = {}
        if self._explicit:
            options["timeout"] = self._app.timeout
        return await self._app.session.request(
            request.method,
            url,
            headers=multidict.CIMultiDict((*headers, *self._key.items())),
            data=request.body or None,
            proxy=request.proxy,
            ssl=request.ssl,
            raise_for_status=False,
            **options,
        )

    async def _close(self, response: Any) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait, as a task waits."""
        await asyncio.sleep(seconds)

    async def untouched(self) -> Outcome:
        """Send the request as if the agent were not there."""
        return await self._send()


@final
class _Connection:
    """A connection on which an answer arrived already."""

    __slots__ = ("_answer", "_loop", "protocol")

    upgraded = False

    def __init__(self, loop: Any, answer: Answer) -> None:
        self._loop = loop
        self._answer = answer
        self.protocol = self

    async def read(self) -> tuple[Any, Any]:
        """Return head and body, as the protocol of a connection does."""
        status, headers, body = self._answer
        named = multidict.CIMultiDict(headers)
        head = types.SimpleNamespace(
            version=aiohttp.HttpVersion11,
            code=status,
            reason=http.client.responses.get(status, ""),
            headers=multidict.CIMultiDictProxy(named),
            raw_headers=tuple((n.encode(), v.encode()) for n, v in headers),
        )
        silent = aiohttp.base_protocol.BaseProtocol(self._loop)
        content = aiohttp.StreamReader(silent, max(1, len(body)), loop=self._loop)
        content.feed_data(body)
        content.feed_eof()
        return head, content

    def release(self) -> None:
        """Do nothing: there is none to give back."""


# Not the same in all versions.
_RESPONSE_FACTS: Final = tuple(inspect.signature(aiohttp.ClientResponse).parameters)
_KEEPER: Final = "_resilience_keeper"


class _Kept(aiohttp.ClientResponse):
    """A response that is kept if the app reads its body as a whole."""

    async def read(self) -> bytes:
        body = await super().read()
        keeper = self.__dict__.pop(_KEEPER, None)
        # Who reads parts first gets only the rest here.
        if keeper is not None and len(body) == self.content.total_bytes:
            keeper.keep(Answer(self.status, decoded(self.headers.items()), body))
        return body


# To an app it is what it was.
_Kept.__name__ = _Kept.__qualname__ = aiohttp.ClientResponse.__name__
_Kept.__module__ = aiohttp.ClientResponse.__module__

_REPEATED: Final = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
_NEVER_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


def _app_timeouts(timeout: Any) -> Timeouts:
    if not isinstance(timeout, aiohttp.ClientTimeout):
        # An old way to say how long all of it may take.
        return Timeouts(None, None, None, None, float(timeout))
    connect = shorter(timeout.sock_connect, timeout.connect)
    return Timeouts(connect, timeout.sock_read, None, None, timeout.total)


def _is_replayable(body: Any) -> bool:
    """Tell whether a body can be sent again; payloads wind themselves back."""
    return not isinstance(body, aiohttp.payload.AsyncIterablePayload)
