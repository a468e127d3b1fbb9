"""A, the shop: shows its products itself and asks B about orders."""

from __future__ import annotations

import os

import httpx
from service import serve

orders = httpx.Client(base_url=os.environ.get("ORDERS_URL", "http://127.0.0.1:8002"))


def show_products(_: str) -> str:
    """Show what the shop sells. Nobody has to be asked for that."""
    return "apples, pears, plums"


def show_order(number: str) -> str:
    """Show an order, which B knows."""
    response = orders.get(f"/orders/{number}")
    response.raise_for_status()
    return response.text


if __name__ == "__main__":
    serve({"products": show_products, "orders": show_order}, port=8001, workers=8)
