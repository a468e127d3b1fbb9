"""Run the cases against every library and print who passes.

Each pair runs in a process of its own, so that one which hangs harms nobody. A dash
says that the case does not concern the library. The exit code is 1 if ours fails one.

    python benchmarks/correctness/compare.py [--only NAME]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from cases import CASES

LIBRARIES = (
    "pybreaker",
    "circuitbreaker",
    "aiobreaker",
    "purgatory",
    "hyx",
    "interlock-cb",
    "tenacity",
    "stamina",
    "urllib3",
    "ours",
)
PATIENCE = 180.0


def verdict(case: str, library: str) -> str:
    """Run one case for one library in its own process."""
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, "--one", case, library],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "hangs"
    if done.returncode not in {0, 1} or "Traceback" in done.stderr:
        print(done.stderr, file=sys.stderr)
        return "error"
    return "pass" if done.returncode == 0 else "FAIL"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, metavar=("CASE", "LIBRARY"))
    parser.add_argument("--only", choices=LIBRARIES)
    options = parser.parse_args()
    if options.one:
        case, library = options.one
        judge, _ = CASES[case]
        return 0 if judge(library) else 1
    libraries = (options.only,) if options.only else LIBRARIES
    print(f"| case | {' | '.join(libraries)} |")
    print(f"|---|{'---|' * len(libraries)}")
    worst = 0
    for case, (_, concerned) in CASES.items():
        found = [
            verdict(case, library) if library in concerned else "-"
            for library in libraries
        ]
        print(f"| {case} | {' | '.join(found)} |", flush=True)
        if libraries[-1] == "ours" and found[-1] != "pass":
            worst = 1
    return worst


if __name__ == "__main__":
    sys.exit(main())
