"""HTTP/2 on httpx: a stream ends alone, its connection and its siblings live on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio
import httpx
import pytest

from integrations.governing import governing
from loopback_h2 import Answer, H2Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.governing import Governed

    Govern = Callable[..., Governed]


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both event loops that httpx runs on."""
    name: str = request.param
    return name


@pytest.fixture
def govern() -> Iterator[Govern]:
    """Govern httpx with the settings that are given."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(governing(("httpx",), **settings))


def _client() -> httpx.AsyncClient:
    return httpx.AsyncClient(http1=False, http2=True)


async def _outcome(client: httpx.AsyncClient, url: str, **options: float) -> str:
    try:
        return (await client.get(url, **options)).text  # type: ignore[arg-type]
    except httpx.ReadTimeout:
        return "timeout"


@pytest.mark.parametrize(
    ("read", "total"), [("0.5", "0.5"), ("0.5", "5")], ids=["total", "read"]
)
def test_a_slow_stream_is_cut_alone(
    govern: Govern, backend: str, read: str, total: str
) -> None:
    """By its deadline or its read timeout; all goes on over the one connection."""
    governed = govern(
        TIMEOUT_READ=read,
        TIMEOUT_TOTAL=total,
        TIMEOUT_CONNECT="0.3",
        TIMEOUT_POOL="0.1",
        RETRY_MAX_ATTEMPTS="1",
    )
    answers = {"/slow": Answer(3.0), "/fair": Answer(0.6), "/fast": Answer()}
    outcomes: dict[str, str] = {}

    async def run() -> None:
        async with _client() as client, anyio.create_task_group() as tasks:

            async def call(path: str, **options: float) -> None:
                outcomes[path] = await _outcome(client, server.url(path), **options)

            await call("/fast")
            tasks.start_soon(call, "/slow")
            await call("/fair", timeout=5)
            await call("/fast")

    with H2Server(answers) as server:
        anyio.run(run, backend=backend)

        assert {"/slow": "timeout", "/fair": "ok", "/fast": "ok"} == outcomes
        assert 1 == server.connections
    assert "closed" == governed.state()


def test_pieces_that_keep_coming_are_not_cut(govern: Govern, backend: str) -> None:
    """A read timeout counts from piece to piece, as on HTTP/1.1."""
    govern(TIMEOUT_READ="0.5", TIMEOUT_TOTAL="5", RETRY_MAX_ATTEMPTS="1")
    answers = {"/long": Answer(0.25, (b"a", b"b", b"c", b"d"))}

    async def run() -> str:
        async with _client() as client:
            return await _outcome(client, server.url("/long"))

    with H2Server(answers) as server:
        assert "abcd" == anyio.run(run, backend=backend)


def test_the_apps_own_timeout_is_the_librarys_business(
    govern: Govern, backend: str
) -> None:
    """Where the app chose, httpx does what it does without the agent."""
    govern(RETRY_MAX_ATTEMPTS="1")

    async def run() -> str:
        async with _client() as client:
            return await _outcome(client, server.url("/slow"), timeout=0.3)

    with H2Server({"/slow": Answer(2.0)}) as server:
        assert "timeout" == anyio.run(run, backend=backend)
