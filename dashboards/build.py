"""Write the dashboard: `python dashboards/build.py [--check]`.

With `--check` nothing is written; the exit code is 1 if the file is out of date.

Grafana's own library builds it, in the model of Grafana 10.4, which 11 and 12 migrate
when they load it. Its data source is a variable and its UID is fixed, so that one file
serves the import dialogue, provisioning, the API and a sidecar.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as ui
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode, HeatmapColorScale
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from grafana_foundation_sdk.cog.builder import Builder

    Panels = Sequence[Builder[model.Panel]]

HERE = Path(__file__).resolve().parent
FILE = HERE / "resilience-api-health.json"
UID = "resilience-api-health"
RUNBOOKS = "https://example.com/resilience/runbooks"

DATASOURCE = model.DataSourceRef("prometheus", "${datasource}")
TARGETS = 'job=~"$job", instance=~"$instance"'
SERVICES = f'{TARGETS}, service=~"$service"'
STEP = "[$__rate_interval]"
HOUR = "[1h]"

# The same thresholds as the alerts have, which a test compares.
RETRY_STEPS = ((None, "green"), (0.1, "yellow"), (0.5, "red"))
TIMEOUT_STEPS = ((None, "green"), (0.05, "yellow"), (0.2, "red"))


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

Panel = TypeVar(
    "Panel",
    stat.Panel,
    bargauge.Panel,
    timeseries.Panel,
    heatmap.Panel,
    statetimeline.Panel,
    table.Panel,
)
Tiles = TypeVar("Tiles", stat.Panel, statetimeline.Panel)


def query(expr: str, legend: str) -> prometheus.Dataquery:
    """Return a query over the range of the dashboard."""
    return (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .editor_mode(QueryEditorMode.CODE)
        .expr(expr)
        .format(PromQueryFormat.TIME_SERIES)
        .legend_format(legend)
        .range()
    )


def latest(expr: str, legend: str) -> prometheus.Dataquery:
    """Return a query of the value at the end of the range."""
    return query(expr, legend).instant()


def described(
    panel: Panel,
    title: str,
    description: str,
    *queries: prometheus.Dataquery,
    unit: str,
    size: tuple[int, int],
) -> Panel:
    """Give a panel what every panel has; its place follows from those before it."""
    return (
        panel.title(title)
        .description(description)
        .datasource(DATASOURCE)
        .targets([each.ref_id(chr(ord("A") + n)) for n, each in enumerate(queries)])
        .unit(unit)
        .span(size[0])
        .height(size[1])
    )


def steps(*pairs: tuple[float | None, str]) -> build.ThresholdsConfig:
    """Return absolute thresholds."""
    return build.ThresholdsConfig().steps(
        [model.Threshold(value, color) for value, color in pairs]
    )


def fixed(color: str) -> list[model.DynamicConfigValue]:
    """Return the property of an override that gives a color."""
    return [model.DynamicConfigValue("color", {"fixedColor": color, "mode": "fixed"})]


OUTCOMES = {
    "success": "green",
    "error": "red",
    "timeout": "orange",
    "rejected": "purple",
    "cancelled": "gray",
    "fallback": "blue",
}
GREEN = steps((None, "green"))
BY_THRESHOLD = build.FieldColor().mode(model.FieldColorModeId.THRESHOLDS)
BY_PALETTE = build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC)
LAST = parts.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(values=False)
DASHED = [
    model.DynamicConfigValue("custom.lineStyle", {"dash": [8, 6], "fill": "dash"}),
    model.DynamicConfigValue("custom.fillOpacity", 0),
]
DRILL_DOWN = build.DashboardLink("Show only ${__field.labels.service}").url(
    f"/d/{UID}?${{datasource:queryparam}}&${{instance:queryparam}}"
    "&var-job=${__field.labels.job}&var-service=${__field.labels.service}"
    "&${__url_time_range}"
)


def legend(mode: ui.LegendDisplayMode, *calcs: str) -> parts.VizLegendOptions:
    """Return a legend below the panel."""
    return (
        parts.VizLegendOptions()
        .display_mode(mode)
        .show_legend(show_legend=True)
        .calcs(list(calcs))
    )


def by_state(panel: Tiles) -> Tiles:
    """Show a state in its word and color."""
    words = (("0", "OK", "green"), ("1", "OPEN", "red"), ("2", "HALF", "yellow"))
    shown = {
        state: model.ValueMappingResult(text=text, color=color, index=int(state))
        for state, text, color in words
    }
    return (
        panel.color_scheme(BY_THRESHOLD)
        .mappings([model.ValueMap(shown)])
        .thresholds(steps((None, "green"), (1, "red"), (2, "yellow")))
    )


class Lines(timeseries.Panel):
    """A panel of lines over time."""

    def __init__(
        self,
        title: str,
        description: str,
        *queries: prometheus.Dataquery,
        unit: str,
        width: int = 8,
    ) -> None:
        super().__init__()
        described(self, title, description, *queries, unit=unit, size=(width, 8))
        # Where all is 0 an axis without a scale would go up to 10000 %.
        if unit in {"reqps", "ops", "short"}:
            self.axis_soft_max(1)
        tooltip = parts.VizTooltipOptions().mode(ui.TooltipDisplayMode.MULTI)
        plain = parts.GraphThresholdsStyleConfig().mode(ui.GraphThresholdsStyleMode.OFF)
        (
            self.color_scheme(BY_PALETTE)
            .draw_style(ui.GraphDrawStyle.LINE)
            .fill_opacity(10)
            .legend(legend(ui.LegendDisplayMode.TABLE, "lastNotNull", "max"))
            .line_width(1)
            .min(0)
            .show_points(ui.VisibilityMode.AUTO)
            .span_nulls(span_nulls=False)
            .stacking(parts.StackingConfig().group("A").mode(ui.StackingMode.NONE))
            .thresholds(GREEN)
            .thresholds_style(plain)
            .tooltip(tooltip.sort(ui.SortOrder.DESCENDING))
        )

    def stacked(self) -> Self:
        """Add the lines up."""
        mode = parts.StackingConfig().group("A").mode(ui.StackingMode.NORMAL)
        return self.stacking(mode).fill_opacity(40)

    def by_outcome(self) -> Self:
        """Add the lines up and color them by how calls ended."""
        for outcome, color in OUTCOMES.items():
            self.override_by_regexp(f"/^{outcome}/", fixed(color))
        return self.stacked()

    def fires(self, at: float) -> Self:
        """Draw a dashed line at the threshold of an alert."""
        dashed = ui.GraphThresholdsStyleMode.DASHED
        return (
            self.axis_soft_max(2 * at)
            .thresholds(steps((None, "green"), (at, "red")))
            .thresholds_style(parts.GraphThresholdsStyleConfig().mode(dashed))
        )


def bars(
    title: str, description: str, *queries: prometheus.Dataquery, unit: str
) -> bargauge.Panel:
    """Return a panel with a bar for each service."""
    panel = described(
        bargauge.Panel(), title, description, *queries, unit=unit, size=(8, 9)
    )
    return (
        panel.color_scheme(BY_THRESHOLD)
        .data_links([DRILL_DOWN])
        .display_mode(ui.BarGaugeDisplayMode.LCD)
        .min(0)
        # Many services scroll, the worst stay on top.
        .min_viz_height(40)
        .sizing(ui.BarGaugeSizing.MANUAL)
        # Beside the bar a name gets a fifth of the width, and services have long ones.
        .name_placement(ui.BarGaugeNamePlacement.TOP)
        .no_value("no calls in the past hour")
        .orientation(ui.VizOrientation.HORIZONTAL)
        .reduce_options(LAST)
    )


def rows(
    title: str,
    description: str,
    asked: prometheus.Dataquery,
    transformation: model.DataTransformerConfig,
    *,
    unit: str = "short",
    width: int = 8,
) -> table.Panel:
    """Return a table of the labels of a query's answer."""
    asked.format(PromQueryFormat.TABLE)
    panel = described(
        table.Panel(), title, description, asked, unit=unit, size=(width, 8)
    )
    return (
        panel.align(ui.FieldTextAlignment.AUTO)
        .cell_height(ui.TableCellHeight.SM)
        .with_transformation(transformation)
    )


LABELS_ALONE = model.DataTransformerConfig(
    "organize",
    options={
        "excludeByName": {"Time": True, "Value": True},
        "indexByName": {},
        "renameByName": {},
    },
)
KINDS_AS_COLUMNS = model.DataTransformerConfig(
    "groupingToMatrix",
    options={
        "columnField": "kind",
        "emptyValue": "null",
        "rowField": "service",
        "valueField": "Value",
    },
)


# --- Panels ----------------------------------------------------------------------


def overview() -> Panels:
    """Return the first look: states, retries, timeouts, latency of the past hour."""
    return [
        by_state(tiles()),
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


def tiles() -> stat.Panel:
    """Return a tile for each service."""
    panel = described(
        stat.Panel(),
        "Circuit breakers",
        "One tile a service: the worst state over all instances. OPEN means that "
        "calls fail at once, HALF that a probe decides, OK that calls go through.",
        latest(worst("job, service"), "{{service}}"),
        unit="none",
        size=(24, 4),
    )
    return (
        panel.color_mode(ui.BigValueColorMode.BACKGROUND_SOLID)
        .data_links([DRILL_DOWN])
        .graph_mode(ui.BigValueGraphMode.NONE)
        .justify_mode(ui.BigValueJustifyMode.CENTER)
        .no_value("no calls yet")
        .reduce_options(LAST)
        .text_mode(ui.BigValueTextMode.VALUE_AND_NAME)
    )


def rate_bars(
    title: str, description: str, expr: str, at: Iterable[tuple[float | None, str]]
) -> bargauge.Panel:
    """Return a bar a service for a share of its calls."""
    asked = latest(f"sort_desc(\n{expr}\n)", "{{service}}")
    panel = bars(title, description, asked, unit="percentunit")
    return panel.decimals(1).max(0.2).thresholds(steps(*at))


def latency_bars() -> bargauge.Panel:
    """Return a bar a service for the p99, colored by the timeout in force."""
    service = "{{service}}"
    p99 = quantile(0.99, "api_request_duration_seconds", window=HOUR)
    read = of_service("resilience_timeout_seconds", 'kind="read"')
    least = f"min by (job, service) ({read})"
    near = f"({p99})\n> on (job, service) 2 / 3 * {least}"
    panel = bars(
        "Latency p99 (past hour)",
        "How long the slowest hundredth of calls takes, retries and pauses included. "
        "Yellow: within 1.5 x of the read timeout in force. Red: at or beyond it, so "
        "that one call in a hundred times out or is retried.",
        latest(f"({p99})\n>= on (job, service) {least}", service),
        latest(f"({near})\n< on (job, service) {least}", service),
        latest(f"sort_desc(\n({p99})\nunless on (job, service) ({near})\n)", service),
        unit="s",
    )
    for letter, color in (("A", "red"), ("B", "yellow"), ("C", "green")):
        panel.override_by_query(letter, fixed(color))
    return panel.decimals(2).thresholds(GREEN)


def traffic() -> Panels:
    """Return rate, errors and duration of calls."""
    duration = "api_request_duration_seconds"
    under_way = of_service("resilience_inflight")
    return [
        Lines(
            "Calls by outcome",
            "What the app asked for and how it ended, each call once.",
            query(rate(CALLS, "outcome"), "{{outcome}}"),
            unit="reqps",
        ).by_outcome(),
        Lines(
            "Failed calls",
            "Share of calls that ended in an error, a timeout or a rejection. The "
            "line is where an objective of 99.9 % burns 14.4 x too fast.",
            query(share(FAILED, CALLS, "job, service"), "{{service}}"),
            unit="percentunit",
        ).fires(0.0144),
        Lines(
            "Duration p50 and p99",
            "What the caller waited: attempts, pauses and fallback. The dots are "
            "single calls that lead to their trace.",
            query(quantile(0.99, duration), "{{service}} p99").exemplar(exemplar=True),
            query(quantile(0.5, duration), "{{service}} p50"),
            unit="s",
        ).override_by_query("B", DASHED),
        durations(),
        Lines(
            "Calls under way",
            "Calls that have begun and not ended.",
            query(f"sum by (job, service) ({under_way})", "{{service}}"),
            unit="short",
        ),
    ]


def durations() -> heatmap.Panel:
    """Return how many calls took how long."""
    buckets = of_service("api_request_duration_seconds_bucket")
    asked = query(f"sum by (le) (increase({buckets}{STEP}))", "{{le}}")
    panel = described(
        heatmap.Panel(),
        "Duration of all calls",
        "How many calls took how long. The dots are single calls that lead to "
        "their trace.",
        asked.exemplar(exemplar=True).format(PromQueryFormat.HEATMAP),
        unit="s",
        size=(16, 8),
    )
    colors = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME)
    colors.scheme("Oranges").fill("dark-orange").steps(64)
    colors.scale(HeatmapColorScale.EXPONENTIAL).exponent(0.5)
    left = heatmap.YAxisConfig().axis_placement(ui.AxisPlacement.LEFT)
    return (
        panel.calculate(calculate=False)
        .cell_values(heatmap.CellValues().unit("short"))
        .color(colors)
        .hide_y_histogram()
        .rows_frame(heatmap.RowsHeatmapOptions().layout(ui.HeatmapCellLayout.AUTO))
        .y_axis(left.reverse(reverse=False).unit("s"))
    )


def attempts() -> Panels:
    """Return attempts and retries."""
    tried = of_service("resilience_attempt_total")
    skipped = of_service("resilience_retry_skipped_total")
    left = of_service("resilience_retry_budget_ratio")
    helped = share(RETRIED_WELL, FIRST_RETRIES, "job, service")
    return [
        Lines(
            "Attempts by outcome",
            "Every try of a call; timeouts by the part of it that they struck.",
            query(rate(tried, "outcome"), "{{outcome}}"),
            unit="ops",
        ).by_outcome(),
        Lines(
            "Retries by attempt",
            "Attempt 2 is the first retry of a call.",
            query(rate(RETRIES, "attempt"), "attempt {{attempt}}"),
            unit="ops",
        ).stacked(),
        Lines(
            "Retry rate",
            "Retries per call; the line is where `HighRetryRate` fires.",
            query(share(RETRIES, CALLS, "job, service"), "{{service}}"),
            unit="percentunit",
        ).fires(0.1),
        Lines(
            "Retries that helped",
            "Share of retried calls that succeeded in the end. Below 20 % retries cost "
            "more than they save: `RetriesNotHelping`.",
            query(helped, "{{service}}"),
            unit="percentunit",
        ).max(1),
        Lines(
            "Failures that were not retried",
            "Transient failures and why they were not tried again: not idempotent, "
            "no budget left, deadline too near and so on.",
            query(rate(skipped, "reason"), "{{reason}}"),
            unit="ops",
        ).stacked(),
        Lines(
            "Retry budget left",
            "At 0 failed calls are not retried any more: retries already add all that "
            "they may.",
            query(f"min by (job, service) ({left})", "{{service}}"),
            unit="percentunit",
        ).max(1),
    ]


def breakers() -> Panels:
    """Return the circuits over time."""
    changes = of_service("circuit_breaker_state_changes_total")
    seen = f"sum by (service, state) ({of_service('resilience_breaker_processes')})"
    rejected = rate(of_service("resilience_rejected_total"), "service, policy")
    moves = f"sum by (service, from_state, to_state) (increase({changes}{STEP}))"
    return [
        by_state(states()),
        Lines(
            "Transitions",
            "Changes of state. From closed to open three times in half an hour is "
            "`CircuitBreakerFlapping`.",
            query(f"{moves} > 0", "{{service}} {{from_state}} to {{to_state}}"),
            unit="short",
        )
        .draw_style(ui.GraphDrawStyle.BARS)
        .fill_opacity(80),
        Lines(
            "Rejected calls",
            "Calls that were not let through, by the policy that refused.",
            query(f"{rejected} > 0", "{{service}} {{policy}}"),
            unit="reqps",
            width=12,
        ).stacked(),
        Lines(
            "Processes by state",
            "How many processes see a circuit in which state.",
            query(f"{seen} > 0", "{{service}} {{state}}"),
            unit="short",
            width=12,
        ),
    ]


def states() -> statetimeline.Panel:
    """Return the state of each circuit in each instance over time."""
    tooltip = parts.VizTooltipOptions().mode(ui.TooltipDisplayMode.SINGLE)
    panel = described(
        statetimeline.Panel(),
        "State over time",
        "The state of each circuit in each instance.",
        query(worst("job, service, instance"), "{{service}} {{instance}}"),
        unit="none",
        size=(16, 8),
    )
    return (
        panel.align_value(ui.TimelineValueAlignment.CENTER)
        .fill_opacity(80)
        .legend(legend(ui.LegendDisplayMode.LIST))
        .row_height(0.8)
        .tooltip(tooltip.sort(ui.SortOrder.NONE))
    )


def timeouts() -> Panels:
    """Return timeouts in force and timeouts that struck."""
    p99 = quantile(0.99, "resilience_attempt_duration_seconds", 'outcome="success"')
    in_force = of_service("resilience_timeout_seconds")
    reading = of_service("resilience_timeout_seconds", 'kind="read"')
    struck = of_service("resilience_attempt_total", 'outcome=~"timeout_.*"')
    unbounded = of_service("resilience_unbounded_call_total")
    return [
        Lines(
            "Read timeout against 1.5 x p99",
            "The dashed line should lie a little above the other: 1.5 x the p99 of "
            "good attempts. Far below it cuts good answers off, far above it waits for "
            "dead ones.",
            query(f"1.5 * ({p99})", "{{service}} 1.5 x p99"),
            query(f"min by (job, service) ({reading})", "{{service}} timeout"),
            unit="s",
        ).override_by_query("B", DASHED),
        Lines(
            "Timeouts by phase",
            "Attempts that ended by a timeout, by the part that it struck.",
            query(rate(struck, "outcome"), "{{outcome}}"),
            unit="ops",
        ).stacked(),
        Lines(
            "Timeout rate",
            "Timeouts per call; the line is where `HighTimeoutRate` fires.",
            query(share(TIMEOUTS, CALLS, "job, service"), "{{service}}"),
            unit="percentunit",
        ).fires(0.05),
        rows(
            "Timeouts in force",
            "For calls that come without a timeout of the app's own.",
            latest(f"min by (job, service, kind) ({in_force})", "{{kind}}"),
            KINDS_AS_COLUMNS,
            unit="s",
            width=12,
        ),
        Lines(
            "Calls without a timeout of the app",
            "The agent bounds them, but the code should: `CallsWithoutTimeout`.",
            query(rate(unbounded, "service, library"), "{{service}} {{library}}"),
            unit="reqps",
            width=12,
        ),
    ]


def fallbacks() -> Panels:
    """Return fallbacks and what observe mode would have done."""
    tried = rate(of_service("resilience_fallback_total"), "service, kind, outcome")
    answered = of_service("api_request_total", 'outcome="fallback"')
    would = of_service("resilience_would_act_total")
    saved = of_service("resilience_would_save_seconds_total")
    lost = of_service("resilience_would_lose_total")
    policy = "{{service}} {{policy}}"
    return [
        Lines(
            "Answers from a fallback",
            "Share of calls that were answered by a fallback; the line is where "
            "`HighFallbackRate` fires.",
            query(share(answered, CALLS, "job, service"), "{{service}}"),
            unit="percentunit",
        ).fires(0.05),
        Lines(
            "Fallbacks tried",
            "By kind, and whether they gave an answer.",
            query(tried, "{{service}} {{kind}} {{outcome}}"),
            unit="ops",
        ),
        Lines(
            "What observe mode would have done",
            "Calls to which a policy would have done something. Empty where the agent "
            "enforces.",
            query(rate(would, "service, policy"), policy),
            unit="ops",
        ),
        Lines(
            "Waiting that observe mode would have saved",
            "Seconds by which callers would have waited less. Empty where the agent "
            "enforces.",
            query(f"sum by (service, policy) (increase({saved}{STEP}))", policy),
            unit="s",
            width=12,
        ),
        Lines(
            "Calls that observe mode would have lost",
            "Calls that succeeded and would have failed: a policy that loses calls is "
            "too strict. Empty where the agent enforces.",
            query(rate(lost, "service, policy"), policy),
            unit="ops",
            width=12,
        ),
    ]


def agent() -> Panels:
    """Return how the agent itself is."""
    agents = of_target("resilience_agent_info")
    patches = of_target("resilience_agent_patch_info")
    errors = of_target("resilience_agent_error_total")
    overflow = of_target("resilience_label_overflow_total")
    reloads = of_target("resilience_config_reload_total")
    reloaded = f"sum by (job, outcome) (increase({reloads}{STEP}))"
    return [
        rows(
            "Agents",
            "Version, mode and Python of every instance.",
            latest(f"max by (job, instance, version, mode, python) ({agents})", ""),
            LABELS_ALONE,
        ),
        rows(
            "Libraries",
            "What was found in the processes and how it stands: patched, skipped, "
            "failed or disabled.",
            latest(f"count by (job, library, version, status) ({patches})", ""),
            LABELS_ALONE,
        ),
        Lines(
            "Faults of the agent",
            "None of them reached the app: the calls went through ungoverned.",
            query(rate(errors, "job, where"), "{{job}} {{where}}"),
            unit="ops",
        ),
        Lines(
            "Calls beyond the label limit",
            "Calls that are counted under `other`.",
            query(rate(overflow, "job, kind"), "{{job}} {{kind}}"),
            unit="reqps",
            width=12,
        ),
        Lines(
            "Changed configuration files",
            "Applied, or refused: then the old one holds and the reason is on stderr "
            "of the app.",
            query(reloaded, "{{job}} {{outcome}}"),
            unit="short",
            width=12,
        ),
    ]


# --- The dashboard ---------------------------------------------------------------

ROWS: dict[str, Callable[[], Panels]] = {
    "Calls: rate, errors, duration": traffic,
    "Attempts and retries": attempts,
    "Circuit breakers": breakers,
    "Timeouts": timeouts,
    "Fallbacks and observe mode": fallbacks,
    "The agent": agent,
}


def choice(name: str, asked: str) -> build.QueryVariable:
    """Return a variable with the values of a label, several or all of them."""
    return (
        build.QueryVariable(name)
        .all_value(".+")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .datasource(DATASOURCE)
        .include_all(include_all=True)
        .label(name.title())
        .multi(multi=True)
        .query({"query": asked, "refId": "StandardVariableQuery"})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def transition(name: str, into: str, color: str) -> build.AnnotationQuery:
    """Return annotations for transitions into one state."""
    changes = of_service("circuit_breaker_state_changes_total", into)
    return (
        build.AnnotationQuery()
        .datasource(DATASOURCE)
        # Two minutes hold two samples also where a minute lies between them.
        .expr(f"sum by (job, service) (increase({changes}[2m])) > 0")
        .icon_color(color)
        .name(name)
    )


def own_annotations() -> build.AnnotationQuery:
    """Return what Grafana itself puts first in every dashboard."""
    return (
        build.AnnotationQuery()
        .built_in(1)
        .datasource(model.DataSourceRef("grafana", "-- Grafana --"))
        .hide(hide=True)
        .icon_color("rgba(0, 211, 255, 1)")
        .name("Annotations & Alerts")
        .type("dashboard")
    )


def links() -> list[Builder[model.DashboardLink]]:
    """Return the links at the head: runbooks, and other dashboards of the kind."""
    return [
        build.DashboardLink("Runbooks")
        .icon("external link")
        .target_blank(target_blank=True)
        .tooltip("What to do when an alert fires")
        .url(f"{RUNBOOKS}/README.md"),
        build.DashboardLink("Resilience")
        .type(model.DashboardLinkType.DASHBOARDS)
        .icon("external link")
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
        .tags(["resilience"])
        .url(""),
    ]


def dashboard() -> model.Dashboard:
    """Return the whole dashboard."""
    default = model.VariableOption(text="default", value="default")
    source = build.DatasourceVariable("datasource").type("prometheus").current(default)
    instances = 'label_values(resilience_agent_info{job=~"$job"}, instance)'
    services = f"label_values(circuit_breaker_state{{{TARGETS}}}, service)"
    builder = (
        build.Dashboard("API Health Dashboard")
        .uid(UID)
        .description(
            "Timeouts, retries and circuit breakers around every outgoing call, as "
            "resilience-instrument measures them."
        )
        .tags(["resilience"])
        .readonly()
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .links(links())
        .annotation(own_annotations())
        .annotation(transition("Circuits that opened", 'to_state="open"', "red"))
        .annotation(transition("Circuits that closed", 'to_state="closed"', "green"))
        .with_variable(source.label("Data source"))
        .with_variable(choice("job", "label_values(resilience_agent_info, job)"))
        .with_variable(choice("instance", instances))
        .with_variable(choice("service", services))
    )
    for panel in overview():
        builder.with_panel(panel)
    for title, panels in ROWS.items():
        builder.with_row(build.Row(title))
        for panel in panels():
            builder.with_panel(panel)
    return builder.build()


def mended(document: dict[str, Any]) -> dict[str, Any]:
    """Mend where the library's model is not what Grafana reads.

    - The model is of schema version 36; 38 is that of the oldest Grafana supported.
    - Panels without numbers get new ones each time that Grafana loads them.
    - Only variables of intervals have an `auto`, which the library writes for all.
    """
    document |= {"schemaVersion": 38, "version": 1, "weekStart": ""}
    for number, panel in enumerate(document["panels"], 1):
        panel["id"] = number
        mend_options(panel)
    for variable in document["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min"):
            del variable[name]
    for annotation in document["annotations"]["list"]:
        if "expr" in annotation:
            mend_annotation(annotation)
    return document


def mend_options(panel: dict[str, Any]) -> None:
    """Mend options whose place changed between Grafana 10.0 and 12."""
    if panel["type"] == "heatmap":
        # Before 10.4 `show` says what `mode` says since.
        panel["options"]["tooltip"]["show"] = True
    if panel["type"] == "table":
        # It is off, and since 12 no option of the panel.
        del panel["options"]["footer"]


def mend_annotation(annotation: dict[str, Any]) -> None:
    """Make an expression the query that Prometheus's data source asks."""
    expr, verb = annotation.pop("expr"), annotation["name"].split()[-1]
    annotation["target"] = {"expr": expr, "interval": "60s", "refId": "Anno"}
    annotation["titleFormat"] = f"{verb}: {{{{service}}}}"


def text() -> str:
    """Return the dashboard as the file has it."""
    document = mended(json.loads(JSONEncoder().encode(dashboard())))
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


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
