"""Write the dashboard: `python dashboards/build.py [--check]`.

With `--check` nothing is written; the exit code is 1 if the file is out of date.

The dashboard is plain dicts in the model of Grafana 10.0 (schema version 38), which 11
and 12 migrate when they load it. Its data source is a variable and its UID is fixed, so
that one file serves the import dialogue, provisioning, the API and a sidecar.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE = Path(__file__).resolve().parent
FILE = HERE / "resilience-api-health.json"
UID = "resilience-api-health"
RUNBOOKS = "https://example.com/resilience/runbooks"

Json = dict[str, Any]

DATASOURCE: Final[Json] = {"type": "prometheus", "uid": "${datasource}"}
TARGETS = 'job=~"$job", instance=~"$instance"'
SERVICES = f'{TARGETS}, service=~"$service"'
STEP = "[$__rate_interval]"
HOUR = "[1h]"
WIDTH = 24

# The same thresholds as the alerts have, which a test compares.
RETRY_STEPS = ((None, "green"), (0.1, "yellow"), (0.5, "red"))
TIMEOUT_STEPS = ((None, "green"), (0.05, "yellow"), (0.2, "red"))
STATE_MAPPINGS = [
    {
        "type": "value",
        "options": {
            "0": {"text": "OK", "color": "green", "index": 0},
            "1": {"text": "OPEN", "color": "red", "index": 1},
            "2": {"text": "HALF", "color": "yellow", "index": 2},
        },
    }
]


# --- Queries ---------------------------------------------------------------------


def of_service(metric: str, *matchers: str) -> str:
    """Return a selector of what the variables choose, services included."""
    return f"{metric}{{{', '.join((SERVICES, *matchers))}}}"


def of_target(metric: str, *matchers: str) -> str:
    """Return a selector of what the variables choose, for the agent's own metrics."""
    return f"{metric}{{{', '.join((TARGETS, *matchers))}}}"


def rate(selector: str, by: str, window: str = STEP) -> str:
    """Return the rate of a counter, summed."""
    return f"sum by ({by}) (rate({selector}{window}))"


def share(part: str, whole: str, by: str, window: str = STEP) -> str:
    """Return a ratio of rates: 0 where nothing of the part, nothing where no whole."""
    total = rate(whole, by, window)
    return f"(\n  {rate(part, by, window)}\n  or 0 * {total}\n)\n/ ({total} > 0)"


def quantile(q: float, metric: str, *matchers: str, window: str = STEP) -> str:
    """Return a quantile by job and service, of classic or of native histograms."""
    classic = rate(
        of_service(f"{metric}_bucket", *matchers), "job, service, le", window
    )
    native = rate(of_service(metric, *matchers), "job, service", window)
    return (
        f"(\n  histogram_quantile({q}, {classic})\n"
        f"  or histogram_quantile({q}, {native})\n) >= 0"
    )


def worst(by: str) -> str:
    """Return the state: an open replica wins over a half-open one, that over closed."""
    state = of_service("circuit_breaker_state")
    return "\nor ".join(
        f"max by ({by}) ({state}{condition})" for condition in (" == 1", " == 2", "")
    )


CALLS = of_service("api_request_total")
FAILED = of_service("api_request_total", 'outcome=~"error|timeout|rejected"')
RETRIES = of_service("api_retry_total")
FIRST_RETRIES = of_service("api_retry_total", 'attempt="2"')
RETRIED_WELL = of_service("api_retry_success_total")
TIMEOUTS = of_service("api_timeout_total")


# --- Parts of panels -------------------------------------------------------------


def query(expr: str, legend: str, ref: str = "A", **fields: Any) -> Json:
    """Return a query over the range of the dashboard."""
    return {
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": expr,
        "format": "time_series",
        "instant": False,
        "legendFormat": legend,
        "range": True,
        "refId": ref,
    } | fields


def latest(expr: str, legend: str, ref: str = "A", **fields: Any) -> Json:
    """Return a query of the value at the end of the range."""
    return query(expr, legend, ref, instant=True, range=False, **fields)


def steps(pairs: Iterable[tuple[float | None, str]]) -> Json:
    """Return absolute thresholds."""
    return {
        "mode": "absolute",
        "steps": [{"color": color, "value": value} for value, color in pairs],
    }


_COUNTED = frozenset(("reqps", "ops", "short"))
GREEN = steps([(None, "green")])
THRESHOLD_COLOR = {"mode": "thresholds"}
LAST = {"calcs": ["lastNotNull"], "fields": "", "values": False}
TABLE_LEGEND = {
    "calcs": ["lastNotNull", "max"],
    "displayMode": "table",
    "placement": "bottom",
    "showLegend": True,
}
LIST_LEGEND: Json = {
    "calcs": [],
    "displayMode": "list",
    "placement": "bottom",
    "showLegend": True,
}
BARS_OPTIONS = {
    "displayMode": "lcd",
    # Many services scroll, the worst stay on top.
    "minVizHeight": 40,
    "minVizWidth": 8,
    # Beside the bar a name gets a fifth of the width, and services have long ones.
    "namePlacement": "top",
    "orientation": "horizontal",
    "reduceOptions": LAST,
    "showUnfilled": True,
    "valueMode": "color",
}
DRILL_DOWN = {
    "title": "Show only ${__field.labels.service}",
    "url": (
        f"/d/{UID}?${{datasource:queryparam}}&${{instance:queryparam}}"
        "&var-job=${__field.labels.job}&var-service=${__field.labels.service}"
        "&${__url_time_range}"
    ),
}


def panel(
    kind: str,
    title: str,
    description: str,
    targets: list[Json],
    *,
    size: tuple[int, int],
    defaults: Json,
    options: Json,
    overrides: Sequence[Json] = (),
) -> Json:
    """Return a panel that has a size but no place yet."""
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "gridPos": {"w": size[0], "h": size[1], "x": 0, "y": 0},
        "targets": targets,
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options,
    }


def lines(
    title: str,
    description: str,
    targets: list[Json],
    unit: str,
    *,
    width: int = 8,
    overrides: Sequence[Json] = (),
    **defaults: Any,
) -> Json:
    """Return a panel of lines over time."""
    custom = {
        "drawStyle": "line",
        "fillOpacity": 10,
        "lineWidth": 1,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "none"},
        "thresholdsStyle": {"mode": "off"},
    } | defaults.pop("custom", {})
    # Where all is 0 an axis without a scale would go up to 10000 %.
    if unit in _COUNTED:
        custom = {"axisSoftMax": 1} | custom
    fields = {
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "min": 0,
        "thresholds": GREEN,
        "unit": unit,
    } | defaults
    options = {
        "legend": TABLE_LEGEND,
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel(
        "timeseries",
        title,
        description,
        targets,
        size=(width, 8),
        defaults=fields,
        options=options,
        overrides=overrides,
    )


STACKED = {"stacking": {"group": "A", "mode": "normal"}, "fillOpacity": 40}
DASHED = {
    "matcher": {"id": "byFrameRefID", "options": "B"},
    "properties": [
        {"id": "custom.lineStyle", "value": {"dash": [8, 6], "fill": "dash"}},
        {"id": "custom.fillOpacity", "value": 0},
    ],
}


def threshold(at: float) -> Json:
    """Return the fields that draw a dashed line at the threshold of an alert."""
    return {
        "custom": {"axisSoftMax": 2 * at, "thresholdsStyle": {"mode": "dashed"}},
        "thresholds": steps([(None, "green"), (at, "red")]),
    }


def color_by_query(ref: str, color: str) -> Json:
    """Return an override that gives the series of one query a color."""
    return {
        "matcher": {"id": "byFrameRefID", "options": ref},
        "properties": [
            {"id": "color", "value": {"fixedColor": color, "mode": "fixed"}}
        ],
    }


def colors(**by_name: str) -> list[Json]:
    """Return overrides that give series a color by a pattern of their name."""
    return [
        {
            "matcher": {"id": "byRegexp", "options": f"/^{name}/"},
            "properties": [
                {"id": "color", "value": {"fixedColor": color, "mode": "fixed"}}
            ],
        }
        for name, color in by_name.items()
    ]


OUTCOMES = colors(
    success="green",
    error="red",
    timeout="orange",
    rejected="purple",
    cancelled="gray",
    fallback="blue",
)


def row(title: str) -> Json:
    """Return the head of a group of panels."""
    return {
        "type": "row",
        "title": title,
        "collapsed": False,
        "gridPos": {"w": WIDTH, "h": 1, "x": 0, "y": 0},
        "panels": [],
    }


# --- Panels ----------------------------------------------------------------------


def overview() -> list[Json]:
    """Return the first look: states, retries, timeouts, latency of the past hour."""
    return [
        panel(
            "stat",
            "Circuit breakers",
            "One tile a service: the worst state over all instances. OPEN means that "
            "calls fail at once, HALF that a probe decides, OK that calls go through.",
            [latest(worst("job, service"), "{{service}}")],
            size=(24, 4),
            defaults={
                "color": THRESHOLD_COLOR,
                "links": [DRILL_DOWN],
                "mappings": STATE_MAPPINGS,
                "noValue": "no calls yet",
                "thresholds": steps([(None, "green"), (1, "red"), (2, "yellow")]),
                "unit": "none",
            },
            options={
                "colorMode": "background_solid",
                "graphMode": "none",
                "justifyMode": "center",
                "orientation": "auto",
                "reduceOptions": LAST,
                "textMode": "value_and_name",
            },
        ),
        rate_bars(
            "Retry rate (past hour)",
            "Retries per call. Above 10 % `HighRetryRate` fires, above 50 % "
            "`RetryStorm`. The bar ends at 20 %.",
            share(RETRIES, CALLS, "job, service", HOUR),
            RETRY_STEPS,
        ),
        rate_bars(
            "Timeout rate (past hour)",
            "Timeouts per call. Above 5 % `HighTimeoutRate` fires. The bar ends at "
            "20 %.",
            share(TIMEOUTS, CALLS, "job, service", HOUR),
            TIMEOUT_STEPS,
        ),
        latency_bars(),
    ]


def rate_bars(
    title: str, description: str, expr: str, at: Iterable[tuple[float | None, str]]
) -> Json:
    """Return a bar a service for a share of its calls."""
    return panel(
        "bargauge",
        title,
        description,
        [latest(f"sort_desc(\n{expr}\n)", "{{service}}")],
        size=(8, 9),
        defaults={
            "color": THRESHOLD_COLOR,
            "decimals": 1,
            "links": [DRILL_DOWN],
            "max": 0.2,
            "min": 0,
            "noValue": "no calls in the past hour",
            "thresholds": steps(at),
            "unit": "percentunit",
        },
        options=BARS_OPTIONS,
    )


def latency_bars() -> Json:
    """Return a bar a service for the p99, colored by the timeout in force."""
    legend = "{{service}}"
    p99 = quantile(0.99, "api_request_duration_seconds", window=HOUR)
    read = of_service("resilience_timeout_seconds", 'kind="read"')
    least = f"min by (job, service) ({read})"
    near = f"({p99})\n> on (job, service) 2 / 3 * {least}"
    return panel(
        "bargauge",
        "Latency p99 (past hour)",
        "How long the slowest hundredth of calls takes, retries and pauses included. "
        "Yellow: within 1.5 x of the read timeout in force. Red: at or beyond it, so "
        "that one call in a hundred times out or is retried.",
        [
            latest(f"({p99})\n>= on (job, service) {least}", legend),
            latest(f"({near})\n< on (job, service) {least}", legend, "B"),
            latest(
                f"sort_desc(\n({p99})\nunless on (job, service) ({near})\n)",
                legend,
                "C",
            ),
        ],
        size=(8, 9),
        defaults={
            "color": THRESHOLD_COLOR,
            "decimals": 2,
            "links": [DRILL_DOWN],
            "min": 0,
            "noValue": "no calls in the past hour",
            "thresholds": GREEN,
            "unit": "s",
        },
        options=BARS_OPTIONS,
        overrides=[
            color_by_query("A", "red"),
            color_by_query("B", "yellow"),
            color_by_query("C", "green"),
        ],
    )


def traffic() -> list[Json]:
    """Return rate, errors and duration of calls."""
    duration = "api_request_duration_seconds"
    buckets = of_service(f"{duration}_bucket")
    return [
        row("Calls: rate, errors, duration"),
        lines(
            "Calls by outcome",
            "What the app asked for and how it ended, each call once.",
            [query(rate(CALLS, "outcome"), "{{outcome}}")],
            "reqps",
            overrides=OUTCOMES,
            custom=STACKED,
        ),
        lines(
            "Failed calls",
            "Share of calls that ended in an error, a timeout or a rejection. The line "
            "is where an objective of 99.9 % burns 14.4 x too fast.",
            [query(share(FAILED, CALLS, "job, service"), "{{service}}")],
            "percentunit",
            **threshold(0.0144),
        ),
        lines(
            "Duration p50 and p99",
            "What the caller waited: attempts, pauses and fallback. The dots are "
            "single calls that lead to their trace.",
            [
                query(quantile(0.99, duration), "{{service}} p99", exemplar=True),
                query(quantile(0.5, duration), "{{service}} p50", "B"),
            ],
            "s",
            overrides=[DASHED],
        ),
        panel(
            "heatmap",
            "Duration of all calls",
            "How many calls took how long. The dots are single calls that lead to "
            "their trace.",
            [
                query(
                    f"sum by (le) (increase({buckets}{STEP}))",
                    "{{le}}",
                    exemplar=True,
                    format="heatmap",
                )
            ],
            size=(16, 8),
            defaults={"unit": "s"},
            options=heatmap_options(),
        ),
        lines(
            "Calls under way",
            "Calls that have begun and not ended.",
            [
                query(
                    f"sum by (job, service) ({of_service('resilience_inflight')})",
                    "{{service}}",
                )
            ],
            "short",
        ),
    ]


def heatmap_options() -> Json:
    """Return how the heatmap is drawn."""
    return {
        "calculate": False,
        "cellGap": 1,
        "cellValues": {"unit": "short"},
        "color": {
            "exponent": 0.5,
            "fill": "dark-orange",
            "mode": "scheme",
            "reverse": False,
            "scale": "exponential",
            "scheme": "Oranges",
            "steps": 64,
        },
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        # Grafana 10.0 asks for `show`, later ones for `mode`.
        "tooltip": {"mode": "single", "show": True, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
    }


def attempts() -> list[Json]:
    """Return attempts and retries."""
    skipped = of_service("resilience_retry_skipped_total")
    return [
        row("Attempts and retries"),
        lines(
            "Attempts by outcome",
            "Every try of a call; timeouts by the part of it that they struck.",
            [
                query(
                    rate(of_service("resilience_attempt_total"), "outcome"),
                    "{{outcome}}",
                )
            ],
            "ops",
            overrides=OUTCOMES,
            custom=STACKED,
        ),
        lines(
            "Retries by attempt",
            "Attempt 2 is the first retry of a call.",
            [query(rate(RETRIES, "attempt"), "attempt {{attempt}}")],
            "ops",
            custom=STACKED,
        ),
        lines(
            "Retry rate",
            "Retries per call; the line is where `HighRetryRate` fires.",
            [query(share(RETRIES, CALLS, "job, service"), "{{service}}")],
            "percentunit",
            **threshold(0.1),
        ),
        lines(
            "Retries that helped",
            "Share of retried calls that succeeded in the end. Below 20 % retries cost "
            "more than they save: `RetriesNotHelping`.",
            [query(share(RETRIED_WELL, FIRST_RETRIES, "job, service"), "{{service}}")],
            "percentunit",
            max=1,
        ),
        lines(
            "Failures that were not retried",
            "Transient failures and why they were not tried again: not idempotent, no "
            "budget left, deadline too near and so on.",
            [query(rate(skipped, "reason"), "{{reason}}")],
            "ops",
            custom=STACKED,
        ),
        lines(
            "Retry budget left",
            "At 0 failed calls are not retried any more: retries already add all that "
            "they may.",
            [
                query(
                    "min by (job, service) "
                    f"({of_service('resilience_retry_budget_ratio')})",
                    "{{service}}",
                )
            ],
            "percentunit",
            max=1,
        ),
    ]


def breakers() -> list[Json]:
    """Return the circuits over time."""
    changes = of_service("circuit_breaker_state_changes_total")
    processes = of_service("resilience_breaker_processes")
    rejected = of_service("resilience_rejected_total")
    return [
        row("Circuit breakers"),
        panel(
            "state-timeline",
            "State over time",
            "The state of each circuit in each instance.",
            [query(worst("job, service, instance"), "{{service}} {{instance}}")],
            size=(16, 8),
            defaults={
                "color": THRESHOLD_COLOR,
                "custom": {"fillOpacity": 80, "lineWidth": 0},
                "mappings": STATE_MAPPINGS,
                "thresholds": steps([(None, "green"), (1, "red"), (2, "yellow")]),
                "unit": "none",
            },
            options={
                "alignValue": "center",
                "legend": LIST_LEGEND,
                "mergeValues": True,
                "rowHeight": 0.8,
                "showValue": "auto",
                "tooltip": {"mode": "single", "sort": "none"},
            },
        ),
        lines(
            "Transitions",
            "Changes of state. From closed to open three times in half an hour is "
            "`CircuitBreakerFlapping`.",
            [
                query(
                    "sum by (service, from_state, to_state) "
                    f"(increase({changes}{STEP})) > 0",
                    "{{service}} {{from_state}} to {{to_state}}",
                )
            ],
            "short",
            custom={"drawStyle": "bars", "fillOpacity": 80},
        ),
        lines(
            "Rejected calls",
            "Calls that were not let through, by the policy that refused.",
            [
                query(
                    f"{rate(rejected, 'service, policy')} > 0",
                    "{{service}} {{policy}}",
                )
            ],
            "reqps",
            width=12,
            custom=STACKED,
        ),
        lines(
            "Processes by state",
            "How many processes see a circuit in which state.",
            [
                query(
                    f"sum by (service, state) ({processes}) > 0",
                    "{{service}} {{state}}",
                )
            ],
            "short",
            width=12,
        ),
    ]


def timeouts() -> list[Json]:
    """Return timeouts in force and timeouts that struck."""
    p99 = quantile(0.99, "resilience_attempt_duration_seconds", 'outcome="success"')
    in_force = of_service("resilience_timeout_seconds", 'kind="read"')
    struck = of_service("resilience_attempt_total", 'outcome=~"timeout_.*"')
    unbounded = of_service("resilience_unbounded_call_total")
    return [
        row("Timeouts"),
        lines(
            "Read timeout against 1.5 x p99",
            "The dashed line should lie a little above the other: 1.5 x the p99 of "
            "good attempts. Far below it cuts good answers off, far above it waits for "
            "dead ones.",
            [
                query(f"1.5 * ({p99})", "{{service}} 1.5 x p99"),
                query(
                    f"min by (job, service) ({in_force})", "{{service}} timeout", "B"
                ),
            ],
            "s",
            overrides=[DASHED],
        ),
        lines(
            "Timeouts by phase",
            "Attempts that ended by a timeout, by the part that it struck.",
            [query(rate(struck, "outcome"), "{{outcome}}")],
            "ops",
            custom=STACKED,
        ),
        lines(
            "Timeout rate",
            "Timeouts per call; the line is where `HighTimeoutRate` fires.",
            [query(share(TIMEOUTS, CALLS, "job, service"), "{{service}}")],
            "percentunit",
            **threshold(0.05),
        ),
        panel(
            "table",
            "Timeouts in force",
            "For calls that come without a timeout of the app's own.",
            [
                latest(
                    "min by (job, service, kind) "
                    f"({of_service('resilience_timeout_seconds')})",
                    "{{kind}}",
                    format="table",
                )
            ],
            size=(12, 8),
            defaults={"unit": "s", "custom": {"align": "auto", "inspect": False}},
            options={"cellHeight": "sm", "showHeader": True},
        )
        | {"transformations": [pivot("service", "kind")]},
        lines(
            "Calls without a timeout of the app",
            "The agent bounds them, but the code should: `CallsWithoutTimeout`.",
            [query(rate(unbounded, "service, library"), "{{service}} {{library}}")],
            "reqps",
            width=12,
        ),
    ]


def pivot(rows: str, columns: str) -> Json:
    """Return the transformation that makes a matrix of two labels."""
    return {
        "id": "groupingToMatrix",
        "options": {
            "columnField": columns,
            "emptyValue": "null",
            "rowField": rows,
            "valueField": "Value",
        },
    }


def fallbacks() -> list[Json]:
    """Return fallbacks and what observe mode would have done."""
    tried = of_service("resilience_fallback_total")
    answered = of_service("api_request_total", 'outcome="fallback"')
    would = of_service("resilience_would_act_total")
    saved = of_service("resilience_would_save_seconds_total")
    lost = of_service("resilience_would_lose_total")
    return [
        row("Fallbacks and observe mode"),
        lines(
            "Answers from a fallback",
            "Share of calls that were answered by a fallback; the line is where "
            "`HighFallbackRate` fires.",
            [query(share(answered, CALLS, "job, service"), "{{service}}")],
            "percentunit",
            **threshold(0.05),
        ),
        lines(
            "Fallbacks tried",
            "By kind, and whether they gave an answer.",
            [
                query(
                    rate(tried, "service, kind, outcome"),
                    "{{service}} {{kind}} {{outcome}}",
                )
            ],
            "ops",
        ),
        lines(
            "What observe mode would have done",
            "Calls to which a policy would have done something. Empty where the agent "
            "enforces.",
            [query(rate(would, "service, policy"), "{{service}} {{policy}}")],
            "ops",
        ),
        lines(
            "Waiting that observe mode would have saved",
            "Seconds by which callers would have waited less. Empty where the agent "
            "enforces.",
            [
                query(
                    f"sum by (service, policy) (increase({saved}{STEP}))",
                    "{{service}} {{policy}}",
                )
            ],
            "s",
            width=12,
        ),
        lines(
            "Calls that observe mode would have lost",
            "Calls that succeeded and would have failed: a policy that loses calls is "
            "too strict. Empty where the agent enforces.",
            [query(rate(lost, "service, policy"), "{{service}} {{policy}}")],
            "ops",
            width=12,
        ),
    ]


def agent() -> list[Json]:
    """Return how the agent itself is."""
    errors = of_target("resilience_agent_error_total")
    overflow = of_target("resilience_label_overflow_total")
    reloads = of_target("resilience_config_reload_total")
    return [
        row("The agent"),
        table(
            "Agents",
            "Version, mode and Python of every instance.",
            f"max by (job, instance, version, mode, python) "
            f"({of_target('resilience_agent_info')})",
        ),
        table(
            "Libraries",
            "What was found in the processes and how it stands: patched, skipped, "
            "failed or disabled.",
            "count by (job, library, version, status) "
            f"({of_target('resilience_agent_patch_info')})",
        ),
        lines(
            "Faults of the agent",
            "None of them reached the app: the calls went through ungoverned.",
            [query(rate(errors, "job, where"), "{{job}} {{where}}")],
            "ops",
        ),
        lines(
            "Calls beyond the label limit",
            "Calls that are counted under `other`.",
            [query(rate(overflow, "job, kind"), "{{job}} {{kind}}")],
            "reqps",
            width=12,
        ),
        lines(
            "Changed configuration files",
            "Applied, or refused: then the old one holds and the reason is on stderr "
            "of the app.",
            [
                query(
                    f"sum by (job, outcome) (increase({reloads}{STEP}))",
                    "{{job}} {{outcome}}",
                )
            ],
            "short",
            width=12,
        ),
    ]


def table(title: str, description: str, expr: str) -> Json:
    """Return a table of labels."""
    return panel(
        "table",
        title,
        description,
        [latest(expr, "", format="table")],
        size=(8, 8),
        defaults={"unit": "short", "custom": {"align": "auto", "inspect": False}},
        options={"cellHeight": "sm", "showHeader": True},
    ) | {
        "transformations": [
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "Value": True},
                    "indexByName": {},
                    "renameByName": {},
                },
            }
        ]
    }


# --- The dashboard ---------------------------------------------------------------


def laid_out(panels: list[Json]) -> list[Json]:
    """Give every panel its number and its place: left to right, then down."""
    x = y = height = 0
    for number, each in enumerate(panels, 1):
        grid = each["gridPos"]
        if x + grid["w"] > WIDTH:
            x, y, height = 0, y + height, 0
        grid["x"], grid["y"] = x, y
        x, height = x + grid["w"], max(height, grid["h"])
        each["id"] = number
    return panels


def choice(name: str, label: str, expr: str) -> Json:
    """Return a variable with the values of a label, several or all of them."""
    return {
        "allValue": ".+",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "datasource": DATASOURCE,
        "hide": 0,
        "includeAll": True,
        "label": label,
        "multi": True,
        "name": name,
        "options": [],
        "query": {"query": expr, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }


def variables() -> list[Json]:
    """Return data source, job, instance and service."""
    return [
        {
            "current": {"text": "default", "value": "default"},
            "hide": 0,
            "includeAll": False,
            "label": "Data source",
            "multi": False,
            "name": "datasource",
            "options": [],
            "query": "prometheus",
            "refresh": 1,
            "regex": "",
            "skipUrlSync": False,
            "type": "datasource",
        },
        choice("job", "Job", "label_values(resilience_agent_info, job)"),
        choice(
            "instance",
            "Instance",
            'label_values(resilience_agent_info{job=~"$job"}, instance)',
        ),
        choice(
            "service",
            "Service",
            f"label_values(circuit_breaker_state{{{TARGETS}}}, service)",
        ),
    ]


def events() -> list[Json]:
    """Return Grafana's own annotations and the transitions of the circuits."""
    changes = of_service("circuit_breaker_state_changes_total", 'to_state="open"')
    closed = of_service("circuit_breaker_state_changes_total", 'to_state="closed"')
    return [
        {
            "builtIn": 1,
            "datasource": {"type": "grafana", "uid": "-- Grafana --"},
            "enable": True,
            "hide": True,
            "iconColor": "rgba(0, 211, 255, 1)",
            "name": "Annotations & Alerts",
            "type": "dashboard",
        },
        transition("Circuits that opened", changes, "red"),
        transition("Circuits that closed", closed, "green"),
    ]


def transition(name: str, selector: str, color: str) -> Json:
    """Return annotations for transitions into one state."""
    return {
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": color,
        "name": name,
        "target": {
            # Two minutes hold two samples also where a minute lies between them.
            "expr": f"sum by (job, service) (increase({selector}[2m])) > 0",
            "interval": "60s",
            "refId": "Anno",
        },
        "titleFormat": f"{name.removeprefix('Circuits that ')}: {{{{service}}}}",
    }


def links() -> list[Json]:
    """Return the links at the head: runbooks, and other dashboards of the kind."""
    common = {"asDropdown": False, "icon": "external link", "keepTime": False}
    return [
        common
        | {
            "includeVars": False,
            "tags": [],
            "targetBlank": True,
            "title": "Runbooks",
            "tooltip": "What to do when an alert fires",
            "type": "link",
            "url": f"{RUNBOOKS}/README.md",
        },
        common
        | {
            "asDropdown": True,
            "includeVars": True,
            "keepTime": True,
            "tags": ["resilience"],
            "targetBlank": False,
            "title": "Resilience",
            "tooltip": "",
            "type": "dashboards",
            "url": "",
        },
    ]


def dashboard() -> Json:
    """Return the whole dashboard."""
    panels = [
        *overview(),
        *traffic(),
        *attempts(),
        *breakers(),
        *timeouts(),
        *fallbacks(),
        *agent(),
    ]
    return {
        "annotations": {"list": events()},
        "description": (
            "Timeouts, retries and circuit breakers around every outgoing call, as "
            "resilience-instrument measures them."
        ),
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": links(),
        "panels": laid_out(panels),
        "refresh": "30s",
        "schemaVersion": 38,
        "tags": ["resilience"],
        "templating": {"list": variables()},
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "title": "API Health Dashboard",
        "uid": UID,
        "version": 1,
        "weekStart": "",
    }


def text() -> str:
    """Return the dashboard as the file has it."""
    return json.dumps(dashboard(), indent=2, sort_keys=True) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write or check the file; return the exit code."""
    if "--check" not in arguments:
        FILE.write_text(text(), encoding="utf-8")
    elif not FILE.exists() or FILE.read_text(encoding="utf-8") != text():
        sys.stderr.write(
            f"dashboards/{FILE.name} is out of date; make docs writes it\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
