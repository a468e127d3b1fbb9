"""Every harness: adding a library to the contract takes a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import httpx2
import trio

from integrations.harness import on_asyncio
from integrations.harness_aiohttp import Aiohttp
from integrations.harness_httpx import AsyncHttpx, Httpx
from integrations.harness_requests import Requests
from integrations.harness_urllib import UrllibRequest
from integrations.harness_urllib3 import Urllib3

if TYPE_CHECKING:
    from collections.abc import Callable

    from integrations.harness import Harness

HARNESSES: dict[str, Callable[[], Harness]] = {
    "aiohttp": Aiohttp,
    "requests": Requests,
    "httpx": lambda: Httpx(httpx),
    "httpx-asyncio": lambda: AsyncHttpx(httpx, on_asyncio),
    "httpx-trio": lambda: AsyncHttpx(httpx, trio.run),
    "httpx2": lambda: Httpx(httpx2),
    "httpx2-asyncio": lambda: AsyncHttpx(httpx2, on_asyncio),
    "httpx2-trio": lambda: AsyncHttpx(httpx2, trio.run),
    "urllib3": Urllib3,
    "urllib.request": UrllibRequest,
}
