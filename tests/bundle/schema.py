"""Grafana's published schema, read from the library that Grafana generates from it.

Its reader drops a field that the schema does not have and keeps a value that the schema
does not allow. So what was read is written again to see what is missing, and each value
is compared with the type that the library declares.
"""

from __future__ import annotations

import copy
import enum
import functools
import json
import types
import typing
from typing import TYPE_CHECKING, Any, Literal, Union

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

if TYPE_CHECKING:
    from collections.abc import Iterator

register_default_plugins()


def faults(document: dict[str, Any]) -> set[str]:
    """Return the path of every field and value that the schema does not have.

    What stays opaque is what the schema leaves open: options of transformations.
    """
    found = set(_faults(document, Dashboard, ""))
    for panel in document["panels"]:
        for changed in _with_an_override(panel):
            found |= set(_faults(changed, Panel, f"panels[{panel['title']}]"))
    return found


def _faults(data: dict[str, Any], model: Any, path: str) -> Iterator[str]:
    read = model.from_json(data)
    yield from _lost(data, json.loads(JSONEncoder().encode(read)), path)
    yield from _wrong(read, model, path)


def _with_an_override(panel: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Return the panel with each property of an override as the default of the field.

    The schema knows the defaults by name, and what an override sets only as a pair.
    """
    for override in panel.get("fieldConfig", {}).get("overrides", ()):
        for prop in override["properties"]:
            changed = copy.deepcopy(panel)
            field = changed["fieldConfig"]["defaults"]
            *parents, name = prop["id"].split(".")
            for parent in parents:
                field = field.setdefault(parent, {})
            field[name] = prop["value"]
            yield changed


def _lost(before: Any, after: Any, path: str) -> Iterator[str]:
    """Return the paths of `before` that `after` does not have."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            below = f"{path}.{key}".lstrip(".")
            yield from _lost(value, after[key], below) if key in after else [below]
    elif isinstance(before, list) and isinstance(after, list):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from _lost(*pair, f"{path}[{_name(pair[0], index)}]")
    elif before != after:
        yield path


def _name(item: Any, index: int) -> str:
    """Return what an item of a list is called, or its place."""
    named = item if isinstance(item, dict) else vars(item) if _is_model(item) else {}
    return str(named.get("title") or named.get("name") or index)


def _is_model(value: Any) -> bool:
    return hasattr(value, "to_json")


def _wrong(value: Any, hint: Any, path: str) -> Iterator[str]:
    """Return the paths of values that are not of the type that is declared."""
    if _is_model(value):
        declared = _declared(value.__class__)
        for name, inner in vars(value).items():
            below = f"{path}.{name.removesuffix('_val')}".lstrip(".")
            yield from _wrong(inner, declared.get(name, object), below)
    elif isinstance(value, list) and (items := _items(hint)) is not None:
        for index, each in enumerate(value):
            yield from _wrong(each, items, f"{path}[{_name(each, index)}]")
    elif isinstance(value, dict) and (model := _model(hint)) is not None:
        # The reader leaves transformations as they are.
        yield from _faults(value, model, path)
    elif not _allows(hint, value):
        yield path


@functools.cache
def _declared(model: Any) -> dict[str, Any]:
    return typing.get_type_hints(model)


def _arms(hint: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(hint) in {Union, types.UnionType}
    return typing.get_args(hint) if is_union else (hint,)


def _items(hint: Any) -> Any:
    """Return the type of the items where `hint` is a list, or may be one."""
    lists = [arm for arm in _arms(hint) if typing.get_origin(arm) is list]
    return typing.get_args(lists[0])[0] if lists else None


def _model(hint: Any) -> Any:
    """Return the model where `hint` is one, or may be one."""
    return next((arm for arm in _arms(hint) if hasattr(arm, "from_json")), None)


def _allows(hint: Any, value: Any) -> bool:
    """Say whether a plain value is of a type."""
    return any(_is(value, arm) for arm in _arms(hint))


def _is(value: Any, arm: Any) -> bool:
    if arm in {object, Any}:
        return True
    origin = typing.get_origin(arm)
    if origin is Literal:
        return value in typing.get_args(arm)
    if origin is not None:
        return isinstance(value, origin)
    if isinstance(arm, enum.EnumMeta):
        return value in list(arm)
    if isinstance(value, bool):
        return arm is bool
    return isinstance(value, (int, float) if arm is float else arm)
