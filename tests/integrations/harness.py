"""Drives each library through one interface, so that one contract fits all."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import requests
import trio

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_GIVEN: Any = object()


@dataclasses.dataclass(frozen=True)
class Wish:
    """One call as an app would make it."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: Any = None
    timeout: Any = NOT_GIVEN
    stream: bool = False
    verify: Any = True

    def options(self, body_name: str) -> dict[str, Any]:
        """Return the keyword arguments that the app gives."""
        options: dict[str, Any] = {"headers": self.headers}
        if self.body is not None:
            options[body_name] = self.body
        if self.timeout is not NOT_GIVEN:
            options["timeout"] = self.timeout
        return options


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the app saw: a status and a body, or an error."""

    status: int = 0
    body: bytes = b""
    error: Exception | None = None


class Harness(Protocol):
    """One library, in one way of using it."""

    library: str
    base_error: type[Exception]
    connection_error: type[Exception]
    timeout_errors: tuple[type[Exception], ...]

    def send(self, wish: Wish) -> Answer:
        """Make the call and say what the app saw."""
        ...


class Requests:
    library = "requests"
    base_error: type[Exception] = requests.exceptions.RequestException
    connection_error: type[Exception] = requests.exceptions.ConnectionError
    timeout_errors: tuple[type[Exception], ...] = (
        requests.exceptions.Timeout,
        requests.exceptions.ConnectionError,
    )

    def send(self, wish: Wish) -> Answer:
        with requests.Session() as session:
            try:
                response = session.request(
                    wish.method,
                    wish.url,
                    stream=wish.stream,
                    verify=wish.verify,
                    **wish.options("data"),
                )
                with response:
                    return Answer(response.status_code, response.content)
            except Exception as error:
                return Answer(error=error)


class Httpx:
    library = "httpx"
    base_error: type[Exception] = httpx.HTTPError
    connection_error: type[Exception] = httpx.ConnectError
    timeout_errors: tuple[type[Exception], ...] = (httpx.TimeoutException,)

    def send(self, wish: Wish) -> Answer:
        verify = _context(wish.verify)
        try:
            with httpx.Client(follow_redirects=True, verify=verify) as client:
                options = wish.options("content")
                if not wish.stream:
                    response = client.request(wish.method, wish.url, **options)
                    return Answer(response.status_code, response.content)
                with client.stream(wish.method, wish.url, **options) as response:
                    return Answer(response.status_code, response.read())
        except Exception as error:
            return Answer(error=error)


class AsyncHttpx(Httpx):
    def __init__(self, run: Callable[..., Answer]) -> None:
        self._run = run

    def send(self, wish: Wish) -> Answer:
        return self._run(self._send, wish)

    async def _send(self, wish: Wish) -> Answer:
        verify = _context(wish.verify)
        try:
            async with httpx.AsyncClient(
                follow_redirects=True, verify=verify
            ) as client:
                options = wish.options("content")
                if not wish.stream:
                    response = await client.request(wish.method, wish.url, **options)
                    return Answer(response.status_code, response.content)
                async with client.stream(wish.method, wish.url, **options) as response:
                    return Answer(response.status_code, await response.aread())
        except Exception as error:
            return Answer(error=error)


def _context(verify: Any) -> Any:
    if isinstance(verify, str):
        return ssl.create_default_context(cafile=verify)
    return verify


def _on_asyncio(function: Callable[..., Any], wish: Wish) -> Answer:
    answer: Answer = asyncio.run(function(wish))
    return answer


HARNESSES: dict[str, Callable[[], Harness]] = {
    "requests": Requests,
    "httpx": Httpx,
    "httpx-asyncio": lambda: AsyncHttpx(_on_asyncio),
    "httpx-trio": lambda: AsyncHttpx(trio.run),
}
