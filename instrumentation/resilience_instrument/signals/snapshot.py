"""How a service stands at one moment: what the agent tells whoever reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resilience_instrument.events import State


class ServiceSnapshot(NamedTuple):
    """One service, or one of several routes to it.

    Attributes:
        service: Its name.
        state: The state of its circuit, computed for this moment.
        budget_ratio: What is left of its retry budget, from 0 to 1.
        timeouts: Seconds in force by kind, None for no limit.
    """

    service: str
    state: State
    budget_ratio: float
    timeouts: Mapping[str, float | None]
