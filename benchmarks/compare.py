"""Compare the happy path with that of another commit, by instructions.

`python -m benchmarks.compare [--base COMMIT]` counts what one call takes under this
tree's agent and under that of the merge base with main, with the same harness and
the same libraries. It fails where a target takes more than 3 % more.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.harness import instructions
from benchmarks.harness.workers import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMIT: Final = 0.03
"""By how much a happy path may grow."""

TARGETS: Final = {"nothing": 300, "requests": 50, "httpx": 30, "sqlite3": 100}
"""What is called, and how often: enough to spread what happens now and then."""

_SOURCE: Final = "instrumentation"


def is_slower(before: float, after: float) -> bool:
    """Tell whether a call takes more than it may."""
    return after > before * (1 + LIMIT)


def line(target: str, before: float | None, after: float) -> str:
    """Return what is to be said of one target."""
    if before is None:
        return f"{target:16}{'':>12}{after:12,.0f}   new"
    change = after / before - 1
    verdict = "TOO SLOW" if is_slower(before, after) else "fine"
    return f"{target:16}{before:12,.0f}{after:12,.0f}{change:+8.2%}   {verdict}"


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Path]:
    """Yield a directory with the tree of a commit, for as long as it is needed."""
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory) / "base"
        _git("worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", *words], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def measure(target: str, calls: int, source: Path) -> float | None:
    """Return the instructions of a call, None if this tree cannot make one."""
    try:
        return instructions.per_call(target, "agent", calls, source)
    except RuntimeError as error:
        sys.stderr.write(f"{target} with {source}: {str(error).splitlines()[-1]}\n")
        return None


def main() -> int:
    """Run the command line; the exit code is 1 if a target takes too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare")
    parser.add_argument("--base", help="default: the merge base with main")
    options = parser.parse_args()
    if not instructions.is_available():
        sys.stderr.write("valgrind is needed to count instructions\n")
        return 2
    base = options.base or _git("merge-base", "HEAD", "main")
    failed = False
    sys.stdout.write(f"instructions a call, {base[:12]} and this tree\n")
    with checked_out(base) as tree:
        for target, calls in TARGETS.items():
            after = measure(target, calls, ROOT / _SOURCE)
            before = measure(target, calls, tree / _SOURCE)
            if after is None:
                failed = True
                continue
            failed = failed or (before is not None and is_slower(before, after))
            sys.stdout.write(line(target, before, after) + "\n")
            sys.stdout.flush()
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
