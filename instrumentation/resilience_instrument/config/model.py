"""Settings as the policies get them: frozen, complete, checked.

Every default stands in `config/defaults.py` with its source; none stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from resilience_instrument.config import defaults

if TYPE_CHECKING:
    from resilience_instrument.config.plan import Plan

Jitter: TypeAlias = Literal["full"]

Mode: TypeAlias = Literal["enforce", "observe"]
"""Act, or only measure and decide."""

BreakerMode: TypeAlias = Literal["enforce", "shadow", "forced_open", "disabled"]
"""Act; look on and count what would be refused; refuse all; let all through."""


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

    It opens as soon as one of its rules is met; None switches a rule off. A share
    is met when it is reached: 10 failures in 20 attempts are a rate of 0.5.

    Attributes:
        consecutive: Failed attempts in a row that open it.
        open_for: Seconds for which it refuses the first time.
        open_max: Seconds for which it refuses at most.
        open_growth: Factor from one opening to the next while it never closed.
        open_jitter: Share of the open time that chance may add.
        probes: Attempts let through at once while it is half open.
        successes_to_close: Probes in a row that must succeed.
        probe_lease: Seconds after which a probe without an answer loses its place.
        failure_rate: Share of failures in a window that opens it.
        window: Seconds over which shares are looked at.
        min_calls: Attempts in a window below which no share means anything.
        count_window: Attempts over which shares are looked at as well.
        count_failures: Failures among these that open it, however few there are.
        slow_rate: Share of slow attempts in a window that opens it.
        slow_after: Seconds from which on an attempt is slow.
        slow_inflight: Whether attempts are slow before they have ended.
        ramp_steps: Steps in which a closed circuit gets its traffic back; 0 for all
            at once.
        ramp_step: Seconds that each of these steps lasts.
        mode: Whether it acts.
    """

    consecutive: int | None
    open_for: float
    open_max: float
    open_growth: float
    open_jitter: float
    probes: int
    successes_to_close: int
    probe_lease: float
    failure_rate: float | None = defaults.FAILURE_RATE
    window: float | None = defaults.WINDOW
    min_calls: int = defaults.MIN_CALLS
    count_window: int | None = None
    count_failures: int | None = None
    slow_rate: float | None = None
    slow_after: float | None = None
    slow_inflight: bool = False
    ramp_steps: int = 0
    ramp_step: float = defaults.RAMP_STEP
    mode: BreakerMode = "enforce"


@dataclass(frozen=True, slots=True)
class CacheFallback:
    """How long and how much is kept to stand in for a failed call.

    Attributes:
        max_age: Seconds for which an answer may stand in.
        max_entries: Answers that are kept.
        max_bytes: Length of the largest answer that is kept.
    """

    max_age: float
    max_entries: int
    max_bytes: int


@dataclass(frozen=True, slots=True)
class StaticFallback:
    """An answer that is always the same."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class FallbackSettings:
    """What answers when the call failed; None for what is not asked for.

    Attributes:
        cache: The last good answer.
        service: The URL of another host.
        call: A function as `module:function`.
        static: A fixed answer.
    """

    cache: CacheFallback | None
    service: str | None
    call: str | None
    static: StaticFallback | None


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """Everything that governs the calls to one service.

    Attributes:
        timeout: How long its calls may take.
        retry: When they are tried again.
        breaker: When its circuit opens.
        enabled: False where its calls are let through untouched.
        mode: Whether the policies act.
        profile: The profile that gave values, empty for none.
        endpoints: Templates of its endpoints.
        idempotency_key: Header that makes a call repeatable, None for none.
        fallback: What answers in its place, None for nothing.
    """

    timeout: Timeouts
    retry: RetrySettings
    breaker: BreakerSettings
    enabled: bool = True
    mode: Mode = "enforce"
    profile: str = ""
    endpoints: tuple[str, ...] = ()
    idempotency_key: str | None = None
    fallback: FallbackSettings | None = None


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """What holds for the whole process.

    Attributes:
        disabled: Libraries that are left alone.
        metrics_host: Address on which the metrics are served.
        metrics_ports: Ports to try in order; empty means not served.
        defaults: What governs a service that has neither settings nor a profile.
        plan: Finds what governs each service.
        left_out: Policies that are left out of a library.
        banner: Whether to say where the metrics are.
        reload: Whether a changed file is read again.
        tracing: Whether spans are recorded.
    """

    disabled: frozenset[str]
    metrics_host: str
    metrics_ports: range
    defaults: ServiceSettings
    plan: Plan
    left_out: frozenset[tuple[str, str]] = frozenset()
    banner: bool = False
    reload: bool = True
    tracing: bool = True
