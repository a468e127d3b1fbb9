"""The frame: one deadline for all hops of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resilience_instrument.integrations._frame import Frame, settle
from resilience_instrument.policies.deadline import CURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def app_deadline() -> Iterator[float]:
    """A deadline under which the app runs."""
    token = CURRENT.set(50.0)
    yield 50.0
    CURRENT.reset(token)


def test_the_first_hop_sets_the_deadline_of_all() -> None:
    """A redirect does not start the clock anew."""
    frame = Frame.within(None, stream=False)

    assert [10.0, 10.0] == [settle(frame, 10.0), settle(frame, 20.0)]


def test_a_frame_inside_inherits_the_deadline() -> None:
    """And may only shorten it for itself."""
    outer = Frame.within(None, stream=False)
    settle(outer, 10.0)
    inner = Frame.within(outer, stream=True)

    assert 5.0 == settle(inner, 5.0)
    assert 10.0 == outer.deadline


def test_without_a_frame_the_hop_stands_alone() -> None:
    """An app may call an adapter itself."""
    assert [10.0, None] == [settle(None, 10.0), settle(None, None)]


def test_a_deadline_of_the_app_holds_for_the_frame(app_deadline: float) -> None:
    """Whichever is nearer."""
    assert app_deadline == settle(Frame.within(None, stream=False), 60.0)
    assert 40.0 == settle(None, 40.0)
