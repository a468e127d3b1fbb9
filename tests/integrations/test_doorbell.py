"""Doorbells: calls go on as if they were not there, the first one wakes the agent."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pickle
import types
from typing import TYPE_CHECKING, Any

import pytest

from resilience_instrument.integrations import _doorbell, _patch
from resilience_instrument.integrations._patch import Replacement, Target
from resilience_instrument.integrations._room import Runtime
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENTRANCES = ("Client.send", "Client.ask", "deep.Pool.open")


class Client:
    """A client of a library."""

    def send(self, text: str) -> str:
        """Send `text`."""
        return f"sent {text}"

    async def ask(self, text: str) -> str:
        """Ask for `text`."""
        return f"asked {text}"


class Pool:
    """A part of the library that lies deeper."""

    def open(self) -> str:
        """Open it."""
        return "open"


class Agent:
    """Governs what is called first, and counts how often it was woken."""

    def __init__(self) -> None:
        self.woken = 0
        self.told: list[str] = []
        self.targets: list[Any] = [
            Target(Client, "send", shout),
            Target(Client, "ask", shout_async),
        ]

    def wake(self) -> None:
        """Be woken."""
        self.woken += 1
        _doorbell.wake(self.govern)

    def govern(self, library: str, module: types.ModuleType) -> None:
        """Wrap what is to be wrapped."""
        assert "library" == module.__name__
        self.told.append(library)
        _patch.apply(self.targets)


def shout(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A wrapper whose effect is seen."""
    return wrapped(*args, **kwargs).upper()


async def shout_async(
    wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """The same for a coroutine function."""
    return (await wrapped(*args, **kwargs)).upper()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Return a library that can wait, among test tools that are not looked at."""
    monkeypatch.setattr(_doorbell, "TEST_TOOLS", frozenset())
    monkeypatch.setitem(_doorbell.ENTRANCES, "library", ENTRANCES)
    originals = [(owner, dict(vars(owner))) for owner in (Client, Pool)]
    made: Any = types.ModuleType("library")
    made.Client, made.deep = Client, types.SimpleNamespace(Pool=Pool)
    yield made
    _doorbell.waiting.clear()
    _doorbell._bells.clear()
    for owner, before in originals:
        for name in ("send", "ask", "open"):
            if name in before:
                setattr(owner, name, before[name])


@pytest.fixture
def agent(library: types.ModuleType) -> Agent:
    """Return the agent that the library waits for."""
    found = Agent()
    assert _doorbell.wait("library", library, found.wake)
    return found


@pytest.mark.usefixtures("agent")
def test_a_function_with_a_bell_looks_like_itself() -> None:
    """Name, signature and docstring are the library's; it counts as ours."""
    bell = vars(Client)["send"]

    assert ("send", "Client.send") == (bell.__name__, bell.__qualname__)
    assert ["self", "text"] == list(inspect.signature(Client.send).parameters)
    assert inspect.iscoroutinefunction(Client.ask)
    assert _patch.is_ours(bell)
    assert bell is pickle.loads(pickle.dumps(bell))


def test_the_first_call_wakes_the_agent_and_is_governed(agent: Agent) -> None:
    """From then on the wrapper stands where the bell was."""
    answers = [Client().send("x"), Client().send("y")]

    assert ["SENT X", "SENT Y"] == answers
    assert (1, ["library"]) == (agent.woken, agent.told)
    assert "sent x" == _patch.original_of(vars(Client)["send"])(Client(), "x")


def test_the_first_call_may_be_a_coroutine(agent: Agent) -> None:
    """All entrances of the library are governed by it."""
    answer = asyncio.run(Client().ask("x"))

    assert "ASKED X" == answer
    assert "SENT Y" == Client().send("y")
    assert 1 == agent.woken


def test_an_entrance_that_nobody_wants_is_given_back(agent: Agent) -> None:
    """The agent may know less entrances than it watched, such as of an old version."""
    answer = Pool().open()

    assert "open" == answer
    assert not _patch.is_ours(vars(Pool)["open"])
    assert 1 == agent.woken


def test_a_reference_that_was_taken_early_leads_to_the_wrapper(agent: Agent) -> None:
    """Before the first call and after it."""
    early = Client.send

    answers = [early(Client(), "x"), early(Client(), "y")]

    assert ["SENT X", "SENT Y"] == answers
    assert 1 == agent.woken


@pytest.mark.parametrize("put_back", [False, True])
def test_who_wrapped_a_bell_stays_the_outermost(
    agent: Agent, *, put_back: bool
) -> None:
    """What they have put back makes place for the wrapper, with the next call."""
    bell = Client.send

    def theirs(self: Client, text: str) -> str:
        return f"<{bell(self, text)}>"

    setattr(Client, "send", theirs)  # noqa: B010 - mypy
    answers = [Client().send("x"), Client().send("y")]
    if put_back:
        setattr(Client, "send", bell)  # noqa: B010 - mypy
        answers.append(Client().send("z"))

    assert ["<SENT X>", "<SENT Y>", "SENT Z"][: 2 + put_back] == answers
    assert (vars(Client)["send"] is theirs) is not put_back
    assert 1 == agent.woken


@pytest.mark.usefixtures("agent")
def test_what_took_the_place_of_a_bell_is_left_alone() -> None:
    """A test replaces a method for a while; the wrapper is there afterwards."""
    bell = vars(Client)["send"]
    setattr(Client, "send", lambda *_: "played")  # noqa: B010 - mypy

    asyncio.run(Client().ask("x"))

    assert "played" == Client().send("y")
    setattr(Client, "send", bell)  # noqa: B010 - mypy
    assert "SENT Z" == Client().send("z")


def test_a_method_that_is_replaced_gets_the_original(agent: Agent) -> None:
    """Not the bell: it would ring inside itself."""
    given: list[Any] = []

    def make(original: Any) -> Any:
        given.append(original)
        return lambda *args: original(*args).upper()

    original = _patch.original_of(vars(Client)["send"])
    agent.targets = [Replacement(Client, "send", make)]

    assert "SENT X" == Client().send("x")
    assert [original] == given


def test_a_call_while_the_agent_is_being_woken_passes(agent: Agent) -> None:
    """What the agent's own loading calls is not governed."""
    inside: list[str] = []

    def govern(library: str, module: types.ModuleType) -> None:  # noqa: ARG001
        inside.append(Client().send("inside"))

    agent.govern = govern  # type: ignore[method-assign]

    assert "sent x" == Client().send("x")
    assert ["sent inside"] == inside


def test_a_library_that_cannot_be_governed_is_as_it_was(agent: Agent) -> None:
    """All or nothing: references that were taken early pass too."""
    early, ask = Client.send, vars(Client)["ask"]
    agent.targets.append(Target(Client, "no_such_method", shout))

    def govern(library: str, module: types.ModuleType) -> None:  # noqa: ARG001
        with pytest.raises(AttributeError):
            _patch.apply(agent.targets)

    agent.govern = govern  # type: ignore[method-assign]

    assert "sent x" == Client().send("x")
    assert "sent y" == early(Client(), "y")
    assert not _patch.is_ours(vars(Client)["send"])
    assert vars(Client)["ask"] is ask.__wrapped__


def test_a_second_announcement_changes_nothing(
    agent: Agent, library: types.ModuleType
) -> None:
    """A module may be reloaded, or go by two names."""
    bell = vars(Client)["send"]

    assert _doorbell.wait("library", library, agent.wake)

    assert bell is vars(Client)["send"]


def test_a_class_that_a_reload_replaced_is_governed_too(agent: Agent) -> None:
    """Its objects are still in use."""
    names = {"__module__": Client.__module__, "__qualname__": "Client"}
    new: Any = type("Client", (), {**names, "send": lambda *_: "new"})
    agent.targets = [Target(new, "send", shout)]

    answers = [Client().send("x"), Client().send("y"), new().send()]

    assert ["SENT X", "SENT Y", "NEW"] == answers


def _odd(library: Any) -> None:
    del library.Client


def _wrapped(library: Any) -> None:
    library.deep = types.SimpleNamespace(Pool=type("Pool", (), {"open": print}))


@pytest.mark.parametrize("change", [_odd, _wrapped])
def test_a_library_of_another_shape_does_not_wait(
    library: types.ModuleType, change: Callable[[Any], None]
) -> None:
    """Nor one whose methods are no plain functions; nothing was changed."""
    before = dict(vars(Client))
    change(library)

    assert not _doorbell.wait("library", library, lambda: None)

    assert before == dict(vars(Client))
    assert {} == _doorbell.waiting


def test_a_library_whose_entrances_are_not_known_does_not_wait(
    library: types.ModuleType,
) -> None:
    """It is governed when it is imported."""
    assert not _doorbell.wait("sqlite3", library, lambda: None)


def test_nothing_waits_among_test_tools(
    library: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they replace must be ours already."""
    monkeypatch.setattr(_doorbell, "TEST_TOOLS", frozenset({"pytest"}))

    assert not _doorbell.wait("library", library, lambda: None)


# What a call can only come through when it has passed an entrance.
INSIDE = {
    ("HTTPResponse", "__init__"),
    ("HTTPConnection", "request"),
    ("BaseConnector", "connect"),
    ("TCPConnector", "_create_connection"),
    *((s, n) for s in ("SyncStream", "TLSinTLSStream") for n in ("read", "write")),
}


@pytest.mark.parametrize("name", sorted(_doorbell.ENTRANCES))
def test_the_entrances_are_those_that_the_room_wraps(name: str) -> None:
    """All of them, but for what lies behind them."""
    module = importlib.import_module(name)
    room = importlib.import_module(LIBRARIES[name])
    nothing: Any = None
    runtime = Runtime(Registry(nothing, nothing), nothing, nothing, nothing, nothing)
    runtime.clock = types.SimpleNamespace(monotonic=nothing)
    wrapped = {(t.owner.__name__, t.name) for t in room.targets(runtime)}

    entrances = set()
    for entrance in _doorbell.ENTRANCES[name]:
        *path, method = entrance.split(".")
        owner: Any = module
        for part in path:
            owner = getattr(owner, part)
        entrances.add((owner.__name__, method))

    assert entrances == wrapped - INSIDE
