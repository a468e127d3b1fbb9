"""Endpoint labels: readable, and never more than a service may have."""

from __future__ import annotations

from itertools import product

import pytest

from resilience_instrument.integrations._endpoint import (
    _CACHE,
    FAN_OUT,
    LIMIT,
    OTHER,
    SERVICES,
    Endpoints,
)


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("", "/"),
        ("/", "/"),
        ("//", "/"),
        ("/users", "/users"),
        ("/users/", "/users"),
        ("/users/4711", "/users/{id}"),
        ("/users/4711/orders", "/users/{id}/orders"),
        ("/v2/users", "/v2/users"),
        ("/v2beta1/users", "/{id}/users"),
        ("/a?user=secret", "/a"),
        ("/a/b?x=/c/d", "/a/b"),
        ("/a#fragment", "/a"),
        ("/index.html", "/index.html"),
        ("/robots.txt", "/robots.txt"),
        ("/550e8400-e29b-41d4-a716-446655440000", "/{id}"),
        ("/deadbeef00", "/{id}"),
        ("/user@example.com", "/{id}"),
        ("/%D0%9C", "/{id}"),
        ("/Ümläut", "/{id}"),
        (f"/{'x' * 41}", "/{id}"),
        ("/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/g/h"),
        ("/a/b/c/d/e/f/g/h/i/j", "/a/b/c/d/e/f/g/h/{rest}"),
    ],
)
def test_a_path_becomes_a_template(path: str, label: str) -> None:
    """Words stay, whatever looks like an identifier becomes a parameter."""
    assert label == Endpoints().label("api", path)


def test_many_words_in_one_place_are_a_parameter() -> None:
    """Names of users look like words; there are just too many of them."""
    endpoints = Endpoints()
    names = [chr(97 + n // 26) + chr(97 + n % 26) for n in range(100)]

    labels = {endpoints.label("api", f"/users/{name}/orders") for name in names}

    assert FAN_OUT + 1 == len(labels)
    assert "/users/{id}/orders" in labels
    assert "/users/aa/orders" == endpoints.label("api", "/users/aa/orders")


@pytest.mark.parametrize("depth", [4, pytest.param(5, marks=pytest.mark.long)])
def test_a_hundred_thousand_paths_stay_below_the_limit(depth: int) -> None:
    """Whatever an app calls, the label has a bounded number of values.

    Ten thousand are enough to be beyond every limit; the others take seconds.
    """
    endpoints = Endpoints()
    paths = ["/" + "/".join(path) for path in product("abcdefghij", repeat=depth)]

    labels = {endpoints.label("api", path) for path in paths}

    assert 10**depth == len(set(paths))
    assert LIMIT + 1 == len(labels)
    assert OTHER in labels
    assert len(endpoints._cache) <= _CACHE


def test_each_service_has_a_limit_of_its_own() -> None:
    """A service with many endpoints takes none away from another."""
    endpoints = Endpoints()
    for first in "abcdefghijklmnopqrst":
        for second in "abcdefghijklmnopqrst":
            endpoints.label("busy", f"/{first}/{second}")

    assert OTHER == endpoints.label("busy", "/new/word")
    assert "/new/word" == endpoints.label("quiet", "/new/word")


def test_the_number_of_services_is_bounded_too() -> None:
    """A crawler that calls a new host each time does not fill the memory."""
    endpoints = Endpoints()
    for number in range(SERVICES):
        endpoints.label(f"host-{number}", "/a")

    assert OTHER == endpoints.label("one-more", "/a")
    assert "/a" == endpoints.label("host-0", "/a")
