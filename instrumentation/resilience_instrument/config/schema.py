"""The JSON Schema of `resilience.toml`, for editors. Made from the table of keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from resilience_instrument.config.keys import KEYS, SECTIONS
from resilience_instrument.config.profiles import AUTO, NONE, PROFILES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from resilience_instrument.config.keys import Key

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Return the schema of a whole file."""
    properties: dict[str, Any] = {
        "defaults": _service("What holds where no service says anything else."),
        "profiles": _named(
            _service("What the profile changes.", without={"match", "profile"}),
            f"Profiles: {', '.join(PROFILES)}, or names of your own.",
            {"not": {"enum": [AUTO, NONE]}, "minLength": 1, "maxLength": 100},
        ),
        "services": _named(
            _service("What holds for this service.", required=["match"]),
            "Services by their names, which metrics and errors show.",
            {"minLength": 1, "maxLength": 100},
        ),
    }
    for section in SECTIONS:
        if not section.service:
            properties[section.name] = _table(_keys(section.name), section.help)
    properties["defaults"]["properties"].pop("match")
    return {
        "$schema": DIALECT,
        "title": "resilience.toml",
        **_object(properties, "Configuration of resilience-instrument."),
    }


def text() -> str:
    """Return the schema as the file that is in the package."""
    return json.dumps(schema(), indent=2) + "\n"


def _service(
    description: str,
    *,
    without: Iterable[str] = (),
    required: list[str] | None = None,
) -> dict[str, Any]:
    properties = {key.name: _key(key) for key in _keys("") if key.name not in without}
    for section in SECTIONS:
        if section.service and section.name and "." not in section.name:
            properties[section.name] = _section(section.name, section.help)
    found = _object(properties, description)
    return found if required is None else {**found, "required": required}


def _section(name: str, description: str) -> dict[str, Any]:
    found = _table(_keys(name), description)
    for section in SECTIONS:
        if section.name.startswith(f"{name}."):
            inner = section.name.removeprefix(f"{name}.")
            found["properties"][inner] = _table(_keys(section.name), section.help)
    return found


def _table(keys: Iterable[Key], description: str) -> dict[str, Any]:
    return _object({key.name: _key(key) for key in keys}, description)


def _object(properties: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
    }


def _named(of: dict[str, Any], description: str, names: object) -> dict[str, Any]:
    return {
        "description": description,
        "type": "object",
        "propertyNames": names,
        "additionalProperties": of,
    }


def _keys(section: str) -> list[Key]:
    return [key for key in KEYS if key.section == section]


def _key(key: Key) -> dict[str, Any]:
    shown = key.kind.show(key.default)
    return {"description": f"{key.help}. Default: {shown}.", **key.kind.schema()}
