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

_EVENTS: Final = re.compile(r"^events: (.+)$", re.MULTILINE)
_TOTALS: Final = re.compile(r"^(?:totals|summary): (.+)$", re.MULTILINE)
_CACHES: Final = ("--I1=32768,8,64", "--D1=32768,8,64", "--LL=524288,8,64")


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
    words = command(target, stack, "--count", str(calls))
    short, long = (_total(part) for part in _parts(words, environment(source)))
    return (long - short) / calls


def misses_per_call(words: list[str], calls: int) -> float:
    """Return how many cache lines a call finds in no cache, by Valgrind's model.

    The model has two: one for data next to the processor, and one of 512 kB. What is
    not in there comes from what all processors share, or from memory.

    Args:
        words: A program that marks three runs: the first fills the cache, which is
            empty when the count begins, the third is twice as long as the second.
        calls: How many calls the second one has.
    """
    _, short, long = (
        _events(part, "DLmr", "DLmw")
        for part in _parts(words, environment(), "--cache-sim=yes", *_CACHES, runs=3)
    )
    return (long - short) / calls


def _parts(
    words: list[str], environ: dict[str, str], *options: str, runs: int = 2
) -> list[str]:
    """Return what was counted in the runs that a program marks."""
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
                *options,
                *mark.options,
                *words,
            ],
            environ,
        )
        first = mark.preface + 1
        return [
            Path(f"{out}.{part}-01").read_text(encoding="utf-8")
            for part in range(first, first + runs)
        ]


def _run(words: list[str], environ: dict[str, str]) -> None:
    done = subprocess.run(
        words, env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        message = f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr}"
        raise RuntimeError(message)


def _total(part: str) -> int:
    return _events(part, "Ir")


def _events(part: str, *names: str) -> int:
    """Return how many of some events there were in a part."""
    events, totals = _EVENTS.search(part), _TOTALS.search(part)
    if events is None or totals is None:
        message = f"no totals in {part[:200]}"
        raise RuntimeError(message)
    # Zeros at the end are left out.
    found = dict(zip(events[1].split(), map(int, totals[1].split()), strict=False))
    return sum(found.get(name, 0) for name in names)
