"""aiohttp: what only it can do."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web
from aioresponses import aioresponses

from integrations.governing import governing
from loopback import (
    Close,
    Delay,
    DripBody,
    Hang,
    Server,
    Status,
    Truncated,
    closed_port,
    tarpit,
)
from resilience_instrument import CircuitBreakerOpenError
from resilience_instrument.integrations.aiohttp import targets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from integrations.governing import Governed

    Govern = Callable[..., Governed]
    Use = Callable[[aiohttp.ClientSession], Awaitable[Any]]


@pytest.fixture
def govern() -> Iterator[Govern]:
    """Govern aiohttp with the settings that are given."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            governing(("aiohttp",), **settings)
        )


def _with_session(use: Use, **options: Any) -> Any:
    async def run() -> Any:
        async with aiohttp.ClientSession(**options) as session:
            return await use(session)

    return asyncio.run(run())


async def _status(session: aiohttp.ClientSession, url: str, **options: Any) -> int:
    async with session.get(url, **options) as response:
        await response.read()
        return response.status


def test_a_dead_server_gets_three_attempts(govern: Govern, server: Server) -> None:
    """Aiohttp would make one more of each; it gets the outcome that stands."""
    governed = govern()
    server.script("/x", Close())

    with pytest.raises(aiohttp.ServerDisconnectedError):
        _with_session(lambda s: _status(s, server.url("/x")))

    assert 3 == len(server.hits("/x"))
    assert 1 == len(governed.told.calls)


def test_a_broken_body_is_the_apps_to_see(govern: Govern, server: Server) -> None:
    """It reads it itself, when the call is over."""
    govern()
    server.script("/x", Truncated(), Status(200))

    with pytest.raises(aiohttp.ClientPayloadError):
        _with_session(lambda s: _status(s, server.url("/x")))

    assert 1 == len(server.hits("/x"))


def test_a_total_of_the_app_is_the_deadline(govern: Govern, server: Server) -> None:
    """It ends the call, and no attempts follow that end at once."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    server.script("/x", Hang())
    timeout = aiohttp.ClientTimeout(total=0.3)

    with pytest.raises(TimeoutError):
        _with_session(lambda s: _status(s, server.url("/x"), timeout=timeout))
    with pytest.raises(TimeoutError):
        _with_session(lambda s: _status(s, server.url("/x")), timeout=timeout)

    assert ["timeout", "timeout"] == governed.told.outcomes
    assert 2 == len(server.hits("/x"))
    assert [False, False] == [call.unbounded for call in governed.told.calls]
    assert "closed" == governed.state()


@pytest.mark.filterwarnings("ignore:Passing float as timeout:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Chaining or passing numeric:DeprecationWarning")
def test_a_number_is_a_total_too(govern: Govern, server: Server) -> None:
    """The old way to say it."""
    govern()
    server.script("/x", Hang())

    with pytest.raises(TimeoutError):
        _with_session(lambda s: _status(s, server.url("/x"), timeout=0.3))

    assert 1 == len(server.hits("/x"))


def test_no_limit_at_all_can_be_asked_for(govern: Govern, server: Server) -> None:
    """A timeout of nothing is a choice, unlike one that is not given."""
    governed = govern(TIMEOUT_READ="0.2", TIMEOUT_TOTAL="0.3")
    server.script("/x", Delay(0.6, Status(200)))
    timeout = aiohttp.ClientTimeout(total=None)

    assert 200 == _with_session(lambda s: _status(s, server.url("/x"), timeout=timeout))
    assert governed.told.calls[0].deadline is None


def test_each_part_of_an_attempt_has_its_own_timeout(
    govern: Govern, server: Server
) -> None:
    """A place in the pool, a connection, and the answer."""
    governed = govern(
        TIMEOUT_POOL="0.2",
        TIMEOUT_CONNECT="0.3",
        TIMEOUT_READ="0.4",
        RETRY_MAX_ATTEMPTS="1",
    )
    server.script("/x", Hang())

    async def use(session: aiohttp.ClientSession) -> list[str]:
        with tarpit() as port:
            urls = [f"http://127.0.0.1:{port}/", server.url("/x"), server.url("/x")]
            calls = [_status(session, url) for url in urls]
            results = await asyncio.gather(*calls, return_exceptions=True)
        return [type(result).__name__ for result in results]

    connector = {"limit": 1}

    async def run() -> list[str]:
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(**connector)  # type: ignore[arg-type]
        ) as session:
            return await use(session)

    names = asyncio.run(run())

    phases = {
        judged.timeout.value for _, judged, _ in governed.told.of("attempt_ended")
    }
    assert ["ConnectionTimeoutError"] * 2 == names[:2]
    assert {"connect", "pool"} <= phases
    assert "closed" == next(
        policies.breaker.state(0.0)
        for policies in governed.runtime.registry.known()
        if str(server.port) in policies.service
    )


def test_a_failed_answer_gives_its_connection_back(
    govern: Govern, server: Server
) -> None:
    """A small rest keeps the connection, a large or a dripping one costs it."""
    govern(BREAKER_CONSECUTIVE="50", TIMEOUT_READ="0.3")
    server.script("/small", *[Status(503, body=b"x"), Status(200)] * 3)
    server.script("/large", Status(503, body=b"x" * 1_000_000), Status(200))

    async def use(session: aiohttp.ClientSession) -> tuple[int, int]:
        for _ in range(3):
            assert 200 == await _status(session, server.url("/small"))
        small = server.connections
        assert 200 == await _status(session, server.url("/large"))
        return small, server.connections

    assert (1, 2) == _with_session(use)


class SlowFailure(DripBody):
    """A 503 whose small body does not end."""

    def answer(self, exchange: Any) -> None:
        exchange.hit.body = exchange.read_body()
        exchange.send(b"HTTP/1.1 503 Scripted\r\nContent-Length: 500\r\n\r\n")
        exchange.drip((b"x" for _ in range(500)), self.interval)


def test_a_rest_that_does_not_end_is_not_waited_for(
    govern: Govern, server: Server
) -> None:
    """It may take as long as a read, no longer."""
    govern(TIMEOUT_READ="0.3")
    server.script("/x", SlowFailure(interval=0.1), Status(200))

    assert 200 == _with_session(lambda s: _status(s, server.url("/x")))


def test_the_apps_own_middlewares_are_around_ours(
    govern: Govern, server: Server
) -> None:
    """Those of a session and those of a call; they see one answer."""
    govern()
    server.script("/x", Status(503), Status(200))
    seen: list[int] = []

    async def look(request: Any, handler: Any) -> Any:
        response = await handler(request)
        seen.append(response.status)
        return response

    _with_session(lambda s: _status(s, server.url("/x")), middlewares=(look,))
    server.script("/x", Status(503), Status(200))
    _with_session(lambda s: _status(s, server.url("/x"), middlewares=(look,)))

    assert [200, 200] == seen


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: {"json": {"a": 1}}, [b'{"a": 1}'] * 2),
        (lambda: {"data": {"a": "1"}}, [b"a=1"] * 2),
        (lambda: {"data": io.BytesIO(b"file")}, [b"file"] * 2),
    ],
    ids=["json", "form", "file"],
)
def test_a_payload_is_sent_again(
    govern: Govern, server: Server, make: Callable[[], Any], expected: list[bytes]
) -> None:
    """Aiohttp winds back what it can."""
    govern()
    server.script("/x", Status(503), Status(200))

    async def use(session: aiohttp.ClientSession) -> int:
        async with session.put(server.url("/x"), **make()) as response:
            return response.status

    assert 200 == _with_session(use)
    assert expected == [hit.body for hit in server.hits("/x")]


async def _pieces() -> AsyncIterator[bytes]:
    yield b"a"


class Pipe(io.RawIOBase):
    """A file that cannot be wound back, which is noticed when it was read."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1) -> bytes:  # noqa: ARG002 - it is short
        data, self._data = self._data, b""
        return data

    def tell(self) -> int:
        raise OSError


@pytest.mark.parametrize("make", [_pieces, lambda: Pipe(b"a")], ids=["pieces", "pipe"])
def test_a_body_that_is_gone_is_not_sent_twice(
    govern: Govern, server: Server, make: Callable[[], Any]
) -> None:
    """What was read from it cannot be read again."""
    governed = govern()
    server.script("/x", Status(503), Status(200))

    async def use(session: aiohttp.ClientSession) -> int:
        async with session.put(server.url("/x"), data=make()) as response:
            return response.status

    assert 503 == _with_session(use)
    assert ["body"] == governed.told.skipped


def test_a_dead_proxy_does_not_open_the_circuit_of_the_service(
    govern: Govern, server: Server
) -> None:
    """Each way to a service has a circuit of its own."""
    govern(BREAKER_CONSECUTIVE="1")
    server.script("/x", Status(200))
    proxy = f"http://127.0.0.1:{closed_port()}"

    async def use(session: aiohttp.ClientSession) -> int:
        with pytest.raises(aiohttp.ClientProxyConnectionError):
            await _status(session, server.url("/x"), proxy=proxy)
        with pytest.raises(CircuitBreakerOpenError):
            await _status(session, server.url("/x"), proxy=proxy)
        return await _status(session, server.url("/x"))

    assert 200 == _with_session(use)


def test_a_websocket_is_upgraded_and_left_alone(govern: Govern) -> None:
    """Its frames are the app's."""
    govern()

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(await socket.receive_str())
        return socket

    async def run() -> str:
        app = web.Application()
        app.router.add_get("/ws", echo)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/ws") as socket,
        ):
            await socket.send_str("hello")
            answer: str = await socket.receive_str()
        await runner.cleanup()
        return answer

    assert "hello" == asyncio.run(run())


def test_a_cancelled_call_counts_as_nothing(govern: Govern, server: Server) -> None:
    """A task that is cancelled says nothing about the service."""
    governed = govern(BREAKER_CONSECUTIVE="1")
    server.script("/x", Hang())

    async def use(session: aiohttp.ClientSession) -> None:
        task = asyncio.create_task(_status(session, server.url("/x")))
        await asyncio.to_thread(server.wait_for_hits, "/x", 1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    _with_session(use)

    assert ["cancelled"] == governed.told.outcomes
    assert "closed" == governed.state()


def test_a_span_can_show_the_request(govern: Govern, server: Server) -> None:
    """Its attributes are made when somebody records, and hold no secrets."""
    governed = govern()
    server.script("/x", Status(200))

    _with_session(lambda s: _status(s, server.url("/x?token=secret")))

    shown = governed.told.calls[0].attributes()["url.full"]
    assert server.url("/x?token=REDACTED") == shown


def test_connections_that_are_nobodys_attempt_pass(server: Server) -> None:
    """A fault before the attempt leaves the call without one."""
    server.script("/x", Status(503))
    with governing(("aiohttp",)) as governed:

        def fail() -> None:
            raise RuntimeError

        governed.runtime.begin = fail

        assert 503 == _with_session(lambda s: _status(s, server.url("/x")))
        governed.expected_faults = ["engine"]


def test_a_session_of_another_shape_works_as_ever(
    govern: Govern, server: Server
) -> None:
    """What we cannot read of it costs the app nothing."""
    governed = govern()
    server.script("/x", Status(200))

    async def use(session: aiohttp.ClientSession) -> int:
        return await _status(session, server.url("/x"), middlewares=Endless())

    class Endless:
        reads = 0

        def __iter__(self) -> Any:
            self.reads += 1
            if self.reads == 1:
                raise LookupError
            return iter(())

        def __bool__(self) -> bool:
            return False

    assert 200 == _with_session(use)
    governed.expected_faults = ["describe"]


def test_a_version_without_middlewares_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no place at which every hop could be seen."""

    async def _request(self: Any, method: str, url: str) -> None: ...

    monkeypatch.setattr(aiohttp.ClientSession, "_request", _request)
    runtime: Any = None

    assert [] == targets(runtime)


def test_a_middleware_that_retries_is_the_apps_own(
    govern: Govern, server: Server
) -> None:
    """What it sends again is sent, a POST too, and its attempts do not multiply."""
    governed = govern(BREAKER_CONSECUTIVE="50")
    server.script("/x", Close(), Status(200))
    server.script("/down", Close())

    async def insist(request: Any, handler: Any) -> Any:
        for _ in range(2):
            with contextlib.suppress(aiohttp.ServerDisconnectedError):
                return await handler(request)
        return await handler(request)

    async def use(session: aiohttp.ClientSession) -> int:
        async with session.post(server.url("/x"), data=b"order") as response:
            posted = response.status
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await _status(session, server.url("/down"))
        return posted

    assert 200 == _with_session(use, middlewares=(insist,))
    assert 2 == len(server.hits("/x"))
    assert 5 == len(server.hits("/down"))
    assert 2 == governed.told.skipped.count("app_retries")


def test_aioresponses() -> None:
    """It takes the place of the session's function, whoever stood there before."""
    url = "http://service.invalid/x"

    async def call() -> int:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status

    with governing(("aiohttp",)) as governed, aioresponses() as mock:
        mock.get(url, status=503)

        assert 503 == asyncio.run(call())

        seen = mock.requests or {}
        assert 1 == sum(len(calls) for calls in seen.values())
    assert [] == governed.told.events


def test_failed_responses_die_with_their_call(govern: Govern, server: Server) -> None:
    """Neither a cycle nor the connection that stays open keeps one of three alive."""
    govern()
    server.script("/x", Status(503))

    def alive() -> list[Any]:
        kinds = (aiohttp.ClientResponse, aiohttp.ClientRequest)
        return [each for each in gc.get_objects() if issubclass(type(each), kinds)]

    async def story() -> list[Any]:
        async with aiohttp.ClientSession() as session:
            gc.collect()
            gc.disable()
            try:
                before = {id(each) for each in alive()}
                async with session.get(server.url("/x")) as answer:
                    assert 503 == answer.status
                del answer
                return [type(each) for each in alive() if id(each) not in before]
            finally:
                gc.enable()

    assert [] == asyncio.run(story())
    assert 3 == len(server.hits("/x"))
