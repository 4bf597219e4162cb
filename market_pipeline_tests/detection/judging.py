"""A raw day judged by every stage in turn, published as the pipeline does, without Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.lake.published import publish, scan
from market_pipeline.quality.checks.base import CheckOutcome
from market_pipeline.quality.evaluate import evaluate
from market_pipeline.quality.findings import Finding
from market_pipeline.quality.row import ReportRow
from market_pipeline.settings import load_settings
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.stages.books import rebuild_day
from market_pipeline.stages.instrument import DayOfRaw
from market_pipeline.stages.judged import PublishedBooks
from market_pipeline.stages.profile import profile_day
from market_pipeline.stages.raw import RawObjects, register_day
from market_pipeline.stages.report import report_day
from market_pipeline.tables import TABLES

_RAW = {"raw_book_deltas": DELTAS, "raw_book_snapshots": SNAPSHOTS, "raw_trades": TRADES}
_BIG = ("book_bbo", "book_depth", "book_checkpoints", "book_intervals")


@dataclass(frozen=True)
class Judged:
    """What was said of one instrument's day."""

    row: ReportRow
    findings: list[Finding]
    outcomes: dict[str, CheckOutcome]

    @property
    def failed(self) -> dict[str, str]:
        """The failed checks and their severities."""
        return {name: said.severity for name, said in self.outcomes.items() if not said.passed}

    def places(self, check: str) -> list[Finding]:
        """Where a check found something."""
        return [finding for finding in self.findings if finding.check == check]


def judge(
    lake: Path, data_dir: Path, instruments: Sequence[Instrument], day: date
) -> dict[str, Judged]:
    """Every stage of a day up to the verdicts, by symbol."""
    settings = load_settings(
        data_dir=data_dir, lake_uri=str(lake), instruments_file=data_dir / "instruments.yaml"
    )
    warehouse = Warehouse(data_dir)
    warehouse.prepare()
    objects = {}
    for name, raw in _RAW.items():
        rows = [
            row for each in instruments for row in register_day(lake, raw, TABLES[name], each, day)
        ]
        objects[name] = RawObjects(lake, TABLES[name].frame(rows))
    raw_day = DayOfRaw(day, lake, *objects.values())
    profiles = TABLES["raw_profiles"].frame(profile_day(raw_day, instruments))
    raw_day = DayOfRaw(day, lake, *objects.values(), profiles)
    rebuilt = rebuild_day(raw_day, instruments, settings, warehouse)
    for name in _BIG:
        table = TABLES[name]
        publish(warehouse, table, day, rebuilt.staged[table.sql_name], withdrawn=rebuilt.withdrawn)
    bbo, depth, _, intervals = (scan(warehouse, TABLES[name], day) for name in _BIG)
    records = TABLES["book_rebuilds"].frame(rebuilt.records)
    judged = report_day(
        raw_day,
        instruments,
        PublishedBooks(records, bbo, depth, intervals),
        settings,
        warehouse,
        as_of_ns=2**62,
    )
    return {
        instrument.symbol: Judged(
            each.row,
            each.findings,
            {said.check.name: said for said in evaluate(each.row, instrument.thresholds)},
        )
        for instrument, each in zip(instruments, judged, strict=True)
    }
