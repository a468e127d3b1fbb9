"""The clamp: how long one wait of a socket may take."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from resilience_instrument.integrations._clamp import (
    CLAMP,
    Clamp,
    ClampedSocket,
    clamp_response,
    send_unhurried,
)


class FakeTime:
    """A clock that stands where it is put."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class FakeSocket:
    """A socket that remembers its timeouts and can close meanwhile."""

    def __init__(self, timeout: float | None, outcome: Any = b"x") -> None:
        self.timeout = timeout
        self.outcome = outcome
        self.waited: list[float | None] = []
        self.closed = False

    def gettimeout(self) -> float | None:
        return self.timeout

    def settimeout(self, value: float | None) -> None:
        if self.closed:
            raise OSError
        self.timeout = value

    def recv_into(self, *_: Any) -> Any:
        self.waited.append(self.timeout)
        if isinstance(self.outcome, BaseException):
            self.closed = True
            raise self.outcome
        return self.outcome

    def fileno(self) -> int:
        return 7


def clamp(end: float | None = None) -> tuple[Clamp, FakeTime]:
    """A clamp and its clock."""
    clock = FakeTime()
    return Clamp(end, clock, sending=True), clock


@pytest.mark.parametrize(
    ("end", "own", "wait"),
    [
        (None, None, None),
        (None, 5.0, 5.0),
        (103.0, None, 3.0),
        (103.0, 5.0, 3.0),
        (103.0, 2.0, 2.0),
    ],
)
def test_the_nearer_end_holds(
    end: float | None, own: float | None, wait: float | None
) -> None:
    """A wait lasts no longer than its own timeout and the attempt."""
    assert wait == clamp(end)[0].shorten(own)


def test_after_the_end_nothing_is_waited_for() -> None:
    """The attempt is over, and the clamp knows that it ended it."""
    held, clock = clamp(103.0)
    clock.now = 103.0

    with pytest.raises(TimeoutError):
        held.shorten(5.0)

    assert held.fired


@pytest.mark.parametrize(("free", "wait"), [(True, None), (False, 5.0)])
def test_a_released_clamp_does_not_watch(*, free: bool, wait: float | None) -> None:
    """The app reads on by itself, by its own timeout if it gave one."""
    held, clock = clamp(103.0)
    clock.now = 200.0

    held.release(free=free)

    assert wait == held.shorten(5.0)
    held.mark()
    assert not held.fired


def test_a_timeout_before_the_end_is_not_the_end() -> None:
    """Who struck is told apart: the piece's own timeout or the attempt's end."""
    held, clock = clamp(103.0)

    held.mark()
    assert not held.fired

    clock.now = 103.0
    held.mark()
    assert held.fired


def test_a_socket_keeps_its_own_timeout() -> None:
    """The shorter wait is for one piece only."""
    held, _ = clamp(103.0)
    inner = FakeSocket(5.0)

    received = ClampedSocket(inner, held).recv_into(bytearray(1))

    assert (b"x", [3.0], 5.0) == (received, inner.waited, inner.timeout)


def test_a_wait_that_is_short_enough_is_left_alone() -> None:
    """Nothing is set where nothing has to be shorter."""
    held, _ = clamp(103.0)
    inner = FakeSocket(2.0)

    ClampedSocket(inner, held).recv_into(bytearray(1))

    assert [2.0] == inner.waited


def test_a_timeout_on_a_closed_socket_stays_a_timeout() -> None:
    """That its timeout cannot be set back hides nothing."""
    held, clock = clamp(103.0)
    inner = FakeSocket(5.0, TimeoutError("timed out"))
    clock.now = 102.0

    with pytest.raises(TimeoutError, match="timed out"):
        ClampedSocket(inner, held).recv_into(bytearray(1))

    assert not held.fired


def test_all_else_is_the_socket() -> None:
    """Whoever looks at it sees what is inside."""
    assert 7 == ClampedSocket(FakeSocket(None), clamp()[0]).fileno()


class Response:
    """A response of `http.client` as far as the wrapper looks at it."""

    def __init__(self, sock: Any) -> None:
        self.fp = sock.makefile("rb") if isinstance(sock, socket.socket) else sock


def wrapped_init(sock: Any) -> Any:
    """Make a response the way the wrapped class does."""
    response = Response.__new__(Response)
    clamp_response(
        lambda inner: Response.__init__(response, inner), response, (sock,), {}
    )
    return response


def test_a_response_reads_through_the_clamp() -> None:
    """Where an attempt is under way, and only there."""
    held, _ = clamp(103.0)
    left, right = socket.socketpair()
    with left, right:
        token = CLAMP.set(held)
        clamped = wrapped_init(left)
        odd = wrapped_init("no file")
        CLAMP.reset(token)
        plain = wrapped_init(left)

        assert isinstance(clamped.fp.raw._sock, ClampedSocket)
        assert "no file" == odd.fp
        assert left is plain.fp.raw._sock
        clamped.fp.close()
        plain.fp.close()


class Connection:
    """A connection of urllib3 as far as the wrapper looks at it."""

    def __init__(self, sock: Any) -> None:
        self.sock = sock
        self.timeout: float | None = 0.5

    def connect(self) -> None:
        self.sock = FakeSocket(self.timeout)

    def request(self) -> str:
        return "sent"


@pytest.mark.parametrize("sock", [None, FakeSocket(0.5)], ids=["new", "reused"])
def test_sending_may_take_all_the_time_left(sock: Any) -> None:
    """The short timeout is for the connection, not for an upload."""
    held, _ = clamp(130.0)
    connection = Connection(sock)
    token = CLAMP.set(held)
    try:
        assert "sent" == send_unhurried(connection.request, connection, (), {})
    finally:
        CLAMP.reset(token)

    assert (30.0, 30.0) == (connection.timeout, connection.sock.timeout)


@pytest.mark.parametrize("held", [None, Clamp(130.0, FakeTime(), sending=False)])
def test_the_apps_own_timeout_holds_while_sending(held: Clamp | None) -> None:
    """What the app chose is the app's, also where it is short."""
    connection = Connection(None)
    token = CLAMP.set(held)
    try:
        send_unhurried(connection.request, connection, (), {})
    finally:
        CLAMP.reset(token)

    assert (None, 0.5) == (connection.sock, connection.timeout)
