"""The full books of published rows, each from the last checkpoint before it and the raw rows since.

What the pipeline did between the two is done again by the rebuild itself (`stages.rebuild.replay`).
In the end the best bid and ask must be those of the published row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.scale import Scale
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import LakeFileError, MissingDataError
from market_pipeline.notebook.book import Book
from market_pipeline.notebook.in_memory import snapshot_slices
from market_pipeline.notebook.loaders import load_bbo
from market_pipeline.notebook.times import day_of
from market_pipeline.security.stored import is_stored
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, open_shard
from market_pipeline.sources.parquet_window import scan_shard, scanning
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.stages.rebuild.replay import DayReplay, PublishedDay
from market_pipeline.tables import open_catalogue
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["PublishedRow", "days_between", "published_day", "replayed"]

_TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
_RAW = {
    "lake.raw_book_deltas": DELTAS,
    "lake.raw_book_snapshots": SNAPSHOTS,
    "lake.raw_trades": TRADES,
}
# So many messages are replayed about as fast as a new start is found.
_WORTH_A_START = 1 << 17

_OF_SNAPSHOTS_AROUND = (
    BookFlag.STALE | BookFlag.BAD_TS_RECEIPT | BookFlag.BAD_TS_ORIGIN | BookFlag.OUTSIDE_DAY
)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A row of `books.bbo`; `message` is its number in its day from 0."""

    message: int
    ts_receipt_ns: int
    sequence_number: int
    flags: int
    bid_price_ticks: int | None
    bid_size_lots: int | None
    ask_price_ticks: int | None
    ask_size_lots: int | None


def replayed(
    instrument: str, day: date, rows: Iterable[PublishedRow], settings: Settings
) -> Iterator[Book]:
    """The full books after the messages of published rows of a day, in order.

    Raises:
        MissingDataError: The raw rows are not in the lake any more.
        CheckpointError: The checkpoint is damaged, or the replay does not lead to a published row.
        LakeFileError: A raw file cannot be read, or changed since it was registered.
    """
    published = published_day(instrument, day, settings)
    scales = published.record.scales
    replay: DayReplay | None = None
    for row in rows:
        if published.record.is_of_snapshots:
            book = _snapshot(row, published, scales)
        else:
            if replay is None or row.message - replay.message > _WORTH_A_START:
                replay = DayReplay(published, row.message + 1)
                if replay.message > row.message and not _is_after(replay.book(), row):
                    # A snapshot began the book again between the message and the checkpoint.
                    replay = DayReplay(published, row.message)
            for _ in replay.until(row.message):
                pass
            book = replay.book()
        _refuse_another_book(book, row, published)
        yield Book.of_keyframe(replace(book, flags=row.flags), *scales)


def published_day(instrument: str, day: date, settings: Settings) -> PublishedDay:
    """A published day of an instrument, with the raw files that were registered for it.

    Raises:
        MissingDataError: How the day was rebuilt is not recorded.
    """
    venue, _, symbol = instrument.partition(":")
    of_day = Instrument(venue=venue, symbol=symbol, source="crypto_lake")
    with open_catalogue(settings.data_dir) as catalogue:
        record = _record(catalogue, of_day, day)
        registered = {
            raw.name: RawObjects(settings.lake_path, _rows_of(catalogue, table, of_day, day))
            for table, raw in _RAW.items()
        }
    return PublishedDay(
        Warehouse(settings.data_dir),
        record,
        lambda table: _files(registered[table.name], of_day, day),
    )


def days_between(
    instrument: str,
    from_ns: int,
    until_ns: int,
    settings: Settings,
    *,
    with_trades: bool = False,
) -> Iterator[tuple[PublishedDay, int]]:
    """The published days of an instrument in a span, each with its first message at or after it.

    A day whose messages are all before the span is passed over, or given with its last message
    where trades behind it may be in the span.

    Raises:
        MissingDataError: A day of the span is not published.
    """
    first, last = (day_of(ns) for ns in (from_ns, max(until_ns - 1, from_ns)))
    for n in range((last - first).days + 1):
        day = first + timedelta(days=n)
        # All rows: the message's number is its place among them, and a day may have no valid one.
        rows = load_bbo(
            *(instrument, day),
            valid_only=False,
            data_dir=settings.data_dir,
            columns=["ts_receipt_ns"],
        )
        later = rows.with_row_index("message").filter(pl.col("ts_receipt_ns") >= from_ns)
        message: int | None = later.select(pl.col("message").min()).collect().item()
        if message is None and with_trades:
            message = rows.select(pl.len()).collect().item() - 1
        if message is not None:
            yield published_day(instrument, day, settings), message


def _record(
    catalogue: duckdb.DuckDBPyConnection, instrument: Instrument, day: date
) -> RebuildRecord:
    """How the day was rebuilt."""
    records = _rows_of(catalogue, "books.rebuilds", instrument, day)
    records = records.filter(pl.col("outcome") == "rebuilt")
    if records.is_empty():
        raise MissingDataError(
            "books.rebuilds does not say how that day was rebuilt",
            next_step="A run was stopped between two tables: run the books of that day again.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            day=day,
        )
    return RebuildRecord.from_record(records.row(0, named=True))


def _rows_of(
    catalogue: duckdb.DuckDBPyConnection, table: str, instrument: Instrument, day: date
) -> pl.DataFrame:
    """The rows of a small table that are about an instrument and day."""
    return catalogue.execute(
        f"FROM {table} WHERE exchange = ? AND symbol = ? AND dt = ?",
        [instrument.venue, instrument.symbol, day],
    ).pl()


def _files(registered: RawObjects, instrument: Instrument, day: date) -> list[Path]:
    try:
        files, _ = registered.files_if_any(instrument)
    except LakeFileError as error:
        if error.file is None or is_stored(Path(error.file)):
            raise
        raise MissingDataError(
            "The raw rows that lead to this instant are not in the lake any more",
            next_step="Fetch the file into the lake again, or ask for the instant of a checkpoint: "
            "those in books.checkpoints need no raw rows.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            day=day,
            file=error.file,
            expected=error.expected,
            found=error.found,
        ) from error
    return files


def _snapshot(row: PublishedRow, day: PublishedDay, scales: tuple[Scale, Scale]) -> Keyframe:
    """The snapshot that a published row of a day of snapshots is made of."""
    keys = {"receipt_timestamp": "ts_receipt_ns", "sequence_number": "sequence_number"}
    same = [pl.col(raw) == getattr(row, column) for raw, column in keys.items()]
    found = _raw_rows(day.files(SNAPSHOTS), SNAPSHOTS, pl.all_horizontal(same))
    options = RebuildOptions(depth_interval_ms=None)
    marks = np.zeros(found.height, np.int32)
    rebuild = SnapshotRebuild(*scales, options, silence_ns=0, marks=marks)
    batches = (
        replace(batch, ts_origin_ns=found["timestamp"].to_numpy())
        for batch in snapshot_slices(found)
    )
    closing = [block for block in rebuild.blocks(batches) if isinstance(block, Keyframe)]
    if not closing:
        raise day.error("a snapshot of that time and number", "none that is usable")
    # Whether it went stale, and whether its stamps are sound, follows from those around it.
    of_others = row.flags & int(_OF_SNAPSHOTS_AROUND)
    return replace(closing[-1], flags=closing[-1].flags | of_others)


def _raw_rows(files: Sequence[Path], table: RawTable, wanted: pl.Expr) -> pl.DataFrame:
    """Some rows of a day's shards in order; row groups that cannot hold any are not read.

    Raises:
        LakeFileError, SchemaError: A file cannot be read, or has other columns.
    """
    parts = []
    for file in files:
        parquet, names = open_shard(file, table)
        columns = [pl.col(own).alias(raw) for raw, own in names.items()]
        with scanning(file, table.name), parquet:
            parts += [
                part.select(columns).filter(wanted).collect()
                for part in scan_shard(parquet, file, list(names.values()))
            ]
    return pl.concat(parts)


def _is_after(book: Keyframe, row: PublishedRow) -> bool:
    """Whether a book is what a published row's message led to, as far as the row tells."""
    is_as_valid = (book.flags ^ row.flags) & int(INVALIDATING) == 0
    return is_as_valid and _touch(book) == {name: getattr(row, name) for name in _TOUCH}


def _refuse_another_book(book: Keyframe, row: PublishedRow, day: PublishedDay) -> None:
    """Refuses a book whose best bid and ask are not those of the published row."""
    published, found = {name: getattr(row, name) for name in _TOUCH}, _touch(book)
    if found != published:
        raise day.error(str(published), str(found))


def _touch(book: Keyframe) -> dict[str, int | None]:
    """The best bid and ask by the names of `books.bbo`."""
    found: list[int | None] = []
    sides = [(book.bid_price_ticks, book.bid_size_lots), (book.ask_price_ticks, book.ask_size_lots)]
    for prices, sizes in sides:
        found += [int(prices[0]), int(sizes[0])] if prices.size else [None, None]
    return dict(zip(_TOUCH, found, strict=True))
