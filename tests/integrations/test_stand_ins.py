"""Answers that stand in, as each library's own response and by its own ways."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import requests
import urllib3

from integrations.governing import governing
from loopback import Close, Server, Status, closed_port, redirect

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from integrations.governing import Governed

    Govern = Callable[..., Governed]
    Seen = tuple[str | None, bytes, int]


@pytest.fixture
def falls_back(tmp_path: Path) -> Iterator[Govern]:
    """Govern all clients with a `fallback` table."""
    libraries = ("requests", "httpx", "urllib3", "urllib.request", "aiohttp")
    with contextlib.ExitStack() as stack:

        def govern(fallback: str, **settings: Any) -> Governed:
            file = tmp_path / "r.toml"
            file.write_text(f"[defaults]\nfallback = {fallback}\n", encoding="utf-8")
            once = {"CONFIG": str(file), "RETRY_MAX_ATTEMPTS": "1"} | settings
            return stack.enter_context(governing(libraries, **once))

        yield govern


@pytest.fixture
def backup() -> Iterator[Server]:
    """Another host."""
    with Server() as server:
        yield server


MARK = "Resilience-Fallback"


def _by_requests(url: str) -> Seen:
    answer = requests.get(url)
    return answer.headers.get(MARK), answer.content, answer.status_code


def _by_httpx(url: str) -> Seen:
    answer = httpx.get(url)
    return answer.headers.get(MARK), answer.content, answer.status_code


def _by_urllib3(url: str) -> Seen:
    with urllib3.PoolManager() as manager:
        answer = manager.request("GET", url)
        return answer.headers.get(MARK), answer.data, answer.status


def _by_urllib(url: str) -> Seen:
    with urllib.request.urlopen(url) as answer:
        return answer.headers.get(MARK), answer.read(), answer.status


async def _ask(url: str, **options: Any) -> Seen:
    async with (
        aiohttp.ClientSession(**options) as session,
        session.get(url) as answer,
    ):
        return answer.headers.get(MARK), await answer.read(), answer.status


def _by_aiohttp(url: str) -> Seen:
    return asyncio.run(_ask(url))


@pytest.mark.parametrize(
    "ask", [_by_requests, _by_httpx, _by_urllib3, _by_urllib, _by_aiohttp]
)
def test_the_app_can_see_it(
    falls_back: Govern, server: Server, backup: Server, ask: Callable[[str], Seen]
) -> None:
    """By a header of the response, which else looks like any."""
    base = backup.url("")
    falls_back(f'{{ cache = {{}}, service = "{base}", static = {{ body = "none" }} }}')
    backup.script("/x", Status(503), Status(200, body=b"other"))
    server.script(
        "/x", Status(503), Status(503), Status(200, {"A": "b"}, b"good"), Close()
    )
    url = server.url("/x")

    seen = [ask(url) for _ in range(4)]

    assert [
        ("static", b"none", 200),
        ("service", b"other", 200),
        (None, b"good", 200),
        ("cache", b"good", 200),
    ] == seen


@pytest.mark.parametrize("ask", [_by_requests, _by_urllib3, _by_aiohttp, _by_httpx])
def test_a_compressed_answer_is_read_once(
    falls_back: Govern, server: Server, ask: Callable[[str], Seen]
) -> None:
    """What was kept is not decoded a second time."""
    falls_back("{ cache = {} }")
    body = gzip.compress(b"good")
    server.script("/x", Status(200, {"Content-Encoding": "gzip"}, body), Close())
    url = server.url("/x")

    assert [(None, b"good", 200), ("cache", b"good", 200)] == [ask(url), ask(url)]


# -- aiohttp ---------------------------------------------------------------


def test_an_answer_of_aiohttp_is_one_of_its_own(
    falls_back: Govern, server: Server
) -> None:
    """With text, JSON, status line, cookies; and its class is the session's."""
    falls_back(
        '{ static = { status = 201, body = "[1]", '
        'headers = { Content-Type = "application/json", Set-Cookie = "a=1" } } }'
    )
    server.script("/x", Status(503))

    class Own(aiohttp.ClientResponse):
        pass

    async def run() -> None:
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(response_class=Own, cookie_jar=jar) as session:
            answer = await session.get(server.url("/x"), raise_for_status=True)
            assert isinstance(answer, Own)
            assert (201, "Created", True) == (answer.status, answer.reason, answer.ok)
            assert ["1"] == [cookie.value for cookie in session.cookie_jar]
            assert [1] == await answer.json()
            assert "[1]" == await answer.text()
            assert server.url("/x") == str(answer.url)
            assert answer.closed

    asyncio.run(run())


@pytest.mark.parametrize("how", ["in part", "undecoded", "of another class"])
def test_what_was_not_read_as_a_whole_is_not_kept(
    falls_back: Govern, server: Server, how: str
) -> None:
    """Of a body that the app reads piece by piece nobody has all."""
    falls_back("{ cache = {} }")
    zipped = {"Content-Encoding": "gzip"} if how == "undecoded" else {}
    server.script("/x", Status(200, zipped, b"good"), Status(503))

    class Own(aiohttp.ClientResponse):
        pass

    async def run() -> int:
        kind = Own if how == "of another class" else aiohttp.ClientResponse
        async with aiohttp.ClientSession(
            auto_decompress=how != "undecoded", response_class=kind
        ) as session:
            async with session.get(server.url("/x")) as answer:
                if how == "in part":
                    await answer.content.read(2)
                await answer.read()
            async with session.get(server.url("/x")) as answer:
                return answer.status

    assert 503 == asyncio.run(run())


def test_a_response_that_may_be_kept_looks_like_any(
    falls_back: Govern, server: Server
) -> None:
    """And is one; what it says of itself is the same."""
    falls_back("{ cache = {} }")
    server.script("/x", Status(200, body=b"good"))

    async def run() -> type[aiohttp.ClientResponse]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(server.url("/x")) as answer,
        ):
            assert isinstance(answer, aiohttp.ClientResponse)
            return type(answer)

    asked = asyncio.run(run())
    with urllib.request.urlopen(server.url("/x")) as answer:
        assert "<http.client.HTTPResponse object" in repr(answer)

    assert (
        "aiohttp.client_reqrep.ClientResponse" == f"{asked.__module__}.{asked.__name__}"
    )


def test_aiohttp_asks_another_host_with_what_the_app_chose(
    falls_back: Govern, server: Server, backup: Server
) -> None:
    """Timeout, body and idempotency key included."""
    falls_back(f'{{ service = "{backup.url("")}" }}')
    server.script("/x", Status(503))
    backup.script("/x", Status(200, body=b"other"))

    async def run() -> tuple[str | None, bytes]:
        timeout = aiohttp.ClientTimeout(total=5)
        async with (
            aiohttp.ClientSession() as session,
            session.put(server.url("/x"), json=[1], timeout=timeout) as answer,
        ):
            return answer.headers.get(MARK), await answer.read()

    assert ("service", b"other") == asyncio.run(run())
    (hit,) = backup.hits()
    assert (b"[1]", "application/json") == (hit.body, hit.headers["content-type"])


# -- urllib ----------------------------------------------------------------


@pytest.mark.parametrize("how", ["read", "readinto", "read1", "readline"])
def test_urllib_keeps_what_is_read_at_once(
    falls_back: Govern, server: Server, how: str
) -> None:
    """Whatever else reads of it gets what it asks for, and nothing is kept."""
    falls_back("{ cache = {} }")
    server.script("/x", Status(200, body=b"good"), Status(503))
    readers: dict[str, Callable[[Any], object]] = {
        "read": lambda answer: answer.read(),
        "readinto": lambda answer: answer.readinto(bytearray(4)),
        "read1": lambda answer: answer.read1(),
        "readline": lambda answer: answer.readline(),
    }
    with urllib.request.urlopen(server.url("/x")) as answer:
        assert readers[how](answer) in {b"good", 4}
        assert b"" == answer.read()

    status = 200
    try:
        with urllib.request.urlopen(server.url("/x")) as answer:
            assert b"good" == answer.read()
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()

    assert (200 if how == "read" else 503) == status


def test_a_connection_of_an_apps_own_is_left_as_it_is(
    falls_back: Govern, server: Server
) -> None:
    """A response that is none of the standard library's is not kept."""
    import http.client

    falls_back("{ cache = {} }")
    server.script("/x", Status(200, body=b"good"), Status(503))

    class Response(http.client.HTTPResponse):
        pass

    class Connection(http.client.HTTPConnection):
        response_class = Response

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, req: Any) -> Any:
            return self.do_open(Connection, req)

    opener = urllib.request.build_opener(Handler)
    with opener.open(server.url("/x")) as answer:
        assert type(answer) is Response
        answer.read()
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(server.url("/x"))
    caught.value.close()


def test_urllib_sends_a_file_elsewhere_from_where_it_stood(
    falls_back: Govern, server: Server, backup: Server
) -> None:
    """The other host gets all of it."""
    falls_back(f'{{ service = "{backup.url("")}" }}')
    server.script("/x", Status(503))
    backup.script("/x", Status(200))
    file = io.BytesIO(b"..body")
    file.seek(2)
    headers = {"Content-Length": "4", "Content-Type": "a/b"}
    wish = urllib.request.Request(server.url("/x"), file, headers, method="PUT")

    with urllib.request.urlopen(wish) as answer:
        assert "service" == answer.headers[MARK]

    assert [b"body"] == [hit.body for hit in backup.hits()]


def test_what_another_host_does_not_know_is_its_answer(
    falls_back: Govern, server: Server, backup: Server
) -> None:
    """A 404 says that it is healthy; urllib raises it as ever."""
    governed = falls_back(f'{{ service = "{backup.url("")}" }}')
    server.script("/x", Status(503))
    backup.script("/x", Status(404, body=b"absent"))

    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(server.url("/x"))

    with caught.value as answer:
        assert (404, b"absent") == (answer.code, answer.read())
        assert "service" == answer.headers[MARK]
    assert [("service", "success")] == governed.told.of("fell_back")


# -- urllib3 ---------------------------------------------------------------


@pytest.mark.parametrize("answer", [Status(503), Close()])
def test_retries_of_an_apps_own_come_first(
    falls_back: Govern, server: Server, answer: Any
) -> None:
    """Nothing stands in before urllib3 has tried as often as it was told to."""
    governed = falls_back('{ static = { body = "none" } }')
    server.script("/x", answer)
    own = urllib3.Retry(2, status_forcelist=[503], backoff_factor=0)

    with urllib3.PoolManager() as manager:
        got = manager.request("GET", server.url("/x"), retries=own)

    assert (b"none", "static") == (got.data, got.headers[MARK])
    assert 3 == len(server.hits("/x"))
    assert [("static", "success")] == governed.told.of("fell_back")


def test_retries_of_an_apps_own_come_first_for_a_host_that_is_not_there(
    falls_back: Govern,
) -> None:
    """Connecting is tried three times, and then something else answers."""
    governed = falls_back('{ static = { body = "none" } }', BREAKER_ENABLED="0")

    with urllib3.PoolManager() as manager:
        url = f"http://127.0.0.1:{closed_port()}/"
        got = manager.request("GET", url, retries=urllib3.Retry(2))

    assert b"none" == got.data
    assert ["error", "error", "fallback"] == governed.told.outcomes


def test_a_status_that_no_retries_want_is_answered_at_once(
    falls_back: Govern, server: Server
) -> None:
    """Retries that mind connections only leave it alone."""
    falls_back('{ static = { body = "none" } }')
    server.script("/x", Status(500))

    with urllib3.PoolManager() as manager:
        got = [
            manager.request("GET", server.url("/x"), retries=each).data
            for each in (urllib3.Retry(2), False)
        ]

    assert [b"none", b"none"] == got
    assert 2 == len(server.hits("/x"))


@pytest.mark.parametrize("kind", ['static = { body = "none" }', 'service = "BACKUP"'])
def test_a_streamed_answer_gives_its_connection_back(
    falls_back: Govern, server: Server, backup: Server, kind: str
) -> None:
    """The pool does not run dry because something else answered."""
    falls_back(f"{{ {kind.replace('BACKUP', backup.url(''))} }}")
    server.script("/x", Status(503, body=b"a" * 10))
    backup.script("/x", Status(200, body=b"none"))

    with urllib3.PoolManager(maxsize=1, block=True, timeout=5) as manager:
        for _ in range(3):
            got = manager.request("GET", server.url("/x"), preload_content=False)
            assert b"none" == got.read()
            got.release_conn()


def test_a_pool_of_one_host_finds_another(
    falls_back: Govern, server: Server, backup: Server
) -> None:
    """Without a manager that knows the way; file and timeout are the app's."""
    falls_back(f'{{ service = "{backup.url("")}" }}')
    server.script("/x", Status(503))
    backup.script("/x", redirect("/y"))
    backup.script("/y", Status(200, body=b"other"))
    file = io.BytesIO(b"..body")
    file.seek(2)
    pool = urllib3.HTTPConnectionPool("127.0.0.1", server.port, timeout=5)

    with contextlib.closing(pool):
        got = pool.request("PUT", "/x", body=file, retries=2)

    assert b"other" == got.data
    first = backup.hits()[0]
    assert (b"body", f"127.0.0.1:{backup.port}") == (first.body, first.headers["host"])


def test_an_open_circuit_finds_another_host(falls_back: Govern, backup: Server) -> None:
    """Where nothing was sent, even a POST may go there."""
    falls_back(f'{{ service = "{backup.url("")}" }}', BREAKER_CONSECUTIVE="1")
    backup.script("/x", Status(200, body=b"other"))
    url = f"http://127.0.0.1:{closed_port()}/x"

    with urllib3.PoolManager() as manager:
        got = [manager.request("POST", url, body=b"1").data for _ in range(2)]

    assert [b"other", b"other"] == got


def test_an_answer_that_was_not_decoded_is_kept_as_it_came(
    falls_back: Govern, server: Server
) -> None:
    """With its encoding, for an app that wants it so."""
    falls_back("{ cache = {} }")
    body = gzip.compress(b"good")
    server.script("/x", Status(200, {"Content-Encoding": "gzip"}, body), Close())

    with urllib3.PoolManager() as manager:
        got = [
            manager.request("GET", server.url("/x"), decode_content=False)
            for _ in range(2)
        ]

    assert [(body, "gzip")] * 2 == [
        (each.data, each.headers["Content-Encoding"]) for each in got
    ]
