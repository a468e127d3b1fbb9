"""Where the sockets below `http.client` learn when the attempt must be over."""

from __future__ import annotations

import socket
from typing import Any

from resilience_instrument.integrations._clamp import ClampedSocket
from resilience_instrument.integrations._frame import clamp_here


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
