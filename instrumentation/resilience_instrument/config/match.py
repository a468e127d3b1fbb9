"""Which service a call belongs to: patterns over scheme, host, port and path.

    https://pay.example.com          this host, at the port of its scheme
    pay.example.com                  this host by HTTP, at any port
    *.example.com:8443/v2/*          any host below, this port, paths below /v2
    postgresql://db.internal/orders  this database of this server
    sqlite:///app.db                 the file of this name, wherever it is

The most specific pattern wins: the longer path, then the plainer host, then the
one that names a port, then the one that names a scheme.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import re
from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Iterable

PORTS: Final = {
    "http": 80,
    "https": 443,
    "postgresql": 5432,
    "mysql": 3306,
}
"""The ports that need not be said."""

HTTP: Final = frozenset({"http", "https"})

_ALIASES: Final = {"postgres": "postgresql", "mariadb": "mysql", "sqlite3": "sqlite"}
# Compiled when it is used, and kept: most processes have nothing to match.
_SHAPE: Final = (
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?"
    r"(?P<host>\[[0-9A-Fa-f:.*]+\]|[^/:\[\]@?#\s]*)"
    r"(?::(?P<port>\d{1,5}|\*))?"
    r"(?P<path>/[^?#\s]*)?"
)


class Destination(NamedTuple):
    """Where a call goes.

    Attributes:
        scheme: `https`, or of a database `postgresql` and the like.
        host: A name or an address, without brackets.
        port: None for the port of the scheme.
        path: Of a database its name, with a slash before it.
    """

    scheme: str
    host: str
    port: int | None = None
    path: str = "/"


def destination(text: str) -> Destination:
    """Return where a URL or a DSN leads; user, password and query are dropped.

    Raises:
        ValueError: It names no host and no file.
    """
    if text.startswith("sqlite:") and "/" not in text:
        # As metrics name it: by the file alone.
        text = f"sqlite:///{text.removeprefix('sqlite:')}"
    bare = re.sub(r"//[^/?#]*@", "//", text.strip()).partition("?")[0]
    shape = re.fullmatch(_SHAPE, bare.partition("#")[0])
    if shape is None or not (shape["host"] or shape["scheme"]):
        raise ValueError(text)
    port = shape["port"]
    return Destination(
        scheme_of(shape["scheme"] or "https"),
        shape["host"].strip("[]").lower(),
        int(port) if port and port != "*" else None,
        shape["path"] or "/",
    )


def scheme_of(text: str) -> str:
    """Return a scheme without its driver, by the one name that it has here."""
    plain = text.lower().partition("+")[0]
    return _ALIASES.get(plain, plain)


@final
class Pattern:
    """One pattern of a service.

    Args:
        text: As it stands in the configuration.

    Raises:
        ValueError: It is none; the message says why.
    """

    __slots__ = ("_host", "_path", "_port", "_scheme", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        shape = re.fullmatch(_SHAPE, text)
        if shape is None:
            raise ValueError(_fault(text))
        scheme = shape["scheme"]
        self._scheme = None if scheme is None else scheme_of(scheme)
        self._host = shape["host"].strip("[]").lower()
        if not self._host and self._scheme in {None, *HTTP}:
            raise ValueError("it names no host")
        self._port = self._port_of(shape["port"])
        self._path = _path_of(shape["path"], is_http=self.is_http)

    def _port_of(self, text: str | None) -> int | None:
        if text == "*":
            return None
        if text is None:
            return PORTS.get(self._scheme or "")
        if not 0 < int(text) <= 65535:  # noqa: PLR2004 - the largest port there is
            raise ValueError(f"{text} is no port")
        return int(text)

    @property
    def is_http(self) -> bool:
        """Whether it stands for calls by HTTP."""
        return self._scheme is None or self._scheme in HTTP

    @property
    def rank(self) -> tuple[int, bool, int, bool, bool]:
        """How specific it is; the greater rank wins."""
        return (
            len(self._path.rstrip("*/")),
            "*" not in self._host,
            len(self._host),
            self._port is not None,
            self._scheme is not None,
        )

    def fits_origin(self, to: Destination) -> bool:
        """Tell whether scheme, host and port fit."""
        if self._scheme is None:
            if to.scheme not in HTTP:
                return False
        elif self._scheme != to.scheme:
            return False
        port = to.port or PORTS.get(to.scheme)
        if self._port is not None and self._port != port:
            return False
        return fits_host(self._host, to.host)

    def fits_path(self, path: str) -> bool:
        """Tell whether the path fits."""
        return fits_path(self._path, path)

    @property
    def any_path(self) -> bool:
        """Whether every path fits."""
        return not self._path

    def key(self) -> tuple[object, ...]:
        """Return what makes two patterns the same."""
        return (self._scheme, self._host, self._port, self._path)


def _path_of(text: str | None, *, is_http: bool) -> str:
    if text is None or text in {"/", "/*"}:
        return ""
    if is_http and text.endswith("/*"):
        return text[:-2]
    return text.rstrip("/")


def _fault(text: str) -> str:
    if "@" in text:
        return "a pattern holds no user and no password"
    if "?" in text or "#" in text:
        return "a pattern ends with the path"
    return "it is no scheme://host:port/path"


def fits_host(pattern: str, host: str) -> bool:
    """Tell whether a host, in small letters, fits a name with or without stars."""
    if "*" not in pattern:
        return pattern == host
    return fnmatch.fnmatchcase(host, pattern.replace("[", "[[]"))


def fits_path(pattern: str, path: str) -> bool:
    """Tell whether a path is the pattern's, or lies below it."""
    if "*" in pattern:
        return fnmatch.fnmatchcase(path, pattern.replace("[", "[[]"))
    return not pattern or path == pattern or path.startswith(pattern + "/")


def is_internal(host: str, names: Iterable[str]) -> bool:
    """Tell whether a host is in a private network, by its address or its name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # A name without a dot is resolved within the network only.
        return "." not in host or any(fits_host(name, host) for name in names)
    return address.is_private or address.is_loopback or address.is_link_local


def template_of(templates: Iterable[str], path: str) -> str | None:
    """Return the first template that `path` fits, None if there is none.

    `{name}` stands for one part between slashes, `{name...}` for the rest.
    """
    parts = path.partition("?")[0].split("/")
    for template in templates:
        if _fits_template(template.split("/"), parts):
            return template
    return None


def _fits_template(template: list[str], parts: list[str]) -> bool:
    if template[-1].endswith("...}") and len(parts) >= len(template):
        template, parts = template[:-1], parts[: len(template) - 1]
    return len(template) == len(parts) and all(
        wanted == part or (wanted[:1] == "{" and wanted[-1:] == "}" and part != "")
        for wanted, part in zip(template, parts, strict=True)
    )
