"""Fallbacks by HTTP: the app gets another answer, and can see that it is one."""

from __future__ import annotations

import sys
import time
import types
from typing import TYPE_CHECKING, Any

import pytest

from integrations.harness import Wish
from loopback import Close, Delay, Server, Status, closed_port
from resilience_instrument.integrations import _fallback
from resilience_instrument.integrations._fallback import Answer, answer_of, key_of
from resilience_instrument.port import run_sync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from integrations.governing import Governed
    from integrations.harness import Harness

    Govern = Callable[[str], Governed]


@pytest.fixture
def falls_back(
    govern: Callable[..., Governed], tmp_path: Path
) -> Callable[..., Governed]:
    """Govern with a `fallback` table."""

    def governed(fallback: str, **settings: str) -> Governed:
        file = tmp_path / "r.toml"
        file.write_text(f"[defaults]\nfallback = {fallback}\n", encoding="utf-8")
        once = {"RETRY_MAX_ATTEMPTS": "1"} | settings
        return govern(CONFIG=str(file), **once)

    return governed


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module of the app's, in which there may be functions."""
    module = types.ModuleType("shop_fallbacks")
    monkeypatch.setitem(sys.modules, "shop_fallbacks", module)
    return module


@pytest.fixture
def backup() -> Iterator[Server]:
    """Another host."""
    with Server() as server:
        yield server


def tried(governed: Governed) -> list[tuple[Any, ...]]:
    """Return which fallbacks were tried, and how they ended."""
    return governed.told.of("fell_back")


def test_a_fixed_answer_stands_in(
    harness: Harness, falls_back: Govern, server: Server
) -> None:
    """For an error status, with status and body as configured."""
    governed = falls_back('{ static = { status = 203, body = "none" } }')
    server.script("/x", Status(500))

    answer = harness.send(Wish(server.url("/x")))

    assert (203, b"none") == (answer.status, answer.body)
    assert [("static", "success")] == tried(governed)
    assert ["fallback"] == governed.told.outcomes


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_it_stands_in_for_a_broken_connection(
    harness: Harness, falls_back: Govern, server: Server, method: str
) -> None:
    """There was no answer at all."""
    governed = falls_back('{ static = { body = "none" } }')
    server.script("/x", Close())

    assert b"none" == harness.send(Wish(server.url("/x"), method)).body
    assert b"none" == harness.send(Wish(f"http://127.0.0.1:{closed_port()}/")).body
    assert ["fallback", "fallback"] == governed.told.outcomes


def test_it_stands_in_for_a_late_answer(
    harness: Harness, falls_back: Callable[..., Governed], server: Server
) -> None:
    """A timeout is a failure."""
    falls_back('{ static = { body = "none" } }', TIMEOUT_READ="0.1", TIMEOUT_TOTAL="1")
    server.script("/x", Delay(2.0, Status(200)))

    assert b"none" == harness.send(Wish(server.url("/x"))).body


def test_it_stands_in_while_the_circuit_is_open(
    harness: Harness, falls_back: Callable[..., Governed], server: Server
) -> None:
    """And the circuit still finds out when the service is back."""
    governed = falls_back(
        '{ static = { body = "none" } }',
        BREAKER_CONSECUTIVE="1",
        BREAKER_OPEN_FOR="2",
        BREAKER_OPEN_JITTER="0",
        BREAKER_SUCCESSES_TO_CLOSE="1",
    )
    server.script("/x", Status(503), Status(200, body=b"back"))
    url = server.url("/x")

    assert [b"none", b"none"] == [harness.send(Wish(url)).body for _ in range(2)]
    assert 1 == len(server.hits("/x"))
    end = time.monotonic() + 20.0
    while harness.send(Wish(url)).body != b"back":
        assert time.monotonic() < end
        time.sleep(0.02)

    assert "closed" == governed.state()


@pytest.mark.parametrize("status", [404, 401, 200])
def test_an_answer_of_a_healthy_service_is_the_apps(
    harness: Harness, falls_back: Govern, server: Server, status: int
) -> None:
    """A 404 is no failure."""
    governed = falls_back('{ static = { body = "none" } }')
    server.script("/x", Status(status, body=b"own"))

    answer = harness.send(Wish(server.url("/x")))

    assert (status, b"own") == (answer.status, answer.body)
    assert [] == tried(governed)


def test_a_mistake_of_the_apps_is_the_apps_to_see(
    harness: Harness, falls_back: Govern
) -> None:
    """A certificate that nobody trusts says nothing about the service."""
    falls_back('{ static = { body = "none" } }')

    with Server(tls=True) as server:
        answer = harness.send(Wish(server.url("/x")))

    assert answer.error is not None


def test_the_last_good_answer_stands_in(
    harness: Harness, falls_back: Govern, server: Server
) -> None:
    """Status, headers and body as they were."""
    governed = falls_back("{ cache = {} }")
    server.script("/x", Status(200, {"A": "b"}, b"good"), Status(503), Close())
    url = server.url("/x")

    assert [b"good"] * 3 == [harness.send(Wish(url)).body for _ in range(3)]
    assert [("cache", "success")] * 2 == tried(governed)


def test_nobody_gets_the_answer_of_another(
    harness: Harness, falls_back: Govern, server: Server
) -> None:
    """Other headers, another URL or another method ask for something else."""
    governed = falls_back("{ cache = {} }")
    server.script("/x", Status(200, body=b"mine"), Status(503))
    mine = {"Authorization": "a", "X-Request-Id": "1"}
    url = server.url("/x")

    assert 200 == harness.send(Wish(url, headers=mine)).status
    assert 503 == harness.send(Wish(url, headers={"Authorization": "b"})).status
    assert 503 == harness.send(Wish(url)).status
    assert 503 == harness.send(Wish(f"{url}?a=1", headers=mine)).status
    assert 503 == harness.send(Wish(url, "POST", headers=mine)).status
    again = mine | {"X-Request-Id": "2"}
    assert b"mine" == harness.send(Wish(url, headers=again)).body
    assert 1 == len(tried(governed))


@pytest.mark.parametrize(
    "answer",
    [
        Status(200, {"Cache-Control": "no-store"}, b"good"),
        Status(200, {"Vary": "*"}, b"good"),
        Status(200, body=b"x" * 2000),
        Status(206, body=b"good"),
    ],
)
def test_some_answers_are_not_kept(
    harness: Harness, falls_back: Govern, server: Server, answer: Status
) -> None:
    """Secret ones, large ones, parts."""
    falls_back("{ cache = { max_bytes = 1000 } }")
    server.script("/x", answer, Status(503))
    url = server.url("/x")
    harness.send(Wish(url))

    assert 503 == harness.send(Wish(url)).status


def test_an_answer_that_the_app_streams_is_not_kept(
    harness: Harness, falls_back: Govern, server: Server
) -> None:
    """Its body was never ours; a streaming app may get one that was kept."""
    falls_back("{ cache = {} }")
    server.script("/x", Status(200, body=b"1"), Status(503), Status(200, body=b"2"))
    server.script("/y", Status(200, body=b"kept"), Status(503))
    url = server.url("/x")

    assert b"1" == harness.send(Wish(url, stream=True)).body
    assert 503 == harness.send(Wish(url)).status
    harness.send(Wish(server.url("/y")))
    assert b"kept" == harness.send(Wish(server.url("/y"), stream=True)).body


def test_another_host_stands_in(
    harness: Harness, falls_back: Govern, server: Server, backup: Server
) -> None:
    """With path, query and headers; its calls are its own."""
    base = backup.url("/v2/")
    governed = falls_back(f'{{ service = "{base}" }}')
    server.script("/x", Status(503))
    backup.script("/v2/x", Status(200, body=b"backup"))

    answer = harness.send(Wish(server.url("/x?a=1"), headers={"A": "b"}))

    assert b"backup" == answer.body
    (hit,) = backup.hits()
    assert "/v2/x?a=1" == hit.target
    assert "b" == hit.headers["a"]
    assert hit.headers["host"] in backup.url("/")
    assert [("service", "success")] == tried(governed)
    assert 2 == len(governed.runtime.registry.known())
    assert ["success", "fallback"] == governed.told.outcomes


def test_a_call_that_may_have_had_an_effect_is_not_sent_elsewhere(
    harness: Harness, falls_back: Govern, server: Server, backup: Server
) -> None:
    """Unless nothing of it left."""
    url = backup.url("")
    falls_back(f'{{ service = "{url}" }}')
    server.script("/x", Close())
    backup.script("/x", Status(200, body=b"backup"))

    lost = harness.send(Wish(server.url("/x"), "POST", body=b"1"))
    unsent = harness.send(
        Wish(f"http://127.0.0.1:{closed_port()}/x", "POST", body=b"1")
    )

    assert lost.error is not None
    assert b"backup" == unsent.body
    assert [b"1"] == [hit.body for hit in backup.hits()]


def test_two_hosts_that_are_down_are_two(
    harness: Harness, falls_back: Govern, server: Server, backup: Server
) -> None:
    """The app sees its own service's answer, and nobody goes in circles."""
    governed = falls_back(f'{{ service = "{backup.url("")}" }}')
    server.script("/x", Status(503, body=b"own"))
    backup.script("/x", Status(503, body=b"other"))

    answer = harness.send(Wish(server.url("/x")))

    assert (503, b"own") == (answer.status, answer.body)
    assert [("service", "error")] == tried(governed)
    assert 1 == len(backup.hits())


def test_a_function_stands_in(
    harness: Harness, falls_back: Govern, server: Server, functions: Any
) -> None:
    """It learns what failed."""
    seen: list[Any] = []

    def prices(failed: Any) -> dict[str, int]:
        seen.append(failed)
        return {"price": 1}

    functions.prices = prices
    governed = falls_back('{ call = "shop_fallbacks:prices" }')
    server.script("/x", Status(503), Close())
    url = server.url("/x")

    assert [b'{"price": 1}'] * 2 == [harness.send(Wish(url)).body for _ in range(2)]
    first, second = seen
    assert (503, None, "GET", url) == (
        first.status,
        first.error,
        first.method,
        first.url,
    )
    assert first.service in url
    assert second.status is None
    assert isinstance(second.error, harness.base_error)
    assert [("call", "success")] * 2 == tried(governed)


def test_a_function_may_have_nothing_to_say(
    harness: Harness, falls_back: Govern, server: Server, functions: Any
) -> None:
    """Then the next kind is asked; one that fails is counted."""
    functions.nothing = lambda _: None
    governed = falls_back('{ call = "shop_fallbacks:nothing", static = {} }')
    server.script("/x", Status(503))

    assert 200 == harness.send(Wish(server.url("/x"))).status
    assert [("static", "success")] == tried(governed)


@pytest.mark.parametrize(
    "function", ["shop_fallbacks:absent", "no_such_module:x", "shop_fallbacks:fails"]
)
def test_a_function_that_fails_leaves_the_apps_failure(
    harness: Harness,
    falls_back: Govern,
    server: Server,
    functions: Any,
    function: str,
) -> None:
    """Counted, and never raised into the app."""
    functions.fails = lambda _: 1 / 0
    governed = falls_back(f'{{ call = "{function}" }}')
    server.script("/x", Status(503, body=b"own"))

    answer = harness.send(Wish(server.url("/x")))

    assert (503, b"own") == (answer.status, answer.body)
    assert [("call", "error")] == tried(governed)


def test_a_coroutine_function_stands_in_for_async_calls(
    harness: Harness, falls_back: Govern, server: Server, functions: Any
) -> None:
    """A synchronous client cannot wait for one."""

    async def prices(_: Any) -> str:
        return "waited"

    functions.prices = prices
    governed = falls_back('{ call = "shop_fallbacks:prices" }')
    server.script("/x", Status(503))

    answer = harness.send(Wish(server.url("/x")))

    waits = tried(governed) == [("call", "success")]
    assert (b"waited" if waits else b"") == answer.body
    assert waits == harness.traits.awaits


def test_a_key_makes_a_post_repeatable(
    harness: Harness, govern: Callable[..., Governed], server: Server, tmp_path: Path
) -> None:
    """The same for every attempt, another for the next call; the app's own wins."""
    file = tmp_path / "r.toml"
    text = '[defaults]\nidempotency_key = "Idempotency-Key"\n'
    file.write_text(text, encoding="utf-8")
    govern(CONFIG=str(file))
    server.script("/x", Close(), Status(200), Status(200))
    url = server.url("/x")

    headers: dict[str, str] = {}
    for _ in range(2):
        assert 200 == harness.send(Wish(url, "POST", headers, body=b"1")).status
    harness.send(Wish(url, "POST", {"Idempotency-Key": "own"}, body=b"1"))
    harness.send(Wish(url, "PUT", body=b"1"))

    keys = [hit.headers.get("idempotency-key") for hit in server.hits()]
    assert keys[0] == keys[1] != keys[2]
    assert 32 == len(keys[0] or "")
    assert ["own", None] == keys[3:]
    assert {} == headers


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (b"a", Answer(200, (), b"a")),
        ("é", Answer(200, (), "é".encode())),
        ([1], Answer(200, (("Content-Type", "application/json"),), b"[1]")),
        ((204, {"A": "b"}, ""), Answer(204, (("A", "b"),), b"")),
    ],
)
def test_a_function_may_give_several_things(given: object, answer: Answer) -> None:
    """A body, data, or the whole answer."""
    assert answer == answer_of(given)


def test_whatever_can_only_be_awaited_is_no_answer_for_a_sync_client(
    functions: Any,
) -> None:
    """Also if it is no coroutine, which would have to be closed."""

    class Later:
        def __await__(self) -> Iterator[None]:
            yield

    functions.later = lambda _: Later()
    failed: Any = None

    with pytest.raises(TypeError, match="the client is none"):
        run_sync(_fallback.called("shop_fallbacks:later", failed, waits=False))


def test_what_is_no_answer_is_refused() -> None:
    """The fault is counted as the function's."""
    with pytest.raises(TypeError, match="gave int"):
        answer_of(3)


def test_headers_of_the_connection_do_not_count() -> None:
    """All others may say who asks."""
    assert key_of("u", [("User-Agent", "a"), ("B", "1")]) == key_of("u", [("b", "1")])
    assert key_of("u", [("B", "1")]) != key_of("u", [("B", "2")])


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("https://b", "http://a:1/x?y=1#z", "https://b/x?y=1"),
        ("https://b/v2", "http://a", "https://b/v2/"),
        ("https://b:8/v2/", "http://a/x", "https://b:8/v2/x"),
    ],
)
def test_another_host_is_asked_for_the_same(base: str, url: str, expected: str) -> None:
    """Below its own path."""
    assert expected == _fallback.elsewhere(base, url)
