"""Every alert has a runbook that helps: meaning, impact, three queries, what to do."""

from __future__ import annotations

import re

import pytest

from bundle import sources

HEADINGS = ["Meaning", "Impact", "Look here first", "What to do"]


@pytest.mark.parametrize("name", sources.alert_names())
def test_alert_has_a_runbook_with_three_queries(name: str) -> None:
    """The page has its four parts in order, and asks three questions."""
    text = (sources.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")

    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    assert len(sources.FENCE.findall(text)) == 3
    assert "\n- " in text.partition("## What to do")[2]


def test_runbooks_are_those_of_the_alerts() -> None:
    """No page is left from an alert that is gone, and the index leads to each."""
    pages = {path.stem for path in sources.RUNBOOKS.glob("*.md")} - {"README"}
    index = (sources.RUNBOOKS / "README.md").read_text(encoding="utf-8")

    assert set(sources.alert_names()) == pages
    assert re.findall(r"\]\((\w+)\.md\)", index) == sources.alert_names()


def test_page_about_the_alerts_names_each() -> None:
    """Who reads the page learns of every alert, its severity and its time."""
    page = (sources.ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")

    for rule in sources.alerts():
        cells = f"| {rule['labels']['severity']} | {rule.get('for', '')} |"
        row = f"[{rule['alert']}](runbooks/{rule['alert']}.md) {cells}"
        assert row.replace("|  |", "| |") in page
