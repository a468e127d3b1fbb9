"""A governed library for each test, and no longer than the test."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from integrations.governing import governing
from integrations.harnesses import HARNESSES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from integrations.governing import Governed
    from integrations.harness import Harness


@pytest.fixture(params=sorted(HARNESSES))
def harness(request: pytest.FixtureRequest) -> Harness:
    """Each library in each way of using it."""
    return HARNESSES[request.param]()


@pytest.fixture
def govern(harness: Harness) -> Iterator[Callable[..., Governed]]:
    """Govern the harness's library with the settings that are given."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            governing((harness.library,), **settings)
        )
