"""Settings from the environment: checked before they are used."""

from __future__ import annotations

import pytest

from resilience_instrument.config import defaults
from resilience_instrument.config.load import from_environment
from resilience_instrument.config.model import BulkheadSettings, ServiceSettings
from resilience_instrument.errors import ConfigError


def test_silence_means_the_defaults() -> None:
    """Without a variable every setting is the default of its name."""
    settings = from_environment({})

    service = settings.defaults
    assert (3.0, 10.0, 10.0, 5.0, 30.0) == (
        service.timeout.connect,
        service.timeout.read,
        service.timeout.write,
        service.timeout.pool,
        service.timeout.total,
    )
    assert (3, 1.0, 30.0, 0.2, 1.0, 10.0) == (
        service.retry.max_attempts,
        service.retry.base_delay,
        service.retry.max_delay,
        service.retry.budget,
        service.retry.budget_min,
        service.retry.budget_window,
    )
    assert (5, 30.0, 60.0, 2.0, 0.2, 1, 2, 10.0) == (
        service.breaker.consecutive,
        service.breaker.open_for,
        service.breaker.open_max,
        service.breaker.open_growth,
        service.breaker.open_jitter,
        service.breaker.probes,
        service.breaker.successes_to_close,
        service.breaker.probe_lease,
    )
    assert frozenset() == settings.disabled
    assert (defaults.METRICS_HOST, range(9469, 9480)) == (
        settings.metrics_host,
        settings.metrics_ports,
    )


def test_variables_are_read_by_section_and_key() -> None:
    """What the environment says holds."""
    environ = {
        "RESILIENCE_TIMEOUT_READ": "2.5",
        "RESILIENCE_RETRY_MAX_ATTEMPTS": " 2 ",
        "RESILIENCE_BREAKER_CONSECUTIVE": "7",
        "RESILIENCE_DISABLE": "httpx, requests,",
        "RESILIENCE_METRICS_HOST": "0.0.0.0",
    }

    settings = from_environment(environ)

    assert 2.5 == settings.defaults.timeout.read
    assert 2 == settings.defaults.retry.max_attempts
    assert 7 == settings.defaults.breaker.consecutive
    assert {"httpx", "requests"} == settings.disabled
    assert "0.0.0.0" == settings.metrics_host


def test_a_longer_open_time_raises_its_default_maximum() -> None:
    """Whoever asks for 100 s need not ask for the maximum too."""
    settings = from_environment({"RESILIENCE_BREAKER_OPEN_FOR": "100"})

    assert 100.0 == settings.defaults.breaker.open_max


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("9469", range(9469, 9470)),
        ("9469-9471", range(9469, 9472)),
        ("0", range(0)),
    ],
)
def test_ports_are_one_or_a_range_or_none(text: str, ports: range) -> None:
    """The metrics are served on the first free port of the range."""
    settings = from_environment({"RESILIENCE_METRICS_PORT": text})

    assert ports == settings.metrics_ports


@pytest.mark.parametrize(
    ("name", "text", "fix"),
    [
        ("TIMEOUT_READ", "soon", "use a number from 0 to 1e+06"),
        ("TIMEOUT_READ", "0", "use a number of seconds above 0"),
        ("TIMEOUT_READ", "-1", "use a number from 0 to 1e+06"),
        ("TIMEOUT_READ", "nan", "use a number from 0 to 1e+06"),
        ("RETRY_BUDGET", "1.5", "use a number from 0 to 1"),
        ("RETRY_MAX_ATTEMPTS", "0", "use a whole number from 1 to 10"),
        ("RETRY_MAX_ATTEMPTS", "2.5", "use a whole number from 1 to 10"),
        ("BREAKER_CONSECUTIVE", "0", "use a whole number from 1 to 1000"),
        ("TIMEOUT_READ", "40", "longer than RESILIENCE_TIMEOUT_TOTAL=30"),
        ("BREAKER_OPEN_MAX", "5", "shorter than RESILIENCE_BREAKER_OPEN_FOR=30"),
        ("BREAKER_FAILURE_RATE", "0", "use a share above 0, or off"),
        ("BREAKER_COUNT_WINDOW", "0", "use a whole number from 1 to 1000"),
        ("BREAKER_WINDOW", "19", "shorter than two attempts of RESILIENCE_TIMEOUT"),
        ("BREAKER_COUNT_FAILURES", "3", "more than RESILIENCE_BREAKER_COUNT_WINDOW"),
        ("BREAKER_SLOW_INFLIGHT", "yes", "use 1 or 0"),
        ("RETRY_JITTER", "much", "use one of full, equal, decorrelated, proportional"),
        ("RETRY_MAX_ELAPSED", "0", "use a number of seconds above 0"),
        ("RETRY_ON_STATUSES", "5xx", "use statuses such as 502,503,504"),
        ("RETRY_ON_STATUSES", "50", "use statuses such as 502,503,504"),
        ("RETRY_BUDGET_MODE", "big", "use one of finagle, grpc, aws"),
        ("BULKHEAD_LIMIT", "0", "use a whole number from 1 to 1000"),
        ("BULKHEAD_ADAPTIVE", "on", "use one of off, aimd, gradient2"),
        ("THROTTLE", "on", "use 1 or 0"),
        ("ADAPTIVE_MODE", "on", "use one of observe, enforce, off"),
        ("HEDGE", "on", "use 1 or 0"),
        ("BREAKER_MODE", "on", "use one of enforce, shadow, forced_open, disabled"),
        ("METRICS_PORT", "http", "use a port such as 9469"),
        ("METRICS_PORT", "70000", "use a port such as 9469"),
        ("METRICS_PORT", "9479-9469", "use a port such as 9469"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused(name: str, text: str, fix: str) -> None:
    """The error says the key, the value and what would do."""
    with pytest.raises(ConfigError) as caught:
        from_environment({f"RESILIENCE_{name}": text})

    message = str(caught.value)
    assert message.startswith(f"RESILIENCE_{name}=")
    assert text in message
    assert fix in message


def test_rules_of_the_breaker_can_be_switched() -> None:
    """`off` switches a rule off; the optional ones are off unless asked for."""
    off = from_environment(
        {
            "RESILIENCE_BREAKER_CONSECUTIVE": "off",
            "RESILIENCE_BREAKER_FAILURE_RATE": "off",
        }
    ).defaults.breaker
    plain = from_environment({}).defaults.breaker
    on = from_environment(
        {
            "RESILIENCE_BREAKER_SLOW_RATE": "0.9",
            "RESILIENCE_BREAKER_SLOW_INFLIGHT": "1",
            "RESILIENCE_BREAKER_COUNT_WINDOW": "5",
            "RESILIENCE_BREAKER_COUNT_FAILURES": "3",
            "RESILIENCE_BREAKER_MODE": "shadow",
        }
    ).defaults.breaker

    assert (None, None) == (off.consecutive, off.failure_rate)
    assert (5, 0.5, 30.0, 20) == (
        plain.consecutive,
        plain.failure_rate,
        plain.window,
        plain.min_calls,
    )
    assert (None, None, None, None, 0, "enforce") == (
        plain.count_window,
        plain.count_failures,
        plain.slow_rate,
        plain.slow_after,
        plain.ramp_steps,
        plain.mode,
    )
    assert (5, 3, 0.9, 8.0, True, "shadow") == (
        on.count_window,
        on.count_failures,
        on.slow_rate,
        on.slow_after,
        on.slow_inflight,
        on.mode,
    )


def test_windows_and_leases_follow_the_timeout() -> None:
    """Whoever allows an attempt 60 s gets a window and a lease that fit."""
    environ = {"RESILIENCE_TIMEOUT_READ": "60", "RESILIENCE_TIMEOUT_TOTAL": "90"}
    breaker = from_environment(environ).defaults.breaker
    short = from_environment({"RESILIENCE_TIMEOUT_READ": "1"}).defaults.breaker

    assert (120.0, 60.0) == (breaker.window, breaker.probe_lease)
    assert (30.0, 5.0) == (short.window, short.probe_lease)


def test_policies_that_are_off_can_be_switched_on() -> None:
    """Each by a variable of its own; silence leaves them as they are."""
    plain = from_environment({}).defaults
    on = from_environment(
        {
            "RESILIENCE_RETRY_JITTER": "equal",
            "RESILIENCE_RETRY_MAX_ELAPSED": "12.5",
            "RESILIENCE_RETRY_ON_STATUSES": "500, 503",
            "RESILIENCE_RETRY_ON_ERRORS": "OSError",
            "RESILIENCE_RETRY_EXCEPT_ERRORS": "SSLError,",
            "RESILIENCE_RETRY_BUDGET_MODE": "grpc",
            "RESILIENCE_BULKHEAD_LIMIT": "20",
            "RESILIENCE_BULKHEAD_QUEUE": "5",
            "RESILIENCE_BULKHEAD_WAIT": "0.5",
            "RESILIENCE_BULKHEAD_ADAPTIVE": "aimd",
            "RESILIENCE_THROTTLE": "1",
            "RESILIENCE_ADAPTIVE_MODE": "enforce",
            "RESILIENCE_HEDGE": "1",
        }
    ).defaults

    assert ServiceSettings(plain.timeout, plain.retry, plain.breaker) == plain
    assert ("equal", 12.5, frozenset({500, 503}), "grpc") == (
        on.retry.jitter,
        on.retry.max_elapsed,
        on.retry.on_statuses,
        on.retry.budget_mode,
    )
    assert frozenset({"OSError"}) == on.retry.on_errors
    assert frozenset({"SSLError"}) == on.retry.except_errors
    assert BulkheadSettings(20, 5, 0.5, "aimd") == on.bulkhead
    assert (True, "enforce", True) == (
        on.throttle.enabled,
        on.adaptive.mode,
        on.hedge.enabled,
    )
