"""Computes the per-minute metrics of a day's instruments from what was published of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal

import numpy as np
import polars as pl

from market_pipeline.errors import MarketPipelineError
from market_pipeline.instruments import Instrument
from market_pipeline.metrics.minute import (
    BBO_COLUMNS,
    BOOK_METRICS,
    DEPTH_COLUMNS,
    minute_metrics,
)
from market_pipeline.quality.evaluate import evaluate
from market_pipeline.quality.row import ReportRow
from market_pipeline.sources.crypto_lake import read_trades
from market_pipeline.stages.raw import RawObjects
from market_pipeline.stages.rows import of_instrument, read_rows

__all__ = ["metrics_day"]

_BBO_BATCH_ROWS = 1 << 17
_DEPTH_BATCH_ROWS = 1 << 16


def metrics_day(
    day: date,
    instruments: Sequence[Instrument],
    reports: pl.DataFrame,
    bbo: pl.LazyFrame,
    depth: pl.LazyFrame,
    trades: RawObjects,
    warn: Callable[[str], None] = lambda _: None,
) -> pl.DataFrame:
    """The rows of `metrics.book_metrics` of a day.

    An instrument without a rebuilt book has none, and neither has one whose book a check says must
    not be used (`Check.withholds_metrics`); gaps and quiet holes, as the day's report
    located them, count as time without a book.

    Args:
        day: The UTC day.
        instruments: Whose metrics to compute.
        reports: The day's rows of `quality.validation_report`.
        bbo, depth: The day's rows of `books.bbo` and `books.depth`.
        trades: The day's registered trades. An instrument whose trades cannot be read any more has
            no rows, and the others have theirs.
        warn: Told which instrument that is, and why.
    """
    frames = [BOOK_METRICS.frame([])]
    for instrument in instruments:
        report = reports.filter(of_instrument(instrument) & (pl.col("outcome") == "rebuilt"))
        if report.is_empty():
            continue
        row = report.row(0, named=True)
        withheld = [
            said.summary
            for said in evaluate(ReportRow.from_record(row), instrument.thresholds)
            if said.withholds_metrics
        ]
        if withheld:
            warn(f"{instrument.id} has no metrics: {' '.join(withheld)}")
            continue
        starts = row["gap_starts_ns"] + row["quiet_starts_ns"]
        ends = row["gap_ends_ns"] + row["quiet_ends_ns"]
        spans = np.array(sorted(zip(starts, ends, strict=True)), np.int64).reshape(-1, 2)
        try:
            files, _ = trades.files_if_any(instrument)
            prints = read_trades(files) if files else None
        except MarketPipelineError as error:
            warn(f"{instrument.id} has no metrics: {error}")
            continue
        frames.append(
            minute_metrics(
                read_rows(bbo, instrument, BBO_COLUMNS, _BBO_BATCH_ROWS),
                read_rows(depth, instrument, DEPTH_COLUMNS, _DEPTH_BATCH_ROWS),
                prints,
                instrument=instrument,
                day=day,
                tick=Decimal(row["tick"]),
                lot=Decimal(row["lot"]),
                not_observed=spans,
            )
        )
    return pl.concat(frames)
