"""What a call left behind dies with it: nothing waits for the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import http.client
import weakref
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
import urllib3

from integrations.governing import governing
from loopback import Close, Server, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Get = Callable[[], None]
    User = Callable[[str, Callable[[Get], None]], None]

KINDS = (
    http.client.HTTPResponse,
    httpx.HTTPError,
    httpx.Request,
    httpx.Response,
    requests.PreparedRequest,
    requests.RequestException,
    requests.Response,
    urllib3.HTTPResponse,
    urllib3.exceptions.HTTPError,
)
"""What must not outlive a call."""

ATTEMPTS = 3

pytestmark = pytest.mark.long


def alive() -> list[Any]:
    """Return what is alive of these kinds."""
    return [each for each in gc.get_objects() if issubclass(type(each), KINDS)]


def by_requests(url: str, study: Callable[[Get], None]) -> None:
    """Use a session of requests."""

    def get() -> None:
        with contextlib.suppress(requests.RequestException):
            session.get(url)

    with requests.Session() as session:
        session.trust_env = False
        study(get)


def by_httpx(url: str, study: Callable[[Get], None]) -> None:
    """Use a client of httpx."""

    def get() -> None:
        with contextlib.suppress(httpx.HTTPError):
            client.get(url)

    with httpx.Client(trust_env=False) as client:
        study(get)


def by_async_httpx(url: str, study: Callable[[Get], None]) -> None:
    """Use an asynchronous client of httpx."""

    async def ask(ask: Callable[[str], Awaitable[object]]) -> None:
        with contextlib.suppress(httpx.HTTPError):
            await ask(url)

    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(trust_env=False)
        study(lambda: runner.run(ask(client.get)))
        runner.run(client.aclose())


def left_by(user: User, url: str) -> Counter[str]:
    """Return what is alive after the second call that was not before it."""
    found: Counter[str] = Counter()

    def study(get: Get) -> None:
        get()
        gc.collect()
        gc.disable()
        try:
            before = [weakref.ref(each) for each in alive()]
            get()
            known = {id(each()) for each in before}
            found.update(
                type(each).__qualname__ for each in alive() if id(each) not in known
            )
        finally:
            gc.enable()

    user(url, study)
    return found


@pytest.fixture(
    params=[
        (by_requests, "requests", False),
        (by_requests, "requests", True),
        (by_httpx, "httpx", False),
        (by_httpx, "httpx", True),
        (by_async_httpx, "httpx", False),
    ],
    ids=["requests", "requests-fast", "httpx", "httpx-fast", "httpx-async"],
)
def way(request: pytest.FixtureRequest) -> tuple[User, str, bool]:
    """Who calls, through which library, and whether on the short way."""
    found: tuple[User, str, bool] = request.param
    return found


def test_failed_responses_die_with_their_call(
    way: tuple[User, str, bool], server: Server
) -> None:
    """Of three attempts no more is left than of one without the agent."""
    user, library, fast = way
    server.script("/plain", Status(200), Status(503))
    server.script("/governed", Status(200), Status(503))
    plain = left_by(user, server.url("/plain"))

    with governing((library,), fast=fast):
        governed = left_by(user, server.url("/governed"))

    assert 1 + ATTEMPTS == len(server.hits("/governed"))
    assert plain == governed


def test_errors_die_with_their_call(
    way: tuple[User, str, bool], server: Server
) -> None:
    """Each attempt leaves what the library's own error leaves, and nothing of ours."""
    user, library, fast = way
    server.script("/plain", Status(200), Close())
    server.script("/governed", Status(200), Close())
    plain = left_by(user, server.url("/plain"))

    with governing((library,), fast=fast):
        governed = left_by(user, server.url("/governed"))

    assert 1 + ATTEMPTS == len(server.hits("/governed"))
    most = Counter({kind: ATTEMPTS * count for kind, count in plain.items()})
    assert Counter() == governed - most
