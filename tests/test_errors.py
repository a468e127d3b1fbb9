"""The errors that reach an app."""

from __future__ import annotations

import pickle

import pytest

import resilience_instrument
from resilience_instrument.errors import (
    BulkheadFullError,
    CircuitBreakerOpenError,
    ConfigError,
    DeadlineExceededError,
    RateLimitedError,
    ResilienceError,
)

OURS = (
    BulkheadFullError,
    CircuitBreakerOpenError,
    DeadlineExceededError,
    RateLimitedError,
)


class ForeignError(Exception):
    """A library's error that demands arguments of its own."""

    def __init__(self, message: str, request: object = None) -> None:
        super().__init__(message)
        self.request = request


class BothError(CircuitBreakerOpenError, ForeignError):
    """What an integration makes of an error of ours."""


@pytest.mark.parametrize("kind", [*OURS, BothError])
def test_an_error_of_ours_survives_pickling(kind: type[ResilienceError]) -> None:
    """Message and facts are the same on the other side."""
    error = kind("down", service="s", retry_after=1.5, last_error="ReadTimeout")

    copy = pickle.loads(pickle.dumps(error))

    assert kind is type(copy)
    assert "down" == str(copy)
    assert error.__dict__ == copy.__dict__


@pytest.mark.parametrize("kind", OURS)
def test_errors_of_ours_share_a_base(kind: type[ResilienceError]) -> None:
    """One except clause catches all of them."""
    assert issubclass(kind, ResilienceError)


def test_facts_are_optional() -> None:
    """What is not known says so."""
    error = ResilienceError("hm")

    assert ("", None, "") == (error.service, error.retry_after, error.last_error)


def test_a_wrong_setting_is_a_wrong_value() -> None:
    """Who loads configuration in code may catch what it knows."""
    assert issubclass(ConfigError, ValueError)


def test_every_public_name_is_there() -> None:
    """What the package lists can be had from it."""
    for name in resilience_instrument.__all__:
        assert getattr(resilience_instrument, name) is not None
    assert dir(resilience_instrument) == sorted(resilience_instrument.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Asking for something else fails as for any module."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        resilience_instrument.nothing  # noqa: B018
