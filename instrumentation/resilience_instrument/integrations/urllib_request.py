"""urllib.request: the frame at `OpenerDirector.open`, the attempts at `do_open`.

`do_open` makes one hop; a redirect enters by `open` again. Its one timeout is for
connecting as for reading, so each connection is told when which of ours begins.
Bodies are the app's to read: an attempt ends with the headers.
"""

from __future__ import annotations

import http.client
import io
import socket
from typing import TYPE_CHECKING, Any, Final, final

# Not `import urllib.request`: while that is being imported its parent lacks it.
from urllib import error as urllib_error
from urllib import request as urllib_request

from resilience_instrument import errors
from resilience_instrument.config.model import Timeouts
from resilience_instrument.integrations import _http
from resilience_instrument.integrations._clamp import CLAMP, Clamp, clamp_response
from resilience_instrument.integrations._fallback import Answer, without
from resilience_instrument.integrations._frame import framed
from resilience_instrument.integrations._patch import Target
from resilience_instrument.integrations._room import described, govern_sync
from resilience_instrument.integrations._sending import Sending, Site, own_errors
from resilience_instrument.integrations._stand_in import Keeper, StandIns
from resilience_instrument.integrations._url import path_start
from resilience_instrument.outcome import Raised, Returned
from resilience_instrument.policies.timeout import limits
from resilience_instrument.registry import NO_LIMITS
from resilience_instrument.verdict import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilience_instrument.integrations._patch import Wrapper
    from resilience_instrument.integrations._room import Runtime
    from resilience_instrument.outcome import Outcome
    from resilience_instrument.verdict import Judgement


class CircuitBreakerOpenError(errors.CircuitBreakerOpenError, urllib_error.URLError):
    """The circuit is open; to an app of urllib, a host that is not there."""

    __str__ = Exception.__str__


class BulkheadFullError(errors.BulkheadFullError, urllib_error.URLError):
    """Too many calls are under way; to an app of urllib, a host that is not there."""

    __str__ = Exception.__str__


class RateLimitedError(errors.RateLimitedError, urllib_error.URLError):
    """The service is overloaded; to an app of urllib, a host that is not there."""

    __str__ = Exception.__str__


class DeadlineExceededError(
    errors.DeadlineExceededError, urllib_error.URLError, TimeoutError
):
    """No time is left; to an app of urllib, a timeout."""

    __str__ = Exception.__str__


def targets(runtime: Runtime) -> list[Target]:
    """Return what is wrapped, for one `runtime`."""
    handler = urllib_request.AbstractHTTPHandler
    return [
        Target(http.client.HTTPResponse, "__init__", clamp_response),
        Target(handler, "do_open", _attempts(runtime)),
        Target(urllib_request.OpenerDirector, "open", framed(stream=True)),
    ]


def _attempts(runtime: Runtime) -> Wrapper:
    classes = own_errors(
        CircuitBreakerOpenError,
        BulkheadFullError,
        RateLimitedError,
        DeadlineExceededError,
    )
    site = Site(runtime, "urllib.request", classes, {})

    def do_open(
        wrapped: Any,
        instance: Any,  # noqa: ARG001 - the shape of a wrapper
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        sending = described(runtime, _sending, site, wrapped, args, kwargs)
        if sending is None:
            return wrapped(*args, **kwargs)
        return govern_sync(runtime, sending.call, sending.policies, sending)

    return do_open


def _sending(
    site: Site, wrapped: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> _Sending:
    return _Sending(site, wrapped, *args, **kwargs)


@final
class _Sending(Sending, StandIns):
    """One request on its way through `do_open`: the `Io` of its call."""

    __slots__ = (
        "_clamp",
        "_class",
        "_explicit",
        "_given",
        "_options",
        "_position",
        "_reached",
        "_wrapped",
    )

    def __init__(
        self, site: Site, wrapped: Any, http_class: Any, req: Any, **options: Any
    ) -> None:
        super().__init__(site, req)
        self._wrapped = wrapped
        self._class = http_class
        self._options = options
        self._reached = False
        self._position = _http.position(req.data)
        url = self._url = req.full_url
        start = path_start(url)
        headers = {name.title(): value for name, value in req.header_items()}
        service, origin = site.addresses.origin(url[:start])
        to = origin._replace(path=url[start:])
        own = self._find_policies(service, _proxy(req), to, headers)
        given = _app_timeouts(req.timeout)
        self._explicit = given is not None
        self._given = given or own
        self._describe(
            method=req.get_method(),
            path=url[start:],
            headers=headers,
            replayable=_http.is_data(req.data) or self._position is not None,
            app_retries=False,
            unbounded=not self._explicit,
            ours=not self._explicit,
            streams=False,  # every attempt ends with the headers
            end=_http.call_end(self._given, own, self._clock.monotonic()),
        )
        if self._observes:
            self._explicit, self._given = True, given or NO_LIMITS

    async def attempt(self, number: int, deadline: float | None) -> Outcome:
        """Send the request once, up to the headers of the answer."""
        self._reached = False
        self._limits = limits(self._given, deadline, self._clock.monotonic())
        self._clamp = Clamp(deadline, self._clock.monotonic, sending=not self._explicit)
        request = self._request
        carrier = {name.capitalize(): v for name, v in self._carrier.items()}
        carried = _http.Carried(request.unredirected_hdrs, carrier)
        token = CLAMP.set(self._clamp)
        try:
            if number > 1 and self._position is not None:
                request.data.seek(self._position)
            response = self._wrapped(self._connection, request, **self._options)
            self._clamp.release(free=not self._explicit)
            self.last = Returned(response)
        except Exception as error:
            self.last = Raised(error)
        finally:
            CLAMP.reset(token)
            carried.restore()
        return self.last

    def _connection(self, host: Any, **options: Any) -> Any:
        """Make the connection, and let each of its phases have its own timeout."""
        options["timeout"] = self._limits.connect
        connection = self._class(host, **options)
        connect, getresponse = connection.connect, connection.getresponse

        def connect_first() -> None:
            connect()
            self._reached = True
            connection.sock.settimeout(self._writing())

        def then_read() -> Any:
            connection.sock.settimeout(self._limits.read)
            return getresponse()

        connection.connect = connect_first
        connection.getresponse = then_read
        return connection

    def _writing(self) -> float | None:
        """Return how long sending may take: what is left, unless the app chose."""
        return self._limits.write if self._explicit else self._clamp.shorten(None)

    def _judge_answer(self, response: Any) -> Judgement:
        return _http.judge_status(response.status, response.headers)

    def _is_over(self) -> bool:
        return self._clamp.fired or super()._is_over()

    def _phase(self, error: Exception) -> Phase | None:
        reason = getattr(error, "reason", None)
        if not isinstance(error, TimeoutError) and not isinstance(reason, TimeoutError):
            return None
        if not self._reached:
            return Phase.CONNECT
        return Phase.READ if reason is None else Phase.WRITE

    def _is_never_sent(self, error: Exception) -> bool:  # noqa: ARG002 - the connection knows
        return not self._reached

    def _is_transport(self, error: Exception) -> bool:
        if isinstance(error, urllib_error.URLError):
            return isinstance(error.reason, OSError)
        return isinstance(error, (OSError, http.client.BadStatusLine))

    async def discard(self, outcome: Outcome) -> None:
        """Close what will not reach the app; urllib keeps no connection."""
        self.last = None
        if isinstance(outcome, Returned):
            response: Any = outcome.value
            response.close()

    def _asked(self) -> Iterable[tuple[str, str]]:
        items: Iterable[tuple[str, str]] = self._request.header_items()
        return items

    def _status(self, response: Any) -> int:
        status: int = response.status
        return status

    def _offer(self, response: Any, keeper: Keeper) -> None:
        if type(response) is http.client.HTTPResponse:
            # Not an attribute with a function: the two would hold each other.
            response.__class__ = _Kept
            response.__dict__[_KEEPER] = keeper

    def _response(self, answer: Answer) -> Any:
        request, status = self._request, answer.status
        framing = {"content-length", "transfer-encoding", "connection"}
        headers = (
            *without(answer.headers, framing),
            ("Content-Length", str(len(answer.body))),
            ("Connection", "close"),
        )
        reason = http.client.responses.get(status, "")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        head = f"HTTP/1.1 {status} {reason}\r\n{lines}\r\n".encode("latin-1")
        response: Any = http.client.HTTPResponse(
            _Heard(head + answer.body),  # type: ignore[arg-type]  # all that it needs
            method=request.get_method(),
        )
        response.begin()
        # As `do_open` does.
        response.url, response.msg = request.full_url, response.reason
        return response

    async def _send_to(self, url: str) -> Any:
        before = self._request
        if self._position is not None:
            before.data.seek(self._position)
        headers = dict(without(before.header_items(), {"host", "content-length"}))
        request = urllib_request.Request(  # noqa: S310 - as the configuration says
            url, before.data, headers | self._key, method=before.get_method()
        )
        opener = self._wrapped.__self__.parent
        try:
            return opener.open(request, timeout=before.timeout)
        except urllib_error.HTTPError as answer:
            return answer

    async def _close(self, response: Any) -> None:
        response.close()

    async def sleep(self, seconds: float) -> None:
        """Wait, as a thread waits."""
        _http.sleep_sync(seconds)

    async def untouched(self) -> Outcome:
        """Send the request as if the agent were not there."""
        try:
            return Returned(self._wrapped(self._class, self._request, **self._options))
        except Exception as error:
            return Raised(error)


@final
class _Heard:
    """A socket on which an answer arrived already."""

    __slots__ = ("_bytes",)

    def __init__(self, raw: bytes) -> None:
        self._bytes = raw

    def makefile(self, _mode: str) -> io.BytesIO:
        """Return what arrived, as a file."""
        return io.BytesIO(self._bytes)


_KEEPER: Final = "_resilience_keeper"


class _Kept(http.client.HTTPResponse):
    """A response that is kept if the app reads its body at once."""

    def _forget(self) -> Any:
        return self.__dict__.pop(_KEEPER, None)

    def read(self, amt: int | None = None) -> bytes:
        keeper = self._forget()
        body = super().read(amt)
        if keeper is not None and amt is None:
            keeper.keep(Answer(self.status, tuple(self.headers.items()), body))
        return body

    def readinto(self, buffer: Any) -> int:
        self._forget()
        return super().readinto(buffer)

    def read1(self, n: int = -1) -> bytes:
        self._forget()
        return super().read1(n)

    def readline(self, limit: int = -1) -> bytes:  # type: ignore[override]  # likewise
        self._forget()
        return super().readline(limit)


# To an app it is what it was.
_Kept.__name__ = _Kept.__qualname__ = http.client.HTTPResponse.__name__
_Kept.__module__ = http.client.HTTPResponse.__module__


def _app_timeouts(timeout: Any) -> Timeouts | None:
    """Return the app's own timeouts, None where it gave none."""
    if timeout is socket._GLOBAL_DEFAULT_TIMEOUT:  # type: ignore[attr-defined]  # noqa: SLF001
        timeout = socket.getdefaulttimeout()
        if timeout is None:
            return None
    return Timeouts(timeout, timeout, timeout, None, None)


def _proxy(request: Any) -> str | None:
    proxied = request.has_proxy() or request._tunnel_host  # noqa: SLF001
    return request.host if proxied else None
