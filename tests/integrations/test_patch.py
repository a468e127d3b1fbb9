"""Wrapping a library's functions: all or nothing, each once, picklable."""

from __future__ import annotations

import copy
import functools
import pickle
from typing import Any

import pytest
import wrapt

from resilience_instrument.integrations import _patch
from resilience_instrument.integrations._patch import Target


class Library:
    """A library with a method and a class method to wrap."""

    def __init__(self, name: str = "plain") -> None:
        self.name = name

    def send(self, text: str) -> str:
        """Send `text`."""
        return f"{self.name} {text}"

    @staticmethod
    def make(text: str) -> str:
        """Make something of `text`."""
        return text


class Derived(Library):
    """A class that inherits what is wrapped."""


def shout(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A wrapper whose effect is seen."""
    return wrapped(*args, **kwargs).upper()


@pytest.fixture
def patched() -> Any:
    """The library with both functions wrapped."""
    done = _patch.apply(
        [Target(Library, "send", shout), Target(Library, "make", shout)]
    )
    yield done
    _patch.remove(done)


@pytest.mark.usefixtures("patched")
def test_a_wrapped_function_looks_like_itself() -> None:
    """Name, signature and docstring are the library's."""
    assert "PLAIN X" == Library().send("x")
    assert "X" == Library.make("x")
    assert "send" == Library.send.__name__
    assert "Send `text`." == Library.send.__doc__


@pytest.mark.usefixtures("patched")
def test_a_bound_method_pickles_with_its_object() -> None:
    """As without the agent: a worker may be given one."""
    again = pickle.loads(pickle.dumps(Library("other").send))

    assert "OTHER X" == again("x")


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("name", ["send", "make"])
def test_a_function_pickles_by_its_name(name: str) -> None:
    """Taken from the class it is found there again."""
    function = getattr(Library, name)

    again = pickle.loads(pickle.dumps(function))

    assert function.__wrapped__ is again.__wrapped__


@pytest.mark.usefixtures("patched")
def test_the_wrapper_itself_pickles_and_copies() -> None:
    """Also where somebody took it out of the class's dictionary."""
    wrapper = vars(Library)["send"]

    assert "send" == pickle.loads(pickle.dumps(wrapper)).__name__
    assert wrapper is copy.copy(wrapper)
    assert wrapper is copy.deepcopy(wrapper)


@pytest.mark.usefixtures("patched")
def test_copies_of_bound_methods_are_as_without_the_agent() -> None:
    """A deep copy goes with a copy of the object, a plain one with the object."""
    library = Library()
    holder = {"library": library, "send": library.send, "function": Library.send}

    copied = copy.deepcopy(holder)
    copied["library"].name = "changed"  # type: ignore[attr-defined]

    assert "CHANGED X" == copied["send"]("x")  # type: ignore[operator]
    assert "PLAIN X" == copy.copy(library.send)("x")
    assert "PLAIN X" == copied["function"](library, "x")  # type: ignore[operator]


def test_a_second_wrapper_is_not_put_around_the_first(patched: list[Target]) -> None:
    """Two names of one module do not govern a call twice."""
    assert 2 == len(patched)
    assert [] == _patch.apply([Target(Library, "send", shout)])


@pytest.mark.usefixtures("patched")
def test_a_wrapper_of_somebody_else_around_ours_is_seen_through() -> None:
    """Ours is still there, so that another would govern twice."""
    ours = vars(Library)["send"]
    foreign: Any = wrapt.FunctionWrapper(ours, shout)
    Library.send = foreign  # type: ignore[method-assign]
    try:
        assert [] == _patch.apply([Target(Library, "send", shout)])
    finally:
        Library.send = ours  # type: ignore[method-assign]


def test_an_inherited_function_is_wrapped_where_it_was_named() -> None:
    """The class above stays as it was."""
    done = _patch.apply([Target(Derived, "send", shout)])

    assert "PLAIN X" == Derived().send("x")
    assert "plain x" == Library().send("x")
    _patch.remove(done)
    assert "plain x" == Derived().send("x")


def test_a_library_of_another_shape_stays_as_it_was() -> None:
    """One function that is not there takes back all that was done."""
    targets = [Target(Library, "send", shout), Target(Library, "nothing", shout)]

    with pytest.raises(AttributeError, match="nothing"):
        _patch.apply(targets)

    assert "plain x" == Library().send("x")


def test_what_somebody_else_wrapped_meanwhile_is_left_alone() -> None:
    """Taking ours off must not take theirs off with it."""
    original = vars(Library)["send"]
    done = _patch.apply([Target(Library, "send", shout)])
    foreign: Any = wrapt.FunctionWrapper(vars(Library)["send"], shout)
    Library.send = foreign  # type: ignore[method-assign]

    _patch.remove(done)

    assert foreign is vars(Library)["send"]
    Library.send = original  # type: ignore[method-assign]


class Wrapped:
    """A class whose method somebody else has wrapped already."""

    name = "wrapped"

    @wrapt.decorator  # type: ignore[untyped-decorator, unused-ignore]
    def _plainly(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:  # noqa: N805
        return wrapped(*args, **kwargs)

    @_plainly
    def send(self, text: str) -> str:
        """Send `text`."""
        return f"{self.name} {text}"


@pytest.fixture
def twice() -> Any:
    """The method wrapped once more, by a wrapper of wrapt's."""
    done = _patch.apply([Target(Wrapped, "send", shout)])
    yield vars(Wrapped)["send"]
    _patch.remove(done)


def test_a_wrapper_around_a_wrapper_pickles_and_copies(twice: Any) -> None:
    """It is no plain function, and still found by its name."""
    assert twice is copy.copy(twice)
    assert twice is copy.deepcopy(twice)
    assert "WRAPPED X" == pickle.loads(pickle.dumps(twice))(Wrapped(), "x")


@pytest.mark.usefixtures("twice")
def test_a_bound_wrapper_pickles_and_copies_with_its_object() -> None:
    """As a bound method does."""
    one = Wrapped()
    holder: dict[str, Any] = {"one": one, "send": one.send, "function": Wrapped.send}

    copied = copy.deepcopy(holder)
    copied["one"].name = "changed"

    assert "CHANGED X" == copied["send"]("x")
    assert "WRAPPED X" == copy.copy(one.send)("x")
    assert "WRAPPED X" == copied["function"](one, "x")
    assert "WRAPPED X" == pickle.loads(pickle.dumps(one.send))("x")
    assert "WRAPPED X" == pickle.loads(pickle.dumps(Wrapped.send))(one, "x")


def test_a_module_can_own_what_is_wrapped() -> None:
    """A function of a module is found in the module."""
    import json

    original = json.dumps
    done = _patch.apply([Target(json, "dumps", shout)])
    wrapped, restored = json.dumps("x"), pickle.loads(pickle.dumps(json.dumps))
    _patch.remove(done)

    assert ('"X"', "dumps") == (wrapped, restored.__name__)
    assert original is json.dumps


def test_what_a_proxy_stands_before_is_replaced_as_the_class_shows_it() -> None:
    """Another agent's wrapper is no function, and knows that `self` comes first."""

    class Other:
        @wrapt.decorator
        def _around(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:  # noqa: N805
            return wrapped(*args, **kwargs)

        @_around
        def send(self, text: str) -> str:
            return text

    def loud(original: Any) -> Any:
        @functools.wraps(original)
        def send(self: Any, text: str) -> str:
            return str(original(self, text)).upper()

        return send

    done = _patch.apply([_patch.Replacement(Other, "send", loud)])
    try:
        assert "X" == Other().send("x")
    finally:
        _patch.remove(done)
    assert "x" == Other().send("x")


def test_of_what_is_written_in_c_no_parameters_are_known() -> None:
    """They are asked for to compare, and nothing equals the unknown."""
    assert () == _patch.parameters(len)
    assert ("self", "text") == _patch.parameters(Library.send)
