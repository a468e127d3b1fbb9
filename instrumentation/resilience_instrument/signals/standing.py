"""How a service stands in a process, kept in cells where other processes read it.

The monotonic clock is the same for all processes of a machine, so "open until
then" is understood by whoever serves the metrics, also after its process said it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from resilience_instrument.signals import catalog
from resilience_instrument.signals.layout import LAYOUTS
from resilience_instrument.signals.snapshot import ServiceSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableSequence, Sequence

    from resilience_instrument.events import State

_LAYOUT: Final = LAYOUTS[catalog.BREAKER_STATE.scope]
STATE: Final = -1
"""0 where nothing was said yet, else one more than the state's number. It is the last
count of its block."""

_UNTIL: Final = _LAYOUT.hidden_sums
_RATIO: Final = _UNTIL + 1
_RATIO_UNTIL: Final = _UNTIL + 2
_TIMEOUTS: Final = _UNTIL + 3


class Standing(NamedTuple):
    """How one service stands.

    Attributes:
        state: The state of its circuit.
        until: The monotonic time at which an open circuit lets a probe through.
        budget_ratio: What is left of its retry budget, from 0 to 1.
        budget_until: The monotonic time at which what was taken is forgotten.
        timeouts: Seconds in force by kind, None for no limit.
    """

    state: State
    until: float
    budget_ratio: float
    budget_until: float
    timeouts: Mapping[str, float | None]


def write(
    counts: MutableSequence[int], sums: MutableSequence[float], standing: Standing
) -> None:
    """Say in a service's block how it stands."""
    for index, kind in enumerate(catalog.TIMEOUT_KINDS):
        seconds = standing.timeouts[kind]
        sums[_TIMEOUTS + index] = math.inf if seconds is None else seconds
    sums[_RATIO] = standing.budget_ratio
    sums[_RATIO_UNTIL] = standing.budget_until
    sums[_UNTIL] = standing.until
    counts[STATE] = catalog.STATES.index(standing.state) + 1


def read(
    service: str, counts: Sequence[int], sums: Sequence[float], now: float
) -> ServiceSnapshot | None:
    """Return how a service stands at `now`, None if its block does not say."""
    if not counts[STATE]:
        return None
    state: State = catalog.STATES[counts[STATE] - 1]
    if state == "open" and now >= sums[_UNTIL]:
        state = "half_open"
    forgotten = now >= sums[_RATIO_UNTIL]
    timeouts = sums[_TIMEOUTS : _TIMEOUTS + len(catalog.TIMEOUT_KINDS)]
    return ServiceSnapshot(
        service,
        state,
        1.0 if forgotten else sums[_RATIO],
        {
            kind: None if seconds == math.inf else seconds
            for kind, seconds in zip(catalog.TIMEOUT_KINDS, timeouts, strict=True)
        },
    )
