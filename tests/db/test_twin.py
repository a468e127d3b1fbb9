"""A class of ours that stands for another is compared as that one."""

from __future__ import annotations

import abc
import functools
import sqlite3
from typing import TYPE_CHECKING, Any

from resilience_instrument.integrations import _twin

if TYPE_CHECKING:
    from collections.abc import Callable

    from integrations.governing import Governed

    Govern = Callable[..., Governed]


class Ours(sqlite3.Cursor):
    """A class as a room has it."""


class Theirs(sqlite3.Cursor):
    """A class of an app's."""


def test_it_is_compared_as_the_type_that_it_stands_for() -> None:
    """From both sides, and as a key; what stands for another is another."""
    twin: Any = _twin.below(sqlite3.Cursor, sqlite3.Cursor, Ours)
    other: Any = _twin.below(Theirs, sqlite3.Cursor, Ours)

    assert twin == sqlite3.Cursor
    assert sqlite3.Cursor == twin
    assert "found" == {sqlite3.Cursor: "found"}[twin]
    assert twin == twin  # noqa: PLR0124 - it is the question
    assert other == Theirs
    assert Theirs == other
    assert twin not in {Ours, other, Theirs, object}
    assert ("Cursor", "sqlite3") == (twin.__name__, twin.__module__)


def test_a_class_of_the_app_is_itself() -> None:
    """Derived from one, or one that has a type of its own."""
    twin: Any = _twin.below(sqlite3.Cursor, sqlite3.Cursor, Ours)

    class Own(twin):  # type: ignore[misc]
        pass

    class Abstract(sqlite3.Cursor, metaclass=abc.ABCMeta):
        pass

    governed: Any = _twin.below(Abstract, sqlite3.Cursor, Ours)

    assert Own not in {sqlite3.Cursor, twin, Ours}
    assert hash(Own) == hash(Own)
    assert Own == Own  # noqa: PLR0124 - it is the question
    assert governed.__mro__[:3] == (governed, Abstract, Ours)
    assert governed != Abstract


def test_a_governed_connection_has_the_type_that_it_had(govern: Govern) -> None:
    """An app may choose by type: in a comparison, a table or a dispatch."""
    govern("sqlite3")

    @functools.singledispatch
    def kind(_: object) -> str:
        return "something"

    @kind.register
    def _(_: sqlite3.Connection) -> str:
        return "a connection"

    connection = sqlite3.connect(":memory:")
    cursor = connection.cursor()

    assert type(connection) == sqlite3.Connection  # noqa: E721 - it is the question
    assert type(cursor) == sqlite3.Cursor  # noqa: E721 - likewise
    assert "a connection" == kind(connection)
    connection.close()
