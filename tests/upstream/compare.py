"""Run the libraries' own test suites with and without the agent, and compare.

    python tests/upstream/compare.py                      # fetches what it needs
    python tests/upstream/compare.py requests=~/requests  # or uses a checkout

Three runs a library: plain; with an agent that has one attempt, no timeouts and no
breaker, which must make no difference; and with the defaults, whose differences
are listed. In the last one the suites' own server gets a thread a request, or a
request that is retried would keep it from the tests that follow (`threaded.py`).
Everything is kept under `build/upstream`.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "upstream"

TRANSPARENT = {
    "RESILIENCE_RETRY_MAX_ATTEMPTS": "1",
    "RESILIENCE_BREAKER_CONSECUTIVE": "1000",
    **{
        f"RESILIENCE_TIMEOUT_{part}": "1000000"
        for part in ("CONNECT", "READ", "WRITE", "POOL", "TOTAL")
    },
}
"""One attempt, and limits that nothing reaches."""

DEFAULTS = {"PYTHONPATH": str(Path(__file__).parent)}
"""No setting; what `threaded.py` needs to be found."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """A library and what its tests need."""

    version: str
    extras: str
    needs: tuple[str, ...]


SUITES = {
    "requests": Suite(
        "2.34.2",
        "socks",
        (
            "pytest<10",
            "pytest-httpbin==2.1.0",
            "httpbin~=0.10.0",
            "pytest-mock",
            "trustme",
        ),
    ),
    "httpx": Suite(
        "0.28.1",
        "brotli,cli,http2,socks,zstd",
        (
            "pytest<9",
            "chardet==5.2.0",
            "click==8.1.8",
            "trio>=0.27",
            "trustme",
            "uvicorn<0.35",
        ),
    ),
}

Results = dict[str, str]


def read_results(report: Path) -> Results:
    """Return what each test of a report came to: passed, failed or skipped."""
    results = {}
    for case in ET.parse(report).getroot().iter("testcase"):
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "passed"
        outcome = "skipped" if "skipped" in kinds else outcome
        results[f"{case.get('classname')}::{case.get('name')}"] = outcome
    return results


def differences(plain: Results, governed: Results) -> list[str]:
    """Return a line for each test whose outcome the agent changed."""
    return [
        f"{name}: {plain.get(name, 'missing')} -> {governed.get(name, 'missing')}"
        for name in sorted(plain.keys() | governed.keys())
        if plain.get(name) != governed.get(name)
    ]


def summary(results: Results) -> str:
    """Return how many tests came to what."""
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for outcome in results.values():
        counts[outcome] += 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def fetch(library: str, suite: Suite) -> Path:
    """Return the unpacked source distribution of a library, tests included."""
    source = BUILD / f"{library}-{suite.version}"
    if source.exists():
        return source
    wanted = f"{library}=={suite.version}"
    BUILD.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps"]
    done = subprocess.run(
        [*command, "--no-binary", library, "-d", str(BUILD), wanted], check=False
    )
    if done.returncode != 0:
        sys.exit(
            f"{wanted} could not be fetched; point to a checkout of it:"
            f" make upstream ARGS={library}=/path/to/{library}"
        )
    with tarfile.open(BUILD / f"{library}-{suite.version}.tar.gz") as archive:
        archive.extractall(BUILD, filter="data")
    return source


def environment(library: str, suite: Suite, source: Path) -> Path:
    """Return the directory of programs of an environment for the suite."""
    home = BUILD / f"{library}-environment"
    programs = home / "bin"
    if not (home / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "-q"]
        target = f"{source}[{suite.extras}]"
        subprocess.run([*pip, target, *suite.needs, "-e", str(ROOT)], check=True)
        (home / "complete").touch()
    return programs


def run(
    programs: Path, source: Path, report: Path, settings: dict[str, str] | None
) -> Results:
    """Run the tests, under the agent if there are settings for it."""
    command = [str(programs / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    if settings == DEFAULTS:
        command += ["-p", "threaded"]
    if settings is not None:
        command.insert(0, str(programs / "resilience-instrument"))
    with report.with_suffix(".log").open("w", encoding="utf-8") as log:
        subprocess.run(
            [*command, f"--junitxml={report}", "tests"],
            cwd=source,
            env={**os.environ, "RESILIENCE_METRICS_PORT": "0", **(settings or {})},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=False,
        )
    return read_results(report)


def compare(library: str, source: Path | None) -> bool:
    """Compare the three runs of a library; tell whether nothing was changed."""
    suite = SUITES[library]
    source = source or fetch(library, suite)
    programs = environment(library, suite, source)
    runs = {"plain": None, "transparent": TRANSPARENT, "defaults": DEFAULTS}
    results: dict[str, Results] = {}
    for name, settings in runs.items():
        results[name] = run(programs, source, BUILD / f"{library}-{name}.xml", settings)
        print(f"{library}, {name}: {summary(results[name])}", flush=True)
        for line in differences(results["plain"], results[name]):
            print(f"  {line}", flush=True)
    return not differences(results["plain"], results["transparent"])


def main(arguments: list[str]) -> int:
    """Compare the libraries that are named, or all."""
    chosen = dict(argument.partition("=")[::2] for argument in arguments)
    unchanged = [
        compare(library, Path(source).expanduser().resolve() if source else None)
        for library, source in (chosen or dict.fromkeys(SUITES, "")).items()
    ]
    return 0 if all(unchanged) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
