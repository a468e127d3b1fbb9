"""`resilience check [FILE]`: say all that is wrong with a configuration."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from resilience_instrument.cli.terminal import paint, print_json
from resilience_instrument.config.advice import advise
from resilience_instrument.config.load import examine, file_of

if TYPE_CHECKING:
    import argparse

    from resilience_instrument.cli.admin import Commands
    from resilience_instrument.config.findings import Finding


def add_to(commands: Commands) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "check",
        help="say all that is wrong with a configuration; exit 1 if anything is",
    )
    parser.add_argument(
        "file",
        nargs="?",
        help="the file; without it, what the environment says is checked",
    )
    parser.add_argument("--json", action="store_true", help="print for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check and print; return 1 if anything is wrong, which a note is not."""
    if options.file is None:
        environ, file = dict(os.environ), file_of(os.environ)
    else:
        environ, file = {}, options.file
    plan, findings = examine(environ, file)
    notes = [] if findings else advise(plan)
    if options.json:
        said = {"findings": findings, "notes": notes}
        data = {name: [_as_data(x) for x in each] for name, each in said.items()}
        print_json({"file": file, **data})
    else:
        for finding in findings:
            print(finding)
        for note in notes:
            print(paint(f"note: {note}", "quiet"))
        if not findings:
            print(f"{file or 'environment'}: {paint('good', 'good')}")
    return 1 if findings else 0


def _as_data(finding: Finding) -> dict[str, object]:
    file, colon, line = finding.place.rpartition(":")
    known = bool(colon) and line.isdecimal()
    return {
        "file": file if known else finding.place or None,
        "line": int(line) if known else None,
        "key": finding.key,
        "message": finding.message,
    }
