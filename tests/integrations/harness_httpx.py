"""httpx and its fork behind the interface of the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from integrations.harness import (
    Answer,
    Errors,
    Traits,
    Wish,
    tls_context,
    usual_context,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Httpx:
    """The synchronous client of a library of this shape."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self.library: str = module.__name__
        self.traits = Traits()
        self.base_error: Errors = module.HTTPError
        self.connection_error: type[Exception] = module.ConnectError
        self.timeout_errors: tuple[type[Exception], ...] = (module.TimeoutException,)

    def send(self, wish: Wish) -> Answer:
        client_class, verify = self._module.Client, _context(wish)
        try:
            with client_class(follow_redirects=True, verify=verify) as client:
                options = wish.options("content")
                if not wish.stream:
                    response = client.request(wish.method, wish.url, **options)
                    return Answer(response.status_code, response.content)
                with client.stream(wish.method, wish.url, **options) as response:
                    return Answer(response.status_code, response.read())
        except Exception as error:
            return Answer(error=error)


class AsyncHttpx(Httpx):
    """The asynchronous client, on the event loop that `run` has."""

    def __init__(self, module: Any, run: Callable[..., Answer]) -> None:
        super().__init__(module)
        self.traits = Traits(awaits=True, iterates=False, files=False)
        self._run = run

    def send(self, wish: Wish) -> Answer:
        return self._run(self._send, wish)

    async def _send(self, wish: Wish) -> Answer:
        client_class, verify = self._module.AsyncClient, _context(wish)
        try:
            async with client_class(follow_redirects=True, verify=verify) as client:
                options = wish.options("content")
                if not wish.stream:
                    response = await client.request(wish.method, wish.url, **options)
                    return Answer(response.status_code, response.content)
                async with client.stream(wish.method, wish.url, **options) as response:
                    return Answer(response.status_code, await response.aread())
        except Exception as error:
            return Answer(error=error)


def _context(wish: Wish) -> Any:
    return usual_context() if wish.verify is True else tls_context(wish.verify)
