"""Writes `dashboards/market-pipeline.json` beside it: `make dashboard` after a change of this file.

Every panel asks for what the bridge serves or for what `../prometheus/rules.yml` records.
"""

from __future__ import annotations

import json
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, statushistory, timeseries
from grafana_foundation_sdk.builders.common import (
    GraphThresholdsStyleConfig,
    ReduceDataOptions,
    VizLegendOptions,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueGraphMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    FieldColorModeId,
    Panel,
    Threshold,
    ThresholdsMode,
)

FILE = Path(__file__).parent / "dashboards" / "market-pipeline.json"

_SOURCE = DataSourceRef(type_val="prometheus", uid="market-pipeline-prometheus")
_HEIGHT, _WIDTH = 8, 8  # of 24 columns

_CELLS = 96
"""Of the coverage: one in a quarter of an hour of a day."""

_Steps = tuple[tuple[float | None, str], ...]
_COVERAGE: _Steps = ((None, "red"), (0.9, "orange"), (0.995, "green"))
_EXIT_CODES: _Steps = ((None, "green"), (1, "orange"), (2, "red"))
_NONE_IS_GOOD: _Steps = ((None, "green"), (1, "red"))
_BACKUP_AGE: _Steps = ((None, "green"), (26 * 3_600, "red"))
_QUEUE_SHARE: _Steps = ((None, "green"), (0.8, "red"))
_MORE_IS_GOOD: _Steps = ((None, "red"), (14 * 86_400, "green"))

_Kind = type[timeseries.Panel] | type[stat.Panel] | type[statushistory.Panel]


def _panel(
    title: str,
    unit: str,
    *queries: tuple[str, str],
    kind: _Kind = timeseries.Panel,
    steps: _Steps = (),
) -> Builder[Panel]:
    """One panel of queries, each an expression and the legend of its series."""
    made = kind().title(title).unit(unit).datasource(_SOURCE).height(_HEIGHT).span(_WIDTH).min(0)
    for number, (expression, legend) in enumerate(queries):
        query = prometheus.Dataquery().ref_id(chr(ord("A") + number)).datasource(_SOURCE)
        query.expr(expression).legend_format(legend)
        # A number is that of now: the last of a day is also of what ended hours ago.
        made.with_target(query.instant() if isinstance(made, stat.Panel) else query.range())
    if steps:
        thresholds = [Threshold(value=value, color=color) for value, color in steps]
        made.thresholds(
            dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds)
        )
    by_threshold = dashboard.FieldColor().mode(FieldColorModeId.THRESHOLDS)
    if isinstance(made, stat.Panel):
        made.reduce_options(ReduceDataOptions().calcs(["lastNotNull"])).color_scheme(by_threshold)
        return made.graph_mode(BigValueGraphMode.NONE)
    made.legend(VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True))
    if isinstance(made, statushistory.Panel):
        # Grafana shows an error in its place where there is more than one in two pixels.
        made.max_data_points(_CELLS).show_value(VisibilityMode.NEVER).color_scheme(by_threshold)
    elif steps:
        made.thresholds_style(GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE))
    return made


_ROWS: dict[str, tuple[Builder[Panel], ...]] = {
    "Days": (
        _panel(
            "Coverage by instrument",
            "percentunit",
            (
                "min by (instrument) (market_pipeline_validation_valid_share_ratio)",
                "{{instrument}}",
            ),
            kind=statushistory.Panel,
            steps=_COVERAGE,
        ),
        _panel(
            "Coverage of the days validated last",
            "percentunit",
            ("avg by (venue) (market_pipeline_validation_valid_share_ratio)", "{{venue}}"),
            kind=stat.Panel,
            steps=_COVERAGE,
        ),
        _panel(
            "Verdicts of a day",
            "short",
            (
                "sum by (condition) (increase(market_pipeline_validation_verdicts_total[1d]))",
                "{{condition}}",
            ),
        ),
        _panel(
            "Backlog: days due and not published",
            "short",
            ("sum by (venue) (market_pipeline_due_backlog)", "{{venue}}"),
        ),
        _panel(
            "Age of the newest day",
            "s",
            ("time() - max by (venue) (market_pipeline_due_newest_timestamp_seconds)", "{{venue}}"),
        ),
        _panel(
            "Last exit codes",
            "none",
            ("max by (step) (market_pipeline_step_exit_code)", "{{step}}"),
            ("max by (verb) (market_pipeline_command_exit_code)", "market-pipeline {{verb}}"),
            kind=stat.Panel,
            steps=_EXIT_CODES,
        ),
        _panel(
            "Gaps of a day: suspected in books, left and filled in recordings",
            "short",
            (
                "sum by (venue) (increase(market_pipeline_validation_gaps_total[1d]))",
                "{{venue}} suspected",
            ),
            (
                "sum by (venue, outcome) (increase(market_pipeline_recording_gaps_total[1d]))",
                "{{venue}} {{outcome}}",
            ),
            ("sum by (venue) (increase(market_pipeline_capture_gaps_total[1d]))", "{{venue}} live"),
        ),
        _panel("Skew, p99 of a day", "s", ("market_pipeline:skew:p99_1d", "{{venue}}")),
        _panel(
            "Precision losses of a day",
            "short",
            (
                "sum by (venue, column) "
                "(increase(market_pipeline_validation_precision_losses_total[1d]))",
                "{{venue}} {{column}}",
            ),
        ),
    ),
    "Runs": (
        _panel(
            "Messages rebuilt",
            "cps",
            (
                "sum by (venue) (rate(market_pipeline_rebuild_messages_total[$__rate_interval]))",
                "{{venue}}",
            ),
        ),
        _panel(
            "Rows published",
            "cps",
            (
                "sum by (table) (rate(market_pipeline_publish_rows_total[$__rate_interval]))",
                "{{table}}",
            ),
        ),
        _panel(
            "Commit latency, p99 of an hour",
            "s",
            ("market_pipeline:publish:duration_p99_1h", "{{table}}"),
            (
                "histogram_quantile(0.99, sum by (sink, le) "
                "(rate(market_pipeline_sink_commit_duration_seconds_bucket[1h])))",
                "{{sink}}",
            ),
        ),
        _panel("Error rate", "cps", ("market_pipeline:errors:rate15m", "{{kind}}")),
        _panel(
            "Rate-limit incidents of an hour",
            "short",
            ("sum(increase(market_pipeline_store_refusals_total[1h]))", "store"),
            (
                "sum by (venue) "
                '(increase(market_pipeline_capture_snapshots_total{outcome="refused"}[1h]))',
                "{{venue}}",
            ),
        ),
        _panel(
            "Memory at the end of a step",
            "bytes",
            ("max by (step) (market_pipeline_step_peak_memory_bytes)", "{{step}} peak"),
            (
                "max by (step, allocator) (market_pipeline_step_allocated_memory_bytes)",
                "{{step}} {{allocator}}",
            ),
        ),
    ),
    "Capture": (
        _panel(
            "Frames, and what is usual at this hour of the week",
            "cps",
            ("market_pipeline:capture_frames:rate5m", "{{venue}} {{stream}}"),
            ("market_pipeline:capture_frames:hour_of_week_median", "{{venue}} {{stream}} usual"),
        ),
        _panel(
            "Coverage of what is captured",
            "percentunit",
            ("market_pipeline:capture_coverage:ratio2m", "{{venue}}"),
            kind=stat.Panel,
            steps=_COVERAGE,
        ),
        _panel(
            "Latency until the system has a frame",
            "s",
            (
                'max by (venue) (market_pipeline_capture_lag_seconds{quantile="0.99"})',
                "{{venue}} p99",
            ),
            (
                'max by (venue) (market_pipeline_capture_lag_seconds{quantile="0.5"})',
                "{{venue}} p50",
            ),
        ),
        _panel(
            "Queue depth",
            "short",
            ("sum by (venue, queue) (market_pipeline_capture_queue)", "{{venue}} {{queue}}"),
        ),
        _panel(
            "Queue share: how full",
            "percentunit",
            (
                "max by (venue, queue) (market_pipeline_capture_queue_share_ratio)",
                "{{venue}} {{queue}}",
            ),
            steps=_QUEUE_SHARE,
        ),
        _panel(
            "Failover seconds: without any connection, of 5 min",
            "s",
            (
                "sum by (venue, stream) "
                '(increase(market_pipeline_capture_time_seconds_total{state="downtime"}[5m]))',
                "{{venue}} {{stream}}",
            ),
            (
                "histogram_quantile(0.99, sum by (venue, le) "
                "(increase(market_pipeline_capture_failover_duration_seconds_bucket[1d])))",
                "{{venue}} until connected again, p99 of a day",
            ),
        ),
        _panel(
            "Dropped for being too slow, of 10 min",
            "short",
            (
                "sum by (venue, reason) (increase(market_pipeline_capture_drops_total[10m]))",
                "{{venue}} {{reason}}",
            ),
        ),
        _panel(
            "Rows that failing sinks do not have, of 10 min",
            "short",
            (
                "sum by (venue, sink) (increase(market_pipeline_sink_left_out_total[10m]))",
                "{{venue}} {{sink}}",
            ),
        ),
        _panel(
            "Free disk",
            "bytes",
            ("min by (folder) (market_pipeline_disk_free_space_bytes)", "{{folder}}"),
            ("min by (venue) (market_pipeline_capture_free_space_bytes)", "capture of {{venue}}"),
        ),
        _panel(
            "Clock offset",
            "s",
            ("max by (venue) (abs(market_pipeline_capture_clock_offset_seconds))", "{{venue}}"),
        ),
    ),
    "Alerts": (
        _panel(
            "Firing",
            "none",
            (
                'count by (alertname) (ALERTS{alertname=~"MarketPipeline.+",alertstate="firing"})',
                "{{alertname}}",
            ),
            kind=stat.Panel,
            steps=_NONE_IS_GOOD,
        ),
        _panel(
            "Alerts of the pipeline that wait, or were given up",
            "short",
            ("sum by (receiver) (market_pipeline_alerts_waiting)", "{{receiver}} wait"),
            ("sum by (receiver) (market_pipeline_alerts_dead)", "{{receiver}} given up"),
        ),
        _panel(
            "Age of the last backup",
            "s",
            ("time() - max(market_pipeline_backup_end_timestamp_seconds)", "backup"),
            kind=stat.Panel,
            steps=_BACKUP_AGE,
        ),
        _panel(
            "Until certificates and credentials expire",
            "s",
            (
                "min by (kind, setting) (market_pipeline_expiry_timestamp_seconds) - time()",
                "{{kind}} {{setting}}",
            ),
            kind=stat.Panel,
            steps=_MORE_IS_GOOD,
        ),
    ),
}


def text() -> str:
    """The dashboard as Grafana reads it."""
    made = (
        dashboard.Dashboard("Market pipeline")
        .uid("market-pipeline")
        .tags(["market-pipeline"])
        .refresh("1m")
        .time("now-24h", "now")
        .timezone("utc")
    )
    for title, panels in _ROWS.items():
        made.with_row(dashboard.Row(title))
        for panel in panels:
            made.with_panel(panel)
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
