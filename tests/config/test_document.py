"""Reading a file: every bad one gives one exact message and no exception."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from resilience_instrument import _agent
from resilience_instrument.config import document
from resilience_instrument.config.load import examine

if TYPE_CHECKING:
    from collections.abc import Callable

_, *BLOCKS = (
    (Path(__file__).with_name("bad_files.txt"))
    .read_text(encoding="utf-8")
    .split("\n=> ")
)
BAD = [(text, message) for message, _, text in (b.partition("\n") for b in BLOCKS)]

ODD: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (b"[defaults]\n# caf\xe9\n", ":2: byte 16 is not UTF-8"),
    "UTF-16": ("[defaults]\n".encode("utf-16"), ":1: byte 0 is not UTF-8"),
    "a NUL": (b"[defaults]\n\0", ":2: is no TOML"),
    "huge": (b"#" * (document.LONGEST + 1), ": is longer than 1048576 bytes"),
    "nested": (b"x = " + b"[" * 3000, ": is nested too deeply"),
    "a long number": (
        b"[defaults.timeout]\nread = 1" + b"0" * 400,
        ":2: defaults.timeout.read = 1" + "0" * 56 + "...:"
        ' use a number of seconds above 0 or a text such as "500ms" or "5m", or "off"',
    ),
}


def _directory(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


STRANGE: list[tuple[Callable[[Path], None], str]] = [
    (_directory, ": is a directory, not a file"),
    (_loop, ": cannot be read: too many levels of symbolic links"),
    (_dangling, ": cannot be read: no such file or directory"),
    (_pipe, ": is no regular file"),
    (_socket, ": is no regular file"),
]


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of the test's own."""
    monkeypatch.chdir(tmp_path)


def said(environ: dict[str, str] | None = None) -> list[str]:
    """Return all that is said about the file."""
    _, findings = examine(environ or {}, "r.toml")
    return [str(finding).removeprefix("r.toml") for finding in findings]


def test_there_are_sixty_of_them() -> None:
    """Wrong types, unknown keys, bad patterns, contradictions, no files at all."""
    assert len(BAD) + len(ODD) + len(STRANGE) >= 60


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_bad_file_gives_one_message(text: str, message: str) -> None:
    """It names the line, the key, what was expected and the nearest known key."""
    Path("r.toml").write_text(text, encoding="utf-8")

    (found,) = said()

    # What Python's own parser says differs from version to version.
    assert message == (found[: len(message)] if "no TOML" in message else found)


@pytest.mark.parametrize("name", ODD)
def test_a_file_of_odd_bytes_gives_one_message(name: str) -> None:
    """Also where it is no text at all."""
    raw, message = ODD[name]
    Path("r.toml").write_bytes(raw)

    (found,) = said()

    assert message == (found[: len(message)] if "no TOML" in message else found)


@pytest.mark.parametrize(("make", "message"), STRANGE)
def test_what_is_no_file_gives_one_message(
    make: Callable[[Path], None], message: str
) -> None:
    """And nobody waits for a pipe's writer."""
    make(Path("r.toml"))

    assert [message] == said()


def test_a_file_that_may_not_be_read_gives_one_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Simulated, since a superuser may read everything."""
    Path("r.toml").write_text("[defaults]", encoding="utf-8")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(document, "open", refuse, raising=False)

    assert [": cannot be read: permission denied"] == said()


def test_every_finding_is_listed_in_the_order_of_the_lines() -> None:
    """Not only the first."""
    text = "[metrics]\nport = -1\n[defaults]\nmode = 3\n[agent]\nx = 1\n"
    Path("r.toml").write_text(text, encoding="utf-8")

    assert [":2", ":4", ":6"] == [line[:2] for line in said()]


def test_a_bad_file_leaves_the_app_ungoverned(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr for each, and no agent."""
    monkeypatch.setenv("RESILIENCE_CONFIG", "r.toml")
    for text, message in BAD:
        Path("r.toml").write_text(text, encoding="utf-8")
        monkeypatch.setattr(_agent._Process, "agent", None)
        monkeypatch.setattr(_agent._Process, "inactive", False)

        assert _agent._start() is None

        (line,) = capsys.readouterr().err.splitlines()
        begin = "resilience-instrument: the app runs ungoverned: r.toml"
        assert line.startswith(begin + message)


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("[a]\nb = 1\n", ("a", "b"), 2),
        ("a.b = 1\n", ("a", "b"), 1),
        ("[a]\n\nb = { c = 1, d = { e = 1 } }\n", ("a", "b", "d", "e"), 3),
        ('["a b".c]\n"d" = 1\n', ("a b", "c", "d"), 2),
        ("[[a]]\nb = 1", ("a",), 1),
        ('[a]\nx = """\n[b]\nc = 1\n"""\nd = 1\n', ("a", "d"), 6),
        ('[a]\nx = """\n[b]\nc = 1\n"""\n', ("b", "c"), None),
        ("[a]\nb = [\n  1,\n  2,\n]\nc = 1\n", ("a", "c"), 6),
        ("[a]\n", ("a", "unheard", "of"), 1),
    ],
)
def test_a_key_is_found_in_its_line(
    text: str, path: tuple[str, ...], line: int | None
) -> None:
    """Whichever way of writing it TOML allows; else what is around it."""
    from resilience_instrument.config.lines import Lines

    assert line == Lines(text).of(path)


def test_a_byte_order_mark_does_no_harm() -> None:
    """Some editors write one."""
    Path("r.toml").write_bytes(b"\xef\xbb\xbf[defaults]\n")

    assert [] == said()
