"""Days that were rebuilt and published, as the plain twin is given them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl

from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.tables import BBO, CHECKPOINTS, DEPTH, INTERVALS, REBUILDS
from market_pipeline.config.instruments import Instrument
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.register import register_day
from market_pipeline.stages.validation.context import InstrumentDay, PublishedBooks
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.conform import empty_frame
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline_tests.stages.day_rows import FrameRows, staged_rows
from market_pipeline_tests.stages.days import ASSETS, rebuild_instrument, settings, with_profiles


def published(
    root: Path, lake: Path, warehouse: Warehouse, of: Instrument, day: date, **changes: object
) -> InstrumentDay:
    """Rebuilds a day of the lake, publishes its checkpoints, and hands it on to be marked."""
    objects = []
    for raw_table in (DELTAS, SNAPSHOTS, TRADES):
        table = TABLES[ASSETS[raw_table.name]]
        rows = register_day(lake, raw_table, of, day)
        objects.append(RawObjects(lake, table.frame(rows)))
    raw = RegisteredDay(day, lake, *objects)
    if "infer" in (of.tick, of.lot):
        raw = with_profiles(raw, of)
    given = settings(root, **changes)
    files, record = rebuild_instrument(raw, of, given, warehouse)
    publish(warehouse, CHECKPOINTS, day, files[CHECKPOINTS.sql_name])
    books = PublishedBooks(
        pl.from_dicts([record], schema=empty_frame(REBUILDS.arrow_schema).schema),
        *(staged_rows(table, files[table.sql_name]) for table in (BBO, DEPTH, INTERVALS)),
    )
    record = RebuildRecord.from_record(record)
    return InstrumentDay(of, Lookups(raw, warehouse), record, books, given)


def tampered(day: InstrumentDay, table: str, row: int, **values: Any) -> InstrumentDay:
    """The same day with some values of one published row changed."""
    here = pl.int_range(pl.len()) == row
    rows = getattr(day.books, table).of(day.instrument.id)
    frame = rows.with_columns(
        pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).cast(pl.Int64).alias(name)
        for name, value in values.items()
    )
    return replace(day, books=replace(day.books, **{table: FrameRows(frame.collect())}))
