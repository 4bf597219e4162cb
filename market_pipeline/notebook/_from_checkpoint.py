"""From the last checkpoint before a published row to the full book of that row, by the raw rows.

What the pipeline did between the two is done again: the same messages, the snapshots in between,
the instrument's policies, and a gap wherever a published row is flagged so. In the end the best bid
and ask and the flags must be those of the published row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.boundaries import first_rows
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.scale import Scale
from market_pipeline.books.soundness import Mark, marks_of
from market_pipeline.books.tables import BBO, CHECKPOINTS
from market_pipeline.config.instruments import Instrument, load_instruments
from market_pipeline.config.settings import Settings
from market_pipeline.errors import CheckpointError, LakeFileError, MissingDataError
from market_pipeline.notebook.book import Book
from market_pipeline.notebook.feeds import feeds_of
from market_pipeline.notebook.in_memory import snapshot_slices
from market_pipeline.sources.binance_capture import Findings
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, RawTable, open_shard
from market_pipeline.stages.raw.objects import RawObjects
from market_pipeline.stages.rebuild.seed import closing_book, keyframe_of
from market_pipeline.tables import open_catalogue
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan

__all__ = ["PublishedRow", "replayed"]

_TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")

_OF_SNAPSHOTS_AROUND = (
    BookFlag.STALE | BookFlag.BAD_TS_RECEIPT | BookFlag.BAD_TS_ORIGIN | BookFlag.OUTSIDE_DAY
)
_NO_START = int(BookFlag.CROSSED | BookFlag.SNAPSHOT_MISMATCH)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A row of `books.bbo`; `message` is its number in its day from 0."""

    exchange: str
    symbol: str
    day: date
    message: int
    ts_receipt_ns: int
    sequence_number: int
    flags: int
    bid_price_ticks: int | None
    bid_size_lots: int | None
    ask_price_ticks: int | None
    ask_size_lots: int | None

    @property
    def instrument(self) -> str:
        """The instrument as VENUE:SYMBOL."""
        return f"{self.exchange}:{self.symbol}"


@dataclass(frozen=True, slots=True)
class _Start:
    """The book to begin with; None is an empty one. `messages` of the row's day are in it."""

    book: Keyframe | None
    messages: int

    @property
    def state(self) -> RebuildState | None:
        """The state to resume from."""
        if self.book is None:
            return None
        of_that_day = self.messages > 0
        after = RebuildState.after_keyframe if of_that_day else RebuildState.after_close
        return after(self.book)


def replayed(row: PublishedRow, settings: Settings) -> Book:
    """The full book after the message of a published row.

    Raises:
        MissingDataError: The raw rows are not in the lake any more.
        CheckpointError: The checkpoint is damaged, or the replay does not end at the published row.
        LakeFileError: A raw file cannot be read, or changed since it was registered.
        InstrumentsError: The instruments file is not usable.
    """
    warehouse = Warehouse(settings.data_dir)
    with open_catalogue(settings.data_dir) as catalogue:
        record = _record(catalogue, row)
        deltas = _rows_of(catalogue, "lake.raw_book_deltas", row)
        snapshots = _rows_of(catalogue, "lake.raw_book_snapshots", row)
    scales = record.scales
    if record.is_of_snapshots:
        instrument = _instrument(row.instrument, settings)
        files = _files(RawObjects(settings.lake_path, snapshots), instrument, row)
        snapshot = _snapshot(row, files, scales)
        _refuse_another_book(snapshot, row)
        return Book.of_keyframe(snapshot, *scales)
    start = _start(warehouse, row, record.seed, scales)
    book = start.book
    if book is None or start.messages <= row.message:
        instrument = _instrument(row.instrument, settings)
        book = _replay(
            _messages(warehouse, row, start.messages),
            _files(RawObjects(settings.lake_path, deltas), instrument, row),
            _files(RawObjects(settings.lake_path, snapshots), instrument, row),
            instrument,
            scales,
            start,
            row.day,
        )
    _refuse_another_book(book, row)
    return Book.of_keyframe(replace(book, flags=row.flags), *scales)


def _record(catalogue: duckdb.DuckDBPyConnection, row: PublishedRow) -> RebuildRecord:
    """How the row's day was rebuilt."""
    records = _rows_of(catalogue, "books.rebuilds", row).filter(pl.col("outcome") == "rebuilt")
    if records.is_empty():
        raise MissingDataError(
            "books.rebuilds does not say how that day was rebuilt",
            next_step="A run was stopped between two tables: run the books of that day again.",
            exchange=row.exchange,
            symbol=row.symbol,
            day=row.day,
        )
    return RebuildRecord.from_record(records.row(0, named=True))


def _rows_of(catalogue: duckdb.DuckDBPyConnection, table: str, row: PublishedRow) -> pl.DataFrame:
    """The rows of a small table that are about the row's instrument and day."""
    return catalogue.execute(
        f"FROM {table} WHERE exchange = ? AND symbol = ? AND dt = ?",
        [row.exchange, row.symbol, row.day],
    ).pl()


def _instrument(name: str, settings: Settings) -> Instrument:
    """The instrument as it is configured, or with the default policies if it is not."""
    if settings.instruments_file.exists():
        for each in load_instruments(settings.instruments_file):
            if each.id == name:
                return each
    venue, _, symbol = name.partition(":")
    return Instrument(venue=venue, symbol=symbol, source="crypto_lake")


def _files(registered: RawObjects, instrument: Instrument, row: PublishedRow) -> list[Path]:
    try:
        files, _ = registered.files_if_any(instrument)
    except LakeFileError as error:
        if error.file is None or Path(error.file).exists():
            raise
        raise MissingDataError(
            "The raw rows that lead to this instant are not in the lake any more",
            next_step="Fetch the file into the lake again, or ask for the instant of a checkpoint: "
            "those in books.checkpoints need no raw rows.",
            exchange=instrument.venue,
            symbol=instrument.symbol,
            day=row.day,
            file=error.file,
            expected=error.expected,
            found=error.found,
        ) from error
    return files


def _start(
    warehouse: Warehouse, row: PublishedRow, seed: str | None, scales: tuple[Scale, Scale]
) -> _Start:
    """The last checkpoint of the day that the row's message is not before.

    Not a crossed one, or one in doubt: since when it was, and what led there, is not known from it.
    """
    checkpoints = scan(warehouse, CHECKPOINTS, row.day, {row.instrument})
    before = checkpoints.filter(
        (pl.col("messages") <= row.message + 1) & (pl.col("flags") & _NO_START == 0)
    )
    messages = before.select(pl.col("messages").max()).collect().item()
    if messages is not None:
        found = checkpoints.filter(pl.col("messages") == messages).last().collect()
        return _Start(keyframe_of(found.row(0, named=True), *scales), messages)
    if seed != "previous_close":
        return _Start(None, 0)
    close = closing_book(warehouse, row.instrument, row.day - timedelta(days=1))
    if close is None:
        raise _does_not_lead_there("the closing book of the day before", "none is published")
    return _Start(keyframe_of(close, *scales), 0)


def _snapshot(row: PublishedRow, files: Sequence[Path], scales: tuple[Scale, Scale]) -> Keyframe:
    """The snapshot that a published row of a day of snapshots is made of."""
    keys = {"receipt_timestamp": "ts_receipt_ns", "sequence_number": "sequence_number"}
    same = [pl.col(raw) == getattr(row, column) for raw, column in keys.items()]
    found = _raw_rows(files, SNAPSHOTS, pl.all_horizontal(same))
    options = RebuildOptions(depth_interval_ms=None)
    marks = np.zeros(found.height, np.int32)
    rebuild = SnapshotRebuild(*scales, options, silence_ns=0, marks=marks)
    batches = (
        replace(batch, ts_origin_ns=found["timestamp"].to_numpy())
        for batch in snapshot_slices(found)
    )
    closing = [block for block in rebuild.blocks(batches) if isinstance(block, Keyframe)]
    if not closing:
        raise _does_not_lead_there("a snapshot of that time and number", "none that is usable")
    # Whether it went stale, and whether its stamps are sound, follows from those around it.
    of_others = row.flags & int(_OF_SNAPSHOTS_AROUND)
    return replace(closing[-1], flags=closing[-1].flags | of_others)


def _messages(warehouse: Warehouse, row: PublishedRow, first: int) -> pl.DataFrame:
    """The published rows from a message of the day on, up to the row itself."""
    rows = scan(warehouse, BBO, row.day, {row.instrument}).slice(first, row.message + 1 - first)
    return rows.select("sequence_number", "flags", receipt_timestamp="ts_receipt_ns").collect()


def _replay(
    messages: pl.DataFrame,
    delta_files: Sequence[Path],
    snapshot_files: Sequence[Path],
    instrument: Instrument,
    scales: tuple[Scale, Scale],
    start: _Start,
    day: date,
) -> Keyframe:
    """The closing book of the messages, from the raw rows and by the instrument's policies."""
    keys = ["receipt_timestamp", "sequence_number"]
    between = [pl.col(key).is_between(messages[key].min(), messages[key].max()) for key in keys]
    deltas = _from_to(_raw_rows(delta_files, DELTAS, pl.all_horizontal(between)), messages, keys)
    # Those of earlier messages were met before; that of the last message is met after it.
    sequence = pl.col("sequence_number")
    sound = messages.filter(pl.col("flags") & int(BookFlag.BAD_SEQUENCE) == 0)["sequence_number"]
    unmet = sequence < (sound[-1] if sound.len() else messages["sequence_number"][-1])
    if start.book is not None and start.messages:
        unmet &= sequence >= start.book.sequence_number
    snapshots = _raw_rows(snapshot_files, SNAPSHOTS, unmet) if snapshot_files else None
    starts = _published_starts(deltas)
    if starts.size != messages.height:
        raise _does_not_lead_there(f"{messages.height} messages", f"{starts.size} in the lake")
    in_gap = messages["flags"].to_numpy() & int(BookFlag.GAP) != 0
    rebuild = Rebuild(
        *scales,
        RebuildOptions.of(instrument.policies, depth_interval_ms=None, keyframe_seconds=0, day=day),
        gap_rows=starts[in_gap],
        start=start.state,
    )
    feeds = feeds_of(deltas, snapshots)
    blocks = rebuild.blocks(feeds.deltas(Findings()), feeds.snapshots(Findings()))
    *_, closing = (block for block in blocks if isinstance(block, Keyframe))
    return closing


def _from_to(rows: pl.DataFrame, messages: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """The raw rows from those of the first message up to those of the last; none without them."""
    of_first, of_last = (
        np.flatnonzero(
            rows.select(pl.all_horizontal(pl.col(key) == messages[key][at] for key in keys))
            .to_series()
            .to_numpy()
        )
        for at in (0, -1)
    )
    if of_first.size == 0 or of_last.size == 0:
        return rows.clear()
    return rows.slice(int(of_first[0]), int(of_last[-1]) + 1 - int(of_first[0]))


def _published_starts(deltas: pl.DataFrame) -> NDArray[np.int64]:
    """The first rows of the messages that have a row in `books.bbo`: all but the old ones."""
    columns = ("timestamp", "receipt_timestamp", "sequence_number")
    first = first_rows([tuple(deltas[name].to_numpy() for name in columns)])
    old = marks_of(first.ts_origin_ns, first.ts_receipt_ns, first.sequence_number) & Mark.OLD
    starts: NDArray[np.int64] = first.row[old == 0]
    return starts


def _raw_rows(files: Sequence[Path], table: RawTable, wanted: pl.Expr) -> pl.DataFrame:
    """Some rows of a day's shards in order; row groups that cannot hold any are not read.

    Raises:
        LakeFileError, SchemaError: A file cannot be read, or has other columns.
    """
    parts = []
    for file in files:
        parquet, names = open_shard(file, table)
        parquet.close()
        rows = pl.scan_parquet(file, glob=False, hive_partitioning=False)
        parts.append(rows.select(pl.col(own).alias(raw) for raw, own in names.items()))
    try:
        return pl.concat(parts).filter(wanted).collect()
    except pl.exceptions.PolarsError as error:
        raise LakeFileError(
            f"A {table.name} file is damaged inside",
            next_step="Fetch the day from the vendor again, then run its books again.",
            file=files[0].parent,
            found=str(error),
        ) from error


def _refuse_another_book(book: Keyframe, row: PublishedRow) -> None:
    """Refuses a book whose best bid and ask, or flags, are not those of the published row."""
    found: list[int | None] = []
    for prices, sizes in (
        (book.bid_price_ticks, book.bid_size_lots),
        (book.ask_price_ticks, book.ask_size_lots),
    ):
        found += [int(prices[0]), int(sizes[0])] if prices.size else [None, None]
    # What later snapshots show of the row is not known when its book is replayed.
    lookback = int(BookFlag.SNAPSHOT_MISMATCH | BookFlag.OUT_OF_ORDER)
    flags = book.flags & ~lookback | row.flags & lookback
    columns = dict(zip(_TOUCH, found, strict=True)) | {"flags": flags}
    if any(getattr(row, name) != value for name, value in columns.items()):
        published = {name: getattr(row, name) for name in columns}
        raise _does_not_lead_there(str(published), str(columns))


def _does_not_lead_there(expected: str, found: str) -> CheckpointError:
    return CheckpointError(
        "The checkpoint and the raw rows after it do not lead to the published row",
        next_step="Run the books of that day again: since they were published the raw files or "
        "the instrument's policies changed.",
        expected=expected,
        found=found,
    )
