"""What every test may use: the tools beside it, and a server of its own."""

from __future__ import annotations

import os
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# Tests are no package; their tools are imported by their own names.
sys.path.insert(0, str(Path(__file__).parent))

from loopback import Server

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

# Each tells a program to measure what of the agent it runs.
_MEASURING = ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Start programs unmeasured: that takes two thirds of their time.

    What only programs reach is run by tests that are marked `measured`.
    """
    kept = {}
    if item.get_closest_marker("measured") is None:
        kept = {name: os.environ.pop(name, None) for name in _MEASURING}
    try:
        return (yield)
    finally:
        os.environ.update({name: text for name, text in kept.items() if text})


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Mix all tests, always alike, so that some wait while others compute.

    Workers that take them file by file all wait, or all compute.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: zlib.crc32(item.nodeid.encode()))


@pytest.fixture
def server() -> Iterator[Server]:
    """A plain server that does what the test scripts."""
    with Server() as running:
        yield running


@pytest.fixture
def tls_server() -> Iterator[Server]:
    """The same behind TLS."""
    with Server(tls=True) as running:
        yield running


# A busy machine draws slowly; that says nothing about the code.
settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")
