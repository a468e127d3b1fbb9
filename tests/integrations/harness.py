"""Drives each library through one interface, so that one contract fits all."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import ssl
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_GIVEN: Any = object()

Errors = type[Exception] | tuple[type[Exception], ...]


@dataclasses.dataclass(frozen=True)
class Wish:
    """One call as an app would make it."""

    url: str
    method: str = "GET"
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: Any = None
    timeout: Any = NOT_GIVEN
    stream: bool = False
    verify: Any = True

    def options(self, body_name: str) -> dict[str, Any]:
        """Return the keyword arguments that the app gives."""
        options: dict[str, Any] = {"headers": self.headers}
        if self.body is not None:
            options[body_name] = self.body
        if self.timeout is not NOT_GIVEN:
            options["timeout"] = self.timeout
        return options


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the app saw: a status and a body, or an error."""

    status: int = 0
    body: bytes = b""
    error: Exception | None = None


@dataclasses.dataclass(frozen=True)
class Traits:
    """How a library differs where the contract must know.

    Attributes:
        awaits: Whether it is asynchronous, so that a pause stops nobody else.
        reads: Whether it reads the body of an answer before the app gets it.
        rewinds: Whether a file can be sent again from where it stood.
        iterates: Whether a plain generator can be a body.
        files: Whether a plain file can be a body.
        asked: The name of the URL in the request that its errors carry, if any.
        decodes: Whether it decodes a compressed body.
    """

    awaits: bool = False
    reads: bool = True
    rewinds: bool = False
    iterates: bool = True
    files: bool = True
    asked: str = "url"
    decodes: bool = True


class Harness(Protocol):
    """One library, in one way of using it.

    Attributes:
        library: The name that an app imports.
        traits: How it differs from others.
        base_error: What every failure of a call is.
        connection_error: What a host that is not there is.
        timeout_errors: What a timeout is, in one phase or another.
    """

    library: str
    traits: Traits
    base_error: Errors
    connection_error: type[Exception]
    timeout_errors: tuple[type[Exception], ...]

    def send(self, wish: Wish) -> Answer:
        """Make the call and say what the app saw."""
        ...


def tls_context(verify: Any) -> Any:
    """Return what a client that wants a context is given for `verify`."""
    if isinstance(verify, str):
        return ssl.create_default_context(cafile=verify)
    return verify


@functools.cache
def usual_context() -> ssl.SSLContext:
    """Return what clients make for themselves, each by reading all authorities."""
    return ssl.create_default_context()


def on_asyncio(function: Callable[..., Any], wish: Wish) -> Answer:
    """Run a coroutine function in an event loop of its own."""
    answer: Answer = asyncio.run(function(wish))
    return answer
