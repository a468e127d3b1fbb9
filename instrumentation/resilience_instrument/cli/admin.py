"""`resilience`, the command for whoever runs governed apps.

Each subcommand is one function that prints and returns an exit code. Nothing
here is loaded in a governed process.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import sys
from typing import TYPE_CHECKING

from resilience_instrument import __version__
from resilience_instrument.bundle import cli as bundle
from resilience_instrument.config.load import from_environment
from resilience_instrument.errors import ConfigError
from resilience_instrument.integrations.catalog import LIBRARIES

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="resilience", description="Look after apps under resilience-instrument."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    checkup = commands.add_parser(
        "doctor", help="say what would be governed here, and whether settings hold"
    )
    checkup.set_defaults(run=lambda _: doctor())
    bundle.add_to(commands)
    parsed = parser.parse_args(arguments)
    code: int = parsed.run(parsed)
    return code


def doctor() -> int:
    """Say what the agent would do in this environment; 1 if it would do nothing."""
    print(f"resilience-instrument {__version__} on Python {platform.python_version()}")
    print(f"environment: {sys.prefix}")
    try:
        settings = from_environment(os.environ)
    except ConfigError as error:
        print(f"settings: cannot be used, apps would run ungoverned: {error}")
        return 1
    print("settings: good")
    for library in sorted(LIBRARIES):
        print(f"{library}: {_standing(library, settings.disabled)}")
    ports = settings.metrics_ports
    where = f"{settings.metrics_host}, port {ports[0]}-{ports[-1]}" if ports else "off"
    print(f"metrics: {where}")
    return 0


def _standing(library: str, disabled: frozenset[str]) -> str:
    if library in disabled:
        return "disabled by RESILIENCE_DISABLE"
    try:
        version = importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        if library.partition(".")[0] not in sys.stdlib_module_names:
            return "not installed here"
        version = "part of Python"
    return f"{version}, would be governed"
