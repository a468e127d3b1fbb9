"""httpx: what only it can do."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import pickle
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from integrations.governing import governing
from loopback import Delay, Hang, Raw, Server, Status, closed_port, redirect
from resilience_instrument import CircuitBreakerOpenError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.governing import Governed

    Govern = Callable[..., Governed]


@pytest.fixture
def govern() -> Iterator[Govern]:
    """Govern httpx with the settings that are given."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(governing(("httpx",), **settings))


# -- timeouts ---------------------------------------------------------------


class Patient(httpx.Client):
    """A client whose default is its own."""

    def __init__(self) -> None:
        super().__init__(timeout=7)


def _by_functional_api(url: str) -> None:
    httpx.get(url, timeout=7)


def _by_client(url: str) -> None:
    with httpx.Client(timeout=7) as client:
        client.get(url)


def _by_subclass(url: str) -> None:
    with Patient() as client:
        client.get(url)


def _by_attribute(url: str) -> None:
    with httpx.Client() as client:
        client.timeout = 7
        client.get(url)


def _by_call(url: str) -> None:
    with httpx.Client() as client:
        client.get(url, timeout=None)


def _by_extension(url: str) -> None:
    with httpx.Client() as client:
        client.get(url, extensions={"timeout": {"read": 7}})


def _by_request(url: str) -> None:
    with httpx.Client() as client:
        client.send(httpx.Request("GET", url, extensions={"timeout": {"read": 7}}))


@pytest.mark.parametrize(
    "call",
    [
        _by_functional_api,
        _by_client,
        _by_subclass,
        _by_attribute,
        _by_call,
        _by_extension,
        _by_request,
    ],
)
def test_every_way_to_choose_a_timeout_is_the_apps_own(
    govern: Govern, server: Server, call: Callable[[str], None]
) -> None:
    """Also the choice to have none."""
    govern(TIMEOUT_READ="0.2", TIMEOUT_TOTAL="0.3", RETRY_MAX_ATTEMPTS="1")
    server.script("/x", Delay(0.6, Status(200)))

    call(server.url("/x"))

    assert 1 == len(server.hits("/x"))


def _by_default_client(url: str) -> None:
    with httpx.Client() as client:
        client.get(url)


def _by_default_request(url: str) -> None:
    with httpx.Client() as client:
        client.send(request=httpx.Request("GET", url))


@pytest.mark.parametrize("call", [httpx.get, _by_default_client, _by_default_request])
def test_the_librarys_own_default_is_nobodys_choice(
    govern: Govern, server: Server, call: Callable[[str], object]
) -> None:
    """The settings hold where nobody chose."""
    governed = govern(TIMEOUT_READ="0.2", RETRY_MAX_ATTEMPTS="1")
    server.script("/x", Hang())

    with pytest.raises(httpx.ReadTimeout):
        call(server.url("/x"))

    assert governed.told.calls[0].unbounded


def test_the_elapsed_time_is_that_of_the_last_attempt(
    govern: Govern, server: Server
) -> None:
    """Pauses and failed attempts are not the service's doing."""
    govern(RETRY_BASE_DELAY="0")
    server.script("/x", Delay(0.5, Status(503)), Status(200))

    response = httpx.get(server.url("/x"))

    assert 0 < response.elapsed.total_seconds() < 0.4


# -- bodies -----------------------------------------------------------------


def test_the_rest_of_a_failed_answer_is_read_or_left(
    govern: Govern, server: Server
) -> None:
    """A small rest keeps the connection, a large one costs it."""
    govern(BREAKER_CONSECUTIVE="50")
    server.script("/small", *[Status(503, body=b"x"), Status(200)] * 3)
    server.script("/large", Status(503, body=b"x" * 1_000_000), Status(200))

    with httpx.Client() as client:
        for _ in range(3):
            with client.stream("GET", server.url("/small")) as response:
                assert 200 == response.status_code
                response.read()
        small = server.connections
        with client.stream("GET", server.url("/large")) as response:
            assert 200 == response.status_code

    assert (1, 2) == (small, server.connections)


def test_the_same_holds_for_an_async_client(govern: Govern, server: Server) -> None:
    """A small rest keeps the connection, a large one costs it."""
    govern(BREAKER_CONSECUTIVE="50")
    server.script("/small", *[Status(503, body=b"x"), Status(200)] * 3)
    server.script("/large", Status(503, body=b"x" * 1_000_000), Status(200))

    async def run() -> int:
        async with httpx.AsyncClient() as client:
            for _ in range(3):
                async with client.stream("GET", server.url("/small")) as response:
                    await response.aread()
            small = server.connections
            async with client.stream("GET", server.url("/large")) as response:
                assert 200 == response.status_code
            return small

    assert (1, 2) == (asyncio.run(run()), server.connections)


def test_an_iterable_that_starts_anew_is_sent_again(
    govern: Govern, server: Server
) -> None:
    """A list can be walked twice, unlike a generator."""
    govern()
    server.script("/x", Status(503), Status(200))

    response = httpx.put(server.url("/x"), content=[b"a", b"b"])

    assert 200 == response.status_code
    assert [b"ab", b"ab"] == [hit.body for hit in server.hits("/x")]


def test_an_upgraded_connection_is_left_alone(govern: Govern, server: Server) -> None:
    """After a 101 the stream is the app's, and no body is read."""
    govern()
    head = b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n"
    server.script("/x", Raw(head + b"hello"))

    with (
        httpx.Client() as client,
        client.stream(
            "GET",
            server.url("/x"),
            headers={"Connection": "upgrade", "Upgrade": "echo"},
        ) as response,
    ):
        stream = response.extensions["network_stream"]
        assert (101, b"hello") == (response.status_code, stream.read(5))


def test_a_transport_that_the_app_calls_itself_is_governed(
    govern: Govern, server: Server
) -> None:
    """Without a frame the body stays unread, as the app expects it."""
    governed = govern()
    server.script("/x", Status(503), Status(200, body=b"ok"))

    with httpx.HTTPTransport() as transport:
        response = transport.handle_request(httpx.Request("GET", server.url("/x")))
        assert (200, b"ok") == (response.status_code, response.read())
        response.close()

    assert [2] == governed.told.retries


# -- retries of others, hooks, proxies --------------------------------------


def test_a_transport_that_retries_is_the_only_one(
    govern: Govern, server: Server
) -> None:
    """It says so in the request."""
    governed = govern()
    server.script("/x", Status(503))

    with httpx.Client() as client:
        client.get(server.url("/x"), extensions={"retry": object()})

    assert ["app_retries"] == governed.told.skipped


def test_a_transport_that_sends_again_is_noticed(
    govern: Govern, server: Server
) -> None:
    """From its second time on the attempts are its own: five in all, not nine."""
    governed = govern(BREAKER_CONSECUTIVE="50")

    class Insisting(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            for _ in range(2):
                super().handle_request(request).close()
            return super().handle_request(request)

    server.script("/x", Status(503))

    with httpx.Client(transport=Insisting()) as client:
        assert 503 == client.get(server.url("/x")).status_code

    assert 5 == len(server.hits("/x"))
    assert ["attempts", "app_retries", "app_retries"] == governed.told.skipped


def test_a_hook_sees_the_final_answer_only(govern: Govern, server: Server) -> None:
    """And one that raises for a status does not stop the retry."""
    govern()
    server.script("/x", Status(503), Status(200))
    seen: list[int] = []

    def look(response: httpx.Response) -> None:
        seen.append(response.status_code)
        response.raise_for_status()

    with httpx.Client(event_hooks={"response": [look]}) as client:
        response = client.get(server.url("/x"))

    assert (200, [200]) == (response.status_code, seen)


def test_the_second_leg_of_digest_is_tried_again_alone(
    govern: Govern, server: Server
) -> None:
    """The challenge is an answer; what follows it has attempts of its own."""
    governed = govern()
    challenge = {"WWW-Authenticate": 'Digest realm="r", nonce="n", qop="auth"'}
    server.script("/x", Status(401, challenge), Status(503), Status(200))

    response = httpx.get(server.url("/x"), auth=httpx.DigestAuth("user", "secret"))

    assert 200 == response.status_code
    signed = ["authorization" in hit.headers for hit in server.hits("/x")]
    assert [False, True, True] == signed
    assert [2] == governed.told.retries


def test_a_dead_proxy_does_not_open_the_circuit_of_the_service(
    govern: Govern, server: Server
) -> None:
    """Each way to a service has a circuit of its own, and errors of its own."""
    govern(BREAKER_CONSECUTIVE="1")
    server.script("/x", Status(200))
    proxy = f"http://127.0.0.1:{closed_port()}"

    with httpx.Client(proxy=proxy) as client:
        with pytest.raises(httpx.ConnectError):
            client.get(server.url("/x"))
        with pytest.raises(httpx.ProxyError) as rejected:
            client.get(server.url("/x"))

    assert isinstance(rejected.value, CircuitBreakerOpenError)
    assert isinstance(rejected.value, httpx.ConnectError)
    assert 200 == httpx.get(server.url("/x")).status_code


def test_a_redirect_that_is_not_followed_is_an_answer(
    govern: Govern, server: Server
) -> None:
    """Its body is the app's to read."""
    govern()
    server.script("/a", redirect(server.url("/b")))

    response = httpx.get(server.url("/a"), timeout=5)

    assert (302, b"") == (response.status_code, response.content)


# -- errors -----------------------------------------------------------------


def test_errors_that_are_the_apps_own_are_nobodys_failure(govern: Govern) -> None:
    """A scheme that nobody speaks is neither retried nor held against a service."""
    governed = govern(BREAKER_CONSECUTIVE="1")

    with pytest.raises(httpx.UnsupportedProtocol):
        httpx.get("gopher://service.invalid/")

    assert 1 == len(governed.told.of("attempt_started"))
    assert "closed" == governed.state()


def test_clients_pickle_and_copy_their_methods_as_without_the_agent(
    govern: Govern, server: Server
) -> None:
    """A function is found by its name again."""
    govern()
    server.script("/x", Status(503), Status(200))

    send = pickle.loads(pickle.dumps(httpx.Client.send))
    copied = copy.copy(httpx.Client.send)

    with httpx.Client() as client:
        request = client.build_request("GET", server.url("/x"))
        assert 200 == send(client, request).status_code
        assert 200 == copied(client, request).status_code


class Closed(httpx.Client):
    """A client that takes no attributes but its own."""

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_resilience"):
            raise AttributeError(name)
        super().__setattr__(name, value)


def test_a_client_that_cannot_be_remembered_works_as_ever(
    govern: Govern, server: Server
) -> None:
    """What we cannot note about it costs the app nothing."""
    governed = govern()
    server.script("/x", Status(200))

    with Closed(timeout=3) as client:
        assert 200 == client.get(server.url("/x")).status_code
        assert 200 == client.send(httpx.Request("GET", server.url("/x"))).status_code

    # Of the client, of the first request, and of the second call.
    governed.expected_faults = ["describe"] * 3


def test_a_cancelled_probe_gives_its_place_back(govern: Govern, server: Server) -> None:
    """A task that is cancelled says nothing about the service."""
    governed = govern(
        BREAKER_CONSECUTIVE="1", BREAKER_OPEN_FOR="0.01", RETRY_MAX_ATTEMPTS="1"
    )
    server.script("/x", Status(503), Hang())

    async def run() -> None:
        async with httpx.AsyncClient() as client:
            await client.get(server.url("/x"))
            await asyncio.sleep(0.05)
            task = asyncio.create_task(client.get(server.url("/x")))
            await asyncio.to_thread(server.wait_for_hits, "/x", 2)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(run())

    assert "half_open" == governed.state()
    assert ["error", "cancelled"] == governed.told.outcomes
    assert [] == governed.policies().breaker._probes


def test_a_span_can_show_the_request(govern: Govern, server: Server) -> None:
    """Its attributes are made when somebody records, and hold no secrets."""
    governed = govern()
    server.script("/x", Status(200))

    httpx.request("BREW", server.url("/x?token=secret"))

    attributes: Any = governed.told.calls[0].attributes()
    assert {
        "http.request.method": "_OTHER",
        "http.request.method_original": "BREW",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "url.full": server.url("/x?token=REDACTED"),
    } == attributes
