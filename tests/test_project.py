"""The project around the package: make targets, changelog, pages.

The layers of the package are no test: `make lint` checks them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*.d/*.md")]
FRAGMENT = re.compile(r"(\*\*Breaking:\*\* )?[A-Z].+ \(#(?P<issue>\d+)\)\.\n")


def make(*targets: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Make `targets` as from a fresh shell, also if make runs these tests."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return subprocess.run(
        ["make", "--no-print-directory", *targets],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def write_python(path: Path, script: str) -> None:
    """Put a program there that a search for an interpreter comes across."""
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def test_make_without_a_target_lists_every_target() -> None:
    """A newcomer who types `make` learns all that can be made, and `help` is it."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][\w-]*):", makefile, re.MULTILINE)

    done = make("help")

    listed = re.findall(r"^make ([\w-]+) +\S", done.stdout, re.MULTILINE)
    assert targets == listed
    assert ".DEFAULT_GOAL := help\n" in makefile


def test_make_says_in_one_line_that_no_python_runs(tmp_path: Path) -> None:
    """Shims that exist but do not run count as no Python at all."""
    for name in ("python3.14", "python3.13", "python3.12", "python3.11", "python3"):
        write_python(tmp_path / name, "echo 'command not found' >&2; exit 127")

    done = make(
        "demo", PATH=f"{tmp_path}:{os.environ['PATH']}", VENV=str(tmp_path / "venv")
    )

    first, _, rest = done.stderr.partition("\n")
    assert first.startswith("error: no Python 3.11 or newer found; install one")
    assert rest.startswith("make: ***")


def test_make_names_the_package_that_lacks_on_debian(tmp_path: Path) -> None:
    """The first Python that runs is taken; one without ensurepip is explained."""
    write_python(tmp_path / "python3.14", "exit 127")
    write_python(
        tmp_path / "python3.13", 'case "$*" in *version_info*) ;; *) exit 1 ;; esac'
    )

    done = make(
        "demo", PATH=f"{tmp_path}:{os.environ['PATH']}", VENV=str(tmp_path / "venv")
    )

    first, _, rest = done.stderr.partition("\n")
    assert first.startswith("error: python3.13 cannot make virtual environments;")
    assert "python3-venv" in first
    assert rest.startswith("make: ***")


def test_fragments_are_one_sentence_that_ends_with_their_issue() -> None:
    """A changelog fragment reads as the convention says."""
    for path in (ROOT / "changelog.d").glob("[0-9]*.md"):
        sentence = FRAGMENT.fullmatch(path.read_text(encoding="utf-8"))

        assert sentence is not None, path.name
        assert path.name.split(".")[0] == sentence["issue"]


def test_continuous_integration_runs_what_contributors_run() -> None:
    """The script of CI is executable and has no checks of its own."""
    script = ROOT / ".ci" / "run"

    text = script.read_text(encoding="utf-8")

    assert os.access(script, os.X_OK)
    ran = re.findall(r"^make [a-z][a-z-]*", text, re.MULTILINE)
    assert ["make lint", "make test", "make test-long"] == ran


def test_lint_checks_the_layers() -> None:
    """Imports that go up are found by `make lint`, with style and types."""
    done = make("-n", "lint")

    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports"):
        assert tool in done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    """No page links to a file that is not there."""
    targets = LINK.findall(page.read_text(encoding="utf-8"))

    assert [] == [name for name in targets if not (page.parent / name).exists()]
