"""The wrapper that wrapt makes, as it must be to stay unseen.

A wrapper of wrapt's own cannot be pickled or copied deeply, which the plain function
could; the subclasses here give that back, so that `pickle.dumps(session.send)` works
as without the agent.
"""

from __future__ import annotations

import importlib
import operator
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    BoundFunctionWrapper = wrapt.BoundFunctionWrapper[..., Any]
    FunctionWrapper = wrapt.FunctionWrapper[..., Any]
else:  # the oldest wrapt that we accept cannot be subscripted when it runs
    BoundFunctionWrapper = wrapt.BoundFunctionWrapper
    FunctionWrapper = wrapt.FunctionWrapper


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
