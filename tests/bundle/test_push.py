"""`resilience bundle push`: against loopback servers that stand for the real APIs."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from bundle import sources
from resilience_instrument.bundle import contents
from resilience_instrument.cli import admin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROUPS = [group["name"] for group in sources.load(sources.RULES)["groups"]]


class FakeServer:
    """Answers as its `answers` say and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str, str | None, Any]] = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.asked.append(
                    (
                        self.command,
                        self.path,
                        self.headers["Authorization"],
                        json.loads(body) if body else None,
                    )
                )
                status, said = fake.answers.get(
                    f"{self.command} {self.path}", (404, {"message": "not found"})
                )
                content = (
                    said.encode()
                    if isinstance(said, str)
                    else json.dumps(said).encode()
                )
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", f"{fake.url}/elsewhere")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 - the name of http.server

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self._thread.start()

    def changes(self) -> list[str]:
        """Return the paths of everything that was not only read."""
        return [path for method, path, _, _ in self.asked if method != "GET"]

    def close(self) -> None:
        """Stop."""
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """Serve on a loopback port."""
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def _no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAFANA_TOKEN", "PROMETHEUS_TOKEN", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


UID = "GET /api/dashboards/uid/resilience-api-health"
SAVE = "POST /api/dashboards/db"
BUILD = "GET /api/v1/status/buildinfo"
RELOAD = "POST /-/reload"
RULES = "GET /api/v1/rules"


def there(**fields: Any) -> tuple[int, Any]:
    """Return Grafana's answer for the dashboard that it has."""
    return 200, {"dashboard": contents.dashboard() | {"id": 7, "version": 3} | fields}


def prometheus(fake: FakeServer, version: str = "3.5.0") -> None:
    """Let the server answer as Prometheus does."""
    fake.answers[BUILD] = 200, {"data": {"version": version}}
    fake.answers[RELOAD] = 200, ""
    fake.answers[RULES] = 200, {"data": {"groups": [{"name": name} for name in GROUPS]}}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ((404, {"message": "Dashboard not found"}), "would create the dashboard"),
        (there(title="older"), "would replace version 3 of the dashboard"),
        (there(), "the dashboard is up to date"),
    ],
)
def test_grafana_is_asked_first_and_nothing_is_changed(
    fake: FakeServer,
    capsys: pytest.CaptureFixture[str],
    answer: tuple[int, Any],
    expected: str,
) -> None:
    """Without --apply it is only said what would happen."""
    fake.answers[UID] = answer

    code = admin.main(
        [
            "bundle",
            "push",
            "--grafana",
            fake.url,
            "--grafana-url",
            "http://localhost:3000",
        ]
    )

    said = capsys.readouterr().out
    assert 0 == code
    assert expected in said
    assert "nothing was changed" in said
    assert [] == fake.changes()


def test_dashboard_is_saved_with_the_token_of_the_environment(
    fake: FakeServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Grafana gets the whole dashboard, in the folder that was asked for."""
    monkeypatch.setenv("GRAFANA_TOKEN", "secret")
    fake.answers[SAVE] = 200, {"status": "success", "url": "/d/x", "version": 4}

    code = admin.main(
        ["bundle", "push", "--grafana", fake.url, "--folder", "team", "--apply"]
    )

    method, path, token, body = fake.asked[-1]
    assert 0 == code
    assert ("POST", "/api/dashboards/db", "Bearer secret") == (method, path, token)
    assert contents.dashboard() | {"id": None} == body["dashboard"]
    assert (True, "team") == (body["overwrite"], body["folderUid"])
    said = capsys.readouterr().out
    assert f"{fake.url}/d/x, version 4" in said
    assert "secret" not in said


def test_prometheus_gets_the_rules_and_is_asked_whether_it_has_them(
    fake: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is written, the server reloads, its groups are counted."""
    prometheus(fake)

    code = admin.main(
        [
            "bundle", "push", "--prometheus-reload", fake.url,
            "--rules-directory", str(tmp_path), "--slo", "99.5", "--apply",
        ]
    )  # fmt: skip

    assert 0 == code, capsys.readouterr().err
    assert ["/-/reload"] == fake.changes()
    assert "* 0.005\n" in (tmp_path / contents.RULES_FILE).read_text()


def test_prometheus_without_a_directory_only_reloads(
    fake: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rules that are brought there otherwise need no file from here."""
    prometheus(fake, "2.42.0+ds")

    assert 0 == admin.main(
        ["bundle", "push", "--prometheus-reload", fake.url, "--apply"]
    )
    assert "would reload" in capsys.readouterr().out


def test_every_server_is_asked_before_any_is_changed(
    fake: FakeServer, tmp_path: Path
) -> None:
    """A Prometheus that is too old keeps Grafana from being changed."""
    prometheus(fake, "2.41.0")
    fake.answers[SAVE] = 200, {}

    code = admin.main(
        [
            "bundle", "push", "--grafana", fake.url, "--prometheus-reload", fake.url,
            "--rules-directory", str(tmp_path), "--apply",
        ]
    )  # fmt: skip

    assert 1 == code
    assert [] == fake.changes()
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("answers", "option", "expected"),
    [
        ({UID: (401, {"message": "Unauthorized"})}, "--grafana", "GRAFANA_TOKEN"),
        ({UID: (500, "broken")}, "--grafana", "says 500: broken"),
        ({UID: (302, "")}, "--grafana", "says 302"),
        ({SAVE: (403, {"message": "denied"})}, "--grafana", "may it edit?"),
        ({BUILD: (401, "")}, "--prometheus-reload", "PROMETHEUS_TOKEN"),
        ({RELOAD: (403, "no")}, "--prometheus-reload", "--web.enable-lifecycle"),
        (
            {RULES: (200, {"data": {"groups": []}})},
            "--prometheus-reload",
            "is the file below rule_files?",
        ),
    ],
    ids=["token", "broken", "redirect", "viewer", "token-2", "reload", "not-loaded"],
)
def test_refusal_is_said_with_what_would_help(
    fake: FakeServer,
    capsys: pytest.CaptureFixture[str],
    answers: dict[str, tuple[int, Any]],
    option: str,
    expected: str,
) -> None:
    """What the server says is passed on, and no traceback is shown."""
    prometheus(fake)
    fake.answers |= answers

    code = admin.main(["bundle", "push", option, fake.url, "--apply"])

    assert 1 == code
    assert expected in capsys.readouterr().err


def test_redirect_is_not_followed_with_the_token(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token goes to the address that was named and to no other."""
    monkeypatch.setenv("GRAFANA_TOKEN", "secret")
    fake.answers[UID] = 302, ""

    admin.main(["bundle", "push", "--grafana", fake.url])

    assert ["/api/dashboards/uid/resilience-api-health"] == [a[1] for a in fake.asked]


def test_token_is_not_sent_over_a_wire_unencrypted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Beyond loopback a token needs https."""
    monkeypatch.setenv("GRAFANA_TOKEN", "secret")

    code = admin.main(["bundle", "push", "--grafana", "http://grafana.test"])

    assert 1 == code
    assert "say https" in capsys.readouterr().err


def test_certificate_is_verified(
    fake: FakeServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An unknown authority is refused; with SSL_CERT_FILE it is known."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    fake.server.socket = context.wrap_socket(fake.server.socket, server_side=True)
    url = f"https://localhost:{fake.server.server_address[1]}"
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    refused = admin.main(["bundle", "push", "--grafana", url])
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    known = admin.main(["bundle", "push", "--grafana", url])

    assert (1, 0) == (refused, known)
    assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err


def test_server_that_is_not_there_is_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The reason of the system is passed on."""
    code = admin.main(["bundle", "push", "--grafana", "http://127.0.0.1:9"])

    assert 1 == code
    assert "does not answer" in capsys.readouterr().err


def test_push_without_a_target_asks_for_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing to do is a mistake."""
    assert 1 == admin.main(["bundle", "push"])
    assert "say where to" in capsys.readouterr().err


def test_token_of_prometheus_is_sent(
    fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Prometheus behind a proxy with tokens gets its own."""
    monkeypatch.setenv("PROMETHEUS_TOKEN", "p")
    monkeypatch.setenv("GRAFANA_TOKEN", "g")
    prometheus(fake)

    admin.main(["bundle", "push", "--prometheus-reload", fake.url])

    assert ["Bearer p"] == [token for _, _, token, _ in fake.asked]
