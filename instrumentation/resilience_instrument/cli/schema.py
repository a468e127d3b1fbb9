"""`resilience schema`: print the JSON Schema of `resilience.toml`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilience_instrument.config import schema

if TYPE_CHECKING:
    import argparse

    from resilience_instrument.cli.admin import Commands


def add_to(commands: Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "schema", help="print the JSON Schema of resilience.toml, for editors"
    )
    parser.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Print it."""
    print(schema.text(), end="")
    return 0
