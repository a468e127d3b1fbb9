"""What every test may use: the tools beside it, and a server of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

# Tests are no package; their tools are imported by their own names.
sys.path.insert(0, str(Path(__file__).parent))

from loopback import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


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
