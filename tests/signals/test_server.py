"""The metrics port: it answers scrapers, and outlives those that misbehave."""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from resilience_instrument.signals import server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def render(accept: str) -> tuple[bytes, str]:
    """Show what the scraper accepts."""
    if accept == "boom":
        raise RuntimeError(accept)
    return b"accept: " + accept.encode(), "text/special"


def start_seen(target: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """Start a thread that the coverage of the tests can see."""
    threading.Thread(target=target, args=arguments, daemon=True).start()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[server.Server]:
    """Serve on a free port."""
    monkeypatch.setattr(server, "start_thread", start_seen)
    found = server.start("127.0.0.1", [0], render)
    assert found is not None
    yield found
    found.close()


def port(of: server.Server) -> int:
    """Return the port that a server listens on."""
    return int(of.url.split(":")[2].partition("/")[0])


def raw(of: server.Server, request: bytes) -> bytes:
    """Send these bytes and return all that comes back."""
    with socket.create_connection(("127.0.0.1", port(of)), timeout=5) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(4096), b""))


def get(url: str, **headers: str) -> tuple[bytes, str]:
    """Scrape."""
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read(), answer.headers["Content-Type"]


def test_a_scraper_gets_what_it_accepts(running: server.Server) -> None:
    """Body and type are what the exposition gave for its `Accept` header."""
    assert (b"accept: x/y", "text/special") == get(running.url, Accept="x/y")


@pytest.mark.parametrize("suffix", ["/", "?name=x"])
def test_the_path_may_have_a_tail(running: server.Server, suffix: str) -> None:
    """As scrapers and people write it."""
    assert b"accept: */*" == get(running.url + suffix, Accept="*/*")[0]


def test_other_paths_say_where_the_metrics_are(running: server.Server) -> None:
    """Somebody who opens the port in a browser learns the path."""
    answer = raw(running, b"GET / HTTP/1.1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 404 ")
    assert answer.endswith(b"metrics are at /metrics\n")


def test_only_reading_is_possible(running: server.Server) -> None:
    """A POST is told so; a HEAD gets the head."""
    assert raw(running, b"POST /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 405 ")
    head = raw(running, b"HEAD /metrics HTTP/1.1\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert head.endswith(b"\r\n\r\n")


def test_a_client_that_sends_nonsense_does_no_harm(running: server.Server) -> None:
    """Nothing, garbage and a head without an end: the next scrape works."""
    endless = b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 4000
    for nonsense in (b"", b"\xff\x00", endless):
        with contextlib.suppress(OSError):
            raw(running, nonsense)

    assert b"accept: a" == get(running.url, Accept="a")[0]


def test_a_client_that_goes_away_does_no_harm(running: server.Server) -> None:
    """A reset connection is nobody's fault and is not mentioned."""
    client = socket.create_connection(("127.0.0.1", port(running)), timeout=5)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()

    assert b"accept: a" == get(running.url, Accept="a")[0]


def test_a_fault_while_rendering_is_said_and_survived(
    running: server.Server, capfd: pytest.CaptureFixture[str]
) -> None:
    """The scraper gets no answer, the next one does."""
    assert b"" == raw(running, b"GET /metrics HTTP/1.1\r\nAccept: boom\r\n\r\n")
    assert b"accept: a" == get(running.url, Accept="a")[0]
    assert "metrics cannot be served: RuntimeError: boom" in capfd.readouterr().err


def test_the_next_port_is_taken_where_one_is_in_use(running: server.Server) -> None:
    """A second process of a host does not fail."""
    taken = port(running)
    with socket.create_server(("127.0.0.1", 0)) as other:
        free = other.getsockname()[1]

    second = server.start("127.0.0.1", [taken, free], render)

    assert second is not None
    assert free == port(second)
    second.close()


def test_without_a_free_port_nothing_is_served(running: server.Server) -> None:
    """That is no error: the app goes on."""
    assert server.start("127.0.0.1", [port(running)], render) is None
    assert server.start("no.such.host.invalid", [0], render) is None


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    """The URL can be opened as it is printed."""
    found = server.start("::1", [0], render)
    if found is None:
        pytest.skip("this machine has no IPv6")

    assert found.url.startswith("http://[::1]:")
    assert b"accept: a" == get(found.url, Accept="a")[0]
    found.close()


def test_nobody_sees_the_thread() -> None:
    """An app that lists its threads finds only its own."""
    before = threading.enumerate()

    found = server.start("127.0.0.1", [0], render)

    assert found is not None
    assert b"accept: a" == get(found.url, Accept="a")[0]
    assert before == threading.enumerate()
    found.close()


def test_a_child_that_lets_go_does_not_silence_its_parent(
    running: server.Server,
) -> None:
    """Closing the inherited socket leaves the parent's open."""
    child = os.fork()
    if child == 0:
        running.abandon()
        os._exit(0)
    os.waitpid(child, 0)

    assert b"accept: a" == get(running.url, Accept="a")[0]


def test_a_closed_server_is_gone() -> None:
    """The port is free again."""
    found = server.start("127.0.0.1", [0], render)
    assert found is not None
    url = found.url

    found.close()

    with pytest.raises(urllib.error.URLError):
        get(url)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("br", False),
        ("", False),
    ],
)
def test_a_body_is_compressed_for_who_takes_it(
    running: server.Server, accept: str, *, expected: bool
) -> None:
    """And only then; what comes out is what went in."""
    request = urllib.request.Request(running.url, headers={"Accept-Encoding": accept})
    with urllib.request.urlopen(request, timeout=5) as answer:
        body, coding = answer.read(), answer.headers["Content-Encoding"]

    assert expected == (coding == "gzip")
    assert (gzip.decompress(body) if expected else body).startswith(b"accept:")


def test_a_port_that_cannot_be_had_serves_nothing(running: server.Server) -> None:
    """There is no server, and nothing is raised."""
    assert server.start("127.0.0.1", [port(running)], render) is None
