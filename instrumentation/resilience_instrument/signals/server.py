"""Serve the metrics on one port, in a thread that nobody else sees.

The thread and the socket come from the modules below `threading` and `socket`, so
that neither gevent's patches nor our own apply to them, and so that the app does
not find a thread that it did not start.
"""

from __future__ import annotations

import _socket
import contextlib
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, final

from resilience_instrument.native import start_thread
from resilience_instrument.signals.faults import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Render = Callable[[str], tuple[bytes, str]]

# A scraper that says nothing for so long is not one. Seconds.
_PATIENCE: Final = 2
_LONGEST_REQUEST: Final = 16384
_REFUSED: Final = r"q\s*=\s*0(\.0*)?"
_TIMEVAL: Final = struct.pack("ll", _PATIENCE, 0)


def start(host: str, ports: Iterable[int], render: Render) -> Server | None:
    """Serve in a thread on the first free port of `ports`, None if there is none."""
    server = bind(host, ports, render)
    if server is not None:
        start_thread(server.run, ())
    return server


def bind(host: str, ports: Iterable[int], render: Render) -> Server | None:
    """Listen on the first free port of `ports`, None if there is none.

    Args:
        host: An address or a name of this machine.
        ports: Ports in the order in which to try them.
        render: Takes the `Accept` header; returns the metrics and their type.
    """
    for port in ports:
        listener = _listen(host, port)
        if listener is not None:
            return Server(listener, host, render)
    return None


def _listen(host: str, port: int) -> Any:
    """Return a socket that listens, or None if the port cannot be had."""
    with contextlib.suppress(OSError):
        family, kind, protocol, _, address = _socket.getaddrinfo(
            host, port, 0, _socket.SOCK_STREAM, 0, _socket.AI_PASSIVE
        )[0]
        listener = _socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(16)
        except OSError:
            listener.close()
        else:
            return listener
    return None


@final
class Server:
    """A listening socket and what it answers.

    Args:
        listener: The socket.
        host: The host as it was configured.
        render: Takes the `Accept` header; returns the metrics and their type.
    """

    __slots__ = ("_listener", "_render", "port", "url")

    def __init__(self, listener: Any, host: str, render: Render) -> None:
        self._listener = listener
        self._render = render
        self.port: Final[int] = listener.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        self.url: Final = f"http://{shown}:{self.port}/metrics"

    def run(self) -> None:
        """Answer one scraper after the other until the socket is closed."""
        while True:
            try:
                descriptor, _ = self._listener._accept()  # noqa: SLF001 - the C socket has no other
            except OSError:
                return
            connection = _socket.socket(fileno=descriptor)
            try:
                self._answer(connection)
            except Exception as error:
                # A scraper that went away is nobody's fault; the next one counts.
                if not isinstance(error, OSError):
                    say(f"metrics cannot be served: {type(error).__name__}: {error}")
            finally:
                connection.close()

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(_socket.SHUT_RDWR)
        self._listener.close()

    def abandon(self) -> None:
        """Close this process's copy of the socket; the parent's goes on listening."""
        self._listener.close()

    def _answer(self, connection: Any) -> None:
        for option in (_socket.SO_RCVTIMEO, _socket.SO_SNDTIMEO):
            connection.setsockopt(_socket.SOL_SOCKET, option, _TIMEVAL)
        method, path, headers = _request(_receive(connection))
        status, kind, coding = "200 OK", "text/plain; charset=utf-8", ""
        if method not in {"GET", "HEAD"}:
            status, body = "405 Method Not Allowed", b"use GET\n"
        elif path.partition("?")[0] not in {"/metrics", "/metrics/"}:
            status, body = "404 Not Found", b"metrics are at /metrics\n"
        else:
            body, kind = self._render(headers.get("accept", ""))
            if accepts_gzip(headers.get("accept-encoding", "")):
                body, coding = _compressed(body), "Content-Encoding: gzip\r\n"
        head = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{coding}"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        connection.sendall(head.encode() + (b"" if method == "HEAD" else body))


def _receive(connection: Any) -> str:
    received = b""
    while b"\r\n\r\n" not in received and len(received) < _LONGEST_REQUEST:
        piece = connection.recv(4096)
        if not piece:
            break
        received += piece
    return received.decode("latin-1")


def _request(text: str) -> tuple[str, str, dict[str, str]]:
    """Return the method, the path and the headers of a request."""
    line, *rest = text.split("\r\n")
    method, _, target = line.partition(" ")
    headers = {}
    for header in rest:
        name, _, value = header.partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, target.partition(" ")[0], headers


def accepts_gzip(accept: str) -> bool:
    """Tell whether an `Accept-Encoding` header takes gzip."""
    for entry in accept.lower().split(","):
        coding, *parameters = (part.strip() for part in entry.split(";"))
        if coding in {"gzip", "x-gzip"}:
            return not any(re.fullmatch(_REFUSED, each) for each in parameters)
    return False


def _compressed(body: bytes) -> bytes:
    # The first level: half of the time, and Prometheus is mostly on the next machine.
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(body) + packer.flush()
