"""Every case has a test, and the page of the cases says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integrations import cases
from integrations.cases import CASES, CLIENTS, COLUMNS

if TYPE_CHECKING:
    from pathlib import Path


def test_the_committed_page_is_current() -> None:
    """Nobody has to remember to write it again."""
    assert 0 == cases.main(["--check"])


@pytest.mark.long
def test_a_page_that_is_stale_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The check can fail, and writing mends it."""
    page = tmp_path / "page.md"
    page.write_text("old", encoding="utf-8")
    monkeypatch.setattr(cases, "PAGE", page)

    before, written = cases.main(["--check"]), cases.main([])

    assert (1, 0, 0) == (before, written, cases.main(["--check"]))


def test_there_are_sixty_cases() -> None:
    """Their numbers are those of the design."""
    assert 60 == len(CASES)


def test_every_test_that_is_named_exists() -> None:
    """A test that was renamed must not leave its case without one."""
    assert set() == cases.unknown()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_case_is_held_or_says_why_not(case: cases.Case) -> None:
    """An exception has a reason and concerns a library that is there."""
    assert bool(case.except_for) == bool(case.why)
    assert set(case.except_for) <= set(CLIENTS)
    assert set(COLUMNS) == {c for c in COLUMNS if case.reason(c)} | cases.held(case)
