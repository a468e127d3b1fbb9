"""Hedging over real clients: the second request answers while the first one hangs."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import trio

from integrations.governing import governing
from loopback import Delay, Hang, Server, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from integrations.governing import Governed
    from loopback import Exchange

    Ask = Callable[..., Any]

HEDGED: Any = {"HEDGE": "true", "HEDGE_MIN_SAMPLES": "1"}
USUAL = 0.05
"""Seconds that the calls of these tests take as a rule."""


@dataclasses.dataclass(frozen=True)
class Late:
    """An answer that comes when a second request is there."""

    server: Server
    then: Status

    def answer(self, exchange: Exchange) -> None:
        """Wait for the other one, then answer."""
        self.server.wait_for_hits("/x", 3)
        self.then.answer(exchange)


@contextlib.asynccontextmanager
async def by_httpx() -> AsyncIterator[Ask]:
    """Use one client of httpx."""
    async with httpx.AsyncClient(trust_env=False) as client:

        async def ask(url: str, method: str = "GET", **options: Any) -> Any:
            answer = await client.request(method, url, **options)
            return answer.status_code, answer.content

        yield ask


@contextlib.asynccontextmanager
async def by_aiohttp() -> AsyncIterator[Ask]:
    """Use one session of aiohttp."""
    async with aiohttp.ClientSession() as session:

        async def ask(url: str, method: str = "GET", **options: Any) -> Any:
            async with session.request(method, url, **options) as answer:
                return answer.status, await answer.read()

        yield ask


WAYS = {"httpx": by_httpx, "aiohttp": by_aiohttp}


@pytest.fixture(params=sorted(WAYS))
def library(request: pytest.FixtureRequest) -> str:
    """Each asynchronous library."""
    name: str = request.param
    return name


def ask_all(
    governed: Governed, library: str, url: str, *asked: dict[str, Any]
) -> list[Any]:
    """Make one call, say that it was a usual one, and make those that are asked."""

    async def story() -> list[Any]:
        async with WAYS[library]() as ask:
            await ask(url)
            suppose_usual(governed)
            return [await ask(url, **options) for options in asked]

    return asyncio.run(story())


def suppose_usual(governed: Governed) -> None:
    """Let what was measured on a busy machine be what it is on an idle one."""
    policies = governed.policies()
    for latencies in policies.latencies:
        latencies.renew_lock()
        latencies.add(USUAL, governed.runtime.clock.monotonic())


def script(server: Server, *behaviours: Any) -> str:
    """Return a URL that answers quickly once, and then does this."""
    server.script("/x", Status(200, body=b"usual"), *behaviours)
    return server.url("/x")


def test_a_request_that_hangs_is_overtaken(library: str, server: Server) -> None:
    """One call, two requests, the answer to the second; the first counts as nothing."""
    url = script(server, Hang(), Status(200, body=b"quick"))

    with governing((library,), **HEDGED) as governed:
        answers = ask_all(governed, library, url, {})

    assert [(200, b"quick")] == answers
    assert 3 == len(server.hits("/x"))
    assert ("success", 2) == governed.told.of("call_ended")[-1][:2]
    assert [(1,)] == governed.told.of("attempt_cancelled")
    assert "closed" == governed.state()


def test_the_first_may_still_win(library: str, server: Server) -> None:
    """Whichever answers first; a failed second one is nobody's answer."""
    url = script(server, Late(server, Status(200, body=b"first")), Status(503))

    with governing((library,), **HEDGED) as governed:
        answers = ask_all(governed, library, url, {})

    assert [(200, b"first")] == answers
    assert 3 == len(server.hits("/x"))
    assert ["success"] * 2 == governed.told.outcomes


def test_connections_are_whole_after_a_race(library: str, server: Server) -> None:
    """The cut request's connection is not used again, later calls are as ever."""
    url = script(server, Hang(), Status(200, body=b"quick"), Status(200, body=b"next"))

    with governing((library,), **HEDGED) as governed:
        answers = ask_all(governed, library, url, {}, {})

    assert [(200, b"quick"), (200, b"next")] == answers


@pytest.mark.parametrize(
    "options", [{"method": "POST"}, {"method": "POST", "data": b"x"}]
)
def test_what_has_an_effect_is_sent_once(
    library: str, server: Server, options: dict[str, Any]
) -> None:
    """However slow it is."""
    url = script(server, Delay(0.4, Status(201, body=b"made")))
    if library == "httpx" and "data" in options:
        options = {"method": "POST", "content": b"x"}

    with governing((library,), **HEDGED) as governed:
        answers = ask_all(governed, library, url, options)

    assert [(201, b"made")] == answers
    assert 2 == len(server.hits("/x"))


def test_each_of_two_requests_has_headers_and_body_of_its_own(server: Server) -> None:
    """The app's request is as the app made it when all is over."""
    url = script(server, Hang(), Status(200))
    request = httpx.Request("PUT", url, content=b"body", headers={"X-App": "1"})
    before = list(request.headers.raw)

    async def story() -> Any:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.put(url)
            suppose_usual(governed)
            return await client.send(request)

    with governing(("httpx",), **HEDGED) as governed:
        answer = asyncio.run(story())

    first, second = server.hits("/x")[-2:]
    assert request is answer.request
    assert before == list(request.headers.raw)
    assert b"body" == first.body == second.body
    assert first.headers == second.headers


def test_a_payload_of_aiohttp_is_sent_once(server: Server) -> None:
    """Two requests cannot write one payload at a time."""
    url = script(server, Delay(0.4, Status(200, body=b"put")))

    with governing(("aiohttp",), **HEDGED) as governed:
        answers = ask_all(governed, "aiohttp", url, {"method": "PUT", "data": b"x"})

    assert [(200, b"put")] == answers
    assert 2 == len(server.hits("/x"))


def test_on_trio_the_first_goes_alone(server: Server) -> None:
    """Races are made on asyncio only; a call on trio takes the time that it takes."""
    url = script(server, Delay(0.4, Status(200, body=b"slow")))

    async def story() -> Any:
        async with by_httpx() as ask:
            await ask(url)
            suppose_usual(governed)
            return await ask(url)

    with governing(("httpx",), **HEDGED) as governed:
        answer = trio.run(story)

    assert (200, b"slow") == answer
    assert 2 == len(server.hits("/x"))


def test_a_stream_is_not_hedged_and_not_measured(server: Server) -> None:
    """How long its headers take says nothing about calls whose body is read."""
    url = script(server, Delay(0.4, Status(200, body=b"stream")))

    async def story() -> Any:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(url)
            suppose_usual(governed)
            async with client.stream("GET", url) as answer:
                return await answer.aread()

    with governing(("httpx",), **HEDGED) as governed:
        body = asyncio.run(story())

    assert b"stream" == body
    assert 2 == len(server.hits("/x"))
    assert [True, False] == [call.measured for call in governed.told.calls]
    assert [USUAL] == governed.policies().latencies[True]
