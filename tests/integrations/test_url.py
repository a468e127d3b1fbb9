"""URLs: services, where paths begin, and what a span may show."""

from __future__ import annotations

import pytest

from resilience_instrument.integrations._url import (
    _CACHE,
    Addresses,
    path_start,
    redacted,
    service_name,
    span_attributes,
)


@pytest.mark.parametrize(
    ("scheme", "host", "port", "name"),
    [
        ("http", "api", None, "api"),
        ("http", "api", 80, "api"),
        ("https", "api", 443, "api"),
        ("https", "api", 80, "api:80"),
        ("http", "::1", 8080, "[::1]:8080"),
    ],
)
def test_a_service_is_a_host_and_an_unusual_port(
    scheme: str, host: str, port: int | None, name: str
) -> None:
    """The label is what people call the service."""
    assert name == service_name(scheme, host, port)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://api/users?a=1", "/users?a=1"),
        ("http://api", ""),
        ("http://api?next=/home", "?next=/home"),
        ("http://user:pw@[::1]:80/x", "/x"),
    ],
)
def test_the_path_begins_after_the_host(url: str, path: str) -> None:
    """Slashes before and after it do not count."""
    assert path == url[path_start(url) :]


def test_an_origin_is_a_service_without_its_credentials() -> None:
    """Case and credentials make no difference."""
    addresses = Addresses()

    assert "api.example" == addresses.service("https://user:pw@API.example:443")
    assert "api.example:8443" == addresses.service("https://api.example:8443")
    assert "" == addresses.service("nonsense")


def test_remembered_origins_are_bounded() -> None:
    """A crawler does not fill the memory."""
    addresses = Addresses()

    names = [addresses.service(f"http://h{n}") for n in range(_CACHE + 1)]

    assert "h0" == names[0] == addresses.service("http://h0")
    assert len(addresses._services) <= _CACHE


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@api/x", "https://api/x"),
        ("https://api/x?sig=abc&X-Amz-Signature=d", None),
        ("https://api/x#token", "https://api/x"),
    ],
)
def test_a_span_shows_no_secrets(url: str, shown: str | None) -> None:
    """Neither credentials nor values of a query leave the process."""
    query = "https://api/x?sig=REDACTED&X-Amz-Signature=REDACTED"

    assert (shown or query) == redacted(url)


def test_a_span_knows_address_and_port() -> None:
    """The port of the scheme stands where the URL has none."""
    assert {
        "server.address": "api",
        "server.port": 443,
        "url.full": "https://api/x",
    } == span_attributes("https://api/x")
    assert "server.port" not in span_attributes("unix://api/x")
