"""Pages that come from the code say what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.fixture
def build(tmp_path: Path) -> ModuleType:
    """Load the script that writes the pages, for a directory of the test's own."""
    spec = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE = tmp_path
    built: ModuleType = module
    return built


def test_the_committed_pages_are_current(build: Any) -> None:
    """Nobody has to remember to write them again."""
    build.HERE = DOCS

    assert 0 == build.main(["--check"])


def test_a_page_that_is_missing_or_stale_is_found(
    build: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check can fail, and writing mends it."""
    assert 1 == build.main(["--check"])
    assert "docs/metrics.md is out of date" in capsys.readouterr().err
    assert 0 == build.main([])
    assert 0 == build.main(["--check"])
    (tmp_path / "metrics.md").write_text("old", encoding="utf-8")

    assert 1 == build.main(["--check"])
