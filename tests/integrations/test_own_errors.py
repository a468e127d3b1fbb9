"""Our errors as each library knows them."""

from __future__ import annotations

import importlib
import pickle

import pytest

from resilience_instrument import errors
from resilience_instrument.integrations.catalog import LIBRARIES

ROOMS = (
    "requests",
    "httpx",
    "httpx2",
    "aiohttp",
    "urllib3",
    "urllib.request",
    "botocore",
)
NAMES = (
    "CircuitBreakerOpenError",
    "BulkheadFullError",
    "RateLimitedError",
    "DeadlineExceededError",
)


@pytest.mark.parametrize("library", ROOMS)
@pytest.mark.parametrize("name", NAMES)
def test_an_error_says_and_keeps_what_it_knows(library: str, name: str) -> None:
    """Its message is ours, whatever the library's class would make of it."""
    room = importlib.import_module(LIBRARIES[library])
    kind = getattr(room, name)

    error = kind("no call to api", service="api", retry_after=2.0, last_error="x")
    copy = pickle.loads(pickle.dumps(error))

    assert isinstance(error, getattr(errors, name))
    for each in (error, copy):
        assert ("no call to api", "api", 2.0, "x") == (
            str(each),
            each.service,
            each.retry_after,
            each.last_error,
        )
