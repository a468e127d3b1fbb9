"""Read URLs: whose service it is, what is asked of it, what a span may show."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Final, final
from urllib.parse import urlsplit, urlunsplit

from resilience_instrument.config.match import Destination, template_of
from resilience_instrument.integrations._endpoint import Endpoints

if TYPE_CHECKING:
    from resilience_instrument.call import AttributeValue

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_CACHE: Final = 1024


def service_name(scheme: str, host: str, port: int | None) -> str:
    """Return the label of a service: its host, and its port where it is unusual."""
    host = f"[{host}]" if ":" in host else host
    if port is None or port == _DEFAULT_PORTS.get(scheme):
        return host
    return f"{host}:{port}"


@final
class Addresses:
    """Finds the service and the endpoint of a URL; each origin is parsed once."""

    __slots__ = ("_endpoints", "_services")

    def __init__(self) -> None:
        self._endpoints = Endpoints()
        self._services: dict[str, tuple[str, Destination]] = {}

    def service(self, origin: str) -> str:
        """Return the service behind the part of a URL before its path."""
        return self.origin(origin)[0]

    def origin(self, origin: str) -> tuple[str, Destination]:
        """Return the service behind the part of a URL before its path, and where."""
        found = self._services.get(origin)
        if found is None:
            parts = urlsplit(origin)
            host = parts.hostname or ""
            name = service_name(parts.scheme, host, parts.port)
            # Each is a new string; there may be thousands of origins.
            found = name, Destination(intern(parts.scheme), host, parts.port)
            if len(self._services) >= _CACHE:
                self._services.clear()
            self._services[origin] = found
        return found

    def endpoint(self, service: str, path: str, templates: tuple[str, ...] = ()) -> str:
        """Return the endpoint label of a path, which may carry a query string.

        Args:
            service: The service.
            path: The path.
            templates: Those of the configuration, which come first.
        """
        found = template_of(templates, path) if templates else None
        return found or self._endpoints.label(service, path)


def path_start(url: str) -> int:
    """Return where the path of an absolute URL begins, its end if it has none."""
    query = url.find("?")
    end = len(url) if query < 0 else query
    start = url.find("/", url.find("://") + 3, end)
    return end if start < 0 else start


def span_attributes(url: str) -> dict[str, AttributeValue]:
    """Return the attributes of a client span that its URL gives."""
    parts = urlsplit(url)
    attributes: dict[str, AttributeValue] = {
        "server.address": parts.hostname or "",
        "url.full": redacted(url),
    }
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    if port is not None:
        attributes["server.port"] = port
    return attributes


def redacted(url: str) -> str:
    """Return a URL without credentials and without the values of its query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    names = [pair.partition("=")[0] for pair in parts.query.split("&") if pair]
    query = "&".join(f"{name}=REDACTED" for name in names)
    return urlunsplit((parts.scheme, host, parts.path, query, ""))
