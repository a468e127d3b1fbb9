"""One table: loader, models, schema, page and defaults say the same."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from resilience_instrument.config import build, defaults, keys, schema
from resilience_instrument.config.load import read_environment

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def test_every_field_of_a_model_has_a_key_and_every_key_a_field() -> None:
    """What a policy reads can be configured, and what can be configured is read."""
    for section, model in build.MODELS.items():
        fields = [field.name for field in dataclasses.fields(model)]

        assert sorted(fields) == sorted(
            key.name for key in keys.KEYS if key.section == section
        )


def test_the_table_of_keys_is_sound() -> None:
    """No key twice, no variable twice, each with a help and a source."""
    sections = {section.name for section in keys.SECTIONS}

    assert len(keys.KEYS) == len({key.path for key in keys.KEYS})
    assert len(keys.KEYS) == len({key.env for key in keys.KEYS})
    for key in keys.KEYS:
        assert key.section in sections
        assert key.help.strip() == key.help != ""
        assert key.source.strip() == key.source != ""


@pytest.mark.parametrize("key", keys.KEYS, ids=lambda key: key.path)
def test_a_default_is_a_value_of_its_kind(key: keys.Key) -> None:
    """Written into a file, it reads back as itself."""
    text = f"x = {key.kind.show(key.default)}"

    assert key.default == key.kind.read(tomllib.loads(text)["x"])


def test_the_file_in_the_package_is_the_schema() -> None:
    """`make docs` writes it, and an editor reads what the loader means."""
    shipped = Path(schema.__file__).with_name("schema.json").read_text(encoding="utf-8")

    assert schema.text() == shipped


def test_the_page_has_every_key_with_default_and_source() -> None:
    """And every variable."""
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    titles = {section.name: section.title for section in keys.SECTIONS}
    chapters = {text.partition("\n")[0]: text for text in page.split("\n## ")}

    for key in keys.KEYS:
        chapter = chapters[titles[key.section]]
        row = next(x for x in chapter.splitlines() if x.startswith(f"| `{key.name}`"))
        default = key.kind.show(key.default).strip('"')
        assert row.startswith(f"| `{key.name}` | `{default or ' '}`")
        assert key.help in row
        assert row.endswith(f" | {key.source} |")
        assert (f"`{key.env}`" in row) == key.variable


def allowed(node: dict[str, Any], path: str) -> set[str]:
    """Return every key that a schema's node allows, by path."""
    found: set[str] = set()
    for name, inner in node["properties"].items():
        place = f"{path}.{name}" if path else name
        found |= allowed(inner, place) if "properties" in inner else {place}
    return found


def test_the_schema_allows_what_the_loader_knows() -> None:
    """Key by key, in each table."""
    made = schema.schema()
    service = {key.path for key in keys.SERVICE_KEYS}
    process = {key.path for key in keys.PROCESS_KEYS}
    tables = dict(made["properties"])
    per_service = tables.pop("services")["additionalProperties"]
    per_profile = tables.pop("profiles")["additionalProperties"]
    defaults_table = tables.pop("defaults")

    assert service == allowed(per_service, "")
    assert service - {"match"} == allowed(defaults_table, "")
    assert service - {"match", "profile"} == allowed(per_profile, "")
    assert process == allowed({"properties": tables}, "")
    assert ["match"] == per_service["required"]
    assert made == json.loads(json.dumps(made))


def test_no_default_stands_anywhere_but_in_its_module() -> None:
    """The table takes them from there."""
    assert defaults.READ == keys.BY_PATH["timeout.read"].default


def test_a_variable_that_cannot_be_set_is_not_read() -> None:
    """Lists of patterns and fallbacks stand in files."""
    layer, findings = read_environment({"RESILIENCE_MATCH": "a"})

    assert ({}, []) == (layer.values, findings)
