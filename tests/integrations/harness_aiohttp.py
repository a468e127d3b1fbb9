"""aiohttp behind the interface of the contract."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import aiohttp

from integrations.harness import (
    NOT_GIVEN,
    Answer,
    Errors,
    Traits,
    Wish,
    on_asyncio,
    tls_context,
)


class Aiohttp:
    library = "aiohttp"
    traits = Traits(awaits=True, reads=False, rewinds=True, iterates=False, asked="")
    base_error: Errors = aiohttp.ClientError
    connection_error: type[Exception] = aiohttp.ClientConnectionError
    timeout_errors: tuple[type[Exception], ...] = (TimeoutError,)

    def send(self, wish: Wish) -> Answer:
        return on_asyncio(self._send, wish)

    async def _send(self, wish: Wish) -> Answer:
        options: dict[str, Any] = wish.options("data")
        if wish.timeout is not NOT_GIVEN:
            options["timeout"] = aiohttp.ClientTimeout(
                total=None, sock_connect=wish.timeout, sock_read=wish.timeout
            )
        if isinstance(wish.body, bytes) and len(wish.body) > 1_000_000:
            # aiohttp warns of long data and asks for a file.
            options["data"] = io.BytesIO(wish.body)
        verify = tls_context(wish.verify)
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.request(wish.method, wish.url, ssl=verify, **options) as answer,
            ):
                if wish.stream:
                    pieces = [piece async for piece in answer.content.iter_any()]
                    return Answer(answer.status, b"".join(pieces))
                return Answer(answer.status, await answer.read())
        except Exception as error:
            return Answer(error=error)
        finally:
            # A transport that was cut needs a moment before its loop may end.
            await asyncio.sleep(0.25 if wish.url.startswith("https") else 0)
