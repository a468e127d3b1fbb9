"""Services that fail in one way each, until they are healed."""

from __future__ import annotations

import http.server
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = tuple[int, dict[str, str]]
GOOD: Answer = (200, {})


def healthy(_: int) -> Answer:
    """Answer well, always."""
    return GOOD


def slow_now_and_then(number: int) -> Answer:
    """Hang in one request of five."""
    if number % 5 == 0:
        time.sleep(1.0)
    return GOOD


def flapping(number: int) -> Answer:
    """Fail five times in a row after twenty good answers, as no retry mends."""
    return (500, {}) if number % 25 >= 20 else GOOD


def asks_to_wait(_: int) -> Answer:
    """Refuse, and say when to come back."""
    return 503, {"Retry-After": "1"}


def fails_one_in_ten(number: int) -> Answer:
    """Fail in one request of ten, in a way that no retry mends."""
    return (500, {}) if number % 10 == 0 else GOOD


def unavailable_one_in_five(number: int) -> Answer:
    """Fail in one request of five, in a way that a retry would mend."""
    return (503, {}) if number % 5 == 0 else GOOD


class Upstream:
    """A loopback server.

    Args:
        answer: Says what the request with this number gets; None for a server that
            does not listen at all.
    """

    def __init__(self, answer: Callable[[int], Answer] | None) -> None:
        self.answer = answer
        self._requests = 0
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(
            ("127.0.0.1", 0), self._handler(), bind_and_activate=False
        )
        self._server.daemon_threads = True
        self._server.server_bind()
        self.service = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        if answer is not None:
            self._listen()

    def heal(self) -> None:
        """Answer well from now on."""
        dead, self.answer = self.answer is None, healthy
        if dead:
            self._listen()

    def close(self) -> None:
        """Stop, if it ever listened."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def _listen(self) -> None:
        self._server.server_activate()
        self._thread.start()

    def _next(self) -> Answer:
        with self._lock:
            self._requests += 1
            number = self._requests
        return self.answer(number) if self.answer else GOOD

    def _handler(upstream) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, headers = upstream._next()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET  # noqa: N815 - the name of http.server

            def handle(self) -> None:
                # A caller whose patience ended is what the scenario is about.
                try:
                    super().handle()
                except ConnectionError:
                    self.close_connection = True

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler
