"""A small, quiet raw day: a snapshot, a message every half minute, a trade after each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.tables import BBO, BOOK_TRADES, CHECKPOINTS, DEPTH, INTERVALS, REBUILDS
from market_pipeline.config.instruments import GapRule, Instrument
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.metrics.tables import BOOK_METRICS
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import ReportRow
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.stages.metrics.bars import BarsDay, bars_day
from market_pipeline.stages.metrics.book_metrics import MetricsDay, metrics_day
from market_pipeline.stages.metrics.information_bars import (
    InformationBarsDay,
    information_bars_day,
)
from market_pipeline.stages.metrics.trades import TradesDay, trades_day
from market_pipeline.stages.provenance import books_made_of
from market_pipeline.stages.published_rows import of_instrument
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.stages.raw.register import register_day
from market_pipeline.stages.rebuild import instrument as one_instrument
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.stages.validation.context import InstrumentDay, PublishedBooks
from market_pipeline.stages.validation.day import ValidatedDay, report_day
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.conform import empty_frame
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan_files
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline_tests.published_day import MINUTES
from market_pipeline_tests.sources.raw_files import shard, snapshots
from market_pipeline_tests.stages.day_rows import staged_rows

DAY = date(2024, 8, 8)
START_NS = round(datetime(2024, 8, 8, tzinfo=UTC).timestamp()) * 1_000_000_000
FIRST_SEQUENCE = 1_000
EVERY_NS = 30_000_000_000
MESSAGES = 24 * 60 * 2
END_NS = START_NS + 86_400 * 10**9
HOUR_NS = 3_600 * 10**9
ASSETS = {
    DELTAS.name: "raw_book_deltas",
    SNAPSHOTS.name: "raw_book_snapshots",
    TRADES.name: "raw_trades",
}


def instrument(symbol: str = "BTC-USDT", **changes: object) -> Instrument:
    """An instrument of which half a minute between two messages is no gap."""
    values = {"tick": "0.1", "lot": "0.001", "gap_rule": GapRule(silence_floor_seconds=40.0)}
    return Instrument(venue="BINANCE", symbol=symbol, source="crypto_lake", **{**values, **changes})


def delta_rows(messages: int = MESSAGES) -> pa.Table:
    """Two rows a message: a bid of 100.0 down to 99.8, and an ask of 100.5 up to 100.7."""
    number = np.repeat(np.arange(messages, dtype=np.int64), 2)
    is_bid = np.tile([True, False], messages)
    away = number % 3 * 0.1
    return pa.table(
        {
            "timestamp": START_NS + number * EVERY_NS + 1_000_000,
            "receipt_timestamp": START_NS + number * EVERY_NS + 3_000_000,
            "sequence_number": FIRST_SEQUENCE + number,
            "side_is_bid": is_bid,
            "price": np.round(np.where(is_bid, 100.0 - away, 100.5 + away), 1),
            "size": 1.0 + number % 5,
        }
    )


def snapshot_rows() -> pa.Table:
    """One snapshot, after the first message: 20 levels a side from 100.0 and 100.5 outwards."""
    levels = {
        f"{side}_{level}_price": [round(best + step * level, 1)]
        for side, best, step in (("bid", 100.0, -0.1), ("ask", 100.5, 0.1))
        for level in range(20)
    }
    sizes = {f"{side}_0_size": [1.0] for side in ("bid", "ask")}
    return snapshots(
        1,
        timestamp=[START_NS + 1_000_000],
        receipt_timestamp=[START_NS + 3_000_000],
        sequence_number=[FIRST_SEQUENCE],
        **levels,
        **sizes,
    )


def trade_rows(count: int = MESSAGES) -> pa.Table:
    """A trade a second after each message, buys and sells in turn."""
    number = np.arange(count, dtype=np.int64)
    return pa.table(
        {
            "side": pa.array(["buy", "sell"] * (count // 2), pa.string()),
            "amount": np.full(count, 0.5),
            "price": np.where(number % 2 == 0, 100.5, 100.0),
            "id": number,
            "timestamp": START_NS + number * EVERY_NS + 1_001_000_000,
            "receipt_timestamp": START_NS + number * EVERY_NS + 1_003_000_000,
        }
    )


def write_day(
    lake: Path,
    of: Instrument,
    *,
    deltas: pa.Table | None = None,
    snapshots: bool = True,
    trades: bool = True,
    shards: int = 1,
) -> list[Path]:
    """Writes the day of an instrument; the deltas cut into shards of equal size."""
    rows = delta_rows() if deltas is None else deltas
    size = -(-rows.num_rows // shards)
    folder = day_folder(lake, DELTAS, of.venue, of.symbol, DAY)
    files = [shard(folder, number + 1, rows.slice(number * size, size)) for number in range(shards)]
    for table, wanted, make in (
        (SNAPSHOTS, snapshots, snapshot_rows),
        (TRADES, trades, trade_rows),
    ):
        if wanted:
            shard(day_folder(lake, table, of.venue, of.symbol, DAY), 1, make())
    return files


def register(lake: Path, raw: RawTable, *instruments: Instrument) -> RawObjects:
    """The registered objects of a raw table."""
    return RawObjects(lake, manifest(lake, raw, *instruments))


def manifest(lake: Path, raw: RawTable, *instruments: Instrument) -> pl.DataFrame:
    """The manifest rows of a raw table."""
    table = TABLES[ASSETS[raw.name]]
    rows = [row for each in instruments for row in register_day(lake, raw, each, DAY)]
    return table.frame(rows)


def raw_day(lake: Path, *instruments: Instrument) -> RegisteredDay:
    """All three raw tables, registered."""
    objects = [register(lake, raw, *instruments) for raw in (DELTAS, SNAPSHOTS, TRADES)]
    return RegisteredDay(DAY, lake, *objects)


def with_profiles(raw: RegisteredDay, *instruments: Instrument) -> RegisteredDay:
    """The registered day with the profiles of its raw tables."""
    return replace(raw, profiles=PROFILES.frame(profile_day(raw, instruments)))


def settings(root: Path, **changes: object) -> Settings:
    """Settings with all folders below `root`."""
    values = {
        "data_dir": root / "data",
        "lake_uri": str(root / "lake"),
        "instruments_file": root / "instruments.yaml",
        "checkpoint_seconds": 21_600,
    }
    return load_settings(**{**values, **changes})


def rebuild_instrument(
    raw: RegisteredDay,
    of: Instrument,
    given: Settings,
    warehouse: Warehouse,
    progress: Callable[[str], None] = lambda _: None,
    *,
    overlap: bool = False,
) -> tuple[dict[str, list[StagedFile]], dict[str, Any]]:
    """One instrument's day rebuilt, with what it follows from as `rebuild_day` gives it."""
    made_of = books_made_of(raw, of, given, warehouse)
    files, record = one_instrument.rebuild_instrument(
        raw, of, given, warehouse, made_of, progress, overlap=overlap
    )
    return files, record.as_record()


BTC, ETH = instrument("BTC-USDT"), instrument("ETH-USDT")


def minutes_of(made: MetricsDay) -> pl.DataFrame:
    """The staged rows of a minute."""
    rows = scan_files(BOOK_METRICS, [file.path for file in made.files])
    return rows.filter(interval_seconds=60).collect()


class Later:
    """The day of some instruments, rebuilt, as the later stages are given it."""

    def __init__(
        self,
        lake: Path,
        folder: Path,
        warehouse: Warehouse,
        *instruments: Instrument,
        widths: Mapping[str, tuple[int, ...]] = MINUTES,
    ) -> None:
        instruments = instruments or (BTC, ETH)
        self.raw = raw_day(lake, *instruments)
        self.settings = settings(folder, **widths)
        rebuilt = rebuild_day(self.raw, instruments, self.settings, warehouse)
        schema = empty_frame(REBUILDS.arrow_schema).schema
        self.warehouse = warehouse
        self.rebuilds = pl.from_dicts([each.as_record() for each in rebuilt.records], schema=schema)
        self.bbo, self.depth, self.checkpoints, self.intervals = (
            staged_rows(table, rebuilt.staged[table.sql_name])
            for table in (BBO, DEPTH, CHECKPOINTS, INTERVALS)
        )

    def day_of(self, of: Instrument) -> InstrumentDay:
        """The day of one instrument as a measurement is given it."""
        (row,) = self.rebuilds.filter(of_instrument(of)).to_dicts()
        record = RebuildRecord.from_record(row)
        books = PublishedBooks(self.rebuilds, self.bbo, self.depth, self.intervals)
        lookups = Lookups(self.raw, self.warehouse)
        return InstrumentDay(of, lookups, record, books, self.settings)

    def report(self, *instruments: Instrument, **when: int) -> list[ReportRow]:
        """The verdicts of some instruments."""
        return [each.row for each in self.validated(*instruments, **when)]

    def validated(
        self, *instruments: Instrument, as_of_ns: int = END_NS + 100 * HOUR_NS, lag_hours: int = 4
    ) -> list[ValidatedDay]:
        """The verdicts of some instruments with the places where their days are wrong."""
        return report_day(
            Lookups(self.raw, self.warehouse),
            instruments,
            PublishedBooks(self.rebuilds, self.bbo, self.depth, self.intervals),
            self.settings.model_copy(update={"vendor_lag_hours": lag_hours}),
            as_of_ns=as_of_ns,
        )

    def metrics(self, *instruments: Instrument, rows: Sequence[ReportRow]) -> pl.DataFrame:
        """The metrics of some instruments, minute by minute."""
        return minutes_of(self.metrics_and_reasons(*instruments, rows=rows))

    def metrics_and_reasons(
        self, *instruments: Instrument, rows: Sequence[ReportRow]
    ) -> MetricsDay:
        """The metrics of some instruments, and why some have none."""
        reports = pl.from_dicts([row.as_record() for row in rows], infer_schema_length=None)
        return self.metrics_by(reports, *instruments)

    def metrics_by(
        self,
        reports: pl.DataFrame,
        *instruments: Instrument,
        warn: Callable[[str], None] = lambda _: None,
    ) -> MetricsDay:
        """The metrics of some instruments by the day's report."""
        traded = staged_rows(BOOK_TRADES, self.trades(*instruments).staged)
        return metrics_day(
            *(DAY, instruments, reports, self.bbo, self.depth, traded),
            *(self.raw.trades, self.warehouse, self.settings.metrics_seconds, warn),
        )

    def bars(self, *instruments: Instrument, rows: Sequence[ReportRow]) -> BarsDay:
        """The bars of some instruments at the widths of the settings."""
        reports = pl.from_dicts([row.as_record() for row in rows], infer_schema_length=None)
        widths = self.settings.bar_seconds
        return bars_day(
            DAY, instruments, reports, self.bbo, self.raw.trades, self.warehouse, widths
        )

    def information_bars(
        self, *instruments: Instrument, warn: Callable[[str], None] = lambda _: None
    ) -> InformationBarsDay:
        """The bars of equal activity of some instruments, of their trades with their books."""
        trades = staged_rows(BOOK_TRADES, self.trades(*instruments).staged)
        return information_bars_day(DAY, instruments, self.rebuilds, trades, self.warehouse, warn)

    def trades(self, *instruments: Instrument) -> TradesDay:
        """The trades of some instruments with their books."""
        return trades_day(
            *(DAY, instruments, self.rebuilds, self.bbo, self.intervals, self.raw.trades),
            self.warehouse,
        )
