"""The asset checks: each reads the day's published figures, says what failed, and locates it."""

import warnings
from collections.abc import Collection, Iterator, Sequence
from datetime import date
from itertools import chain

import dagster as dg
import polars as pl
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from msgspec import to_builtins

from market_pipeline.alerts.alert import DayOutcomes, FailedOutcome
from market_pipeline.capture.klines import KLINE_SECONDS, day_differences
from market_pipeline.config.instruments import Instrument, listed_on, load_instruments
from market_pipeline.defs.describe import Line, markdown_text, table_metadata
from market_pipeline.defs.interrupts import run_step
from market_pipeline.defs.partitions import DAILY, day_of, newest_green
from market_pipeline.defs.resources import Pipeline
from market_pipeline.errors import MarketPipelineError
from market_pipeline.metrics.tables import BARS
from market_pipeline.quality import evaluate as rules
from market_pipeline.quality.checks.bar_rows import BAR_ROWS, bar_places, check_bar_rows
from market_pipeline.quality.checks.base import Check, CheckOutcome, unmeasured_outcome
from market_pipeline.quality.checks.features import FEATURES, check_features, feature_places
from market_pipeline.quality.checks.klines import KLINES, check_klines, kline_places
from market_pipeline.quality.fidelity.check import FIDELITY, check_fidelity
from market_pipeline.quality.fidelity.report import FidelityRow
from market_pipeline.quality.figures.features import FeatureFigures
from market_pipeline.quality.findings import FINDINGS, FindingRow
from market_pipeline.quality.measures.bar_rows import bar_violations
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import time_text
from market_pipeline.sources.recording import CONVERTER
from market_pipeline.stages.published_rows import records_of
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import day_rows
from market_pipeline.warehouse.working import read_day

__all__ = ["CHECKS"]

_MAX_SHOWN = 10
_READ = ("validation_report", "quality_findings")
_READ_OF = {
    BAR_ROWS.name: (),
    KLINES.name: (),
    FEATURES.name: ("daily_metrics",),
    FIDELITY.name: ("fidelity_report",),
}
"""What checks read beside the table they are of, that are not of the report."""
_CHECKS = (*rules.CHECKS, BAR_ROWS, KLINES, FEATURES, FIDELITY)

_Finding = tuple[Instrument, CheckOutcome]


def _spec(check: Check) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview of this very release, which is pinned.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            check.name,
            asset=check.asset,
            description=check.sentence,
            additional_deps=[
                name for name in _READ_OF.get(check.name, _READ) if name != check.asset
            ],
            blocking=False,
            metadata={"docs": dg.MetadataValue.path(f"docs/{check.docs_page}")},
            partitions_def=DAILY,
        )


_SPECS = {check.name: _spec(check) for check in _CHECKS}


@dg.multi_asset_check(
    name="quality_checks",
    specs=[*_SPECS.values()],
    can_subset=True,
)
@run_step
def quality_checks(
    context: dg.AssetCheckExecutionContext, pipeline: Pipeline
) -> Iterator[dg.Output[None] | dg.AssetCheckEvaluation]:
    """Hold the figures of the day's report against the thresholds its verdicts were given by,
    those of its metrics against what their columns declare, and grades of fidelity.

    A check of an asset without data of the day says nothing, and neither does one that could be
    asked of no instrument: its earlier result stands.
    """
    names = (*_READ, *chain.from_iterable(_READ_OF.values()))
    tables = report, findings_of_day, daily, fidelity = [TABLES[name] for name in names]
    published = read_day(pipeline.warehouse, tables, day_of(context))
    rows = {row.instrument_id: row for row in ReportRow.read(published[report.sql_name])}
    # All of them, also in a run for some: a rerun of one must not hide what fails elsewhere.
    # What was published of one before it was known that it is not listed fails nothing any more.
    instruments = listed_on(day_of(context), load_instruments(pipeline.settings.instruments_file))
    found = [
        (instrument, outcome)
        for instrument in instruments
        if instrument.id in rows
        for row in [rows[instrument.id]]
        for outcome in rules.evaluate(row, rules.thresholds_in_force(row, instrument.thresholds))
    ]
    unreported = [each.id for each in pipeline.selected if each.id not in rows]
    selected = context.selected_asset_check_keys
    keys = {each.asset_key for each in selected}
    green = {key: made for key in keys if (made := newest_green(context, key)) is not None}
    asked = {each.name for each in selected if each.asset_key in green}
    of_metrics, of_features = _of_metrics(instruments, published[daily.sql_name])
    found += [*of_metrics, *_of_fidelity(instruments, published[fidelity.sql_name])]
    places = pl.concat([published[findings_of_day.sql_name], of_features])
    if BAR_ROWS.name in asked:
        of_bars, bar_findings = _of_bars(instruments, pipeline.warehouse, day_of(context))
        found += of_bars
        places = pl.concat([places, bar_findings])
    if KLINES.name in asked:
        of_klines, kline_findings = _of_klines(instruments, pipeline, day_of(context))
        found += of_klines
        places = pl.concat([places, kline_findings])
    evaluated = set()
    for check in _CHECKS:
        findings = [finding for finding in found if finding[1].check == check]
        # Not every day has metrics, and who names no golden book is compared with none.
        absent = [] if check.name in _READ_OF else unreported
        if check.name in asked and (findings or absent):
            outcomes = _outcomes(day_of(context), findings, absent)
            of_check = places.filter(check=check.name)
            yield dg.Output(None, _SPECS[check.name].get_python_identifier())
            checked = green[dg.AssetKey(check.asset)]
            yield _evaluation(check, checked, findings, of_check, absent, outcomes)
            evaluated.add(check.name)
    _take_back(context, {each.name for each in selected} - evaluated)


def _of_metrics(
    instruments: Sequence[Instrument], daily: pl.DataFrame
) -> tuple[list[_Finding], pl.DataFrame]:
    """What the check `features` says of each instrument's metrics, and the places as findings."""
    found: list[_Finding] = []
    places: list[FindingRow] = []
    for instrument in instruments:
        for figures in records_of(daily, instrument, FeatureFigures):
            outcome = check_features(figures)
            if outcome is not None:
                found.append((instrument, outcome))
            places += [
                FindingRow.taken_from(
                    place, exchange=instrument.venue, symbol=instrument.symbol, dt=daily["dt"][0]
                )
                for place in feature_places(figures)
            ]
    return found, FINDINGS.frame(places)


def _of_fidelity(instruments: Sequence[Instrument], published: pl.DataFrame) -> list[_Finding]:
    """What each compared instrument's grade says."""
    rows = {row.instrument_id: row for row in FidelityRow.read(published)}
    return [
        (each, outcome)
        for each in instruments
        if each.id in rows and each.fidelity.golden is not None
        for outcome in [check_fidelity(rows[each.id], each.fidelity)]
        if outcome is not None
    ]


def _of_bars(
    instruments: Sequence[Instrument], warehouse: Warehouse, day: date
) -> tuple[list[_Finding], pl.DataFrame]:
    """What the check `bar_rows` says of each instrument's published bars, and the places."""
    found: list[_Finding] = []
    places: list[FindingRow] = []
    published = day_rows(warehouse, BARS, day)
    bars = (
        (each, published.of(each.id).drop("exchange", "symbol", "dt").collect())
        for each in instruments
        if each.id in published.files
    )
    for each, number, violations in bar_violations(bars, day):
        if number:
            found.append((each, check_bar_rows(number, violations)))
            places += bar_places(each.venue, each.symbol, day, violations)
    return found, FINDINGS.frame(places)


def _of_klines(
    instruments: Sequence[Instrument], pipeline: Pipeline, day: date
) -> tuple[list[_Finding], pl.DataFrame]:
    """What the check `klines` says of each instrument that was recorded, and the places."""
    found: list[_Finding] = []
    places: list[FindingRow] = []
    published = day_rows(pipeline.warehouse, BARS, day)
    for each in instruments:
        recorded = each.source == CONVERTER.name
        files = CONVERTER.find(pipeline.settings.lake_path, each, day) if recorded else []
        if not files:
            continue
        try:
            differences = day_differences(files, each.venue, published.of(each.id), day)
        except MarketPipelineError as error:
            found.append((each, unmeasured_outcome(KLINES, str(error), None)))
            continue
        outcome = check_klines(differences)
        if outcome is not None:
            found.append((each, outcome))
        places += kline_places(each.venue, each.symbol, day, differences, KLINE_SECONDS)
    return found, FINDINGS.frame(places)


def _take_back(context: dg.AssetCheckExecutionContext, unsaid: Collection[str]) -> None:
    """Forgets that this run was about to evaluate some checks.

    Dagster notes that when it makes a run, and has no word for a check that had nothing to say: it
    would show "skipped" in place of the last result.
    """
    storage = context.instance.event_log_storage
    if unsaid and isinstance(storage, SqlEventLogStorage):
        noted = AssetCheckExecutionsTable.c
        with storage.index_connection() as connection:
            connection.execute(
                AssetCheckExecutionsTable.delete().where(
                    noted.run_id == context.run.run_id,
                    noted.check_name.in_(unsaid),
                    noted.execution_status == AssetCheckExecutionRecordStatus.PLANNED.value,
                )
            )


def _evaluation(
    check: Check,
    checked: dg.EventLogRecord,
    findings: list[_Finding],
    places: pl.DataFrame,
    unreported: list[str],
    outcomes: DayOutcomes,
) -> dg.AssetCheckEvaluation:
    """What Dagster makes of a result, for which it looks for what is `checked` once a check."""
    failed = [finding for finding in findings if not finding[1].passed]
    severe = any(outcome.severity == "ERROR" for _, outcome in failed)
    texts = [f"{instrument.id}: {outcome.summary}" for instrument, outcome in failed]
    if unreported:
        texts.append(f"No report row of this day for {', '.join(unreported)}: materialize it.")
    return dg.AssetCheckEvaluation(
        check_name=check.name,
        asset_key=dg.AssetKey(check.asset),
        target_materialization_data=AssetCheckEvaluationTargetMaterializationData(
            storage_id=checked.storage_id, run_id=checked.run_id, timestamp=checked.timestamp
        ),
        blocking=_SPECS[check.name].blocking,
        partition=f"{outcomes.day}",
        passed=not texts,
        severity=dg.AssetCheckSeverity.ERROR if severe else dg.AssetCheckSeverity.WARN,
        description=markdown_text("\n\n".join(texts)) or check.sentence,
        metadata={
            "failed": len(failed),
            "instruments": table_metadata([_line(*finding) for finding in findings]),
            "places": table_metadata(_shown(places)),
            "per_hour": table_metadata(_hours(findings)),
            "thresholds": table_metadata(_thresholds(findings)),
            "docs": dg.MetadataValue.path(f"docs/{check.docs_page}"),
            "outcomes": dg.MetadataValue.json(to_builtins(outcomes)),
        },
    )


def _outcomes(day: date, findings: list[_Finding], unreported: list[str]) -> DayOutcomes:
    """What alerts are made of."""
    missing = "There is no report row of this day: materialize it."
    failed = [
        FailedOutcome(
            instrument.id, outcome.severity, outcome.figure, outcome.threshold, outcome.summary
        )
        for instrument, outcome in findings
        if not outcome.passed
    ]
    failed += [FailedOutcome(each, "WARN", None, None, missing) for each in unreported]
    passed = [instrument.id for instrument, outcome in findings if outcome.passed]
    return DayOutcomes(day, failed, passed)


def _line(instrument: Instrument, outcome: CheckOutcome) -> Line:
    return {
        "instrument": instrument.id,
        "result": "passed" if outcome.passed else outcome.severity,
        "figure": f"{outcome.figure:g}",
        "threshold": f"{outcome.threshold:g}",
        "finding": outcome.summary,
    }


def _shown(places: pl.DataFrame) -> list[Line]:
    """Where it is wrong, the first places of each instrument; all are in `quality.findings`."""
    first = places.group_by("exchange", "symbol", maintain_order=True).head(_MAX_SHOWN)
    return [
        {
            "instrument": place.instrument_id,
            "place": place.place,
            "time": None if place.ts_receipt_ns is None else time_text(place.ts_receipt_ns),
            "file": place.file,
            "row": place.row,
            "value": place.value,
            "expected": place.expected,
            "note": place.note,
        }
        for place in FindingRow.read(first)
    ]


def _hours(findings: list[_Finding]) -> list[Line]:
    """The fault by UTC hour, for those that have any: the hours that do."""
    return [
        {
            "instrument": instrument.id,
            "by hour": ", ".join(
                f"{hour:02}h {count:g}" for hour, count in enumerate(outcome.per_hour) if count
            ),
        }
        for instrument, outcome in findings
        if outcome.per_hour and any(outcome.per_hour)
    ]


def _thresholds(findings: list[_Finding]) -> list[Line]:
    """The thresholds in force."""
    return [
        {
            "instrument": instrument.id,
            "thresholds": ", ".join(
                f"{name} {value:g}" for name, value in outcome.thresholds.items()
            ),
        }
        for instrument, outcome in findings
        if outcome.thresholds
    ]


CHECKS = [quality_checks]
