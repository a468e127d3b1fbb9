"""The ways between the states of a circuit: one table that the breaker goes by.

The diagram in the docs is drawn from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from resilience_instrument.events import State

Event: TypeAlias = Literal["rule_met", "time_is_up", "probe_failed", "probes_succeeded"]

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    ("closed", "rule_met"): "open",
    ("open", "time_is_up"): "half_open",
    ("half_open", "probe_failed"): "open",
    ("half_open", "probes_succeeded"): "closed",
}

_WORDS: Final[dict[Event, str]] = {
    "rule_met": "a rule is met",
    "time_is_up": "its time is up and somebody asks",
    "probe_failed": "a probe fails or is slow",
    "probes_succeeded": "enough probes in a row succeed",
}


def diagram() -> str:
    """Return the table as a state diagram in Mermaid's language."""
    lines = ["stateDiagram-v2", "    [*] --> closed"]
    lines += [
        f"    {before} --> {after}: {_WORDS[event]}"
        for (before, event), after in TRANSITIONS.items()
    ]
    return "\n".join(lines) + "\n"
