"""Put wrappers around a library's functions: all of them or none, each once.

A wrapper that wrapt makes cannot be pickled or copied deeply, which the plain
function could; the subclasses here give that back, so that
`pickle.dumps(session.send)` works as without the agent.
"""

from __future__ import annotations

import importlib
import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Wrapper = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]
    BoundFunctionWrapper = wrapt.BoundFunctionWrapper[..., Any]
    FunctionWrapper = wrapt.FunctionWrapper[..., Any]
else:  # the oldest wrapt that we accept cannot be subscripted when it runs
    BoundFunctionWrapper = wrapt.BoundFunctionWrapper
    FunctionWrapper = wrapt.FunctionWrapper


class Target(NamedTuple):
    """One function to wrap: its owner, its name there, and what wraps it."""

    owner: Any
    name: str
    wrapper: Wrapper


def _resolve(module: str, qualified_name: str) -> Any:
    return operator.attrgetter(qualified_name)(importlib.import_module(module))


class _BoundGovernedFunction(BoundFunctionWrapper):
    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        if self._self_instance is None:
            return _resolve, (self.__module__, self.__qualname__)
        return getattr, (self._self_instance, self.__name__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        import copy  # noqa: PLC0415 - seldom needed, and not at import time

        if self._self_instance is None:
            return self
        return getattr(copy.deepcopy(self._self_instance, memo), self.__name__)


class GovernedFunction(FunctionWrapper):
    """A wrapper of ours: known by its class, pickled by its name."""

    __bound_function_wrapper__ = _BoundGovernedFunction

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return _resolve, (self.__module__, self.__qualname__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


def apply(targets: Iterable[Target]) -> list[Target]:
    """Wrap every target, or leave the library as it was.

    A function that carries a wrapper of ours already is left alone, so that two
    names of one module do not govern a call twice.

    Returns:
        What `remove` needs to take the wrappers off again.

    Raises:
        AttributeError: The library does not have the shape that is needed.
    """
    done: list[Target] = []
    try:
        for target in targets:
            original = _own_attribute(target)
            if not _is_governed(original):
                wrapper = GovernedFunction(original, target.wrapper)
                setattr(target.owner, target.name, wrapper)
                done.append(target)
    except BaseException:
        remove(done)
        raise
    return done


def remove(done: Iterable[Target]) -> None:
    """Take wrappers off where they are still the outermost, else leave the chain."""
    for target in done:
        current = vars(target.owner).get(target.name)
        if isinstance(current, GovernedFunction):
            setattr(target.owner, target.name, current.__wrapped__)


def _own_attribute(target: Target) -> Any:
    """Return the attribute as it stands in the class, unbound and undecorated."""
    for owner in getattr(target.owner, "__mro__", (target.owner,)):
        if target.name in vars(owner):
            return vars(owner)[target.name]
    message = f"{target.owner!r} has no {target.name}"
    raise AttributeError(message)


def _is_governed(function: Any) -> bool:
    """Tell whether a wrapper of ours is anywhere in the chain of wrappers."""
    while function is not None:
        if isinstance(function, GovernedFunction):
            return True
        # Not getattr: a wrapt proxy of somebody else's would answer for its inside.
        function = getattr(function, "__wrapped__", None)
    return False
