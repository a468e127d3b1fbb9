"""Governing a library loads nothing that the library would load later."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import sys

import {library}
loaded = set(sys.modules)
import resilience_instrument.integrations._patch
import importlib
from resilience_instrument.integrations.catalog import LIBRARIES
from resilience_instrument.integrations._room import Runtime
from resilience_instrument.registry import Registry
room = importlib.import_module(LIBRARIES["{library}"])
registry = Registry(None, None)
room.targets(Runtime(registry, None, None, None, None))
late = {{"anyio", "httpcore", "httpcore2", "trio"}}
print(*sorted(late & (set(sys.modules) - loaded)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_a_core_is_loaded_when_the_library_loads_it(library: str) -> None:
    """An app that never calls must not pay for it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(library=library)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ("\n", "") == (done.stdout, done.stderr)


def test_an_app_that_asks_for_errors_of_botocore_loads_no_more() -> None:
    """Its clients take ten times as long to load, and may never be made."""
    script = """
import sys
from resilience_instrument.bootstrap import hooks

hooks.install()
import botocore.exceptions
print(*{"botocore.client", "resilience_instrument._agent"}.intersection(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        # What measures coverage has loaded sqlite3, which is governed at once.
        env={k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ("\n", "") == (done.stdout, done.stderr)
