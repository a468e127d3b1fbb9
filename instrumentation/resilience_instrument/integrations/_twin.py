"""Classes of ours that stand in the place of another and compare equal to it.

A C type cannot be patched, so an app gets an object of a subclass of ours: of the C
type, or of the app's own class with ours below it. Whoever asks `isinstance` sees no
difference, and whoever compares types sees none either; only `type(x) is T` can tell.
"""

from __future__ import annotations

from typing import Any, Final

_STANDS_FOR: Final = "_resilience_stands_for"


class Twin(type):
    """The type of such a class; a class that the app derives from one is itself."""

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is vars(cls).get(_STANDS_FOR, cls)

    def __hash__(cls) -> int:
        return type.__hash__(vars(cls).get(_STANDS_FOR, cls))


def below(theirs: Any, base: Any, ours: Any, **facts: Any) -> Any:
    """Return a class like `theirs` that has `ours` right above the C type `base`.

    Args:
        theirs: A class of the app's, or `base` itself.
        base: The C type.
        ours: A class of ours, derived from it.
        facts: More attributes of the class.
    """
    named = {
        "__module__": theirs.__module__,
        "__qualname__": theirs.__qualname__,
        "__doc__": theirs.__doc__,
        **facts,
    }
    bases = (ours,) if theirs is base else (theirs, ours)
    if type(theirs) is not type:
        # It has a type of its own, which decides what equals what.
        return type(theirs.__name__, bases, named)
    named[_STANDS_FOR] = theirs
    return Twin(theirs.__name__, bases, named)
