"""`resilience`, the command for whoever runs governed apps.

Each subcommand is a module with a function `add_to`, which adds its parser and
sets the function that runs it: it takes the options, prints, and returns an exit
code. Nothing here is loaded in a governed process.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final

from resilience_instrument import __version__
from resilience_instrument.bundle import cli as bundle
from resilience_instrument.cli import check, doctor, report, schema, show

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - it has no other name

COMMANDS: Final[tuple[Callable[[Commands], None], ...]] = (
    check.add_to,
    show.add_to,
    doctor.add_to,
    report.add_to,
    schema.add_to,
    bundle.add_to,
)
"""Every subcommand, in the order of the help."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="resilience", description="Look after apps under resilience-instrument."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add_to in COMMANDS:
        add_to(commands)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has seen enough, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code
