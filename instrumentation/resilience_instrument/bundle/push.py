"""Install the bundle over HTTP: the dashboard in Grafana, the rules in Prometheus.

Each target says first what it would do, after it has asked the server; only then, and
only when told to, does it change anything. Certificates are verified, redirects are
not followed: a token goes to the host that was named and to no other.
"""

from __future__ import annotations

import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from resilience_instrument.bundle import contents

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PATIENCE: Final = 10.0
_LOOPBACK: Final = frozenset(("localhost", "127.0.0.1", "::1"))
_OLDEST: Final = (2, 42)
_OK, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_GROUP: Final = re.compile(r"^  - name: (\S+)$", re.MULTILINE)
_ASSIGNED: Final = frozenset(("id", "version"))
"""What Grafana fills in by itself."""


class PushError(Exception):
    """A server that cannot be used so; the text says why and what would help."""


class Target(Protocol):
    """A server that takes a part of the bundle."""

    def plan(self) -> str:
        """Ask the server and say in one line what would be done; change nothing."""

    def apply(self) -> str:
        """Do it and say in one line what was done."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the answer is an error that names the status."""


@final
class Server:
    """The API of one server.

    Args:
        url: Its address, without a slash at the end.
        token: Sent as a bearer token; None for none.
    """

    __slots__ = ("_opener", "_token", "url")

    def __init__(self, url: str, token: str | None) -> None:
        parts = urllib.parse.urlsplit(url)
        if token and parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise PushError(f"a token is not sent to {url} unencrypted: say https")
        self.url = url
        self._token = token
        self._opener = urllib.request.build_opener(
            _NoRedirect,
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
        )

    def ask(self, path: str, body: Any = None, method: str = "GET") -> tuple[int, Any]:
        """Return status and JSON of an answer; raise if there is none."""
        headers = {"Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(  # noqa: S310 - http and https only
            self.url + path, data=data, headers=headers, method=method
        )
        try:
            with self._opener.open(request, timeout=_PATIENCE) as answer:
                return answer.status, _json(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read())
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise PushError(f"{self.url} does not answer: {reason}") from error


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content.decode(errors="replace").strip()


@final
class Grafana:
    """The dashboard in one Grafana.

    Args:
        server: Its API, with the token of a service account that may edit.
        dashboard: What to install.
        folder: The UID of the folder, empty for none.
    """

    __slots__ = ("_dashboard", "_folder", "_server")

    def __init__(
        self, server: Server, dashboard: Mapping[str, Any], folder: str
    ) -> None:
        self._server = server
        self._dashboard = dict(dashboard)
        self._folder = folder

    def plan(self) -> str:
        """Say whether the dashboard is new, different or the same."""
        status, there = self._server.ask(
            f"/api/dashboards/uid/{contents.DASHBOARD_UID}"
        )
        url = self._server.url
        if status == _NOT_FOUND:
            return f"Grafana at {url}: would create the dashboard"
        if status != _OK:
            raise PushError(_refused("Grafana", url, status, there, "GRAFANA_TOKEN"))
        if _own(there["dashboard"]) == _own(self._dashboard):
            return f"Grafana at {url}: the dashboard is up to date"
        version = there["dashboard"].get("version")
        return f"Grafana at {url}: would replace version {version} of the dashboard"

    def apply(self) -> str:
        """Create or replace the dashboard."""
        body = {
            "dashboard": self._dashboard | {"id": None},
            "message": "resilience bundle push",
            "overwrite": True,
        } | ({"folderUid": self._folder} if self._folder else {})
        status, said = self._server.ask("/api/dashboards/db", body, "POST")
        if status != _OK:
            raise PushError(
                _refused("Grafana", self._server.url, status, said, "GRAFANA_TOKEN")
            )
        where, version = said.get("url", ""), said.get("version")
        return f"Grafana: {self._server.url}{where}, version {version}"


def _own(dashboard: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in dashboard.items() if k not in _ASSIGNED}


@final
class Prometheus:
    """The rules in one Prometheus.

    Args:
        server: Its API.
        rules: The text of the rule file.
        directory: Where its rule files are, if that can be written from here.
    """

    __slots__ = ("_directory", "_rules", "_server")

    def __init__(self, server: Server, rules: str, directory: Path | None) -> None:
        self._server = server
        self._rules = rules
        self._directory = directory

    def plan(self) -> str:
        """Say which version is there and what would be loaded."""
        status, said = self._server.ask("/api/v1/status/buildinfo")
        if status != _OK:
            raise PushError(
                _refused(
                    "Prometheus", self._server.url, status, said, "PROMETHEUS_TOKEN"
                )
            )
        version = said["data"]["version"]
        if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST:
            raise PushError(f"Prometheus {version} is too old: the rules need 2.42")
        file = f"write {self._file} and " if self._file else ""
        return f"Prometheus {version} at {self._server.url}: would {file}reload"

    def apply(self) -> str:
        """Write the rules where that is asked, reload, and see that they are there."""
        if self._file:
            self._file.write_text(self._rules, encoding="utf-8")
        status, said = self._server.ask("/-/reload", method="POST")
        if status != _OK:
            raise PushError(
                f"Prometheus at {self._server.url} does not reload ({status}: {said}); "
                "it needs --web.enable-lifecycle"
            )
        _, said = self._server.ask("/api/v1/rules")
        loaded = {group["name"] for group in said["data"]["groups"]}
        lacking = [name for name in _GROUP.findall(self._rules) if name not in loaded]
        if lacking:
            raise PushError(
                f"Prometheus at {self._server.url} reloaded, but has no group "
                f"{', '.join(lacking)}: is the file below rule_files?"
            )
        return f"Prometheus: {self._server.url} has loaded the rules"

    @property
    def _file(self) -> Path | None:
        return self._directory / contents.RULES_FILE if self._directory else None


def _refused(name: str, url: str, status: int, said: Any, variable: str) -> str:
    message = said.get("message", said) if isinstance(said, dict) else said
    hint = ""
    if status in {_UNAUTHORIZED, _FORBIDDEN}:
        hint = f"; is {variable} set, and may it edit?"
    return f"{name} at {url} says {status}: {message}{hint}"
