"""Every alert has a runbook that helps: meaning, impact, three queries, what to do."""

from __future__ import annotations

import re

import pytest

from bundle import promql, sources

HEADINGS = ["Meaning", "Impact", "Look here first", "What to do"]


@pytest.mark.parametrize("name", sources.alert_names())
def test_alert_has_a_runbook_with_three_queries(name: str) -> None:
    """The page has its four parts in order, and asks three questions."""
    text = (sources.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")

    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == HEADINGS
    meaning, impact, look, todo = re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]
    assert all(part.strip().endswith(".") for part in (meaning, impact))
    assert len(sources.FENCE.findall(look)) == len(sources.FENCE.findall(text)) == 3
    assert ["1", "2", "3"] == re.findall(r"^(\d)\. ", look, re.MULTILINE)
    assert re.search(r"^- \w", todo, re.MULTILINE)


@pytest.mark.parametrize("name", sources.alert_names())
def test_queries_of_a_runbook_are_about_what_alerted(name: str) -> None:
    """Each picks the alert's job and service, or breaks its answer down by them."""
    text = (sources.RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    (rule, *_) = [each for each in sources.alerts() if each["alert"] == name]
    labels = promql.check(rule["expr"])

    for query in sources.FENCE.findall(text):
        selectors = promql.selectors(promql.parse(query))
        asked = {m.name for s in selectors for m in s.matchers.matchers}
        assert {"job", "service"} & labels <= asked | promql.check(query), query


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
