"""A server on the loopback address that misbehaves on command.

A test scripts what each path does, hit after hit; the last of a script repeats:

    with Server() as server:
        server.script("/x", Status(503), Status(200, body=b"ok"))

It speaks HTTP/1.1 by hand over plain sockets, one thread a connection, because a
well-behaved server library cannot be told to break the rules. What waits (a hang,
a drip) ends as soon as the server is closed, so that no test waits for it.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import functools
import socket
import ssl
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import trustme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Self

FOREVER = 60.0
"""Seconds for which a behaviour goes on that has no end of its own."""

_LIMIT = 1 << 16
_BODYLESS = frozenset({101, 204, 304})


@dataclasses.dataclass
class Hit:
    """One request as it arrived.

    Attributes:
        method: The method of the request line.
        target: The path with its query.
        headers: The headers by their names in lower case.
        time: The monotonic time at which the headers were complete.
        connection: The number of the connection that it came on, from 1.
        body: The body, empty until it was read.
    """

    method: str
    target: str
    headers: dict[str, str]
    time: float
    connection: int
    body: bytes = b""


class Exchange:
    """One request and the connection on which a behaviour answers it.

    Args:
        sock: The connection.
        hit: The request.
        stop: Is set when the server closes.
        receive: Reads more of the connection, at most as many bytes as given.
    """

    def __init__(
        self,
        sock: socket.socket,
        hit: Hit,
        stop: threading.Event,
        receive: Callable[[int], bytes],
    ) -> None:
        self._socket = sock
        self._stop = stop
        self._receive = receive
        self.hit = hit
        self.is_whole = False

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def pause(self, seconds: float) -> bool:
        """Wait; tell whether there is a reason to go on, which a closing ends."""
        return not self._stop.wait(seconds)

    def drip(self, pieces: Iterator[bytes], interval: float) -> None:
        """Send one piece after the other with a pause before each."""
        for piece in pieces:
            if not self.pause(interval):
                break
            self.send(piece)

    def reset(self) -> None:
        """Make the end of the connection a reset instead of a polite goodbye."""
        linger = struct.pack("ii", 1, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def read_body(self, rate: float | None = None) -> bytes:
        """Read the body of the request, no faster than `rate` bytes a second."""
        headers = self.hit.headers
        if headers.get("transfer-encoding", "") == "chunked":
            return self._chunks()
        return self._exactly(int(headers.get("content-length", "0")), rate)

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self._line(), 16):
            body += self._exactly(size)
            self._line()
        self._line()
        return body

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._exactly(1)
        return line[:-2]

    def _exactly(self, size: int, rate: float | None = None) -> bytes:
        pieces, left, started = [], size, time.monotonic()
        while left:
            piece = self._receive(min(left, _LIMIT))
            pieces.append(piece)
            left -= len(piece)
            if rate is not None:
                due = started + (size - left) / rate
                self.pause(max(0.0, due - time.monotonic()))
        return b"".join(pieces)


class Behaviour(Protocol):
    """What the server does with one request."""

    def answer(self, exchange: Exchange) -> None:
        """Do it. The connection stays open if `exchange.is_whole` is set."""
        ...


@dataclasses.dataclass(frozen=True)
class Status:
    """A well-formed answer; the connection stays open."""

    code: int
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: bytes = b""

    def answer(self, exchange: Exchange) -> None:
        """Read the request and send the whole answer."""
        exchange.hit.body = exchange.read_body()
        self.send(exchange)

    def send(self, exchange: Exchange) -> None:
        """Send the whole answer to a request that was read."""
        lines = dict(self.headers)
        if self.code not in _BODYLESS:
            lines.setdefault("Content-Length", str(len(self.body)))
        body = b"" if exchange.hit.method == "HEAD" else self.body
        exchange.send(_head(self.code, lines) + body)
        exchange.is_whole = exchange.hit.headers.get("connection") != "close"


def redirect(location: str, code: int = 302) -> Status:
    """An answer that sends the client on to `location`."""
    return Status(code, {"Location": location})


@dataclasses.dataclass(frozen=True)
class Delay:
    """An answer that comes late."""

    seconds: float
    then: Behaviour

    def answer(self, exchange: Exchange) -> None:
        """Wait, then do what comes next."""
        if exchange.pause(self.seconds):
            self.then.answer(exchange)


@dataclasses.dataclass(frozen=True)
class Gate:
    """An answer that comes when the test opens the gate."""

    then: Behaviour
    opened: threading.Event = dataclasses.field(default_factory=threading.Event)

    def answer(self, exchange: Exchange) -> None:
        """Wait for the gate, then do what comes next."""
        while exchange.pause(0.01):
            if self.opened.is_set():
                self.then.answer(exchange)
                break


@dataclasses.dataclass(frozen=True)
class Close:
    """The connection ends without an answer."""

    def answer(self, exchange: Exchange) -> None:
        """Read the request, so that the end is no reset."""
        exchange.hit.body = exchange.read_body()


@dataclasses.dataclass(frozen=True)
class Reset:
    """The connection is reset instead of an answer, in TLS without its goodbye."""

    def answer(self, exchange: Exchange) -> None:
        """Read the request and reset."""
        exchange.hit.body = exchange.read_body()
        exchange.reset()


@dataclasses.dataclass(frozen=True)
class Hang:
    """No answer ever comes."""

    def answer(self, exchange: Exchange) -> None:
        """Read the request and wait."""
        exchange.hit.body = exchange.read_body()
        exchange.pause(FOREVER)


@dataclasses.dataclass(frozen=True)
class SlowReader:
    """A server that takes the request slowly, then answers."""

    rate: float
    then: Status

    def answer(self, exchange: Exchange) -> None:
        """Read the request at `rate` bytes a second."""
        exchange.hit.body = exchange.read_body(self.rate)
        self.then.send(exchange)


@dataclasses.dataclass(frozen=True)
class Raw:
    """Bytes as they are, then the end of the connection."""

    data: bytes

    def answer(self, exchange: Exchange) -> None:
        """Read the request and send the bytes."""
        exchange.hit.body = exchange.read_body()
        exchange.send(self.data)


@dataclasses.dataclass(frozen=True)
class Truncated:
    """A body that ends before its announced length."""

    def answer(self, exchange: Exchange) -> None:
        """Send half of what is announced."""
        Raw(_head(200, {"Content-Length": "10"}) + b"short").answer(exchange)


@dataclasses.dataclass(frozen=True)
class TruncatedChunked:
    """A chunked body without its end."""

    def answer(self, exchange: Exchange) -> None:
        """Send one chunk, and no last one."""
        head = _head(200, {"Transfer-Encoding": "chunked"})
        Raw(head + b"5\r\nshort\r\n").answer(exchange)


@dataclasses.dataclass(frozen=True)
class CorruptGzip:
    """A body that arrives whole and cannot be decoded."""

    def answer(self, exchange: Exchange) -> None:
        """Send nonsense that claims to be gzip."""
        Status(200, {"Content-Encoding": "gzip"}, b"no gzip").answer(exchange)


@dataclasses.dataclass(frozen=True)
class StallBody:
    """A body that stops halfway, on a connection that stays open."""

    def answer(self, exchange: Exchange) -> None:
        """Send half of what is announced and wait."""
        Truncated().answer(exchange)
        exchange.pause(FOREVER)


@dataclasses.dataclass(frozen=True)
class Drip:
    """Headers that come byte by byte."""

    interval: float

    def answer(self, exchange: Exchange) -> None:
        """Send one byte each interval."""
        exchange.hit.body = exchange.read_body()
        head = _head(200, {"X-Long": "x" * 500, "Content-Length": "0"})
        exchange.drip((head[at : at + 1] for at in range(len(head))), self.interval)


@dataclasses.dataclass(frozen=True)
class DripBody:
    """A body of announced length that comes byte by byte."""

    interval: float

    def answer(self, exchange: Exchange) -> None:
        """Send the headers, then one byte each interval."""
        Raw(_head(200, {"Content-Length": "500"})).answer(exchange)
        exchange.drip((b"x" for _ in range(500)), self.interval)


@dataclasses.dataclass(frozen=True)
class DripChunked:
    """A chunked body that comes byte by byte."""

    interval: float

    def answer(self, exchange: Exchange) -> None:
        """Send the headers, then one chunk of one byte each interval."""
        Raw(_head(200, {"Transfer-Encoding": "chunked"})).answer(exchange)
        exchange.drip((b"1\r\nx\r\n" for _ in range(500)), self.interval)


@dataclasses.dataclass(frozen=True)
class EventStream:
    """A chunked body whose events come with gaps, and which ends well."""

    events: list[bytes]
    gap: float

    def answer(self, exchange: Exchange) -> None:
        """Send the headers at once, each event after a gap."""
        Raw(_head(200, {"Transfer-Encoding": "chunked"})).answer(exchange)
        exchange.drip((b"%x\r\n%s\r\n" % (len(e), e) for e in self.events), self.gap)
        exchange.send(b"0\r\n\r\n")


def _head(code: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {code} Scripted", *(f"{k}: {v}" for k, v in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Server:
    """The server: a context manager that listens while the block runs.

    Args:
        tls: Whether it speaks TLS, with a certificate of the tests' own authority.
        handshake_delay: Seconds for which a new connection waits for TLS to begin.
    """

    def __init__(self, *, tls: bool = False, handshake_delay: float = 0.0) -> None:
        self._context = _server_context() if tls else None
        self._handshake_delay = handshake_delay
        self._scripts: dict[str, list[Behaviour]] = {}
        self._hits: list[Hit] = []
        self._lock = threading.Condition()
        self._stop = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that a client must trust."""
        return _authority()[1]

    def script(self, path: str, *behaviours: Behaviour) -> None:
        """Say what `path` does, hit after hit; the last repeats."""
        self._scripts[path] = list(behaviours)

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        scheme = "https" if self._context else "http"
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def hits(self, path: str | None = None) -> list[Hit]:
        """Return the requests for `path`, or all, in the order of their arrival."""
        with self._lock:
            return [hit for hit in self._hits if path in {None, _path(hit)}]

    def wait_for_hits(self, path: str, count: int) -> None:
        """Wait until `path` was asked for `count` times."""
        with self._lock:
            if not self._lock.wait_for(lambda: len(self.hits(path)) >= count, 10):
                message = f"{path} had {len(self.hits(path))} hits, not {count}"
                raise AssertionError(message)

    def close(self) -> None:
        """Stop listening, end every connection and wait for the threads."""
        self._stop.set()
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return  # the server closes
            if self._stop.is_set():
                sock.close()
                return
            with self._lock:
                self._open.add(sock)
                self.connections += 1
                number = self.connections
            self._start(self._serve, sock, number)

    def _serve(self, plain: socket.socket, number: int) -> None:
        sock: Any = plain
        # A client that leaves is no event; an answer that breaks the rules is one.
        with contextlib.suppress(OSError, EOFError):
            try:
                if self._context is not None:
                    self._stop.wait(self._handshake_delay)
                    sock = self._secured(plain, self._context)
                    sock.do_handshake()
                while self._serve_one(sock, number):
                    pass
            finally:
                with self._lock:
                    self._open.discard(sock)
                sock.close()

    def _secured(self, plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        with self._lock:
            self._open.discard(plain)
        secured = context.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
        )
        with self._lock:
            self._open.add(secured)
        return secured

    def _serve_one(self, sock: socket.socket, number: int) -> bool:
        """Answer one request; tell whether the connection stays open."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += _receive(sock, _LIMIT)
        head, _, rest = received.partition(b"\r\n\r\n")
        hit = _parse(head, number)
        with self._lock:
            self._hits.append(hit)
            self._lock.notify_all()
            behaviour = self._next_locked(_path(hit))
        buffered = [rest] if rest else []

        def receive(size: int) -> bytes:
            if not buffered:
                return _receive(sock, size)
            piece = buffered.pop()
            if len(piece) > size:
                buffered.append(piece[size:])
            return piece[:size]

        exchange = Exchange(sock, hit, self._stop, receive)
        behaviour.answer(exchange)
        return exchange.is_whole and not self._stop.is_set()

    def _next_locked(self, path: str) -> Behaviour:
        script = self._scripts.get(path)
        if script is None:
            return Status(404, body=b"not scripted")
        return script.pop(0) if len(script) > 1 else script[0]


def _path(hit: Hit) -> str:
    return hit.target.partition("?")[0]


def _receive(sock: socket.socket, size: int) -> bytes:
    piece = sock.recv(size)
    if not piece:
        raise EOFError
    return piece


def _parse(head: bytes, connection: int) -> Hit:
    request, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = request.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return Hit(method, target, headers, time.monotonic(), connection)


@functools.cache
def _authority() -> tuple[trustme.CA, Path]:
    """Return the tests' own authority and the file that says so."""
    authority = trustme.CA()
    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.write(authority.cert_pem.bytes())
    atexit.register(Path(file.name).unlink)
    return authority, Path(file.name)


@functools.cache
def _server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _authority()[0].issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


_closed: list[socket.socket] = []


def closed_port() -> int:
    """Return a port where nobody listens, and where nobody else will."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    # Bound and never listening: a connection is refused, the port stays ours.
    _closed.append(sock)
    port: int = sock.getsockname()[1]
    return port


@contextlib.contextmanager
def tarpit() -> Iterator[int]:
    """Yield a port whose queue is full, so that no connection is ever made."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
