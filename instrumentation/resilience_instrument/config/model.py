"""Settings as the policies get them: frozen, complete, checked.

Every default stands in `config/defaults.py` with its source; none stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Jitter: TypeAlias = Literal["full"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds a call may take, part by part; None means no limit.

    Attributes:
        connect: To reach the service, TLS included.
        read: Between two pieces of the answer.
        write: Between two pieces of the request.
        pool: For a free connection of the client's own pool.
        total: For the whole call: attempts, pauses between them and bodies.
    """

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None
    total: float | None


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """When and how often a transient failure is tried again.

    Attributes:
        max_attempts: Attempts of one call, the first included.
        base_delay: Seconds, the upper end of the first pause.
        max_delay: Seconds, the upper end of any pause.
        retry_after_max: Seconds a service may ask for and still be waited for.
        budget: Retries per call that may be added, on average (0.2 is 20 %).
        budget_min: Retries a second that are allowed whatever the traffic.
        budget_window: Seconds over which the budget is kept.
    """

    max_attempts: int
    base_delay: float
    max_delay: float
    retry_after_max: float
    budget: float
    budget_min: float
    budget_window: float


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """When a circuit opens, for how long, and what closes it.

    Attributes:
        consecutive: Failed attempts in a row that open it.
        open_for: Seconds for which it refuses the first time.
        open_max: Seconds for which it refuses at most.
        open_growth: Factor from one opening to the next while it never closed.
        open_jitter: Share of the open time that chance may add.
        probes: Attempts let through at once while it is half open.
        successes_to_close: Probes in a row that must succeed.
        probe_lease: Seconds after which a probe without an answer loses its place.
    """

    consecutive: int
    open_for: float
    open_max: float
    open_growth: float
    open_jitter: float
    probes: int
    successes_to_close: int
    probe_lease: float


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Everything that governs the calls to one service."""

    timeout: Timeouts
    retry: RetrySettings
    breaker: BreakerSettings


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What holds for the whole process.

    Attributes:
        disabled: Libraries that are left alone.
        metrics_host: Address on which the metrics are served.
        metrics_ports: Ports to try in order; empty means not served.
        defaults: What governs a service that has no settings of its own.
    """

    disabled: frozenset[str]
    metrics_host: str
    metrics_ports: range
    defaults: ServiceSettings
