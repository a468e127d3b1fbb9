"""The catalogue: every metric by name, type, help, labels and label values.

Store, exposition, alert rules, dashboard and docs read the names here and nowhere
else. The first seven metrics keep names and labels that rules and dashboards of
many teams have already.

A label with a list of values is closed: each value exists with 0 as soon as its
service is known, so that `rate()` sees the first increment. A label without one is
open: its values come from the calls, bounded in number.
"""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import dataclass
else:
    from resilience_instrument.frozen import dataclass

Kind: TypeAlias = Literal["counter", "gauge", "histogram"]

BUCKETS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.2,
    0.3,
    0.5,
    0.75,
    1.0,
    1.5,
    2.0,
    3.0,
    5.0,
    7.5,
    10.0,
    15.0,
    30.0,
    60.0,
)
"""Upper bounds of both histograms, seconds: fine enough that a p99 of 30 ms and
one of 450 ms can be told apart, and with every bound (0.1, 0.5, 1, 2, 5, 10, 30)
that existing dashboards ask for."""

OPEN: Final[tuple[str, ...]] = ()
"""Marks a label whose values come from the calls."""

CALL_OUTCOMES: Final = (
    "success",
    "error",
    "timeout",
    "rejected",
    "cancelled",
    "fallback",
)
ATTEMPT_OUTCOMES: Final = ("success", "error", "timeout")
TIMEOUT_KINDS: Final = ("connect", "read", "write", "pool", "total")
STATES: Final = ("closed", "open", "half_open")
"""Their place in this list is their value in `circuit_breaker_state`."""

_NO_LABELS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
_SERVICE: Final[Mapping[str, tuple[str, ...]]] = {"service": OPEN}
_ENDPOINT: Final[Mapping[str, tuple[str, ...]]] = {"service": OPEN, "endpoint": OPEN}
_ATTEMPTS: Final = (*map(str, range(2, 10)), "10+")
# Retries beyond the third attempt are rare: they appear when they happen.
_RETRIED_EARLY: Final = ("2", "3")


@final
@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as the catalogue has it.

    Attributes:
        name: The full name, of a counter with `_total`.
        kind: Counter, gauge or histogram.
        help: One line for the exposition and the reference page.
        labels: Each label with its closed values, or `OPEN`.
        impossible: Combinations of closed values that cannot occur.
        on_demand: Combinations that appear only once they have occurred.
    """

    name: str
    kind: Kind
    help: str
    labels: Mapping[str, tuple[str, ...]] = _NO_LABELS
    impossible: frozenset[tuple[str, ...]] = frozenset()
    on_demand: frozenset[tuple[str, ...]] = frozenset()

    @property
    def scope(self) -> tuple[str, ...]:
        """The open labels: what a series belongs to."""
        return tuple(name for name, values in self.labels.items() if values is OPEN)

    @property
    def closed(self) -> tuple[str, ...]:
        """The closed labels, in their order."""
        return tuple(name for name, values in self.labels.items() if values is not OPEN)

    def combinations(self) -> list[tuple[str, ...]]:
        """Return every combination of the closed labels' values that can occur."""
        values = [self.labels[name] for name in self.closed]
        return [c for c in itertools.product(*values) if c not in self.impossible]


API_REQUEST: Final = Metric(
    "api_request_total",
    "counter",
    "Calls of the app, each counted once however many attempts it took.",
    {**_ENDPOINT, "outcome": CALL_OUTCOMES},
)
API_REQUEST_DURATION: Final = Metric(
    "api_request_duration_seconds",
    "histogram",
    "What the caller waited: attempts, pauses and fallback.",
    _ENDPOINT,
)
API_RETRY: Final = Metric(
    "api_retry_total",
    "counter",
    "Attempts after the first, by the number of the attempt, counted as they start.",
    {**_ENDPOINT, "attempt": _ATTEMPTS},
    on_demand=frozenset((n,) for n in _ATTEMPTS if n not in _RETRIED_EARLY),
)
API_RETRY_SUCCESS: Final = Metric(
    "api_retry_success_total",
    "counter",
    "Calls that succeeded after at least one retry.",
    _ENDPOINT,
)
API_TIMEOUT: Final = Metric(
    "api_timeout_total",
    "counter",
    "Attempts that ended by a timeout, retried or not.",
    _ENDPOINT,
)
BREAKER_STATE: Final = Metric(
    "circuit_breaker_state",
    "gauge",
    "State of the circuit: 0 closed, 1 open, 2 half-open.",
    _SERVICE,
)
BREAKER_CHANGES: Final = Metric(
    "circuit_breaker_state_changes_total",
    "counter",
    "Transitions of the circuit.",
    {**_SERVICE, "from_state": STATES, "to_state": STATES},
    impossible=frozenset((state, state) for state in STATES),
)
ATTEMPT_DURATION: Final = Metric(
    "resilience_attempt_duration_seconds",
    "histogram",
    "How long one attempt took.",
    {**_ENDPOINT, "outcome": ATTEMPT_OUTCOMES},
)
ATTEMPT: Final = Metric(
    "resilience_attempt_total",
    "counter",
    "Attempts; a timeout is named by the part of the attempt that it struck.",
    {
        **_ENDPOINT,
        "outcome": ("success", "error", *(f"timeout_{k}" for k in TIMEOUT_KINDS)),
    },
)
RETRY_SKIPPED: Final = Metric(
    "resilience_retry_skipped_total",
    "counter",
    "Transient failures that were not tried again, and why.",
    {
        **_SERVICE,
        "reason": (
            "not_idempotent",
            "body",
            "budget",
            "deadline",
            "retry_after",
            "app_retries",
            "transaction",
            "attempts",
            "open",
            "bulkhead",
            "throttle",
        ),
    },
)
BUDGET_RATIO: Final = Metric(
    "resilience_retry_budget_ratio",
    "gauge",
    "What is left of the retry budget, from 0 to 1.",
    _SERVICE,
)
REJECTED: Final = Metric(
    "resilience_rejected_total",
    "counter",
    "Calls that were not let through, by the policy that refused.",
    {**_SERVICE, "policy": ("breaker", "bulkhead", "throttle", "deadline")},
)
FALLBACK: Final = Metric(
    "resilience_fallback_total",
    "counter",
    "Fallbacks that were tried, and whether they gave an answer.",
    {
        **_ENDPOINT,
        "kind": ("cache", "static", "service", "call"),
        "outcome": ("success", "error"),
    },
    # Services without a fallback, which are most, show none.
    on_demand=frozenset(
        itertools.product(("cache", "static", "service", "call"), ("success", "error"))
    ),
)
UNBOUNDED: Final = Metric(
    "resilience_unbounded_call_total",
    "counter",
    "Calls that the app made without any timeout of its own.",
    {**_SERVICE, "library": OPEN},
)
TIMEOUT: Final = Metric(
    "resilience_timeout_seconds",
    "gauge",
    "Timeouts in force, where the app gives none itself.",
    {**_SERVICE, "kind": TIMEOUT_KINDS},
)
INFLIGHT: Final = Metric(
    "resilience_inflight", "gauge", "Calls under way at this moment.", _SERVICE
)
BREAKER_PROCESSES: Final = Metric(
    "resilience_breaker_processes",
    "gauge",
    "How many processes see the circuit in which state.",
    {**_SERVICE, "state": STATES},
)
_ACTING: Final = ("timeout", "retry", "breaker", "bulkhead", "throttle", "fallback")
# Where nothing is only observed there are none.
_OBSERVED: Final = frozenset((policy,) for policy in _ACTING)

WOULD_ACT: Final = Metric(
    "resilience_would_act_total",
    "counter",
    "Calls to which a policy that only looks on would have done something.",
    {**_SERVICE, "policy": _ACTING},
    on_demand=_OBSERVED,
)
WOULD_SAVE: Final = Metric(
    "resilience_would_save_seconds_total",
    "counter",
    "Whole seconds that callers would not have waited, had such a policy acted.",
    {**_SERVICE, "policy": _ACTING},
    on_demand=_OBSERVED,
)
WOULD_LOSE: Final = Metric(
    "resilience_would_lose_total",
    "counter",
    "Calls that succeeded and would have failed, had such a policy acted.",
    {**_SERVICE, "policy": _ACTING},
    on_demand=_OBSERVED,
)
AGENT_ERROR: Final = Metric(
    "resilience_agent_error_total",
    "counter",
    "Faults of the agent itself, none of which reached the app.",
    {"where": OPEN},
)
CONFIG_RELOAD: Final = Metric(
    "resilience_config_reload_total",
    "counter",
    "Changed configuration files: applied, or refused and the old one kept.",
    {"outcome": ("applied", "refused")},
)
PATCH_INFO: Final = Metric(
    "resilience_agent_patch_info",
    "gauge",
    "1 for each library that was found: patched, skipped, failed or disabled.",
    {"library": OPEN, "version": OPEN, "status": OPEN},
)
LABEL_OVERFLOW: Final = Metric(
    "resilience_label_overflow_total",
    "counter",
    "Calls counted as `other`: more services or endpoints than there are labels for.",
    {"kind": ("service", "endpoint")},
)
AGENT_INFO: Final = Metric(
    "resilience_agent_info",
    "gauge",
    "1, with the version of the agent, its mode and the version of Python.",
    {"version": OPEN, "mode": OPEN, "python": OPEN},
)

METRICS: Final = (
    API_REQUEST,
    API_REQUEST_DURATION,
    API_RETRY,
    API_RETRY_SUCCESS,
    API_TIMEOUT,
    BREAKER_STATE,
    BREAKER_CHANGES,
    ATTEMPT_DURATION,
    ATTEMPT,
    RETRY_SKIPPED,
    BUDGET_RATIO,
    REJECTED,
    FALLBACK,
    UNBOUNDED,
    TIMEOUT,
    INFLIGHT,
    BREAKER_PROCESSES,
    WOULD_ACT,
    WOULD_SAVE,
    WOULD_LOSE,
    AGENT_ERROR,
    CONFIG_RELOAD,
    PATCH_INFO,
    LABEL_OVERFLOW,
    AGENT_INFO,
)
"""All of them, in the order in which they are served and documented."""
