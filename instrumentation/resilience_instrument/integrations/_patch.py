"""Put wrappers around a library's functions: all of them or none, each once.

A method that is defined in Python is replaced by a plain function, which pickles and
copies as the original does, by its name. Anything else that can be called is wrapped
by wrapt, which takes a tenth of a second to load and so is loaded only then.
"""

from __future__ import annotations

import functools
import sys
import types
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from resilience_instrument.integrations import _doorbell
from resilience_instrument.integrations._doorbell import MARK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Wrapper = Callable[[Any, Any, tuple[Any, ...], dict[str, Any]], Any]


class Target(NamedTuple):
    """One function to wrap: its owner, its name there, and what wraps it.

    The wrapper gets the bound original, its object, and the arguments.
    """

    owner: Any
    name: str
    wrapper: Wrapper


class Replacement(NamedTuple):
    """One method to replace: its owner, its name there, and what makes the new one.

    `make` gets the original and returns, by `functools.wraps`, a function with the
    same parameters: for methods that every call passes, as packing and unpacking
    arguments costs more than the rest.
    """

    owner: Any
    name: str
    make: Callable[[Any], Any]


AnyTarget: TypeAlias = Target | Replacement

_COROUTINE: Final = 0x80  # inspect.CO_COROUTINE


def apply(targets: Iterable[AnyTarget]) -> list[AnyTarget]:
    """Wrap every target, or leave the library as it was.

    A function that carries a wrapper of ours already is left alone, so that two
    names of one module do not govern a call twice. Where a doorbell waits for the
    first call, the wrapper takes its place, or is what it leads to if others have
    wrapped it meanwhile.

    Returns:
        What `remove` needs to take the wrappers off again.

    Raises:
        AttributeError: The library does not have the shape that is needed.
    """
    done: list[AnyTarget] = []
    answered: list[_doorbell.Bell] = []
    try:
        for target in targets:
            for bell in _doorbell.at(target.owner, target.name):
                place = target._replace(owner=bell.owner)
                bell.answer(_governed(place, bell.original))
                answered.append(bell)
                done.append(place)
            original = _own_attribute(target)
            if not _is_governed(original) and target not in done:
                setattr(target.owner, target.name, _governed(target, original))
                done.append(target)
    except BaseException:
        remove(done)
        for bell in answered:
            bell.real = bell.original
        raise
    return done


def remove(done: Iterable[AnyTarget]) -> None:
    """Take wrappers off where they are still the outermost, else leave the chain."""
    for target in done:
        current = vars(target.owner).get(target.name)
        if is_ours(current):
            setattr(target.owner, target.name, original_of(current))


def is_ours(function: Any) -> bool:
    """Tell whether this very function is one of ours."""
    if not isinstance(function, types.FunctionType):
        return _is_wrapper(function)
    # A wrapper of somebody else's may have copied the mark.
    return vars(function).get(MARK, (None,))[0] is function or _is_wrapper(function)


def original_of(function: Any) -> Any:
    """Return what one of ours stands in the place of."""
    if _is_wrapper(function):
        return function.__wrapped__
    return vars(function)[MARK][1]


def parameters(function: Any) -> tuple[str, ...]:
    """Return the names of a function's parameters, none where they are not known."""
    code = getattr(function, "__code__", None)
    if not isinstance(code, types.CodeType):
        return ()
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _governed(target: AnyTarget, original: Any) -> Any:
    """Return what stands in the place of `original` from now on."""
    if isinstance(target, Replacement):
        if type(original) is types.FunctionType:
            function = target.make(original)
        else:
            # Through the class, another's wrapper knows that `self` comes first.
            function = target.make(getattr(target.owner, target.name))
    elif type(original) is types.FunctionType and isinstance(target.owner, type):
        # By its type: a proxy of another agent claims to be a function too, but
        # must be bound in its own way.
        function = _around(original, target.wrapper)
    else:
        from resilience_instrument.integrations._wrapper import (  # noqa: PLC0415 - slow to load
            GovernedFunction,
        )

        return GovernedFunction(original, target.wrapper, _place_of(target))
    setattr(function, MARK, (function, original))
    return function


def _place_of(target: AnyTarget) -> str:
    """Return where a function stands, as `module:name`."""
    owner = target.owner
    if isinstance(owner, types.ModuleType):
        return f"{owner.__name__}:{target.name}"
    return f"{owner.__module__}:{owner.__qualname__}.{target.name}"


def _around(original: types.FunctionType, wrapper: Wrapper) -> Any:
    """Return a plain function that calls `wrapper` as wrapt would."""
    bind = types.MethodType
    if original.__code__.co_flags & _COROUTINE:

        @functools.wraps(original)
        async def governed_async(self: Any, /, *args: Any, **kwargs: Any) -> Any:
            return await wrapper(bind(original, self), self, args, kwargs)

        return governed_async

    @functools.wraps(original)
    def governed(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return wrapper(bind(original, self), self, args, kwargs)

    return governed


def _is_wrapper(function: Any) -> bool:
    wrapper = sys.modules.get("resilience_instrument.integrations._wrapper")
    return wrapper is not None and isinstance(function, wrapper.GovernedFunction)


def _own_attribute(target: AnyTarget) -> Any:
    """Return the attribute as it stands in the class, unbound and undecorated."""
    for owner in getattr(target.owner, "__mro__", (target.owner,)):
        if target.name in vars(owner):
            return vars(owner)[target.name]
    message = f"{target.owner!r} has no {target.name}"
    raise AttributeError(message)


def _is_governed(function: Any) -> bool:
    """Tell whether a wrapper of ours is anywhere in the chain of wrappers."""
    while function is not None:
        if is_ours(function):
            return True
        # Not getattr: a wrapt proxy of somebody else's would answer for its inside.
        function = getattr(function, "__wrapped__", None)
    return False
