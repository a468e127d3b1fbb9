"""B, the orders: asks C whether the goods are there."""

from __future__ import annotations

import os

import requests
from service import serve

STOCK_URL = os.environ.get("STOCK_URL", "http://127.0.0.1:8003")


def show_order(number: str) -> str:
    """Say what was ordered and whether it can be sent, which C knows."""
    response = requests.get(f"{STOCK_URL}/stock/{number}")
    response.raise_for_status()
    return f"order {number}: {response.text}"


if __name__ == "__main__":
    serve({"orders": show_order}, port=8002, workers=8)
