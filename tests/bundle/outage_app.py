"""An ordinary app that calls several services at a steady pace, until it is told.

It knows nothing of the agent. Each line on stdin is a word: `bound` makes the calls
that have no timeout of their own get one, `end` ends it. The plan is one JSON list of
objects with `url`, `method` and `timeout` (null for none).
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time

import requests

PAUSE = 1 / 12
bound = threading.Event()
ended = threading.Event()


def call_for_ever(url: str, method: str, timeout: float | None) -> None:
    """Call one service twelve times a second, whatever comes of it."""
    session = requests.Session()
    while not ended.is_set():
        began = time.monotonic()
        limit = 2.0 if timeout is None and bound.is_set() else timeout
        with contextlib.suppress(requests.RequestException):
            session.request(method, url, timeout=limit)
        ended.wait(max(0.0, PAUSE - (time.monotonic() - began)))


def main() -> None:
    """Start a thread a service and obey stdin."""
    for each in json.loads(sys.argv[1]):
        threading.Thread(target=call_for_ever, kwargs=each, daemon=True).start()
    for line in sys.stdin:
        if line.strip() == "bound":
            bound.set()
        if line.strip() == "end":
            break
    ended.set()


main()
