"""The streams under httpx: no wait and no write goes beyond the call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpcore
import pytest

from resilience_instrument.integrations._clamp import CLAMP, Clamp
from resilience_instrument.integrations._httpcore import _PIECE, Streams

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stream:
    """A stream that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, float | None]] = []

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.asked.append((max_bytes, timeout))
        return b"x"

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.asked.append((len(buffer), timeout))


class FakeTime:
    """A clock that stands where it is put."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Iterator[FakeTime]:
    """The clock of an attempt that must be over at 103."""
    fake = FakeTime()
    token = CLAMP.set(Clamp(103.0, fake, sending=False))
    yield fake
    CLAMP.reset(token)


def test_without_an_attempt_everything_passes() -> None:
    """Apps that use the core library by themselves are left alone."""
    stream = Stream()

    assert b"x" == Streams(httpcore).read(stream.read, stream, (10,), {"timeout": 5.0})
    Streams(httpcore).write(stream.write, stream, (b"abc", 5.0), {})

    assert [(10, 5.0), (3, 5.0)] == stream.asked


@pytest.mark.usefixtures("clock")
def test_a_wait_is_as_long_as_is_left() -> None:
    """Its own timeout where that is shorter."""
    stream = Stream()

    Streams(httpcore).read(stream.read, stream, (10,), {"timeout": 5.0})
    Streams(httpcore).read(stream.read, stream, (10, 1.0), {})

    assert [(10, 3.0), (10, 1.0)] == stream.asked


@pytest.mark.usefixtures("clock")
def test_a_long_write_is_made_in_pieces() -> None:
    """The end of the call is looked at before each of them."""
    stream = Stream()

    Streams(httpcore).write(stream.write, stream, (b"x" * (_PIECE + 1),), {})
    Streams(httpcore).write(stream.write, stream, (b"",), {})

    assert [(_PIECE, 3.0), (1, 3.0)] == stream.asked


def test_after_the_end_the_errors_are_those_of_the_core(clock: FakeTime) -> None:
    """The library above maps them as it always does."""
    clock.now = 104.0
    stream: Any = Stream()

    with pytest.raises(httpcore.ReadTimeout):
        Streams(httpcore).read(stream.read, stream, (10,), {})
    with pytest.raises(httpcore.WriteTimeout):
        Streams(httpcore).write(stream.write, stream, (b"x",), {})

    assert [] == stream.asked
