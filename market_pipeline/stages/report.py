"""Measures and judges the rebuilt instruments of a day: one verdict row for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.errors import MarketPipelineError
from market_pipeline.instruments import Instrument
from market_pipeline.quality.intervals import IntArray
from market_pipeline.quality.precision import PrecisionLoss, PrecisionReport
from market_pipeline.quality.report import BookEvidence, build_report, report_failure
from market_pipeline.quality.row import ReportRow
from market_pipeline.sources.crypto_lake import read_trades
from market_pipeline.stages.raw import RawObjects
from market_pipeline.stages.rows import count_rows, of_instrument, read_rows

__all__ = ["report_day"]

_MESSAGES = {
    "ts_origin_ns": np.int64,
    "ts_receipt_ns": np.int64,
    "sequence_number": np.int64,
    "flags": np.uint16,
}
"""What the report takes of every message: 26 bytes."""
_BATCH_ROWS = 1 << 17
_NO_TIMES: IntArray = np.empty(0, dtype=np.int64)


def report_day(
    day: date,
    instruments: Sequence[Instrument],
    rebuilds: pl.DataFrame,
    bbo: pl.LazyFrame,
    trades: RawObjects,
    *,
    as_of_ns: int,
    vendor_lag_seconds: int,
) -> list[ReportRow]:
    """The verdict rows of a day, one per instrument in the order given.

    Args:
        day: The UTC day.
        instruments: Whose rows to make.
        rebuilds: The day's rows of `books.rebuilds`.
        bbo: The day's rows of `books.bbo`.
        trades: The day's registered trades.
        as_of_ns: When the verdict is given: a day without data is pending until it is due.
        vendor_lag_seconds: How long after the day's end its data is due.
    """
    return [
        _report_instrument(
            day,
            instrument,
            rebuilds.filter(of_instrument(instrument)),
            bbo,
            trades,
            as_of_ns=as_of_ns,
            vendor_lag_seconds=vendor_lag_seconds,
        )
        for instrument in instruments
    ]


def _report_instrument(
    day: date,
    instrument: Instrument,
    rebuild: pl.DataFrame,
    bbo: pl.LazyFrame,
    trades: RawObjects,
    *,
    as_of_ns: int,
    vendor_lag_seconds: int,
) -> ReportRow:
    record = rebuild.row(0, named=True) if rebuild.height else None
    recorded = record or {
        "outcome": "no_data",
        "failure_kind": "MissingDataError",
        "failure": "The book of this day was not rebuilt. Materialize the books of this day.",
        "code_version": None,
    }
    try:
        trade_times = _trade_times(trades, instrument)
    except MarketPipelineError as error:
        # Without the trades that the book was rebuilt beside, no silence can be judged.
        if recorded["outcome"] == "rebuilt":
            recorded |= {
                "outcome": "quarantined",
                "failure_kind": type(error).__name__,
                "failure": str(error),
            }
    if record is None or recorded["outcome"] != "rebuilt":
        return report_failure(
            instrument,
            day,
            outcome=recorded["outcome"],
            failure_kind=recorded["failure_kind"],
            failure=recorded["failure"],
            code_version=recorded["code_version"],
            as_of_ns=as_of_ns,
            vendor_lag_seconds=vendor_lag_seconds,
        )
    trade_origin_ns, trade_receipt_ns = trade_times or (_NO_TIMES, _NO_TIMES)
    return build_report(
        instrument,
        day,
        _evidence(record, trades=None if trade_times is None else len(trade_origin_ns)),
        **_messages(bbo, instrument),
        trade_origin_ns=trade_origin_ns,
        trade_receipt_ns=trade_receipt_ns,
        as_of_ns=as_of_ns,
    )


def _trade_times(trades: RawObjects, instrument: Instrument) -> tuple[IntArray, IntArray] | None:
    """The origin and the receipt times of the trades; None if there is no trades file."""
    files, _ = trades.files_if_any(instrument)
    if not files:
        return None
    prints = read_trades(files)
    return prints.ts_origin_ns, prints.ts_receipt_ns


def _messages(bbo: pl.LazyFrame, instrument: Instrument) -> dict[str, NDArray[Any]]:
    """The times, sequence numbers and flags of an instrument's messages, by column."""
    count = count_rows(bbo, instrument)
    columns = {name: np.empty(count, dtype) for name, dtype in _MESSAGES.items()}
    filled = 0
    for rows in read_rows(bbo, instrument, list(columns), _BATCH_ROWS):
        for name, values in columns.items():
            values[filled : filled + rows.height] = rows[name].to_numpy()
        filled += rows.height
    return columns


def _evidence(record: Mapping[str, Any], *, trades: int | None) -> BookEvidence:
    tick, lot = Decimal(record["tick"]), Decimal(record["lot"])
    seed = record["seed_sequence_number"]
    examined = bool(record["exams"])
    return BookEvidence(
        seed=None
        if seed is None
        else f"{record['seed']}, sequence number {seed}".replace("_", " "),
        rows=record["rows"],
        snapshots=record["snapshots"],
        trades=trades,
        unknown_removals=record["unknown_removals"],
        exam_snapshots=record["exams"],
        exam_matching_share=(
            _share(record["exam_levels_matching"], record["exam_levels"]) if examined else None
        ),
        max_mid_deviation_ticks=record["max_mid_deviation_ticks"],
        ghost_share=(
            _share(record["exam_levels_ghost"], record["exam_levels_ours"]) if examined else None
        ),
        known_low_price=record["known_low_price"],
        known_high_price=record["known_high_price"],
        tick=tick,
        lot=lot,
        tick_inferred=record["tick_inferred"],
        lot_inferred=record["lot_inferred"],
        price_precision=_precision(record, "price", tick),
        size_precision=_precision(record, "size", lot),
        input_sha256=tuple(record["input_sha256"]),
        code_version=record["code_version"],
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _precision(
    record: Mapping[str, Any], column: Literal["price", "size"], step: Decimal
) -> PrecisionReport:
    places = zip(
        record[f"{column}_loss_files"],
        record[f"{column}_loss_rows"],
        record[f"{column}_loss_values"],
        strict=True,
    )
    first = tuple(PrecisionLoss.at(file, row, value, step) for file, row, value in places)
    return PrecisionReport(column, step, record[f"{column}_losses"], first)
