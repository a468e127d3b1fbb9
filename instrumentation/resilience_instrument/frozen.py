"""Frozen dataclasses that cost next to nothing to define.

`dataclasses` writes the methods of each class as text and compiles them, which takes
about a millisecond a class, and loads `inspect` for it: a third of what loading the
agent took. These have methods in common. To `dataclasses.replace`, `fields` and the
like, and to type checkers, they are dataclasses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def dataclass(*, frozen: bool, slots: bool) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that makes a frozen dataclass with slots."""
    if not (frozen and slots):
        message = "only frozen dataclasses with slots"
        raise TypeError(message)
    return _made


def replace(found: T, **changes: Any) -> T:
    """Return another one with some values changed."""
    given = {name: getattr(found, name) for name in names(type(found))}
    return type(found)(**{**given, **changes})


def names(kind: type) -> tuple[str, ...]:
    """Return the names of the fields, in their order."""
    found: tuple[str, ...] = kind.__match_args__  # type: ignore[attr-defined]
    return found


def _made(kind: type[T]) -> type[T]:
    body = dict(vars(kind))
    fields = tuple(body.get("__annotations__", ()))
    defaults = {name: body.pop(name) for name in fields if name in body}
    for name in ("__dict__", "__weakref__"):
        body.pop(name, None)
    body.update(_METHODS)
    body.update(
        __slots__=fields,
        __match_args__=fields,
        __qualname__=kind.__qualname__,
        __defaults__=defaults,
        __dataclass_fields__=_Fields(),
    )
    made: Any = type(kind)
    return made(kind.__name__, kind.__bases__, body)  # type: ignore[no-any-return]


class _Fields:
    """What `dataclasses` asks a class for, made when it does."""

    def __get__(self, instance: object, owner: type) -> dict[str, Any]:
        import dataclasses  # noqa: PLC0415 - loaded, else nobody would ask

        defaults: dict[str, Any] = owner.__defaults__  # type: ignore[attr-defined]
        fields: list[Any] = [
            (name, kind, dataclasses.field(default=defaults[name]))
            if name in defaults
            else (name, kind)
            for name, kind in owner.__annotations__.items()
        ]
        made: Any = dataclasses.make_dataclass(owner.__name__, fields, slots=True)
        owner.__dataclass_fields__ = made.__dataclass_fields__  # type: ignore[attr-defined]
        found: dict[str, Any] = made.__dataclass_fields__
        return found


def _init(self: Any, *args: Any, **kwargs: Any) -> None:
    fields, name = self.__match_args__, type(self).__name__
    given = {**self.__defaults__, **dict(zip(fields, args, strict=False)), **kwargs}
    twice = kwargs.keys() & set(fields[: len(args)])
    if twice or len(args) > len(fields) or len(given) > len(fields):
        odd = sorted(twice or given.keys() - set(fields)) or list(args[len(fields) :])
        message = f"{name} takes {', '.join(fields)}, each once, and not {odd}"
        raise TypeError(message)
    for field in fields:
        if field not in given:
            message = f"{name} lacks {field}"
            raise TypeError(message)
        object.__setattr__(self, field, given[field])


def _values(self: Any) -> tuple[Any, ...]:
    return tuple([getattr(self, name) for name in self.__match_args__])


def _repr(self: Any) -> str:
    pairs = zip(self.__match_args__, _values(self), strict=True)
    said = ", ".join(f"{name}={value!r}" for name, value in pairs)
    return f"{type(self).__qualname__}({said})"


def _eq(self: Any, other: Any) -> Any:
    return (
        _values(self) == _values(other) if type(self) is type(other) else NotImplemented
    )


def _hash(self: Any) -> int:
    return hash(_values(self))


def _refuse(self: Any, name: str, *_: Any) -> None:
    from dataclasses import FrozenInstanceError  # noqa: PLC0415 - slow to load

    message = f"cannot change {name} of {type(self).__name__}"
    raise FrozenInstanceError(message)


def _reduce(self: Any) -> tuple[Any, ...]:
    return type(self), _values(self)


_METHODS: Final = {
    "__init__": _init,
    "__repr__": _repr,
    "__eq__": _eq,
    "__hash__": _hash,
    "__setattr__": _refuse,
    "__delattr__": _refuse,
    "__reduce__": _reduce,
}
