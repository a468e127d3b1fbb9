"""What is allowed and yet seldom meant: notes about settings that somebody wrote.

Nothing here keeps a configuration from being used. Defaults and profiles get no
advice: they have their reasons. For people who ask; no governed process loads this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from resilience_instrument.config.findings import Finding
from resilience_instrument.config.keys import BY_PATH
from resilience_instrument.config.profiles import (
    BATCH,
    DATABASE,
    EXTERNAL,
    HEALTH,
    INTERNAL,
    UPLOAD,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from resilience_instrument.config.plan import Plan
    from resilience_instrument.config.resolve import Setting, Settings


class Range(NamedTuple):
    """What is usual.

    Attributes:
        least: The lower end.
        most: The upper end.
        low: What it means to be below.
        high: What it means to be above.
    """

    least: float
    most: float
    low: str
    high: str


_LOW: Final = "answers that were on their way become failures"
_HIGH: Final = "whoever waits for a dead service waits as long"

READS: Final[Mapping[str, Range]] = {
    name: Range(least, most, _LOW, _HIGH)
    for name, least, most in (
        (HEALTH, 1, 3),
        (INTERNAL, 3, 10),
        (EXTERNAL, 10, 30),
        (UPLOAD, 60, 300),
        (DATABASE, 3, 30),
        ("", 3, 30),
    )
}
"""Read timeouts, by profile; without a name that of any call."""

USUAL: Final[Mapping[str, Range]] = {
    "timeout.connect": Range(
        1, 10, "a packet that is lost once comes again after 1 s", _HIGH
    ),
    "retry.max_attempts": Range(
        2, 3, "nothing is tried again", "each further one adds to the load of an outage"
    ),
    "retry.base_delay": Range(
        1, 2, "it is over before the trouble is", "callers wait for it"
    ),
    "retry.budget": Range(
        0.1, 0.2, "few retries are left for many calls", "an outage gets so much more"
    ),
    "breaker.consecutive": Range(
        5, 10, "a little noise opens the circuit", "the circuit opens late"
    ),
    "breaker.open_for": Range(
        30, 60, "a service gets no time to recover", "recovery is seen late"
    ),
}
"""Other settings, by path."""

_AT_ONCE: Final = "callers that failed together come back together"
_FOR_EVER: Final = "a service that falls silent holds its callers for ever"
_NO_STAND_IN: Final = "databases have no fallback, it is for calls by HTTP"


def advise(plan: Plan) -> list[Finding]:
    """Return what to think about again, each value once, in the order of services."""
    found: dict[tuple[str, str], Finding] = {}
    for service in plan.services():
        profile = plan.likely_profile(service)
        settings = plan.explained(service, profile)
        for path, said in _thoughts(profile, settings):
            place = settings[path]
            found.setdefault((path, place.source), _note(path, place, said))
        if service is not None and plan.is_database(service):
            own = _written_fallback(plan, service)
            found |= {(note.key, note.place): note for note in own}
    return list(found.values())


def without_fallback(plan: Plan) -> list[str]:
    """Return the services whose calls end in an error where they fail."""
    return [
        service
        for service in plan.services()
        if service is not None
        and not plan.is_database(service)
        and plan.settings(service, plan.likely_profile(service)).fallback is None
    ]


def _thoughts(profile: str, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield paths of settings that were written, and what to say about them."""
    ranges = dict(USUAL)
    if profile != BATCH:
        ranges["timeout.read"] = READS.get(profile, READS[""])
        if _is_off(settings["timeout.total"]):
            yield "timeout.total", f"{_FOR_EVER}, byte by byte"
    if _is_off(settings["timeout.read"]):
        yield "timeout.read", _FOR_EVER
    for path, usual in ranges.items():
        said = _compared(settings[path], usual)
        if said is not None:
            yield path, said
    jitter = settings["retry.jitter"]
    if jitter.written and jitter.value in {"fixed", "immediate"}:
        yield "retry.jitter", _AT_ONCE


def _is_off(setting: Setting) -> bool:
    return setting.written and setting.value is None


def _compared(setting: Setting, usual: Range) -> str | None:
    value = setting.value
    if not setting.written or not isinstance(value, (int, float)):
        return None
    between = f"{usual.least:g} to {usual.most:g} are usual"
    if value < usual.least:
        return f"{between}: {usual.low}"
    return f"{between}: {usual.high}" if value > usual.most else None


def _note(path: str, setting: Setting, said: str) -> Finding:
    value = BY_PATH[path].kind.show(setting.value)
    if setting.source.startswith("RESILIENCE_"):
        return Finding("", f"{setting.source}={value}", said)
    return Finding(setting.source, f"{path} = {value}", said)


def _written_fallback(plan: Plan, service: str) -> list[Finding]:
    """Return a note if the section of a database has a fallback of its own."""
    own = plan.section(service).places
    places = [own[path] for path in own if path.startswith("fallback.")]
    key = f"services.{service}.fallback"
    return [Finding(places[0], key, _NO_STAND_IN)] if places else []
