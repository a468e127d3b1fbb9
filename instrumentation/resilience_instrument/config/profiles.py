"""The profiles of the usual uses, and the rules that choose one by itself.

A profile gives values where nobody wrote any. Its numbers are the upper ends of
what is usual for the use: they cut only what is surely dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from resilience_instrument.config.match import HTTP, fits_path, is_internal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import dataclass

    from resilience_instrument.config.kinds import Value
    from resilience_instrument.config.match import Destination
else:
    from resilience_instrument.frozen import dataclass

AUTO: Final = "auto"
NONE: Final = "none"


@final
@dataclass(frozen=True, slots=True)
class Profile:
    """One profile.

    Attributes:
        name: Its name.
        values: Its values by the path of the key.
        help: What it is for.
        rule: When it is chosen by itself.
        source: Where its numbers come from.
    """

    name: str
    values: Mapping[str, Value]
    help: str
    rule: str
    source: str


HEALTH: Final = "health-check"
INTERNAL: Final = "internal-api"
EXTERNAL: Final = "external-api"
UPLOAD: Final = "upload"
BATCH: Final = "batch"
DATABASE: Final = "database"


def _waits(read: float | None, total: float | None) -> dict[str, Value]:
    return {"timeout.read": read, "timeout.write": read, "timeout.total": total}


PROFILES: Final = {
    profile.name: profile
    for profile in (
        Profile(
            HEALTH,
            _waits(3.0, 3.0),
            "Asks whether a service lives: a late answer is a no.",
            "the path is one of `agent.health_paths`",
            "usual are 1 to 3 s",
        ),
        Profile(
            INTERNAL,
            _waits(10.0, 10.0),
            "A service of one's own, in the same network.",
            "a private, loopback or link-local address, a name without a dot, or one"
            " of `agent.internal_hosts`",
            "usual are 3 to 10 s",
        ),
        Profile(
            EXTERNAL,
            _waits(30.0, 30.0),
            "A service of somebody else, over the internet.",
            "every other HTTP call",
            "usual are 10 to 30 s",
        ),
        Profile(
            UPLOAD,
            _waits(300.0, 300.0),
            "A large body is sent.",
            "a body of `agent.upload_from` bytes or more, or a multipart body",
            "usual are 60 to 300 s",
        ),
        Profile(
            BATCH,
            _waits(300.0, None),
            "Work that takes as long as it takes: only silence is cut.",
            "never by itself",
            "depends on the work; the read timeout is the longest of the others",
        ),
        Profile(
            DATABASE,
            {"timeout.connect": 10.0, **_waits(30.0, 30.0)},
            "A database.",
            "the call goes through a database driver",
            "10 s to connect and 30 s a statement are usual",
        ),
    )
}


@final
@dataclass(frozen=True, slots=True)
class Rules:
    """What the automatic choice goes by.

    Attributes:
        internal_hosts: Names that are internal.
        health_paths: Paths that are health checks.
        upload_from: Bytes from which on a body is an upload, None for never.
    """

    internal_hosts: tuple[str, ...]
    health_paths: tuple[str, ...]
    upload_from: int | None

    def is_upload(self, length: int | None, content_type: str) -> bool:
        """Tell whether a body makes its call an upload.

        Args:
            length: Bytes of the body, None where nobody knows.
            content_type: Its type, empty if there is none.
        """
        if self.upload_from is None:
            return False
        if content_type.lower().startswith("multipart/"):
            return True
        return length is not None and length >= self.upload_from

    def is_health_check(self, path: str) -> bool:
        """Tell whether a path is that of a health check."""
        bare = path.partition("?")[0]
        return any(fits_path(known, bare) for known in self.health_paths)

    def of_origin(self, to: Destination) -> str:
        """Return the profile that scheme and host alone ask for."""
        if to.scheme not in HTTP:
            return DATABASE
        return INTERNAL if is_internal(to.host, self.internal_hosts) else EXTERNAL
