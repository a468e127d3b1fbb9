"""The wait that a service asks for: read with care, never an error."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience_instrument.policies import retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = "Wed, 21 Oct 2026 12:00:00 GMT"
NOON_AND_TEN = "Wed, 21 Oct 2026 12:00:10 GMT"
NOON_WALL = 1792584000.0


def test_seconds_are_seconds() -> None:
    """The plain form, with spaces around it or not."""
    assert 5.0 == retry_after.parse(" 5 ", None, NOON_WALL)


def test_a_date_counts_from_the_answers_own_date() -> None:
    """A client whose clock is an hour ahead waits the ten seconds all the same."""
    ahead = NOON_WALL + 3600.0

    assert 10.0 == retry_after.parse(NOON_AND_TEN, NOON, ahead)


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_a_date_counts_from_here_where_the_answer_has_none(date: str | None) -> None:
    """Without a usable `Date` the machine's own clock is the best there is."""
    assert 10.0 == retry_after.parse(NOON_AND_TEN, date, NOON_WALL)


@pytest.mark.parametrize(
    "text",
    [
        "Wed, 21 Oct 2026 12:00:10 GMT",
        "Wednesday, 21-Oct-26 12:00:10 GMT",
        "Wed Oct 21 12:00:10 2026",
    ],
)
def test_all_three_forms_of_a_date_are_read(text: str) -> None:
    """RFC 9110 names a form in use and two obsolete ones."""
    assert 10.0 == retry_after.parse(text, None, NOON_WALL)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "0",
        "-5",
        "1.5",
        "abc",
        "\u0665",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "Wed, 99 Oct 2026 12:00:00 GMT",
        "1 1 1 1:1:1",
    ],
)
def test_what_cannot_be_used_is_ignored(text: str | None) -> None:
    """Nothing, nonsense and the past mean the ordinary backoff, never an error."""
    assert retry_after.parse(text, None, NOON_WALL) is None


@given(st.text(), st.none() | st.text())
def test_no_header_raises(value: str, date: str | None) -> None:
    """Whatever a service sends, the answer is a positive number or none."""
    found = retry_after.parse(value, date, NOON_WALL)

    assert found is None or found > 0


@pytest.mark.parametrize(
    "name",
    [
        "retry-after-ms",
        "x-ms-retry-after-ms",
        "x-amz-retry-after",
        "grpc-retry-pushback-ms",
    ],
)
def test_milliseconds_are_read_where_a_service_sends_them(name: str) -> None:
    """They are exact, so they come before the seconds of the standard header."""
    headers = {name: "1500", "retry-after": "60"}

    assert 1.5 == retry_after.asked(headers, NOON_WALL)


@pytest.mark.parametrize("text", ["-1", "0", "soon", ""])
def test_bad_milliseconds_are_ignored(text: str) -> None:
    """Then the standard header counts."""
    headers = {"retry-after-ms": text, "retry-after": "60"}

    assert 60.0 == retry_after.asked(headers, NOON_WALL)


def test_an_answer_that_asks_for_nothing() -> None:
    """Most answers have none of these headers."""
    assert retry_after.asked({"date": NOON}, NOON_WALL) is None


def test_a_date_header_is_found() -> None:
    """The answer's own date is the base of a date."""
    headers = {"retry-after": NOON_AND_TEN, "date": NOON}

    assert 10.0 == retry_after.asked(headers, NOON_WALL + 3600.0)


def test_without_a_date_header_the_machines_clock_counts() -> None:
    """It is the best there is."""
    assert 10.0 == retry_after.asked({"retry-after": NOON_AND_TEN}, NOON_WALL)


@pytest.fixture
def tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own zone is nine hours ahead."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("tokyo")
@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone cannot be set")
@pytest.mark.parametrize("text", [NOON_AND_TEN, "Wed Oct 21 12:00:10 2026"])
def test_a_date_without_a_zone_is_in_utc(text: str) -> None:
    """Wherever the machine stands."""
    assert 10.0 == retry_after.parse(text, None, NOON_WALL)


@pytest.mark.parametrize(
    ("until", "wait"),
    [
        ("Wed, 21 Oct 2026 12:00:00 GMT", None),
        ("Wed, 21 Oct 2026 12:00:01 GMT", 1.0),
    ],
)
def test_a_date_that_is_now_asks_for_nothing(until: str, wait: float | None) -> None:
    """A second later it asks for a second."""
    assert wait == retry_after.parse(until, NOON, NOON_WALL)
