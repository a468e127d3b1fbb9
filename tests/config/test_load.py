"""Settings from the environment: checked before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resilience_instrument.config import defaults
from resilience_instrument.config.load import examine, file_of, from_environment
from resilience_instrument.config.model import BulkheadSettings, ServiceSettings
from resilience_instrument.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


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
    assert (0.5, 30.0, 20) == (
        service.breaker.failure_rate,
        service.breaker.window,
        service.breaker.min_calls,
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
    """What the environment says holds; an empty variable says nothing."""
    environ = {
        "RESILIENCE_TIMEOUT_READ": "2.5",
        "RESILIENCE_TIMEOUT_WRITE": "500ms",
        "RESILIENCE_TIMEOUT_TOTAL": "off",
        "RESILIENCE_TIMEOUT_POOL": "",
        "RESILIENCE_RETRY_MAX_ATTEMPTS": " 2 ",
        "RESILIENCE_BREAKER_CONSECUTIVE": "7",
        "RESILIENCE_DISABLE": "httpx, requests:retry,",
        "RESILIENCE_METRICS_HOST": "0.0.0.0",
        "RESILIENCE_MODE": "Observe",
        "RESILIENCE_BANNER": "1",
        "RESILIENCE_RELOAD": "off",
        "RESILIENCE_TRACING": "0",
    }

    settings = from_environment(environ)

    timeout = settings.defaults.timeout
    assert (2.5, 0.5, 5.0, None) == (
        timeout.read,
        timeout.write,
        timeout.pool,
        timeout.total,
    )
    assert 2 == settings.defaults.retry.max_attempts
    assert 7 == settings.defaults.breaker.consecutive
    assert {"httpx"} == settings.disabled
    assert {("requests", "retry")} == settings.left_out
    assert "0.0.0.0" == settings.metrics_host
    assert "observe" == settings.defaults.mode
    assert (True, False, False) == (
        settings.banner,
        settings.reload,
        settings.tracing,
    )


@pytest.mark.parametrize(
    ("variables", "key", "expected"),
    [
        ({"BREAKER_OPEN_FOR": "100"}, "breaker.open_max", 100.0),
        ({"BREAKER_OPEN_MAX": "5"}, "breaker.open_for", 5.0),
        ({"TIMEOUT_READ": "40"}, "timeout.total", 40.0),
        ({"TIMEOUT_READ": "40"}, "breaker.probe_lease", 40.0),
        ({"TIMEOUT_TOTAL": "2"}, "timeout.read", 2.0),
        ({"RETRY_MAX_DELAY": "0.1"}, "retry.base_delay", 0.1),
        ({"RETRY_BASE_DELAY": "40"}, "retry.max_delay", 40.0),
        ({"TIME_LIMIT": "29"}, "timeout.total", 29.0),
        ({"BREAKER_PROBE_LEASE": "1"}, "timeout.read", 10.0),
        ({"TIMEOUT_READ": "off"}, "timeout.total", 30.0),
        ({"TIMEOUT_READ": "1"}, "breaker.probe_lease", 5.0),
        ({"TIMEOUT_READ": "60"}, "breaker.window", 120.0),
        ({"BREAKER_WINDOW": "10"}, "breaker.window", 10.0),
        ({"BREAKER_WINDOW": "10"}, "timeout.read", 10.0),
        ({"BREAKER_SLOW_RATE": "0.9"}, "breaker.slow_after", 8.0),
        (
            {"BREAKER_SLOW_RATE": "0.9", "TIMEOUT_READ": "off"},
            "breaker.slow_after",
            8.0,
        ),
        (
            {"BREAKER_SLOW_RATE": "0.9", "BREAKER_SLOW_AFTER": "2"},
            "breaker.slow_after",
            2.0,
        ),
    ],
)
def test_what_nobody_wrote_gives_way(
    variables: dict[str, str], key: str, expected: float
) -> None:
    """Whoever asks for 100 s need not ask for the maximum too."""
    environ = {f"RESILIENCE_{name}": text for name, text in variables.items()}

    settings = from_environment(environ).defaults

    section, _, name = key.partition(".")
    assert expected == getattr(getattr(settings, section), name)


def test_rules_of_the_breaker_can_be_switched() -> None:
    """Each by its own variable; `off` is no rule."""
    breaker = from_environment(
        {
            "RESILIENCE_BREAKER_CONSECUTIVE": "off",
            "RESILIENCE_BREAKER_FAILURE_RATE": "off",
            "RESILIENCE_BREAKER_COUNT_WINDOW": "5",
            "RESILIENCE_BREAKER_COUNT_FAILURES": "3",
            "RESILIENCE_BREAKER_SLOW_INFLIGHT": "1",
            "RESILIENCE_BREAKER_MODE": "shadow",
        }
    ).defaults.breaker

    assert (None, None, 5, 3, True, "shadow") == (
        breaker.consecutive,
        breaker.failure_rate,
        breaker.count_window,
        breaker.count_failures,
        breaker.slow_inflight,
        breaker.mode,
    )


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
        ("TIMEOUT_READ", "soon", "use a number of seconds above 0"),
        ("TIMEOUT_READ", "0", "use a number of seconds above 0"),
        ("TIMEOUT_READ", "-1", "use a number of seconds above 0"),
        ("TIMEOUT_READ", "nan", "use a number of seconds above 0"),
        ("TIMEOUT_READ", "1_0", "use a number of seconds above 0"),
        ("TIMEOUT_READ", "5 minutes", 'or a text such as "500ms" or "5m", or "off"'),
        ("TIMEOUT_READ", "1e9", "use a number of seconds above 0"),
        ("RETRY_BUDGET", "1.5", "use a number from 0 to 1"),
        ("RETRY_MAX_ATTEMPTS", "0", "use a whole number from 1 to 10"),
        ("RETRY_MAX_ATTEMPTS", "2.5", "use a whole number from 1 to 10"),
        ("BREAKER_CONSECUTIVE", "0", "use a whole number from 1 to 1000"),
        ("BREAKER_FAILURE_RATE", "0", 'use a number from 0.001 to 1, or "off"'),
        ("BREAKER_COUNT_WINDOW", "0", "use a whole number from 1 to 1000"),
        ("BREAKER_SLOW_INFLIGHT", "perhaps", "use true or false"),
        ("BREAKER_MODE", "on", 'use "enforce", "shadow", "forced_open" or "disabled"'),
        ("RETRY_JITTER", "much", 'use "full", "equal", "decorrelated"'),
        ("RETRY_MAX_ELAPSED", "0", "use a number of seconds above 0"),
        ("RETRY_ON_STATUSES", "5xx", "use a list of statuses such as [502, 503]"),
        ("RETRY_ON_STATUSES", "50", "use a list of statuses such as [502, 503]"),
        ("RETRY_BUDGET_MODE", "big", 'use "finagle", "grpc" or "aws"'),
        ("BULKHEAD_LIMIT", "0", "use a whole number from 1 to 100000"),
        ("BULKHEAD_ADAPTIVE", "on", 'use "off", "aimd" or "gradient2"'),
        ("THROTTLE", "perhaps", "use true or false"),
        ("ADAPTIVE_MODE", "on", 'use "observe", "enforce" or "off"'),
        ("HEDGE", "perhaps", "use true or false"),
        ("METRICS_PORT", "http", "use a port such as 9469"),
        ("METRICS_PORT", "70000", "use a port such as 9469"),
        ("METRICS_PORT", "9479-9469", "use a port such as 9469"),
        ("MODE", "watch", 'use "enforce" or "observe"'),
        ("BANNER", "perhaps", "use true or false"),
        ("PROFILE", "interal", "use one of auto, none, health-check"),
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


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"TIMEOUT_READ": "40", "TIMEOUT_TOTAL": "30"},
            (
                "RESILIENCE_TIMEOUT_READ=40: is more than timeout.total = 30"
                " (RESILIENCE_TIMEOUT_TOTAL): one attempt must fit into the call"
            ),
        ),
        (
            {"BREAKER_OPEN_MAX": "5", "BREAKER_OPEN_FOR": "30"},
            (
                "RESILIENCE_BREAKER_OPEN_FOR=30: is more than breaker.open_max = 5"
                " (RESILIENCE_BREAKER_OPEN_MAX): no time is longer than the longest"
            ),
        ),
        (
            {"BREAKER_WINDOW": "19", "TIMEOUT_READ": "10"},
            (
                "RESILIENCE_TIMEOUT_READ=10: 2 times it is more than breaker.window"
                " = 19 (RESILIENCE_BREAKER_WINDOW): a window must hold two attempts"
            ),
        ),
        (
            {"BREAKER_COUNT_FAILURES": "3"},
            (
                "RESILIENCE_BREAKER_COUNT_FAILURES=3: is more than"
                ' breaker.count_window = "off" (default)'
            ),
        ),
        (
            {"BREAKER_COUNT_FAILURES": "3", "BREAKER_COUNT_WINDOW": "2"},
            (
                "RESILIENCE_BREAKER_COUNT_FAILURES=3: is more than"
                " breaker.count_window = 2 (RESILIENCE_BREAKER_COUNT_WINDOW)"
            ),
        ),
        (
            {"TIMEOUT_TOTAL": "30", "TIME_LIMIT": "29"},
            (
                "RESILIENCE_TIMEOUT_TOTAL=30: is longer than agent.time_limit = 29:"
                " the platform ends the work first"
            ),
        ),
        (
            {"TIMEOUT_TOTAL": "off", "TIME_LIMIT": "29"},
            (
                'RESILIENCE_TIMEOUT_TOTAL="off": is longer than agent.time_limit = 29:'
                " the platform ends the work first"
            ),
        ),
        (
            {"DISABLE": "requests:retries"},
            (
                'RESILIENCE_DISABLE: agent.disable: "requests:retries": use library or'
                " library:policy, with timeout, retry, breaker, fallback"
            ),
        ),
    ],
)
def test_two_written_values_that_contradict_each_other_are_refused(
    variables: dict[str, str], message: str
) -> None:
    """Nobody can know which of the two was meant."""
    environ = {f"RESILIENCE_{name}": text for name, text in variables.items()}

    _, findings = examine(environ, None)

    assert [message] == [str(finding) for finding in findings]


def test_several_findings_are_counted() -> None:
    """One line holds the first; the command lists them all."""
    environ = {"RESILIENCE_TIMEOUT_READ": "x", "RESILIENCE_RETRY_BUDGET": "x"}

    with pytest.raises(ConfigError, match=r"\(and 1 more; `resilience check` lists"):
        from_environment(environ)


def test_auto_means_the_file_in_the_start_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only when it is asked for, and only if it is there."""
    monkeypatch.chdir(tmp_path)
    there = {"RESILIENCE_CONFIG": "auto"}

    assert file_of({}) is None
    assert file_of(there) is None
    (tmp_path / "resilience.toml").write_text("[defaults]\n", encoding="utf-8")

    assert file_of({}) is None
    assert str(tmp_path / "resilience.toml") == file_of(there)
