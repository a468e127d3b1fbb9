"""Lay values over each other, and let those that nobody wrote give way.

A default or a profile's value that contradicts what somebody wrote is moved out of
the way, so that one written number never needs a second one. Where both were
written, the contradiction is a finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from resilience_instrument.config import defaults
from resilience_instrument.config.findings import Finding
from resilience_instrument.config.keys import BY_PATH, PROCESS_KEYS, SERVICE_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from resilience_instrument.config.keys import Key
    from resilience_instrument.config.kinds import Value
    from resilience_instrument.config.layer import Layer
    from resilience_instrument.config.profiles import Profile

DEFAULT: Final = "default"


class Setting(NamedTuple):
    """One value and where it comes from.

    Attributes:
        value: The value.
        source: `default`, a profile, or the place where somebody wrote it.
        reason: Why the default or the profile has it, or why it gave way.
        written: Whether somebody wrote it.
    """

    value: Value
    source: str
    reason: str = ""
    written: bool = False


Settings = dict[str, Setting]


class _Relation(NamedTuple):
    """`small` times `factor` must not be more than `large`.

    Attributes:
        small: The path of a key.
        factor: How many times it must fit.
        large: The path of another.
        why: What the two have to do with each other.
        lowers: Whether a `small` that nobody wrote gives way to a written `large`.
    """

    small: str
    factor: float
    large: str
    why: str
    lowers: bool = True


RELATIONS: Final = (
    _Relation("timeout.read", 1, "timeout.total", "one attempt must fit into the call"),
    _Relation(
        "retry.base_delay", 1, "retry.max_delay", "no pause is longer than the longest"
    ),
    _Relation(
        "breaker.open_for", 1, "breaker.open_max", "no time is longer than the longest"
    ),
    _Relation(
        "bulkhead.limit", 1, "bulkhead.limit_max", "no limit is above the highest"
    ),
    _Relation(
        "timeout.read",
        1,
        "breaker.probe_lease",
        "a probe may take as long as an attempt",
        lowers=False,
    ),
    _Relation(
        "timeout.read",
        2,
        "breaker.window",
        "a window must hold two attempts",
        lowers=False,
    ),
)
"""What must hold between two keys of one service."""


def process_settings(layers: Iterable[Layer]) -> Settings:
    """Return the settings of the process, the last layer winning."""
    settings = dict(_PROCESS_DEFAULTS)
    for layer in layers:
        _lay(settings, layer)
    return settings


def service_settings(layers: Iterable[Layer | Profile]) -> Settings:
    """Return the settings of one service before anything gave way.

    Args:
        layers: From the weakest to the strongest.
    """
    settings = dict(_SERVICE_DEFAULTS)
    for layer in layers:
        _lay(settings, layer)
    return settings


def _defaults(keys: Iterable[Key]) -> Settings:
    return {key.path: Setting(key.default, DEFAULT, key.source) for key in keys}


_SERVICE_DEFAULTS: Final = _defaults(SERVICE_KEYS)
_PROCESS_DEFAULTS: Final = _defaults(PROCESS_KEYS)


def _lay(settings: Settings, layer: Layer | Profile) -> None:
    places: Mapping[str, str] | None = getattr(layer, "places", None)
    for path, value in layer.values.items():
        if places is not None:
            settings[path] = Setting(value, places[path], written=True)
        else:
            name, reason = getattr(layer, "name", ""), getattr(layer, "source", "")
            settings[path] = Setting(value, f'profile "{name}"', reason)


def give_way(settings: Settings, time_limit: Setting) -> list[Finding]:
    """Move what nobody wrote out of the way; return what contradicts itself.

    Args:
        settings: The settings of one service, changed in place.
        time_limit: The process's `agent.time_limit`.
    """
    findings = _limit_total(settings, time_limit)
    for relation in RELATIONS:
        findings += _relate(settings, relation)
    _derive_slowness(settings)
    return findings + _count_failures(settings)


def _derive_slowness(settings: Settings) -> None:
    """Say from when on an attempt is slow, where somebody wants to know."""
    wanted, after = settings["breaker.slow_rate"], settings["breaker.slow_after"]
    if wanted.value is not None and after.value is None:
        read = settings["timeout.read"].value
        share = defaults.SLOW_SHARE_OF_READ
        slow = _times(defaults.READ if read is None else read, share)
        reason = f"{share:g} of timeout.read"
        settings["breaker.slow_after"] = Setting(slow, DEFAULT, reason)


def _count_failures(settings: Settings) -> list[Finding]:
    """Find more failures than there are attempts to look at."""
    least, among = settings["breaker.count_failures"], settings["breaker.count_window"]
    if least.value is None or (
        among.value is not None and _at_most(least.value, among.value)
    ):
        return []
    shown = BY_PATH["breaker.count_window"].kind.show(among.value)
    said = f"is more than breaker.count_window = {shown} ({among.source})"
    return [_finding("breaker.count_failures", least, said)]


def _limit_total(settings: Settings, limit: Setting) -> list[Finding]:
    total, most = settings["timeout.total"], limit.value
    if most is None or _at_most(total.value, most):
        return []
    if total.written:
        said = f"is longer than agent.time_limit = {_shown(most)}: the platform ends"
        return [_finding("timeout.total", total, f"{said} the work first")]
    settings["timeout.total"] = Setting(most, limit.source, "agent.time_limit", True)  # noqa: FBT003 - written
    return []


def _relate(settings: Settings, relation: _Relation) -> list[Finding]:
    small, large = settings[relation.small], settings[relation.large]
    if small.value is None or large.value is None:
        return []
    needed = _times(small.value, relation.factor)
    if _at_most(needed, large.value):
        return []
    if not large.written:
        reason = f"raised for {relation.small} = {_shown(small.value)}: {relation.why}"
        settings[relation.large] = Setting(needed, large.source, reason)
        return []
    if not small.written:
        if relation.lowers:
            fitting = _times(large.value, 1 / relation.factor)
            reason = f"lowered for {relation.large} = {_shown(large.value)}"
            settings[relation.small] = Setting(fitting, small.source, reason)
        return []
    times = "" if relation.factor == 1 else f"{relation.factor:g} times it "
    bound = f"{relation.large} = {_shown(large.value)} ({large.source})"
    said = f"{times}is more than {bound}: {relation.why}"
    return [_finding(relation.small, small, said)]


def _finding(path: str, setting: Setting, message: str) -> Finding:
    value = BY_PATH[path].kind.show(setting.value)
    if ":" not in setting.source and setting.source.startswith("RESILIENCE_"):
        return Finding("", f"{setting.source}={value}", message)
    return Finding(setting.source, f"{path} = {value}", message)


def _times(value: Value, factor: float) -> float:
    assert isinstance(value, (int, float))
    return value * factor


def _at_most(small: Value, large: Value) -> bool:
    """Compare a limit, which may be None for none, with a number."""
    if small is None:
        return False
    assert isinstance(small, (int, float))
    assert isinstance(large, (int, float))
    return small <= large


def _shown(value: Value) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
