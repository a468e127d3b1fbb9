"""An ordinary app that calls several services at a steady pace, until it is told.

It knows nothing of the agent. Each line on stdin is a word: `bound` makes the calls
that have no timeout of their own get one, `end` ends it. The plan is one JSON list of
objects with `url`, `method`, `timeout` (null for none), `pause` and, where it ends some
time, the number of `calls`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time

import requests

bound = threading.Event()
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


def main() -> None:
    """Start a thread a service and obey stdin."""
    for each in json.loads(sys.argv[1]):
        threading.Thread(target=keep_calling, kwargs=each, daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "bound":
            bound.set()
        if line.strip() == "end":
            break
    ended.set()


main()
