"""Settings as the policies get them: frozen, complete, checked.

Every default stands in `config/defaults.py` with its source; none stands here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from resilience_instrument.config import defaults

if TYPE_CHECKING:
    from dataclasses import dataclass

    from resilience_instrument.config.plan import Plan
else:
    from resilience_instrument.frozen import dataclass

Jitter: TypeAlias = Literal[
    "full", "equal", "decorrelated", "proportional", "fixed", "immediate"
]
"""What chance makes of a pause; see `policies/backoff.py`."""

BudgetMode: TypeAlias = Literal["finagle", "grpc", "aws"]
"""How a retry budget is kept; see `policies/budget.py`."""

LimitMode: TypeAlias = Literal["off", "aimd", "gradient2"]
"""Whether and how a limit of concurrency is learnt; see `policies/limit.py`."""

AdaptiveMode: TypeAlias = Literal["observe", "enforce", "off"]
"""Work the adaptive timeout out and only show it; let it act; do without."""

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
        max: For the whole call, whatever the app allows it; only settings have it.
    """

    connect: float | None
    read: float | None
    write: float | None
    pool: float | None
    total: float | None
    max: float | None = None


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
        jitter: What chance makes of a pause.
        max_elapsed: Seconds after the call's begin at which no attempt starts any
            more; None for no limit but the deadline.
        on_statuses: Statuses that are tried again, and no others; None for those of
            the library's room.
        on_errors: Names of error classes that are tried again.
        except_errors: Names of error classes that never are.
        budget_mode: How the budget is kept. The fields above are for `finagle`.
        budget_tokens: For `grpc`: tokens at most; below half nobody retries.
        budget_token_ratio: For `grpc`: part of a token that a success gives back.
        budget_quota: For `aws`: what retries may use up.
        budget_cost: For `aws`: what a retry uses up.
        budget_timeout_cost: For `aws`: what a retry after a timeout uses up.
    """

    max_attempts: int
    base_delay: float
    max_delay: float
    retry_after_max: float
    budget: float
    budget_min: float
    budget_window: float
    jitter: Jitter = "full"
    max_elapsed: float | None = None
    on_statuses: frozenset[int] | None = None
    on_errors: frozenset[str] = frozenset()
    except_errors: frozenset[str] = frozenset()
    budget_mode: BudgetMode = "finagle"
    budget_tokens: int = defaults.BUDGET_TOKENS
    budget_token_ratio: float = defaults.BUDGET_TOKEN_RATIO
    budget_quota: int = defaults.BUDGET_QUOTA
    budget_cost: int = defaults.BUDGET_COST
    budget_timeout_cost: int = defaults.BUDGET_TIMEOUT_COST


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
class BulkheadSettings:
    """How many attempts may be under way at once.

    Attributes:
        limit: How many, or where learning it starts; None for no bulkhead.
        queue: How many may wait for a place.
        wait: Seconds for which one waits.
        adaptive: Whether and how the limit is learnt.
        limit_max: Where learning it ends.
    """

    limit: int | None = None
    queue: int = 0
    wait: float = 0.0
    adaptive: LimitMode = "off"
    limit_max: int = defaults.LIMIT_MAX


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """How the client holds calls back from an overloaded service.

    Attributes:
        enabled: Whether it does.
        multiplier: Calls that are sent for each that is accepted.
        window: Seconds that are looked back.
        min_calls: Calls below which nothing is held back.
        cap: The highest share that is held back.
    """

    enabled: bool = False
    multiplier: float = defaults.THROTTLE_MULTIPLIER
    window: float = defaults.THROTTLE_WINDOW
    min_calls: int = defaults.THROTTLE_MIN_CALLS
    cap: float = defaults.THROTTLE_CAP


@dataclass(frozen=True, slots=True)
class AdaptiveSettings:
    """How the adaptive timeout follows what attempts really take.

    Attributes:
        mode: Whether it is shown, acts, or is not worked out.
        quantile: The share of attempts that must fit in.
        factor: What their longest duration is multiplied by.
        window: Seconds that are looked back.
        min_samples: Attempts below which the configured timeout holds.
        floor: Seconds, the least it becomes.
        floor_share: The least it becomes as a share of the configured timeout.
        every: Seconds between two changes.
        max_decrease: Share by which it falls at most at once.
        valve_share: Share of timeouts above which it stands aside.
        valve_window: Seconds over which this share is looked at.
        valve_row: Timeouts in a row at which it stands aside.
        valve_for: Seconds for which it stands aside.
    """

    mode: AdaptiveMode = "observe"
    quantile: float = defaults.ADAPTIVE_QUANTILE
    factor: float = defaults.ADAPTIVE_FACTOR
    window: float = defaults.ADAPTIVE_WINDOW
    min_samples: int = defaults.ADAPTIVE_MIN_SAMPLES
    floor: float = defaults.ADAPTIVE_FLOOR
    floor_share: float = defaults.ADAPTIVE_FLOOR_SHARE
    every: float = defaults.ADAPTIVE_EVERY
    max_decrease: float = defaults.ADAPTIVE_MAX_DECREASE
    valve_share: float = defaults.ADAPTIVE_VALVE_SHARE
    valve_window: float = defaults.ADAPTIVE_VALVE_WINDOW
    valve_row: int = defaults.ADAPTIVE_VALVE_ROW
    valve_for: float = defaults.ADAPTIVE_VALVE_FOR


@dataclass(frozen=True, slots=True)
class HedgeSettings:
    """When a second attempt is sent beside one that is slow.

    Attributes:
        enabled: Whether any is.
        quantile: The share of attempts that are not slow.
        min_samples: Attempts below which nobody knows what slow is.
        floor: Seconds, the least that the first attempt has for itself.
    """

    enabled: bool = False
    quantile: float = defaults.HEDGE_QUANTILE
    min_samples: int = defaults.HEDGE_MIN_SAMPLES
    floor: float = defaults.HEDGE_FLOOR


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
        bulkhead: How many of its attempts may be under way.
        throttle: Whether calls are held back while it is overloaded.
        adaptive: How its timeout follows what attempts take.
        hedge: Whether a slow attempt gets another beside it.
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
    bulkhead: BulkheadSettings = BulkheadSettings()
    throttle: ThrottleSettings = ThrottleSettings()
    adaptive: AdaptiveSettings = AdaptiveSettings()
    hedge: HedgeSettings = HedgeSettings()
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
