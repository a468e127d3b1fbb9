"""How many instructions a call takes: the figure that does not depend on the load.

Valgrind counts them, which takes a while but repeats to the per mille. A worker
marks where the calls begin and end; the difference of two runs of different
length is what the calls took, whatever surrounds them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.harness.marks import marks
from benchmarks.harness.workers import ROOT, command, environment

_TOTALS: Final = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)


def is_available() -> bool:
    """Tell whether instructions can be counted here."""
    return shutil.which("valgrind") is not None


def per_call(target: str, stack: str, calls: int, source: Path | None = None) -> float:
    """Return the instructions of one call of a target, in its own thread.

    Args:
        target: What is called.
        stack: What stands around it.
        calls: How many calls the shorter run has.
        source: Where the agent's package lies, None for the one that is installed.
    """
    mark = marks()
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        _run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={out}",
                # Ours that looks at the clock now and then costs by the time that
                # passes, which here is a hundred times what it is otherwise.
                "--separate-threads=yes",
                *mark.options,
                *command(target, stack, "--count", str(calls)),
            ],
            environment(source),
        )
        first = mark.preface + 1
        short, long = (_total(Path(f"{out}.{part}-01")) for part in (first, first + 1))
    return (long - short) / calls


def _run(words: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(
        words, env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        message = f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}"
        raise RuntimeError(message)


def _total(part: Path) -> int:
    found = _TOTALS.search(part.read_text(encoding="utf-8"))
    if found is None:
        message = f"no total in {part}"
        raise RuntimeError(message)
    return int(found.group(1))
