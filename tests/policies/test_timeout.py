"""Limits of an attempt: the app's win, a deadline only shortens."""

from __future__ import annotations

import pytest

from resilience_instrument.config.model import Timeouts
from resilience_instrument.policies.timeout import (
    call_deadline,
    is_evidence,
    limits,
    shorter,
)
from resilience_instrument.verdict import Phase

OWN = Timeouts(connect=3.0, read=10.0, write=8.0, pool=5.0, total=30.0)
NONE = Timeouts(connect=None, read=None, write=None, pool=None, total=None)


def test_without_a_deadline_the_given_limits_hold() -> None:
    """Nothing is shortened, and there is no end."""
    found = limits(OWN, None, 1000.0)

    assert (3.0, 10.0, 8.0, 5.0) == found[:4]
    assert found.remaining(1000.0) is None


def test_a_deadline_shortens_every_limit() -> None:
    """No part may wait longer than the whole call has left."""
    found = limits(OWN, 1004.0, 1000.0)

    assert (3.0, 4.0, 4.0, 4.0) == found[:4]
    assert 1.5 == found.remaining(1002.5)
    assert 0.0 == found.remaining(1005.0)


def test_a_deadline_limits_what_had_no_limit() -> None:
    """Also an app that asked for no timeout is held by a deadline."""
    assert (2.0, 2.0, 2.0, 2.0) == limits(NONE, 1002.0, 1000.0)[:4]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(None, None, None), (None, 2.0, 2.0), (1.0, None, 1.0), (3.0, 2.0, 2.0)],
)
def test_none_is_longer_than_any_limit(
    first: float | None, second: float | None, expected: float | None
) -> None:
    """The shorter of two limits holds; none is no limit."""
    assert expected == shorter(first, second)


def test_a_call_ends_after_the_services_total() -> None:
    """Where one attempt fits in, the total holds."""
    assert 1030.0 == call_deadline(OWN, OWN, 1000.0)


def test_a_call_never_ends_before_one_whole_attempt_of_the_app() -> None:
    """An explicit timeout of the app that is longer than the total wins."""
    given = Timeouts(connect=5.0, read=60.0, write=60.0, pool=None, total=None)

    assert 1065.0 == call_deadline(given, OWN, 1000.0)


@pytest.mark.parametrize(
    ("given", "own"),
    [
        (NONE, OWN),
        (Timeouts(None, 1.0, 1.0, None, None), OWN),
        (OWN, NONE),
    ],
)
def test_no_limit_means_no_deadline(given: Timeouts, own: Timeouts) -> None:
    """An app that asked to wait for ever waits; so do settings without a total."""
    assert call_deadline(given, own, 1000.0) is None


@pytest.mark.parametrize(
    ("phase", "waited", "expected"),
    [
        (Phase.CONNECT, 3.0, True),
        (Phase.CONNECT, 2.9, False),
        (Phase.READ, 9.8, True),
        (Phase.READ, 9.79, False),
        (Phase.WRITE, 8.0, True),
        (Phase.WRITE, 7.0, False),
        (Phase.TOTAL, 10.0, True),
        (Phase.POOL, 100.0, False),
    ],
)
def test_only_a_full_wait_speaks_against_the_service(
    phase: Phase, waited: float, *, expected: bool
) -> None:
    """A wait that was cut shorter than the settings allow proves nothing."""
    assert expected is is_evidence(phase, waited, OWN)


def test_without_limits_no_timeout_is_evidence() -> None:
    """Settings that allow any wait are never exhausted."""
    assert not is_evidence(Phase.READ, 1e6, NONE)


def test_an_attempt_that_comes_too_late_still_has_a_limit() -> None:
    """A limit of 0 would mean to a socket that it must not wait at all."""
    late = limits(OWN, 999.0, 1000.0)

    assert late.connect is not None
    assert 0 < late.connect < 0.01
