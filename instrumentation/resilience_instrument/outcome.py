"""What an attempt came to: a value returned or an error raised, as data.

Inside the engine a failure is a value. An exception that travels through a
coroutine would lose the app's StopIteration and keep the failed response alive
until the garbage collector runs. Nothing else belongs in this module.
"""

from __future__ import annotations

from typing import Final, TypeAlias, final


@final
class Returned:
    """The attempt returned `value`."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value: Final = value

    def __repr__(self) -> str:
        return f"Returned({self.value!r})"


@final
class Raised:
    """The attempt raised `error`, which is handed on as the very same object."""

    __slots__ = ("error",)

    def __init__(self, error: Exception) -> None:
        self.error: Final = error

    def __repr__(self) -> str:
        return f"Raised({self.error!r})"


Outcome: TypeAlias = Returned | Raised
