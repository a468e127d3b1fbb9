"""A plugin for pytest: whoever uses `wsgiref`'s server gets a thread a request.

The server of the suite of requests serves one request at a time. A client that
gives up on an answer of 10 seconds and tries again keeps it busy for as long as
its tries last, and all others wait: what they come to is up to chance.
"""

from __future__ import annotations

from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer

WSGIServer.__bases__ = (ThreadingMixIn, *WSGIServer.__bases__)
WSGIServer.daemon_threads = True  # type: ignore[attr-defined]
WSGIServer.block_on_close = False  # type: ignore[attr-defined]
