"""Puts the book just before it beside each trade of a day's instruments, in staged files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.tables import BOOK_TRADES
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.books_around import BOOK_COLUMNS, books_around
from market_pipeline.metrics.trades import trade_rows
from market_pipeline.quality.intervals import IntArray
from market_pipeline.sources.batches import OUTSIDE_MARKET, Trades
from market_pipeline.sources.crypto_lake_trades import locate_trades, read_trades
from market_pipeline.stages.metrics.measured import make_each
from market_pipeline.stages.published_rows import read_rows, records_of
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.staging import StagedFile, StagedWriter

__all__ = ["OffGrid", "TradeCounts", "TradesDay", "trades_day", "unknown_spans"]

_BATCH_ROWS = 1 << 17
_PLACES = 10


@dataclass(frozen=True, slots=True)
class OffGrid:
    """A price that is not on the tick, or a size that is not on the lot, and where it stands."""

    column: str
    value: float
    step: Decimal
    file: Path
    row: int


@dataclass(frozen=True, slots=True)
class TradeCounts:
    """What there is of one instrument's trades.

    Attributes:
        trades: Rows.
        without_book: Those before the first message.
        outside_market: Prints that the venue says are none of the market.
        off_tick, off_lot: Those whose price is not on the tick, whose size is not on the lot.
        off_grid: The first ten places of either.
    """

    trades: int
    without_book: int
    outside_market: int
    off_tick: int
    off_lot: int
    off_grid: tuple[OffGrid, ...]


@dataclass(frozen=True, slots=True)
class TradesDay:
    """The trades of a day's instruments.

    Attributes:
        staged: Their files of `books.trades`, one for each instrument with a rebuilt book; one
            without rows where there is no trades file.
        withdrawn: Ids of the others; what was published of them before is withdrawn.
        counts: By id, of each file.
        without: By id, why an instrument with a rebuilt book has no file.
    """

    staged: list[StagedFile] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    counts: dict[str, TradeCounts] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)


def trades_day(
    day: date,
    instruments: Sequence[Instrument],
    rebuilds: pl.DataFrame,
    bbo: DayRows,
    intervals: DayRows,
    trades: RawObjects,
    warehouse: Warehouse,
    warn: Callable[[str], None] = lambda _: None,
) -> TradesDay:
    """The rows of `books.trades` of a day.

    Whatever goes wrong with one instrument, the others have theirs.

    Args:
        day: The UTC day.
        instruments: Whose trades.
        rebuilds, bbo, intervals: The day's rows of the tables of these names in `books`.
        trades: The day's registered trades.
        warehouse: Where to stage.
        warn: Called with the instrument that has no trades though it has a book, and why.

    Raises:
        Exception: What is the machine's (`errors.is_of_machine`).
    """

    def record_of(instrument: Instrument) -> RebuildRecord | None:
        record = next(iter(records_of(rebuilds, instrument, RebuildRecord)), None)
        return record if record is not None and record.outcome == "rebuilt" else None

    def staged(instrument: Instrument, record: RebuildRecord) -> tuple[StagedFile, TradeCounts]:
        return _stage(instrument, record, bbo, intervals, trades, warehouse)

    found = make_each(day, instruments, record_of, staged, "trades", warn)
    return TradesDay(
        [file for file, _ in found.made.values()],
        [each.id for each in instruments if each.id not in found.made],
        {name: counts for name, (_, counts) in found.made.items()},
        found.without,
    )


def _stage(
    instrument: Instrument,
    record: RebuildRecord,
    bbo: DayRows,
    intervals: DayRows,
    raw: RawObjects,
    warehouse: Warehouse,
) -> tuple[StagedFile, TradeCounts]:
    """Writes an instrument's file."""
    files, _ = raw.files_if_any(instrument)
    trades = read_trades(files, warehouse.staging_dir, with_ids=True)
    tick, lot = record.scales
    books = books_around(
        read_rows(bbo, instrument, BOOK_COLUMNS, _BATCH_ROWS),
        unknown_spans(intervals.of(instrument.id)),
        trades.ts_receipt_ns,
        warehouse.staging_dir,
    )
    off_tick, off_lot = _Places(), _Places()
    scales = {"tick": format(tick.step, "f"), "lot": format(lot.step, "f")}
    with StagedWriter(warehouse, BOOK_TRADES, instrument.id, metadata=scales) as writer:
        for part in trade_rows(
            trades, books, instrument=instrument, day=record.dt, tick=tick, lot=lot
        ):
            writer.write(part.rows)
            off_tick.add(part.off_tick)
            off_lot.add(part.off_lot)

    def places() -> Iterator[OffGrid]:
        for column, off, values, step in (
            ("price", off_tick, trades.price, tick.step),
            ("amount", off_lot, trades.quantity, lot.step),
        ):
            located = locate_trades(files, off.first) if off.first else []
            for trade, (file, row) in zip(off.first, located, strict=True):
                yield OffGrid(column, float(values[trade]), step, file, row)

    counts = TradeCounts(
        trades=writer.staged.rows,
        without_book=writer.staged.rows - int(np.count_nonzero(books.before.age_ns)),
        outside_market=_outside_market(trades),
        off_tick=off_tick.count,
        off_lot=off_lot.count,
        off_grid=tuple(places()),
    )
    return writer.staged, counts


def _outside_market(trades: Trades) -> int:
    return 0 if trades.mark is None else int(np.count_nonzero(trades.mark == OUTSIDE_MARKET))


@dataclass(slots=True)
class _Places:
    """How many trades, and the first of them."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, trades: IntArray) -> None:
        self.count += trades.size
        self.first += trades[: _PLACES - len(self.first)].tolist()


def unknown_spans(intervals: pl.LazyFrame) -> dict[BookFlag, IntArray]:
    """By flag, the spans in which it holds though the row of the last message before has it not.

    Those are the beginning of a gap, and a mismatch between two messages.

    Args:
        intervals: Rows of `books.intervals` of one instrument.
    """
    spans = (
        intervals.filter(
            pl.col("invalidates")
            & ((pl.col("cause") == BookFlag.GAP.name) | (pl.col("messages") == 0))
        )
        .select("cause", "start_ns", "end_ns")
        .collect()
    )
    return {
        BookFlag[str(cause)]: rows.select("start_ns", "end_ns").to_numpy()
        for (cause,), rows in spans.partition_by("cause", as_dict=True).items()
    }
