"""Read `resilience.toml` and check each value by itself; no exception gets out.

Whatever is wrong becomes a `Finding`. A document with findings is not used.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from typing import TYPE_CHECKING, Final, final

from resilience_instrument.config.findings import Finding, unknown
from resilience_instrument.config.keys import (
    BY_PATH,
    KEYS,
    SERVICE_SECTIONS,
)
from resilience_instrument.config.layer import Layer
from resilience_instrument.config.lines import Lines
from resilience_instrument.config.match import Pattern
from resilience_instrument.config.profiles import AUTO, NONE, PROFILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.config.lines import Path

LONGEST: Final = 1_048_576
"""Bytes of the longest file that is read; a thousand services fit into a tenth."""

_TABLES: Final = ("defaults", "profiles", "services", "agent", "metrics", "tracing")
_AT: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")


@final
class Document:
    """A file that was read.

    Args:
        file: Its name, as it was given.
        findings: What is wrong.

    Attributes:
        defaults: What stands in `[defaults]`.
        profiles: What stands in each `[profiles.NAME]`.
        services: What stands in each `[services.NAME]`.
        patterns: The patterns of each service.
        process: What stands in `[agent]`, `[metrics]` and `[tracing]`.
        checksum: That of the file's content, None where it could not be read.
    """

    def __init__(self, file: str, *findings: Finding) -> None:
        self.file = file
        self.defaults = Layer("[defaults]")
        self.profiles: dict[str, Layer] = {}
        self.services: dict[str, Layer] = {}
        self.patterns: dict[str, list[Pattern]] = {}
        self.process = Layer("the file")
        self.findings = list(findings)
        self.checksum: int | None = None

    def profile_names(self) -> list[str]:
        """Return the profiles that can be named."""
        return [*PROFILES, *(n for n in self.profiles if n not in PROFILES)]


def read(file: str) -> Document:
    """Read a file; what is wrong with it stands in the document's findings."""
    try:
        raw = _bytes(file)
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        return _refused(file, f"cannot be read: {reason}")
    except ValueError as error:
        return _refused(file, str(error))
    try:
        document = parse(raw.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        document = _refused(f"{file}:{line}", f"byte {error.start} is not UTF-8")
    document.checksum = zlib.crc32(raw)
    return document


def _bytes(file: str) -> bytes:
    """Return a regular file's content.

    Raises:
        ValueError: It is no file or too long.
        OSError: The system does not give it.
    """
    # Looked at before it is opened: opening a pipe would wait for a writer.
    status = os.stat(file)  # noqa: PTH116 - pathlib is not loaded for this
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("is a directory, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no regular file")
    with open(file, "rb") as opened:  # noqa: PTH123 - as above
        raw = opened.read(LONGEST + 1)
    if len(raw) > LONGEST:
        raise ValueError(f"is longer than {LONGEST} bytes")
    return raw


def _refused(place: str, message: str) -> Document:
    return Document(place, Finding(place, "", message))


def parse(text: str, file: str) -> Document:
    """Read the text of a file."""
    import tomllib  # noqa: PLC0415 - not loaded where no file is used

    if not text.strip():
        # An editor that writes in place leaves it so for a moment.
        return _refused(file, "is empty; leave RESILIENCE_CONFIG unset to use no file")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return _refused(*_syntax(file, str(error)))
    except RecursionError:
        return _refused(file, "is nested too deeply")
    return _Reader(file, text).read(content)


def _syntax(file: str, message: str) -> tuple[str, str]:
    at = _AT.search(message)
    said = _AT.sub("", message).replace(" (at end of document)", " at its end")
    said = said[:1].lower() + said[1:]
    if at is None:
        return file, f"is no TOML: {said}"
    return f"{file}:{at[1]}", f"is no TOML at column {at[2]}: {said}"


@final
class _Reader:
    """Turns the content of one file into a document."""

    def __init__(self, file: str, text: str) -> None:
        self._document = Document(file)
        self._lines = Lines(text)

    def read(self, content: Mapping[str, object]) -> Document:
        document = self._document
        for name, value in content.items():
            if name not in _TABLES:
                self._complain((name,), unknown(name, _TABLES))
            elif not isinstance(value, dict):
                self._complain((name,), f"use a table: [{name}]")
            elif name == "defaults":
                self._service_table(document.defaults, ("defaults",), value)
            elif name in {"profiles", "services"}:
                self._named(name, value)
            else:
                self._section(document.process, (name,), name, value)
        self._check_profiles()
        self._check_patterns()
        document.findings.sort(key=lambda finding: _line(finding.place))
        return document

    def _named(self, table: str, content: dict[str, object]) -> None:
        """Read every `[profiles.NAME]` or `[services.NAME]`."""
        found = getattr(self._document, table)
        for name, value in content.items():
            path = (table, name)
            if not isinstance(value, dict):
                self._complain(path, f"use a table: [{table}.{name}]")
            elif not name.strip() or len(name) > 100:  # noqa: PLR2004 - a label
                self._complain(path, "use a name of 1 to 100 characters")
            elif table == "profiles" and name in {AUTO, NONE}:
                self._complain(path, f'"{name}" is no name for a profile')
            else:
                layer = found[name] = Layer(f"[{table}.{name}]")
                self._service_table(layer, path, value)

    def _service_table(
        self, layer: Layer, path: Path, content: dict[str, object]
    ) -> None:
        self._section(layer, path, "", content)
        if path[0] != "services" and "match" in layer.values:
            self._complain((*path, "match"), "belongs into [services.NAME]")
        if path[0] == "profiles" and "profile" in layer.values:
            self._complain((*path, "profile"), "a profile has no profile")
        if path[0] == "services" and "match" not in content:
            self._complain(path, 'needs match = ["..."], which says what belongs to it')

    def _section(
        self, layer: Layer, path: Path, section: str, content: dict[str, object]
    ) -> None:
        """Read the keys of one section, and the sections within it."""
        known = {key.name for key in KEYS if key.section == section}
        below = _below(section)
        for name, value in content.items():
            place = (*path, name)
            if name in below:
                inner = f"{section}.{name}" if section else name
                if isinstance(value, dict):
                    self._enter(layer, place, inner, value)
                else:
                    self._complain(place, f"use a table: {name} = {{ ... }}")
            elif name in known:
                self._value(layer, place, section, value)
            else:
                self._complain(place, unknown(name, known | below))

    def _enter(
        self, layer: Layer, place: Path, section: str, content: dict[str, object]
    ) -> None:
        if section.count("."):
            # An empty table means something here: `cache = {}`.
            layer.values[section] = True
            layer.places[section] = self._place(place)
        self._section(layer, place, section, content)

    def _value(self, layer: Layer, place: Path, section: str, value: object) -> None:
        key = BY_PATH[f"{section}.{place[-1]}" if section else place[-1]]
        try:
            layer.values[key.path] = key.kind.read(value)
        except (ValueError, OverflowError):
            self._complain(place, f"use {key.kind.wanted}", shown(value))
        else:
            layer.places[key.path] = self._place(place)

    def _check_profiles(self) -> None:
        """See that every profile that is named exists."""
        document = self._document
        names = [AUTO, NONE, *document.profile_names()]
        layers: dict[Path, Layer] = {("defaults",): document.defaults}
        layers |= {("services", n): layer for n, layer in document.services.items()}
        for path, layer in layers.items():
            profile = layer.values.get("profile")
            if profile is not None and profile not in names:
                said = unknown(str(profile), names)
                self._complain((*path, "profile"), said, shown(profile))

    def _check_patterns(self) -> None:
        """See that every pattern can be read and belongs to one service."""
        owners: dict[tuple[object, ...], str] = {}
        for name, layer in self._document.services.items():
            texts = layer.values.get("match", ())
            patterns = self._document.patterns[name] = []
            path = ("services", name, "match")
            if texts == ():
                if "match" in layer.values:
                    self._complain(path, "use at least one pattern", "[]")
                continue
            for text in texts if isinstance(texts, tuple) else ():
                pattern = self._pattern(path, str(text))
                if pattern is None:
                    continue
                owner = owners.setdefault(pattern.key(), name)
                if owner != name:
                    said = f'belongs to the service "{owner}" already'
                    self._complain(path, said, shown(text))
                patterns.append(pattern)

    def _pattern(self, path: Path, text: str) -> Pattern | None:
        try:
            return Pattern(text)
        except ValueError as error:
            hidden = re.sub(r"//[^/]*@", "//***@", text)
            self._complain(path, f"no pattern: {error}", shown(hidden))
            return None

    def _place(self, path: Path) -> str:
        line = self._lines.of(path)
        file = self._document.file
        return file if line is None else f"{file}:{line}"

    def _complain(self, path: Path, message: str, value: str = "") -> None:
        key = ".".join(path) + (f" = {value}" if value else "")
        self._document.findings.append(Finding(self._place(path), key, message))


def _below(section: str) -> set[str]:
    """Return the names of the tables that may stand in a section."""
    if section:
        prefix = f"{section}."
        names = (n for n in SERVICE_SECTIONS if n.startswith(prefix))
        return {name.removeprefix(prefix) for name in names}
    return {name for name in SERVICE_SECTIONS if name and "." not in name}


def _line(place: str) -> int:
    number = place.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


def shown(value: object) -> str:
    """Return a value as a file has it, cut short."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(shown, value))}]"
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."  # noqa: PLR2004 - one line
