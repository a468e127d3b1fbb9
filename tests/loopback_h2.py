"""The loopback server for HTTP/2: streams of one connection, each with a delay."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer whose headers and pieces of body each come after a delay."""

    delay: float = 0.0
    pieces: tuple[bytes, ...] = (b"ok",)


class H2Server:
    """Speaks HTTP/2 without TLS to clients that know it beforehand.

    Args:
        answers: What each path does.
    """

    def __init__(self, answers: dict[str, Answer]) -> None:
        self._answers = answers
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.connections = 0

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname(), timeout=1).close()
        self._listener.close()
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}{path}"

    def _start(self, target: Any, *args: object) -> None:
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
            self.connections += 1
            self._open.append(sock)
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        config = h2.config.H2Configuration(client_side=False)
        connection = h2.connection.H2Connection(config=config)
        lock = threading.Lock()
        with contextlib.suppress(OSError), sock:
            connection.initiate_connection()
            sock.sendall(connection.data_to_send())
            while data := sock.recv(65536):
                with lock:
                    events = connection.receive_data(data)
                    sock.sendall(connection.data_to_send())
                for event in events:
                    if isinstance(event, h2.events.RequestReceived):
                        self._start(self._answer, sock, connection, lock, event)

    def _answer(
        self, sock: socket.socket, connection: Any, lock: threading.Lock, event: Any
    ) -> None:
        answer = self._answers[dict(event.headers)[b":path"].decode()]
        stream = event.stream_id
        # The client may have cancelled the stream or left altogether.
        with contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            self._send(sock, lock, connection, answer.delay, stream, None)
            for piece in answer.pieces:
                self._send(sock, lock, connection, answer.delay, stream, piece)
            self._send(sock, lock, connection, 0.0, stream, b"")

    def _send(
        self,
        sock: socket.socket,
        lock: threading.Lock,
        connection: Any,
        delay: float,
        stream: int,
        piece: bytes | None,
    ) -> None:
        """Send headers, a piece of the body, or its end, after a delay."""
        if self._stop.wait(delay):
            return
        with lock:
            if piece is None:
                connection.send_headers(stream, [(":status", "200")])
            else:
                connection.send_data(stream, piece, end_stream=not piece)
            sock.sendall(connection.data_to_send())
