"""The whole configuration, laid out: which service a call belongs to, what holds.

From the weakest to the strongest: defaults, a profile that was found by itself or
named in `[defaults]`, `[defaults]`, a profile that the service names, its section
`[profiles.NAME]`, `[services.NAME]`, the environment. A plan never changes; a new
file makes a new plan.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from resilience_instrument.config import build, resolve
from resilience_instrument.config.findings import Finding
from resilience_instrument.config.match import HTTP, destination
from resilience_instrument.config.profiles import (
    AUTO,
    HEALTH,
    NONE,
    PROFILES,
    UPLOAD,
    Rules,
)

if TYPE_CHECKING:
    from resilience_instrument.config.document import Document
    from resilience_instrument.config.layer import Layer
    from resilience_instrument.config.match import Destination, Pattern
    from resilience_instrument.config.model import ServiceSettings
    from resilience_instrument.config.profiles import Profile
    from resilience_instrument.config.resolve import Settings

_CACHE: Final = 4096


class Found(NamedTuple):
    """What holds for one call.

    Attributes:
        service: The name of the service, None where none is configured for it.
        settings: What governs the service.
        own: What governs this call: the same, but for another profile.
    """

    service: str | None
    settings: ServiceSettings
    own: ServiceSettings


@final
class _Origin:
    """What is known of a scheme, host and port, and of others like them.

    Args:
        candidates: The patterns that fit it, with their services.
        profile: The profile that it has by itself.
    """

    __slots__ = ("candidates", "found", "profile")

    def __init__(
        self, candidates: tuple[tuple[Pattern, str], ...], profile: str
    ) -> None:
        self.candidates = candidates
        self.profile = profile
        self.found: dict[tuple[str | None, str | None], Found] = {}
        """What holds for a service and a profile that one call asks for."""

    def service(self, path: str) -> str | None:
        """Return the service that a path belongs to, None for none."""
        for pattern, service in self.candidates:
            if pattern.any_path or pattern.fits_path(path.partition("?")[0]):
                return service
        return None


@final
class Plan:
    """What was configured.

    Args:
        environment: What the variables say.
        document: What the file says, None where there is none.
    """

    __slots__ = (
        "_alike",
        "_built",
        "_document",
        "_environment",
        "_health",
        "_origins",
        "process",
        "rules",
    )

    def __init__(self, environment: Layer, document: Document | None = None) -> None:
        self._environment = environment
        self._document = document
        layers = [] if document is None else [document.process]
        self.process: Settings = resolve.process_settings([*layers, environment])
        said: dict[str, Any] = {p: s.value for p, s in self.process.items()}
        self.rules = Rules(
            said["agent.internal_hosts"],
            said["agent.health_paths"],
            said["agent.upload_from"],
        )
        self._built: dict[tuple[str | None, str], ServiceSettings] = {}
        self._origins: dict[tuple[str, str, int | None], _Origin] = {}
        # Origins of which the same is known, which are nearly all, are one.
        self._alike: dict[tuple[object, str], _Origin] = {}
        self._health: dict[str, bool] = {}

    @property
    def checksum(self) -> int | None:
        """The checksum of the file that it was made from, None for none."""
        return None if self._document is None else self._document.checksum

    def find(self, to: Destination, *, upload: bool = False) -> Found:
        """Return what holds for a call.

        Args:
            to: Where it goes.
            upload: Whether its body makes it an upload.
        """
        origin = self._origin(to)
        service = origin.service(to.path) if origin.candidates else None
        key = service, self._special(to, upload=upload)
        found = origin.found.get(key)
        if found is None:
            found = origin.found[key] = self._find(origin, *key)
        return found

    def _find(self, origin: _Origin, service: str | None, special: str | None) -> Found:
        profile = self._chosen(service)
        if profile != AUTO:
            settings = self.settings(service, profile)
            return Found(service, settings, settings)
        settings = self.settings(service, origin.profile)
        own = settings if special is None else self.settings(service, special)
        return Found(service, settings, own)

    def profile_of(self, to: Destination, *, upload: bool = False) -> tuple[str, str]:
        """Return the profile of a call and why it has it."""
        service = self.service_of(to)
        profile = self._chosen(service)
        if profile != AUTO:
            return profile, _source_of_profile(self._profile_layers(service))
        found = self._special(to, upload=upload) or self.rules.of_origin(to)
        return found, f"found by itself: {PROFILES[found].rule}"

    def service_of(self, to: Destination) -> str | None:
        """Return the configured service that a call belongs to, None for none."""
        return self._origin(to).service(to.path)

    def _origin(self, to: Destination) -> _Origin:
        key = (to.scheme, to.host, to.port)
        origin = self._origins.get(key)
        if origin is None:
            if len(self._origins) >= _CACHE:
                self._origins.clear()
                self._alike.clear()
            known = self._candidates(to), self.rules.of_origin(to)
            origin = self._alike.setdefault(known, _Origin(*known))
            self._origins[key] = origin
        return origin

    def _candidates(self, to: Destination) -> tuple[tuple[Pattern, str], ...]:
        """Return the patterns that fit an origin, the most specific first."""
        document = self._document
        fitting = [
            (pattern, service)
            for service, patterns in (document.patterns if document else {}).items()
            for pattern in patterns
            if pattern.fits_origin(to)
        ]
        return tuple(sorted(fitting, key=lambda pair: pair[0].rank, reverse=True))

    def _special(self, to: Destination, *, upload: bool) -> str | None:
        """Return the profile that one call asks for, None for that of its host."""
        if to.scheme not in HTTP:
            return None
        health = self._health.get(to.path)
        if health is None:
            health = self.rules.is_health_check(to.path)
            if len(self._health) >= _CACHE:
                self._health.clear()
            self._health[to.path] = health
        if health:
            return HEALTH
        return UPLOAD if upload else None

    def settings(self, service: str | None, profile: str) -> ServiceSettings:
        """Return the settings of a service with a profile, built once."""
        found = self._built.get((service, profile))
        if found is None:
            settings = self.resolved(service, profile)
            resolve.give_way(settings, self.process["agent.time_limit"])
            found = build.service(settings, "" if profile == NONE else profile)
            self._built[service, profile] = found
        return found

    def explained(self, service: str | None, profile: str) -> Settings:
        """Return every setting of a service with its source."""
        settings = self.resolved(service, profile)
        resolve.give_way(settings, self.process["agent.time_limit"])
        return settings

    def resolved(self, service: str | None, profile: str) -> Settings:
        """Return the settings of a service before anything gave way."""
        return resolve.service_settings(self._layers(service, profile))

    def services(self) -> list[str | None]:
        """Return every service that is configured, after None for any other."""
        document = self._document
        return [None, *(() if document is None else document.services)]

    def section(self, service: str) -> Layer:
        """Return what stands in the section of a service."""
        assert self._document is not None
        return self._document.services[service]

    def is_database(self, service: str) -> bool:
        """Tell whether every pattern of a service is one of a database."""
        assert self._document is not None
        patterns = self._document.patterns.get(service, [])
        return bool(patterns) and not any(each.is_http for each in patterns)

    def likely_profile(self, service: str | None) -> str:
        """Return the profile that most calls of a service get, `none` if they differ.

        Args:
            service: Its name, None for calls that no pattern fits.
        """
        chosen = self._chosen(service)
        if chosen != AUTO:
            return chosen
        if service is None:
            return NONE
        found = {self.rules.of_origin(to) for to in self._named(service)}
        return found.pop() if len(found) == 1 else NONE

    def _named(self, service: str) -> list[Destination]:
        """Return where the patterns of a service lead, as far as they say."""
        assert self._document is not None
        patterns = self._document.patterns.get(service, [])
        return [destination(pattern.text) for pattern in patterns]

    def _layers(self, service: str | None, profile: str) -> list[Layer | Profile]:
        document = self._document
        builtin: list[Layer | Profile] = []
        if profile in PROFILES:
            builtin.append(PROFILES[profile])
        if document is None:
            return [*builtin, self._environment]
        own = document.services.get(service or "")
        layers: list[Layer | Profile] = [*builtin, document.defaults]
        if own is not None and own.values.get("profile", AUTO) not in {AUTO, NONE}:
            layers.reverse()
        if profile in document.profiles:
            layers.append(document.profiles[profile])
        if own is not None:
            layers.append(own)
        return [*layers, self._environment]

    def _chosen(self, service: str | None) -> str:
        """Return the profile that somebody named, `auto` where nobody did."""
        for layer in reversed(self._profile_layers(service)):
            if "profile" in layer.values:
                return str(layer.values["profile"])
        return AUTO

    def _profile_layers(self, service: str | None) -> list[Layer]:
        document = self._document
        if document is None:
            return [self._environment]
        own = document.services.get(service or "")
        layers = [document.defaults, *([] if own is None else [own])]
        return [*layers, self._environment]

    def check(self) -> list[Finding]:
        """Return what contradicts itself in any service with any profile it may get."""
        findings: dict[Finding, None] = {}
        for service in self.services():
            chosen = self._chosen(service)
            if chosen not in self._known_profiles():
                findings[self._unknown_profile(chosen)] = None
                continue
            for profile in self._written_profiles() if chosen == AUTO else [chosen]:
                settings = self.resolved(service, profile)
                limit = self.process["agent.time_limit"]
                findings |= dict.fromkeys(resolve.give_way(settings, limit))
                try:
                    built = build.service(settings, profile)
                except ValueError as error:
                    findings[error.args[0]] = None
                    continue
                if service is not None:
                    findings |= dict.fromkeys(self._loop(service, built, settings))
        return list(findings)

    def _written_profiles(self) -> list[str]:
        """Return the profiles that may contradict something, by what was written.

        What a profile has by itself gives way to everything.
        """
        document = self._document
        sections = () if document is None else document.profiles
        return [NONE, *(name for name in sections if name in PROFILES)]

    def _known_profiles(self) -> list[str]:
        document = self._document
        known = [AUTO, NONE, *PROFILES]
        return known if document is None else [*known, *document.profile_names()]

    def _unknown_profile(self, name: str) -> Finding:
        """Return what is wrong: a file's profile was checked, so a variable did it."""
        names = ", ".join(self._known_profiles())
        return Finding("", f"RESILIENCE_PROFILE={name!r}", f"use one of {names}")

    def _loop(
        self, service: str, built: ServiceSettings, settings: Settings
    ) -> list[Finding]:
        """Find a fallback that leads back to the service that failed."""
        other = None if built.fallback is None else built.fallback.service
        if other is None or self.service_of(destination(other)) != service:
            return []
        place = settings["fallback.service"].source
        said = f'leads back to the service "{service}" itself'
        return [Finding(place, f'fallback.service = "{other}"', said)]


def _source_of_profile(layers: list[Layer]) -> str:
    """Return where the strongest layer that names a profile does so."""
    naming = (each for each in reversed(layers) if "profile" in each.values)
    return f"named at {next(naming).places['profile']}"
