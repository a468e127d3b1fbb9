"""End an attempt on time although its bytes keep dripping in: no thread needed.

A socket's timeout starts anew with every byte. So the attempt's end is looked at
before each wait of the socket, which is made shorter where the end is nearer.
"""

from __future__ import annotations

import contextlib
import socket
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, final

if TYPE_CHECKING:
    from collections.abc import Callable

    from resilience_instrument.integrations._frame import Frame


@final
class Clamp:
    """The end of the attempt that is under way in this context.

    Args:
        end: The monotonic time by which it must be over, None for none.
        monotonic: Reads the time.
        sending: Whether a pause while sending may use up all the time left. Set
            where the agent chose the timeouts, not the app.
    """

    __slots__ = ("_monotonic", "end", "fired", "free", "pause", "sending")

    def __init__(
        self, end: float | None, monotonic: Callable[[], float], *, sending: bool
    ) -> None:
        self._monotonic = monotonic
        self.end = end
        self.sending = sending
        self.pause: float | None = None
        self.free = False
        self.fired = False

    def shorten(self, timeout: float | None) -> float | None:
        """Return how long to wait for one piece, given its own timeout.

        Raises:
            TimeoutError: The attempt is over.
        """
        if self.free:
            return self.pause
        if self.end is None:
            return timeout
        left = self.end - self._monotonic()
        if left <= 0:
            self.fired = True
            message = "the time for the whole call is over"
            raise TimeoutError(message)
        return left if timeout is None else min(timeout, left)

    def mark(self) -> None:
        """Note after a timeout whether it was the end of the attempt that struck."""
        if self.end is not None and self._monotonic() >= self.end:
            self.fired = True

    def release(self, *, free: bool, pause: float | None = None) -> None:
        """Stop watching: the headers are in, the app reads the body by itself.

        Args:
            free: Whether the app gave no timeout, so that none of ours may cut
                the pauses of its stream.
            pause: How long they may then be, None for no limit.
        """
        self.end = None
        self.free = free
        self.pause = pause


CLAMP: Final[ContextVar[Clamp | None]] = ContextVar("resilience_clamp", default=None)

FRAME: Final[ContextVar[Frame | None]] = ContextVar("resilience_frame", default=None)
"""The call of the app that is under way in this context."""


def clamp_here() -> Clamp | None:
    """Return the clamp of the attempt that is under way in this context."""
    found = CLAMP.get()
    frame = FRAME.get()
    if found is not None or frame is None:
        return found
    held = frame.clamp
    if held is None or isinstance(held, Clamp):
        return held
    made = frame.clamp = held(frame)
    return made


@final
class ClampedSocket:
    """A socket that waits no longer than its clamp allows; all else is the socket."""

    __slots__ = ("_clamp", "_socket")

    def __init__(self, sock: Any, clamp: Clamp) -> None:
        self._socket = sock
        self._clamp = clamp

    def recv_into(self, *args: Any) -> Any:
        """Receive as the socket does, within the clamp."""
        sock, clamp = self._socket, self._clamp
        own = sock.gettimeout()
        wait = clamp.shorten(own)
        if wait == own:
            return sock.recv_into(*args)
        sock.settimeout(wait)
        try:
            return sock.recv_into(*args)
        except TimeoutError:
            clamp.mark()
            raise
        finally:
            # Somebody may have closed it meanwhile; then there is nothing to restore.
            with contextlib.suppress(OSError):
                sock.settimeout(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


def clamp_response(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wrap `http.client.HTTPResponse.__init__`: read through a clamped socket."""
    result = wrapped(*args, **kwargs)
    clamp = clamp_here()
    if clamp is not None:
        raw = getattr(instance.fp, "raw", None)
        if isinstance(raw, socket.SocketIO):
            raw._sock = ClampedSocket(raw._sock, clamp)  # type: ignore[attr-defined]  # noqa: SLF001
    return result


def send_unhurried(
    wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Wrap `urllib3.connection.HTTPConnection.request`: a connect timeout is no more.

    urllib3 keeps the connect timeout on the socket while it sends the body, so a
    short one that the agent chose would kill every long upload. Connect first,
    then let sending take what is left of the call.
    """
    clamp = clamp_here()
    if clamp is not None and clamp.sending:
        if instance.sock is None:
            instance.connect()
        instance.timeout = clamp.shorten(None)
        # urllib3 2 does this itself; 1.26 keeps what the connection was made with.
        instance.sock.settimeout(instance.timeout)
    return wrapped(*args, **kwargs)
