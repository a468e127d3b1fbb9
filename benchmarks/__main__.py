"""`python -m benchmarks`: measure, print tables, write JSON and the figure."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.harness import figure
from benchmarks.harness.report import machine
from benchmarks.suites import SUITES

_QUICK = ["calls", "crowds", "start-up", "growth", "memory", "scrape", "exactness"]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("suites", nargs="*", help=f"some of {', '.join(SUITES)}")
    parser.add_argument("--full", action="store_true", help="more stacks and rounds")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--figure", type=Path, help="write an SVG of `growth` here")
    options = parser.parse_args()
    unknown = set(options.suites) - set(SUITES)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    results = []
    for suite in options.suites or _QUICK:
        for result in SUITES[suite](full=options.full):
            sys.stdout.write(result.text() + "\n")
            sys.stdout.flush()
            results.append(result)
    if options.json:
        found = {"machine": machine(), "results": [r.data() for r in results]}
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if options.figure:
        shown = [r for r in results if r.name.startswith("more ")]
        options.figure.write_text(figure.draw(shown), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
