"""The wrapper that wrapt makes, as it must be to stay unseen.

A wrapper of wrapt's own cannot be pickled or copied deeply, which the plain function
could; the subclasses here give that back, so that `pickle.dumps(session.send)` works
as without the agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    BoundFunctionWrapper = wrapt.BoundFunctionWrapper[..., Any]
    FunctionWrapper = wrapt.FunctionWrapper[..., Any]
else:  # the oldest wrapt that we accept cannot be subscripted when it runs
    BoundFunctionWrapper = wrapt.BoundFunctionWrapper
    FunctionWrapper = wrapt.FunctionWrapper


def _by_place(place: str) -> tuple[Any, ...]:
    """Return how to find what stands in a place, in processes without the agent too."""
    import pkgutil  # noqa: PLC0415 - seldom needed, and not at import time

    return pkgutil.resolve_name, (place,)


class _BoundGovernedFunction(BoundFunctionWrapper):
    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        if self._self_instance is None:
            return _by_place(self._self_parent._self_place)  # noqa: SLF001 - of one house
        return getattr, (self._self_instance, self.__name__)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        import copy  # noqa: PLC0415 - seldom needed, and not at import time

        if self._self_instance is None:
            return self
        return getattr(copy.deepcopy(self._self_instance, memo), self.__name__)


class GovernedFunction(FunctionWrapper):
    """A wrapper of ours: known by its class, pickled by the place that it stands in.

    Not by the function's own name: `sqlite3.connect` says `_sqlite3.connect`, which
    is the one without a wrapper.

    Args:
        wrapped: What it is around.
        wrapper: What is called instead.
        place: Where it stands, as `module:name`.
    """

    __bound_function_wrapper__ = _BoundGovernedFunction

    def __init__(self, wrapped: Any, wrapper: Any, place: str) -> None:
        super().__init__(wrapped, wrapper)
        self._self_place = place

    def __reduce_ex__(self, protocol: object) -> tuple[Any, ...]:
        return _by_place(self._self_place)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self
