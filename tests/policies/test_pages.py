"""The pages about policies say what the code does."""

from __future__ import annotations

import ast
import dataclasses
import re
from functools import cache
from pathlib import Path

import pytest

from fakes import service_settings
from resilience_instrument.config import keys
from resilience_instrument.policies.transitions import TRANSITIONS, diagram

TESTS = Path(__file__).resolve().parent.parent
DOCS = TESTS.parent / "docs" / "policies"
PAGES = sorted(
    page
    for page in DOCS.glob("*.md")
    if page.name not in {"README.md", "cases.md", "mutants.md"}
)
SKELETON = [
    "What it protects",
    "How it decides",
    "Defaults",
    "Metrics",
    "Diagram",
    "Anti-patterns",
]
CASES = range(1, 61)
ELSEWHERE = re.compile(r"issue \d")


def rows(page: Path) -> dict[int, str]:
    """Return what the table of cases says of each."""
    found = re.findall(
        r"^\| (\d+) \| [^|]+ \| (.+) \|$", page.read_text("utf-8"), re.MULTILINE
    )
    return {int(number): text for number, text in found}


@cache
def names(path: Path) -> frozenset[str]:
    """Return what a test file defines."""
    tree = ast.parse(path.read_text("utf-8"))
    defined = {getattr(node, "name", "") for node in tree.body}
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return frozenset(defined | assigned)


@pytest.mark.parametrize("case", CASES)
def test_every_case_names_a_test_or_another_issue(case: int) -> None:
    """What is promised is tested, and the test that is named exists."""
    text = rows(DOCS / "cases.md")[case]

    tests = re.findall(r"`([\w/]+\.py)::(\w+)`", text)

    assert tests or ELSEWHERE.search(text)
    for path, name in tests:
        assert name in names(TESTS / path), f"{path}::{name}"


def test_there_are_sixty_cases() -> None:
    """None is missing, none was invented."""
    assert list(CASES) == list(rows(DOCS / "cases.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_the_same_skeleton(page: Path) -> None:
    """Whoever knows one page finds the same things on the next."""
    headings = re.findall(r"^## (.+)$", page.read_text("utf-8"), re.MULTILINE)

    assert SKELETON == headings
    assert "```mermaid\n" in page.read_text("utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_defaults_on_a_page_are_those_of_the_code(page: Path) -> None:
    """Each row's value is the setting's."""
    found = re.findall(
        r"^\| `(\w+)\.(\w+)` \| (\S+) \| \S", page.read_text("utf-8"), re.MULTILINE
    )
    assert found
    for section, field, value in found:
        default = getattr(getattr(service_settings(), section), field)

        assert repr(default) == value, f"{section}.{field}"


def test_every_setting_is_on_a_page() -> None:
    """None has a default that nobody can read about."""
    text = "".join(page.read_text("utf-8") for page in PAGES)
    settings = service_settings()

    policies = {
        name: value
        for name in settings.__dataclass_fields__
        if dataclasses.is_dataclass(value := getattr(settings, name))
    }
    fields = [
        (name, f.name) for name, p in policies.items() for f in dataclasses.fields(p)
    ]
    assert [] == [f"{s}.{f}" for s, f in fields if f"| `{s}.{f}` |" not in text]


def test_the_diagram_of_the_breaker_is_its_table() -> None:
    """What is drawn is what the breaker goes by."""
    page = (DOCS / "circuit-breaker.md").read_text("utf-8")

    assert f"```mermaid\n{diagram()}```" in page
    assert len(TRANSITIONS) + 1 == diagram().count("-->")


def test_every_variable_on_the_page_is_read() -> None:
    """A name that is written down does something."""
    page = (DOCS / "README.md").read_text("utf-8")
    known = {key.env for key in keys.KEYS if key.variable}

    named = set(re.findall(r"`(RESILIENCE_\w+)`", page))

    assert set() == named - known
