"""What is wrong with a configuration, in words that name the place and the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from resilience_instrument.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        place: The file, or the file and the line, or empty for a variable.
        key: The key or the variable, empty where the whole file is meant.
        message: What is wrong with it and what would do.
    """

    place: str
    key: str
    message: str

    def __str__(self) -> str:
        """Return the finding in one line."""
        return ": ".join(part for part in self if part)


def unknown(name: str, known: Iterable[str]) -> str:
    """Return what to say about a key that nobody knows."""
    import difflib  # noqa: PLC0415 - loaded only where something is wrong

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f'unknown; did you mean "{near[0]}"?'
    return f"unknown; known here: {', '.join(names) or 'nothing'}"


def refuse(findings: Sequence[Finding]) -> None:
    """Raise the first of several findings, if there is one.

    Raises:
        ConfigError: It holds the first finding and says how many there are.
    """
    if not findings:
        return
    more = len(findings) - 1
    ending = f" (and {more} more; `resilience check` lists them)" if more else ""
    raise ConfigError(f"{findings[0]}{ending}")
