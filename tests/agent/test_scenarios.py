"""The page of the scenarios: each one is a test that is there, or says why not."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "processes.md"
ROW = re.compile(
    r"^\| (\d+) \| [^|]+ \| (?:`([\w/.]+)::(\w+)`|none: [^|]+) \|$", re.MULTILINE
)


def test_every_scenario_has_a_test_or_a_reason() -> None:
    """All forty-eight, in their order, and no name is out of date."""
    rows = ROW.findall(PAGE.read_text(encoding="utf-8"))

    assert list(range(1, 49)) == [int(number) for number, _, _ in rows]
    for _, file, name in rows:
        if file:
            assert f"def {name}(" in (TESTS / file).read_text(encoding="utf-8"), name
