"""An ordinary app that calls several services at a steady pace, until it is told.

It knows nothing of the agent. Each line on stdin is a word: `bound` makes the calls
that have no timeout of their own get one, `leave` gives databases up, `end` ends it.
The plan is one JSON list of objects with `url`, `method`, `timeout` (null for none),
`pause` and, where it ends some time, the number of `calls`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING

import pymysql
import requests

if TYPE_CHECKING:
    from collections.abc import Callable

bound = threading.Event()
left = threading.Event()
ended = threading.Event()


def keep_calling(
    url: str,
    method: str,
    timeout: float | None,
    pause: float,
    calls: int = sys.maxsize,
) -> None:
    """Call one service each `pause` seconds, whatever comes of it."""
    session = requests.Session()
    while not ended.is_set() and calls > 0:
        calls -= 1
        began = time.monotonic()
        limit = 2.0 if timeout is None and bound.is_set() else timeout
        with contextlib.suppress(requests.RequestException):
            session.request(method, url, timeout=limit)
        ended.wait(max(0.0, pause - (time.monotonic() - began)))


def keep_connecting(url: str, timeout: float | None, pause: float) -> None:
    """Connect to a MySQL database each `pause` seconds, whatever comes of it."""
    parts = urllib.parse.urlsplit(url)
    while not ended.is_set() and not left.wait(pause):
        with contextlib.suppress(pymysql.MySQLError):
            pymysql.connect(
                host=parts.hostname,
                port=parts.port or 0,
                user="app",
                database=parts.path.strip("/"),
                connect_timeout=timeout,
            ).close()


def main() -> None:
    """Start a thread a service and obey stdin."""
    for each in json.loads(sys.argv[1]):
        target: Callable[..., None] = keep_calling
        if each["url"].startswith("mysql:"):
            target = keep_connecting
            del each["method"]
        threading.Thread(target=target, kwargs=each, daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "bound":
            bound.set()
        if line.strip() == "leave":
            left.set()
        if line.strip() == "end":
            break
    ended.set()


main()
