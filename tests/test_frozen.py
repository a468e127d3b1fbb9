"""Dataclasses that are cheap to define; nobody else sees a difference."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from resilience_instrument import frozen

if TYPE_CHECKING:
    from dataclasses import dataclass
else:
    from resilience_instrument.frozen import dataclass


@dataclass(frozen=True, slots=True)
class Plain:
    """A class with all that ours have."""

    name: str
    size: int = 3

    @property
    def doubled(self) -> int:
        """Twice the size."""
        return self.size * 2


def test_values_are_given_by_place_or_by_name() -> None:
    """What is not given has its default."""
    found = Plain("a")

    assert found == Plain(name="a", size=3)
    assert 8 == Plain("a", 4).doubled
    assert hash(found) == hash(Plain("a"))
    assert found != Plain("b")
    other: object = ("a", 3)
    assert found != other
    assert "Plain(name='a', size=3)" == repr(found)


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        ((), {}, "lacks name"),
        (("a", 1, 2), {}, r"not \[2\]"),
        (("a",), {"name": "b"}, r"not \['name'\]"),
        (("a",), {"odd": 1}, r"not \['odd'\]"),
    ],
)
def test_what_does_not_fit_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    """As by any function."""
    made: Any = Plain

    with pytest.raises(TypeError, match=said):
        made(*args, **kwargs)


def test_nothing_can_be_changed() -> None:
    """Nor added, nor taken away; the error is that of dataclasses."""
    found: Any = Plain("a")

    with pytest.raises(dataclasses.FrozenInstanceError, match="size"):
        found.size = 4
    with pytest.raises(dataclasses.FrozenInstanceError, match="other"):
        found.other = 4
    with pytest.raises(dataclasses.FrozenInstanceError, match="size"):
        del found.size

    assert not hasattr(found, "__dict__")


def test_a_changed_one_is_another_one() -> None:
    """By our own function as by that of dataclasses."""
    found = Plain("a")

    assert Plain("a", 5) == frozen.replace(found, size=5)
    assert Plain("b") == dataclasses.replace(found, name="b")
    assert Plain("a") == found


def test_it_is_a_dataclass_to_who_asks() -> None:
    """With its fields and their defaults."""
    fields = dataclasses.fields(Plain)

    assert dataclasses.is_dataclass(Plain)
    assert [("name", dataclasses.MISSING), ("size", 3)] == [
        (field.name, field.default) for field in fields
    ]
    assert {"name": "a", "size": 3} == dataclasses.asdict(Plain("a"))
    assert ("name", "size") == frozen.names(Plain)


def test_it_pickles_and_copies() -> None:
    """Though nothing can be set."""
    found = Plain("a", 4)

    assert found == pickle.loads(pickle.dumps(found))
    assert found == copy.copy(found) == copy.deepcopy(found)


def test_another_kind_is_not_to_be_had() -> None:
    """One that can be changed is better written out."""
    with pytest.raises(TypeError, match="only frozen"):
        frozen.dataclass(frozen=False, slots=True)
