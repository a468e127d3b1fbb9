"""C, the stock: looks into its database, which has good days and bad days."""

from __future__ import annotations

import os
import time
from pathlib import Path

from service import serve

# How long a query takes, in seconds, and what comes of it: `0.1 fine`, `3 fine`,
# `0.3 broken`. Whoever writes the file makes the weather.
DATABASE = Path(os.environ.get("DATABASE", "database"))


def count_goods(_: str) -> str:
    """Ask the database how many are left."""
    seconds, result = DATABASE.read_text(encoding="utf-8").split()
    time.sleep(float(seconds))
    if result != "fine":
        raise OSError("the database is down")
    return "5 in stock"


if __name__ == "__main__":
    serve({"stock": count_goods}, port=8003, workers=4)
