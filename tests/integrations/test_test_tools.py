"""Test tools count their calls: under the agent each sees exactly one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
import requests_mock
import responses
import respx
import vcr  # type: ignore[import-untyped]

from integrations.governing import governing
from loopback import Server, Status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from integrations.governing import Governed

URL = "http://service.invalid/x"


@pytest.fixture
def governed() -> Iterator[Governed]:
    """Govern both clients as they are by default."""
    with governing(("requests", "httpx")) as inside:
        yield inside


@pytest.mark.usefixtures("governed")
def test_responses() -> None:
    """It takes the place of the adapter's function."""
    with responses.RequestsMock() as mock:
        mock.get(URL, status=503)

        assert 503 == requests.get(URL).status_code

        assert 1 == len(mock.calls)


@pytest.mark.usefixtures("governed")
def test_requests_mock() -> None:
    """It takes the place of the adapter."""
    with requests_mock.Mocker() as mock:
        mock.get(URL, status_code=503)

        assert 503 == requests.get(URL).status_code

        assert 1 == mock.call_count


@pytest.mark.usefixtures("governed")
@pytest.mark.parametrize("using", ["httpcore", "httpx"])
def test_respx(using: str) -> None:
    """It takes the place of the pool or of the transport."""
    with respx.mock(using=using) as mock:
        route = mock.get(URL).mock(return_value=httpx.Response(503))

        assert 503 == httpx.get(URL).status_code
        assert 503 == asyncio.run(_get_async(URL)).status_code

        assert 2 == route.call_count


async def _get_async(url: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(**options) as client:
        return await client.get(url)


@pytest.mark.usefixtures("governed")
def test_pytest_httpx(request: pytest.FixtureRequest) -> None:
    """It takes the place of the transport's function."""
    httpx_mock = request.getfixturevalue("httpx_mock")
    httpx_mock.add_response(status_code=503, is_reusable=True)

    assert 503 == httpx.get(URL).status_code
    assert 503 == asyncio.run(_get_async(URL)).status_code

    assert 2 == len(httpx_mock.get_requests())


@pytest.mark.usefixtures("governed")
def test_a_mock_transport() -> None:
    """It is no transport of the network."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(503)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        assert 503 == client.get(URL).status_code

    assert 1 == len(seen)


@pytest.mark.usefixtures("governed")
def test_a_wsgi_transport() -> None:
    """The app under test is called once."""
    seen: list[str] = []

    def app(environ: dict[str, Any], start: Callable[..., Any]) -> list[bytes]:
        seen.append(environ["PATH_INFO"])
        start("503 Service Unavailable", [])
        return [b""]

    with httpx.Client(transport=httpx.WSGITransport(app=app)) as client:
        assert 503 == client.get(URL).status_code

    assert ["/x"] == seen


@pytest.mark.usefixtures("governed")
def test_an_asgi_transport() -> None:
    """The app under test is called once."""
    seen: list[str] = []

    async def app(scope: Any, _: Any, send: Callable[..., Any]) -> None:
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 503, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    transport = httpx.ASGITransport(app=app)

    assert 503 == asyncio.run(_get_async(URL, transport=transport)).status_code
    assert ["/x"] == seen


@pytest.mark.usefixtures("governed")
@pytest.mark.parametrize("library", ["requests", "httpx", "httpx-async"])
def test_vcrpy(library: str, server: Server, tmp_path: Path) -> None:
    """It records one call, and plays back as many as were recorded."""
    calls: dict[str, Callable[[str], Any]] = {
        "requests": requests.get,
        "httpx": httpx.get,
        "httpx-async": lambda url: asyncio.run(_get_async(url)),
    }
    server.script("/x", Status(503, body=b"recorded"))
    cassette = tmp_path / "cassette.yaml"

    for _ in range(2):
        with vcr.use_cassette(cassette) as played:
            response = calls[library](server.url("/x"))

            assert (503, b"recorded") == (response.status_code, response.content)
            assert 1 == len(played)

    assert 1 == len(server.hits("/x"))


class _Streaming(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"streamed"


@pytest.mark.usefixtures("governed")
def test_a_transport_of_the_apps_own() -> None:
    """Whatever it answers reaches the app untouched."""

    class Own(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(503, stream=_Streaming(), request=request)

    assert b"streamed" == asyncio.run(_get_async(URL, transport=Own())).content


def test_tools_leave_everything_as_it_was(governed: Governed, server: Server) -> None:
    """Afterwards calls are governed again."""
    with respx.mock as mock:
        mock.get(URL).mock(return_value=httpx.Response(200))
        httpx.get(URL)
    server.script("/x", Status(503), Status(200))

    assert 200 == httpx.get(server.url("/x")).status_code
    assert [2] == governed.told.retries
