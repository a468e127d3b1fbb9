"""The time by which a whole call must be over."""

from __future__ import annotations

import pytest

from resilience_instrument.policies.deadline import CURRENT, nearer


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(None, None, None), (None, 2.0, 2.0), (1.0, None, 1.0), (3.0, 2.0, 2.0)],
)
def test_the_nearer_deadline_holds(
    first: float | None, second: float | None, expected: float | None
) -> None:
    """The nearer of two deadlines holds; none is no deadline."""
    assert expected == nearer(first, second)


def test_there_is_no_deadline_unless_somebody_sets_one() -> None:
    """A call outside of any deadline is not hurried."""
    assert CURRENT.get() is None
