"""Comparing two runs of a test suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from upstream import databases
from upstream.compare import differences, read_results, summary

if TYPE_CHECKING:
    from pathlib import Path

REPORT = """<testsuites><testsuite>
<testcase classname="t.A" name="one"/>
<testcase classname="t.A" name="two"><failure/></testcase>
<testcase classname="t.A" name="three"><error/></testcase>
<testcase classname="t.A" name="four"><skipped/></testcase>
</testsuite></testsuites>"""


def test_a_report_says_what_each_test_came_to(tmp_path: Path) -> None:
    """An error in a fixture is a failure."""
    report = tmp_path / "report.xml"
    report.write_text(REPORT, encoding="utf-8")

    results = read_results(report)

    assert {
        "t.A::one": "passed",
        "t.A::two": "failed",
        "t.A::three": "failed",
        "t.A::four": "skipped",
    } == results
    assert "1 passed, 2 failed, 1 skipped" == summary(results)


def test_a_test_that_changed_or_is_missing_is_a_difference() -> None:
    """Whatever the agent changed has a line."""
    plain = {"a": "passed", "b": "failed", "c": "passed"}
    governed = {"a": "passed", "b": "passed", "d": "passed"}

    assert [
        "b: failed -> passed",
        "c: passed -> missing",
        "d: missing -> passed",
    ] == differences(plain, governed)


def test_suites_of_databases_are_named_alone_or_for_each_driver() -> None:
    """A name that is none gets an error that lists those that there are."""
    assert list(databases.SUITES) == list(databases.named([]))
    assert {"psycopg2": "", "pymysql": "/there"} == databases.named(
        ["psycopg2", "pymysql=/there"]
    )
    assert [
        f"sqlalchemy-{driver}"
        for driver in ("psycopg2", "psycopg", "pymysql", "sqlite")
    ] == list(databases.named(["sqlalchemy"]))
    with pytest.raises(SystemExit, match="no suite 'psycopg3'; there are psycopg2, "):
        databases.named(["psycopg3"])
