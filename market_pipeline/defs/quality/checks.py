"""The asset checks: each reads the day's report rows, says what failed, and locates it."""

import warnings
from collections.abc import Iterator

import dagster as dg

from market_pipeline.defs.describe import table_metadata
from market_pipeline.defs.partitions import DAILY, day_of
from market_pipeline.defs.resources import Pipeline
from market_pipeline.instruments import Instrument, load_instruments
from market_pipeline.lake.working import read_rows
from market_pipeline.quality.checks import (
    COMPLETENESS,
    CROSSED,
    GAP,
    PRECISION,
    SCHEMA,
    SKEW,
    Check,
    CheckOutcome,
    evaluate,
)
from market_pipeline.quality.row import ReportRow
from market_pipeline.tables import TABLES

__all__ = ["CHECKS"]

_CHECKED_ASSET: dict[Check, str] = {
    SCHEMA: "raw_book_deltas",
    COMPLETENESS: "raw_book_deltas",
    GAP: "book_bbo",
    SKEW: "book_bbo",
    PRECISION: "book_bbo",
    CROSSED: "book_bbo",
}

_Finding = tuple[Instrument, CheckOutcome]


def _spec(check: Check, asset: str) -> dg.AssetCheckSpec:
    with warnings.catch_warnings():
        # Partitioned checks are a preview of this very release, which is pinned.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return dg.AssetCheckSpec(
            check.name,
            asset=asset,
            description=check.sentence,
            additional_deps=["validation_report"],
            blocking=False,
            metadata={"docs": dg.MetadataValue.path(f"docs/{check.docs_page}")},
            partitions_def=DAILY,
        )


@dg.multi_asset_check(
    name="quality_checks",
    specs=[_spec(check, asset) for check, asset in _CHECKED_ASSET.items()],
    can_subset=True,
)
def quality_checks(
    context: dg.AssetCheckExecutionContext, pipeline: Pipeline
) -> Iterator[dg.AssetCheckResult]:
    """Hold the figures of the day's report against each instrument's thresholds."""
    frame = read_rows(pipeline.warehouse, TABLES["validation_report"], day_of(context))
    rows = {row.instrument_id: row for row in map(ReportRow.from_record, frame.to_dicts())}
    # All of them, also in a run for some: a rerun of one must not hide what fails elsewhere.
    instruments = load_instruments(pipeline.settings.instruments_file)
    found = [
        (instrument, outcome)
        for instrument in instruments
        if instrument.id in rows
        for outcome in evaluate(rows[instrument.id], instrument.thresholds)
    ]
    unreported = [each.id for each in pipeline.selected if each.id not in rows]
    wanted = {key.name for key in context.selected_asset_check_keys}
    for check, asset in _CHECKED_ASSET.items():
        findings = [finding for finding in found if finding[1].check == check]
        # A check that could be asked of no instrument neither passed nor failed.
        if check.name in wanted and (findings or unreported):
            yield _result(check, asset, findings, unreported)


def _result(
    check: Check, asset: str, findings: list[_Finding], unreported: list[str]
) -> dg.AssetCheckResult:
    failed = [finding for finding in findings if not finding[1].passed]
    severe = any(outcome.severity == "ERROR" for _, outcome in failed)
    said = [f"{instrument.id}: {outcome.summary}" for instrument, outcome in failed]
    if unreported:
        said.append(f"No report row of this day for {', '.join(unreported)}: materialize it.")
    return dg.AssetCheckResult(
        check_name=check.name,
        asset_key=asset,
        passed=not said,
        severity=dg.AssetCheckSeverity.ERROR if severe else dg.AssetCheckSeverity.WARN,
        description="\n\n".join(said) or check.sentence,
        metadata={
            "failed": len(failed),
            "instruments": table_metadata([_line(*finding) for finding in findings]),
            "docs": dg.MetadataValue.path(f"docs/{check.docs_page}"),
        },
    )


def _line(instrument: Instrument, outcome: CheckOutcome) -> dict[str, object]:
    return {
        "instrument": instrument.id,
        "result": "passed" if outcome.passed else outcome.severity,
        "figure": f"{outcome.figure:g}",
        "threshold": f"{outcome.threshold:g}",
        "finding": outcome.summary,
    }


CHECKS = [quality_checks]
