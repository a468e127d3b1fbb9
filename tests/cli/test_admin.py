"""The admin command: check, show, doctor, schema."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resilience_instrument.bootstrap import diagnosis
from resilience_instrument.cli import admin, doctor, terminal
from resilience_instrument.config import schema
from resilience_instrument.integrations.catalog import LIBRARIES

CONFIG = """\
[defaults]
timeout = { connect = 2 }

[services.pay]
match = "https://pay.example.com"
profile = "batch"
fallback.static = { body = "none" }
"""


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take every setting out of the environment, and work in an empty directory."""
    for name in [name for name in os.environ if name.startswith("RESILIENCE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file() -> str:
    """Write a good configuration."""
    Path("r.toml").write_text(CONFIG, encoding="utf-8")
    return "r.toml"


# -- check ------------------------------------------------------------------


def test_a_good_file_is_good(capsys: pytest.CaptureFixture[str], file: str) -> None:
    """One line, exit code 0."""
    assert 0 == admin.main(["check", file])
    assert "r.toml: good\n" == capsys.readouterr().out


def test_all_findings_are_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One a line, exit code 1; variables have no say about a file that is named."""
    Path("r.toml").write_text("[metrics]\nport = -1\nhots = 'a'\n", encoding="utf-8")
    monkeypatch.setenv("RESILIENCE_TIMEOUT_READ", "x")

    assert 1 == admin.main(["check", "r.toml"])

    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("r.toml:2: metrics.port = -1: use a port such as 9469,")
    assert second == 'r.toml:3: metrics.hots: unknown; did you mean "host"?'


def test_without_a_file_the_environment_is_checked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """The variables, and the file that they name."""
    assert 0 == admin.main(["check"])
    assert "environment: good\n" == capsys.readouterr().out
    monkeypatch.setenv("RESILIENCE_CONFIG", file)
    assert 0 == admin.main(["check"])
    assert "r.toml: good\n" == capsys.readouterr().out
    monkeypatch.setenv("RESILIENCE_MODE", "x")

    assert 1 == admin.main(["check", "--json"])

    said = json.loads(capsys.readouterr().out)
    assert {
        "file": "r.toml",
        "findings": [
            {
                "file": None,
                "line": None,
                "key": "RESILIENCE_MODE='x'",
                "message": 'use "enforce" or "observe"',
            }
        ],
        "notes": [],
    } == said


@pytest.mark.parametrize(
    ("text", "file_and_line"), [("[x]\n", ("r.toml", 1)), ("", ("r.toml", None))]
)
def test_a_machine_gets_file_and_line(
    capsys: pytest.CaptureFixture[str], text: str, file_and_line: tuple[str, int]
) -> None:
    """Each for itself."""
    Path("r.toml").write_text(text, encoding="utf-8")

    admin.main(["check", "--json", "r.toml"])

    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert file_and_line == (finding["file"], finding["line"])


# -- show -------------------------------------------------------------------


def test_every_value_is_shown_with_its_source(
    capsys: pytest.CaptureFixture[str], file: str
) -> None:
    """In plain text, one a line."""
    arguments = ["show", "https://pay.example.com/x", "--config", file]

    assert 0 == admin.main(arguments)

    rows = {
        line.split()[0]: line.split(None, 2)[1:]
        for line in capsys.readouterr().out.splitlines()
    }
    assert ["pay", "configured"] == rows["service"]
    assert ["batch", "named at r.toml:6"] == rows["profile"]
    assert ["2", "r.toml:2"] == rows["timeout.connect"]
    assert rows["timeout.total"][0] == '"off"'
    assert rows["timeout.total"][1].startswith('profile "batch": ')
    assert rows["breaker.consecutive"] == ["5", "default: pybreaker and Envoy"]
    assert ['"none"', "r.toml:7"] == rows["fallback.static.body"]
    assert "fallback.cache.max_age" not in rows


def test_a_machine_gets_values(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """With sources and reasons; the file may stand in the environment."""
    monkeypatch.setenv("RESILIENCE_CONFIG", file)
    monkeypatch.setenv("RESILIENCE_TIMEOUT_READ", "60")

    assert 0 == admin.main(["show", "--json", "http://10.0.0.1:8080/"])

    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert ("10.0.0.1:8080", False) == (shown["service"], shown["configured"])
    assert "internal-api" == shown["profile"]["name"]
    assert shown["profile"]["reason"].startswith("found by itself: ")
    assert {
        "value": 60.0,
        "source": "RESILIENCE_TIMEOUT_READ",
        "reason": "",
        "written": True,
    } == shown["settings"]["timeout.read"]


@pytest.mark.parametrize(
    ("url", "service"),
    [
        ("https://api.example.com:443/x", "api.example.com"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("postgresql://me:secret@db:5432/orders", "postgresql://db/orders"),
        ("mysql://db:3307/orders", "mysql://db:3307/orders"),
    ],
)
def test_a_service_without_a_name_is_its_host(
    capsys: pytest.CaptureFixture[str], url: str, service: str
) -> None:
    """And of a database its server and its name; never its password."""
    assert 0 == admin.main(["show", url])

    said = capsys.readouterr().out
    assert service == said.split()[1]
    assert "secret" not in said


def test_an_upload_is_shown_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    """No URL says how large a body is."""
    assert 0 == admin.main(["show", "--upload", "https://files.example.com/"])

    assert ["profile", "upload"] == capsys.readouterr().out.splitlines()[1].split()[:2]


def test_a_profile_of_the_environment_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds for everything."""
    monkeypatch.setenv("RESILIENCE_PROFILE", "batch")
    Path("r.toml").write_text("[defaults]\nenabled = false", encoding="utf-8")

    assert 0 == admin.main(["show", "https://a.example.com/", "--config", "r.toml"])

    said = capsys.readouterr().out
    assert "named at RESILIENCE_PROFILE" in said
    assert "Calls pass untouched" in said


def test_nothing_is_shown_of_a_bad_file(capsys: pytest.CaptureFixture[str]) -> None:
    """The findings stand on stderr."""
    assert 1 == admin.main(["show", "http://a/", "--config", "missing.toml"])

    captured = capsys.readouterr()
    assert "" == captured.out
    assert "missing.toml: cannot be read: no such file or directory\n" == captured.err


def test_what_is_no_url_is_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert 2 == admin.main(["show", "no url"])
    assert "resilience show: no url: no URL and no DSN\n" == capsys.readouterr().err


# -- doctor -----------------------------------------------------------------


def test_the_doctor_lists_libraries_and_port(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line a library, with its version, and where the metrics would be."""
    monkeypatch.setattr(doctor, "_is_free", lambda *_: True)

    assert 0 == admin.main(["doctor"])

    said = capsys.readouterr().out
    version = importlib.metadata.version("requests")
    assert f"requests: {version}, would be governed\n" in said
    assert "sqlite3: part of Python, would be governed\n" in said
    assert "metrics: 127.0.0.1, port 9469-9479\n" in said
    assert "configuration: environment variables only\n" in said


def test_the_doctor_says_what_holds_by_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timeouts, what is tried again and what is not."""
    by_default = lines_of(capsys)
    monkeypatch.setenv("RESILIENCE_TIMEOUT_TOTAL", "off")
    monkeypatch.setenv("RESILIENCE_RETRY_ON_STATUSES", "503")
    changed = lines_of(capsys)

    limits = "where the app gives none: connect 3 s, read 10 s, total"
    methods = "DELETE, GET, HEAD, OPTIONS, PUT, TRACE and calls with an idempotency key"
    ending = "and failures of the connection, up to 3 attempts"
    usual = "408, 425, 429, 502, 503, 504"
    assert ("timeouts", f"{limits} 30 s", "good") in by_default
    assert ("timeouts", f"{limits} no limit", "good") in changed
    assert ("retries", f"{methods}, after {usual} {ending}", "good") in by_default
    assert ("retries", f"{methods}, after 503 {ending}", "good") in changed


def test_the_doctor_sees_what_is_switched_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disabled libraries and policies, absent libraries, and no metrics."""
    monkeypatch.setenv("RESILIENCE_DISABLE", "httpx,requests:retry,requests:breaker")
    monkeypatch.setenv("RESILIENCE_METRICS_PORT", "0")
    monkeypatch.setitem(LIBRARIES, "no_such_library", "nowhere")
    monkeypatch.setitem(LIBRARIES, "no_such.library", "nowhere")

    assert 0 == admin.main(["doctor"])

    said = capsys.readouterr().out
    assert "httpx: disabled by RESILIENCE_DISABLE\n" in said
    assert ", would be governed, without breaker and retry\n" in said
    assert "no_such_library: not installed here\n" in said
    assert "no_such.library: not installed here\n" in said
    assert "metrics: off\n" in said


def test_the_doctor_finds_settings_that_do_not_hold(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 1, and the line says what is wrong and what would do."""
    monkeypatch.setenv("RESILIENCE_TIMEOUT_READ", "-1")

    assert 1 == admin.main(["doctor"])
    assert "apps would run ungoverned: RESILIENCE_TIMEOUT_READ='-1'" in (
        capsys.readouterr().out
    )


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str]]:
    """Return what the doctor says, for machines."""
    admin.main(["doctor", "--json"])
    said = json.loads(capsys.readouterr().out)
    return [(line["topic"], line["text"], line["health"]) for line in said]


def test_the_doctor_says_why_nothing_is_governed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Switched off, or asked for by another environment."""
    monkeypatch.setenv("RESILIENCE_ENABLED", "0")
    off = "inactive here: RESILIENCE_ENABLED switches it off"
    assert ("activation", off, "bad") in lines_of(capsys)
    monkeypatch.setenv("RESILIENCE_ENABLED", "1")
    monkeypatch.setenv("RESILIENCE_ACTIVE", "1")
    monkeypatch.setenv("RESILIENCE_PREFIX", "/opt/other")

    said = f"the agent is installed in /opt/other, this runs in {sys.prefix}"
    assert ("activation", f"inactive here: {said}", "bad") in lines_of(capsys)


def test_the_doctor_says_what_the_carrier_reaches(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the `.pth` file some interpreters are not reached."""
    monkeypatch.setattr(diagnosis, "has_start_up_file", lambda: False)
    lines = lines_of(capsys)
    assert ("activation", "through PYTHONPATH", "good") in lines
    lost = (
        "resilience_instrument.pth is not installed: python -I and -E are not reached"
    )
    assert ("activation", lost, "note") in lines
    monkeypatch.setattr(diagnosis, "has_start_up_file", lambda: True)

    through = "through PYTHONPATH and resilience_instrument.pth"
    assert ("activation", through, "good") in lines_of(capsys)


def test_the_doctor_finds_variables_with_a_typing_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would read them."""
    monkeypatch.setenv("RESILIENCE_TIMEOUT_REED", "5")

    said = 'unknown; did you mean "RESILIENCE_TIMEOUT_READ"?'
    assert ("RESILIENCE_TIMEOUT_REED", said, "note") in lines_of(capsys)


def test_the_doctor_tries_the_ports(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which one would serve, or that none is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("RESILIENCE_METRICS_PORT", str(port))

        none = f"127.0.0.1, port {port}: none is free"
        assert ("metrics", none, "note") in lines_of(capsys)
    answers = {9469: False, 9470: True}
    monkeypatch.setattr(doctor, "_is_free", lambda _, port: answers[port])
    monkeypatch.setenv("RESILIENCE_METRICS_PORT", "9469-9470")

    second = "127.0.0.1, port 9469-9470; 9470 is the first free one"
    assert ("metrics", second, "good") in lines_of(capsys)


def test_the_doctor_tells_what_stands_beside_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does part of the same work, and what that means."""
    version = importlib.metadata.version("pytest")
    monkeypatch.setattr(doctor, "NEIGHBOURS", {"pytest": "it retries", "none-such": ""})

    assert ("beside it", f"pytest {version}: it retries", "note") in lines_of(capsys)


def test_the_doctor_looks_at_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    """By its path or as a command: why it would not be governed."""
    Path("app").write_text("#!/usr/bin/env -S python3 -S\n", encoding="utf-8")
    Path("frozen").write_bytes(b"MEI\014\013\012\013\016")

    assert 0 == admin.main(["doctor", sys.executable])
    assert f"{sys.executable}: would be governed\n" in capsys.readouterr().out
    assert 1 == admin.main(["doctor", "./frozen"])
    assert "frozen by PyInstaller" in capsys.readouterr().out
    assert 1 == admin.main(["doctor", "./app"])
    assert "its first line has -S" in capsys.readouterr().out
    assert 1 == admin.main(["doctor", "no-such-command"])
    assert "would not be governed: it cannot be read" in capsys.readouterr().out


UNUSUAL = """\
[defaults]
timeout.read = 60

[services.pay]
match = "https://pay.example.com"
timeout = { connect = 0.1, total = "off" }
retry.jitter = "fixed"

[services.shop]
match = "http://shop.internal"
fallback.static = {}

[services.orders-db]
match = "postgresql://db/orders"
fallback.static = {}
"""


STARTS = [
    "r.toml:2: timeout.read = 60: 3 to 30 are usual:",
    'r.toml:6: timeout.total = "off": a service that falls silent',
    "r.toml:6: timeout.connect = 0.1: 1 to 10 are usual:",
    'r.toml:7: retry.jitter = "fixed": callers that failed together',
    "r.toml:15: services.orders-db.fallback: databases have no fallback",
    "no fallback: pay (their calls end in an error)",
]


def test_the_doctor_gives_advice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """About what is allowed and seldom meant; nothing is bad about it."""
    Path("r.toml").write_text(UNUSUAL, encoding="utf-8")
    monkeypatch.setenv("RESILIENCE_CONFIG", "r.toml")
    monkeypatch.setattr(diagnosis, "has_start_up_file", lambda: True)

    said = [text for topic, text, _ in lines_of(capsys) if topic == "advice"]

    assert STARTS == [
        text[: len(start)] for text, start in zip(said, STARTS, strict=True)
    ]


def test_a_check_has_notes_that_are_no_findings(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file can be used: exit code 0."""
    Path("r.toml").write_text(UNUSUAL, encoding="utf-8")

    assert 0 == admin.main(["check", "r.toml"])

    *notes, last = capsys.readouterr().out.splitlines()
    assert 5 == len(notes)
    assert all(note.startswith("note: r.toml:") for note in notes)
    assert "r.toml: good" == last
    assert 0 == admin.main(["check", "--json", "r.toml"])
    said = json.loads(capsys.readouterr().out)
    assert ([], 5) == (said["findings"], len(said["notes"]))


def test_what_cannot_be_printed_for_a_machine_is_a_mistake_of_ours() -> None:
    """It is not printed as something else."""
    with pytest.raises(TypeError, match="object cannot be printed"):
        terminal.print_json({"a": object()})


# -- the command ------------------------------------------------------------


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """As it is in the package."""
    assert 0 == admin.main(["schema"])
    assert schema.text() == capsys.readouterr().out


def test_without_a_subcommand_the_use_is_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With the exit code for wrong use."""
    with pytest.raises(SystemExit, match="2"):
        admin.main([])
    assert "usage: resilience" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("terminal_there", "variables", "coloured"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch,
    terminal_there: bool,
    variables: dict[str, str],
    coloured: bool,
) -> None:
    """And not for those who do not want them."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal_there)

    assert terminal.paint("x", "bad") == ("\033[31mx\033[0m" if coloured else "x")


def test_bad_news_is_red_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not be overlooked."""
    monkeypatch.setattr(terminal, "has_colours", lambda: True)
    monkeypatch.setenv("RESILIENCE_ENABLED", "0")

    assert 1 == admin.main(["doctor"])

    assert "\033[31mactivation: inactive here" in capsys.readouterr().out


@pytest.mark.measured
@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """As in `resilience schema | head -1`."""
    script = (
        "import sys; from resilience_instrument.cli.admin import main; sys.exit(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        assert b"" == process.stderr.read()
    assert 1 == process.returncode
