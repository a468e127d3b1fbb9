"""Kinds of settings: what a value looks like in a file, and what is no value."""

from __future__ import annotations

import tomllib

import pytest

from resilience_instrument.config import kinds


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        (kinds.Statuses(), frozenset({503, 429}), "[429, 503]"),
        (kinds.Ports(), range(9469, 9480), '"9469-9479"'),
        (kinds.Ports(), range(9469, 9470), "9469"),
        (kinds.Ports(), range(0), "0"),
        (kinds.Headers(), (("A", "b"),), '{ "A" = "b" }'),
        (kinds.OrOff(kinds.Seconds()), None, '"off"'),
    ],
)
def test_a_value_is_shown_as_a_file_would_have_it(
    kind: kinds.Kind, value: object, shown: str
) -> None:
    """And reads back as itself."""
    assert shown == kind.show(value)
    assert value == kind.read(tomllib.loads(f"x = {shown}")["x"])


def test_no_variable_holds_a_table() -> None:
    """Headers stand in a file."""
    with pytest.raises(ValueError, match="A: b"):
        kinds.Headers().parse("A: b")
