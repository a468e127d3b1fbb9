"""An HTTP server with a bounded pool of workers, as every framework has one."""

from __future__ import annotations

import contextlib
import os
import socketserver
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Server(socketserver.TCPServer):
    """Accepts every connection; its workers take them one after the other."""

    allow_reuse_address = True
    request_queue_size = 128
    pool: ThreadPoolExecutor

    def process_request(self, request: Any, client_address: Any) -> None:
        """Queue the connection for the next free worker."""
        self.pool.submit(self.work, request, client_address)

    def work(self, request: Any, client_address: Any) -> None:
        """Answer one request, in a worker."""
        try:
            self.finish_request(request, client_address)
        except Exception:
            self.handle_error(request, client_address)
        finally:
            self.shutdown_request(request)


def serve(
    routes: Mapping[str, Callable[[str], str]], *, port: int, workers: int
) -> None:
    """Serve `routes` on loopback until somebody ends the process.

    Args:
        routes: The function for the first word of a path; it gets the second.
        port: Where to listen, unless the variable `PORT` says otherwise.
        workers: How many requests are worked on at once.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            print(f"{time.time():.3f} GET {self.path}", flush=True)
            _, name, rest = f"{self.path}/".split("/", 2)
            try:
                status, body = 200, routes[name](rest.strip("/"))
            except Exception as error:
                status, body = 500, f"{type(error).__name__}: {error}"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Keep quiet: the line above is the log."""

    with (
        Server(("127.0.0.1", int(os.environ.get("PORT", port))), Handler) as server,
        ThreadPoolExecutor(workers) as server.pool,
        contextlib.suppress(KeyboardInterrupt),
    ):
        print(f"listening on port {server.server_address[1]}", flush=True)
        server.serve_forever()
