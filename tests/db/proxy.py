"""A TCP proxy that misbehaves on demand, between a driver and a real server."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias

if TYPE_CHECKING:
    from types import TracebackType

Mode: TypeAlias = Literal["pass", "silent", "frozen", "reset", "refuse"]
"""What the proxy does.

`silent` accepts and never says a word; `frozen` stops all traffic of connections
that exist, whose kernel still acknowledges; `reset` answers with a reset; `refuse`
does not listen at all.
"""

_CHUNK: Final = 65536
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Proxy:
    """Passes bytes on to `127.0.0.1:port` until it is told to do otherwise.

    Args:
        port: The port of the real server.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self.accepted = 0
        self.delay = 0.0
        self._mode: Mode = "pass"
        self._pairs: list[tuple[socket.socket, socket.socket | None]] = []
        self._stopped = threading.Event()
        self._thawed = threading.Event()
        self._thawed.set()
        self._listener: socket.socket | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thawed.set()
        self._unlisten()
        self.cut()

    @property
    def mode(self) -> Mode:
        """What the proxy does at this moment."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        before, self._mode = self._mode, mode
        if mode == "frozen":
            self._thawed.clear()
        else:
            self._thawed.set()
        if mode == "refuse":
            self._unlisten()
            self.cut()
        elif before == "refuse":
            self._listen()

    def cut(self) -> None:
        """Reset every connection that exists."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                if end is not None:
                    _reset(end)

    def _listen(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(64)
        threading.Thread(
            target=self._accept, args=(self._listener,), daemon=True
        ).start()

    def _unlisten(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            # Closing alone would leave the accepting thread inside.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._mode == "reset":
                _reset(client)
            elif self._mode in {"silent", "frozen"}:
                self._pairs.append((client, None))
            else:
                threading.Thread(
                    target=self._serve, args=(client,), daemon=True
                ).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._pairs.append((client, server))
        with contextlib.suppress(OSError, ValueError):
            self._pump(client, server)
        for end in (client, server):
            with contextlib.suppress(OSError):
                end.close()

    def _pump(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        while True:
            ready, _, _ = select.select([client, server], [], [], 1.0)
            self._thawed.wait()
            if self.delay:
                self._stopped.wait(self.delay)
            for end in ready:
                data = end.recv(_CHUNK)
                if not data:
                    return
                other[end].sendall(data)


def _reset(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        end.shutdown(socket.SHUT_RDWR)
    end.close()
