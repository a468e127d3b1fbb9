"""Where the app retries by itself the agent does not: attempts never multiply."""

from __future__ import annotations

import asyncio
import contextlib
import types
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import aiohttp
import backoff
import httpx
import pytest
import requests
import stamina
import tenacity
import urllib3

from integrations.governing import governing
from loopback import Server, Status, closed_port
from resilience_instrument.integrations import _retriers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from integrations.governing import Governed

    Govern = Callable[..., Governed]

LIBRARIES = ("requests", "httpx", "aiohttp", "urllib3", "urllib.request", "tenacity")

QUICK: Any = {"stop": tenacity.stop_after_attempt(3), "wait": tenacity.wait_none()}


@pytest.fixture
def govern() -> Iterator[Govern]:
    """Govern the clients and notice tenacity."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(governing(LIBRARIES, **settings))


@pytest.fixture
def noticed(govern: Govern, server: Server) -> Iterator[Server]:
    """A server that is always down; three attempts must reach it, not nine."""
    governed = govern(BREAKER_CONSECUTIVE="50")
    server.script("/x", Status(503))
    yield server
    assert 3 == len(server.hits("/x"))
    assert ["app_retries"] * 3 == governed.told.skipped


def _call(url: str) -> None:
    response = requests.get(url)
    response.raise_for_status()


def _call_urllib3(url: str) -> None:
    with urllib3.PoolManager() as manager:
        assert 503 != manager.request("GET", url).status


def _call_urllib(url: str) -> None:
    try:
        urllib.request.urlopen(url)
    except urllib.error.HTTPError as answer:
        answer.close()
        raise


async def _call_async(url: str) -> None:
    async with httpx.AsyncClient() as client:
        response = await client.get(url)
    response.raise_for_status()


async def _call_aiohttp(url: str) -> None:
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        await session.get(url)


@pytest.mark.parametrize(
    "call",
    [_call, lambda url: httpx.get(url).raise_for_status(), _call_urllib3, _call_urllib],
    ids=["requests", "httpx", "urllib3", "urllib.request"],
)
def test_a_decorated_function(noticed: Server, call: Callable[[str], object]) -> None:
    """The loop is among the callers."""
    with pytest.raises(tenacity.RetryError):
        tenacity.retry(**QUICK)(call)(noticed.url("/x"))


@pytest.mark.parametrize("call", [_call_async, _call_aiohttp])
def test_a_decorated_coroutine(
    noticed: Server, call: Callable[[str], Awaitable[None]]
) -> None:
    """The loop is among those that wait for it."""
    with pytest.raises(tenacity.RetryError):
        asyncio.run(tenacity.retry(**QUICK)(call)(noticed.url("/x")))


def test_a_for_loop_over_attempts(noticed: Server) -> None:
    """Nothing of tenacity is among the callers then, but its mark is there."""

    def run() -> None:
        for attempt in tenacity.Retrying(**QUICK):
            with attempt:
                _call(noticed.url("/x"))

    with pytest.raises(tenacity.RetryError):
        run()

    assert 0 == _retriers.MARK.get()


def test_an_async_for_loop_over_attempts(noticed: Server) -> None:
    """The same in a coroutine."""

    async def run() -> None:
        async for attempt in tenacity.AsyncRetrying(**QUICK):
            with attempt:
                await _call_async(noticed.url("/x"))

    with pytest.raises(tenacity.RetryError):
        asyncio.run(run())


@pytest.mark.parametrize("call", [_call_async, _call_aiohttp])
def test_a_task_inside(noticed: Server, call: Callable[[str], Awaitable[None]]) -> None:
    """A task has no callers, but inherits the mark."""

    async def run() -> None:
        await asyncio.gather(call(noticed.url("/x")))

    with pytest.raises(tenacity.RetryError):
        asyncio.run(tenacity.retry(**QUICK)(run)())


@pytest.mark.parametrize(
    "call",
    [_call, lambda url: httpx.get(url).raise_for_status(), _call_urllib3, _call_urllib],
    ids=["requests", "httpx", "urllib3", "urllib.request"],
)
def test_a_thread_inside(noticed: Server, call: Callable[[str], object]) -> None:
    """So does a thread that asyncio starts."""

    async def run() -> None:
        await asyncio.to_thread(call, noticed.url("/x"))

    with pytest.raises(tenacity.RetryError):
        asyncio.run(tenacity.retry(**QUICK)(run)())


def test_backoff(noticed: Server) -> None:
    """Another library whose loop is among the callers."""
    retrying = backoff.on_exception(
        backoff.constant, requests.RequestException, max_tries=3, interval=0
    )

    with pytest.raises(requests.HTTPError):
        retrying(_call)(noticed.url("/x"))


def test_stamina(noticed: Server) -> None:
    """A library on top of tenacity."""
    retrying = stamina.retry(
        on=requests.RequestException, attempts=3, wait_initial=0, wait_jitter=0
    )

    with pytest.raises(requests.HTTPError):
        retrying(_call)(noticed.url("/x"))


@pytest.mark.parametrize("header", ["X-Stainless-Retry-Count", "amz-sdk-request"])
def test_a_header_that_counts_attempts(
    govern: Govern, server: Server, header: str
) -> None:
    """Generated clients say so in every request."""
    governed = govern()
    server.script("/x", Status(503))

    requests.get(server.url("/x"), headers={header: "0"})

    assert ["app_retries"] == governed.told.skipped


def test_a_transport_that_repeats_connecting(govern: Govern, server: Server) -> None:
    """It does nothing else: an answer is still tried again by the agent."""
    governed = govern()
    server.script("/x", Status(503), Status(200))

    with httpx.Client(transport=httpx.HTTPTransport(retries=1)) as client:
        answered = client.get(server.url("/x")).status_code
        with pytest.raises(httpx.ConnectError):
            client.get(f"http://127.0.0.1:{closed_port()}/")

    assert 200 == answered
    assert ["app_retries"] == governed.told.skipped


def _deep(levels: int) -> bool:
    return _deep(levels - 1) if levels else _retriers.around()


def test_nobody_retries_by_default() -> None:
    """Not even at the bottom of a long chain of callers."""
    assert not _retriers.around()
    assert not _deep(300)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("tenacity.asyncio", True),
        ("google.api_core.retry.retry_unary", True),
        ("google.api_core.client_info", False),
        ("tenacity_of_mine", False),
        (None, False),
    ],
)
def test_a_retrier_is_known_by_its_module(
    module: str | None, *, expected: bool
) -> None:
    """A whole package, or the part of one that tries again."""
    code = "def call(function): return function()"
    namespace = types.ModuleType(str(module)).__dict__
    exec(code, namespace)
    namespace["__name__"] = module

    assert expected == namespace["call"](_retriers.around)
