"""People who want to see orders, while the database has its good and bad days."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import urllib.request
from pathlib import Path

DAYS = ("0.1 fine", "3 fine", "0.3 broken", "0.1 fine")
URL = "http://127.0.0.1:8001/orders/4711"


def come_for_ever() -> None:
    """Ask for an order twice a second, and give up after five seconds."""
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(URL, timeout=5):
            pass
        time.sleep(0.5)


def main() -> None:
    """Let eight people come, and change the database every two minutes."""
    for _ in range(8):
        threading.Thread(target=come_for_ever, daemon=True).start()
    while True:
        for day in DAYS:
            Path(os.environ["DATABASE"]).write_text(f"{day}\n", encoding="utf-8")
            time.sleep(120)


if __name__ == "__main__":
    main()
