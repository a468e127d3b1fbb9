"""Doorbells: they wait where calls enter a library, and wake the agent at the first.

To load the agent takes longer than to import a small library, and many programs
import what they never call. So, where nothing is configured, the import of a library
only puts a plain function before each of its entrances. The first call through any
of them loads the agent, which puts its wrappers in their places, and goes on there.
This module is loaded with the first governed library and so imports little.
"""

from __future__ import annotations

import functools
import sys
import types

from resilience_instrument.integrations.catalog import TEST_TOOLS

TYPE_CHECKING = False  # typing is not loaded in this stage
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MARK = "__resilience__"
"""What a function of ours carries: itself, and what it stands in the place of."""

_CLIENT = ("Client.__init__", "AsyncClient.__init__", "Client.send", "AsyncClient.send")
_TRANSPORT = ("HTTPTransport.handle_request", "AsyncHTTPTransport.handle_async_request")
_HTTPX = (*_CLIENT, "_client.BaseClient.build_request", *_TRANSPORT)

ENTRANCES: dict[str, tuple[str, ...]] = {
    "requests": ("Session.send", "adapters.HTTPAdapter.send"),
    "aiohttp": ("ClientSession._request",),
    # Nothing enters there that has not come through httpx.
    "httpcore": (),
    "httpcore2": (),
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "tenacity": (
        "Retrying.__call__",
        "AsyncRetrying.__call__",
        "AttemptManager.__enter__",
        "AttemptManager.__exit__",
    ),
    "urllib3": (
        "connectionpool.HTTPConnectionPool._make_request",
        "connectionpool.HTTPConnectionPool.urlopen",
        "PoolManager.urlopen",
    ),
    "urllib.request": ("OpenerDirector.open", "AbstractHTTPHandler.do_open"),
}
"""By library: the methods through which calls enter. One that is not here is governed
when it is imported."""

_COROUTINE = 0x80  # inspect.CO_COROUTINE


class Bell:
    """One entrance of a library that has not been called yet.

    Args:
        owner: The class that the method belongs to.
        name: Its name there.
        original: The method.
        wake: Loads the agent, which answers this bell among others.
    """

    __slots__ = ("function", "name", "original", "owner", "real", "wake")

    def __init__(
        self,
        owner: type,
        name: str,
        original: types.FunctionType,
        wake: Callable[[], None],
    ) -> None:
        self.owner = owner
        self.name = name
        self.original = original
        self.wake = wake
        self.real: Any = None
        self.function = _standing_for(self)
        setattr(self.function, MARK, (self.function, original))

    def open(self) -> Any:
        """Return what a call has to go to, which wakes the agent if it sleeps."""
        if self.real is None:
            self.wake()
        elif vars(self.owner).get(self.name) is self.function:
            # Somebody who had wrapped it meanwhile has put it back.
            setattr(self.owner, self.name, self.real)
        return self.real or self.original

    def answer(self, real: Any) -> None:
        """Let calls go to `real` from now on, without this bell where that can be."""
        _bells.pop((self.owner, self.name), None)
        self.real = real
        if vars(self.owner).get(self.name) is self.function:
            setattr(self.owner, self.name, real)


waiting: dict[str, tuple[types.ModuleType, list[Bell]]] = {}
"""The libraries that were imported and not called yet."""

_bells: dict[tuple[type, str], Bell] = {}


def at(owner: Any, name: str) -> list[Bell]:
    """Return the bells that wait at this entrance.

    Also of a class by the same name: a reload puts another in its place, and objects
    of the first go on.
    """
    return [
        bell
        for bell in _bells.values()
        if bell.name == name and _is_same(bell.owner, owner)
    ]


def wait(
    library: str,
    module: types.ModuleType,
    wake: Callable[[], None],
    *,
    alone: bool = False,
) -> bool:
    """Put a bell at each entrance of a library.

    Args:
        library: Its name.
        module: The library.
        wake: Loads the agent.
        alone: Whether the library is to be left alone; the agent is told of it.

    Returns:
        Whether that can be done. Otherwise nothing was changed: it has another shape
        than is known, somebody was here who wraps in a way of his own, or a test tool
        is about to.
    """
    if library not in ENTRANCES or not TEST_TOOLS.isdisjoint(sys.modules):
        return False
    bells = []
    for entrance in () if alone else ENTRANCES[library]:
        owner: Any = module
        *path, name = entrance.split(".")
        for part in path:
            owner = getattr(owner, part, None)
        original = getattr(owner, "__dict__", {}).get(name)
        if type(original) is not types.FunctionType:
            return False
        if MARK not in vars(original):
            bells.append(Bell(owner, name, original, wake))
    for bell in bells:
        _bells[bell.owner, bell.name] = bell
        setattr(bell.owner, bell.name, bell.function)
    # Last: another thread may wake the agent at any time.
    waiting[library] = module, bells
    return True


def wake(tell: Callable[[str, types.ModuleType], None]) -> None:
    """Have every library that waits governed, and give back what nobody wanted.

    Args:
        tell: Is told each library, and never raises.
    """
    while waiting:
        library = next(iter(waiting))
        module, bells = waiting.pop(library)
        tell(library, module)
        for bell in bells:
            if bell.real is None:
                bell.answer(bell.original)


def _is_same(first: type, second: Any) -> bool:
    return first is second or (
        isinstance(second, type)
        and (first.__module__, first.__qualname__)
        == (second.__module__, second.__qualname__)
    )


def _standing_for(bell: Bell) -> Any:
    """Return a function that passes for the original and rings the bell."""
    original = bell.original
    if original.__code__.co_flags & _COROUTINE:

        @functools.wraps(original)
        async def enter_async(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            return await bell.open()(self, *args, **kwargs)

        return enter_async

    @functools.wraps(original)
    def enter(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return bell.open()(self, *args, **kwargs)

    return enter
