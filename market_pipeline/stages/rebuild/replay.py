"""Replays an instrument's published day from any of its messages on, from its raw files.

It begins with the last checkpoint before, and does again what the rebuild did from there, by the
policies that were in force; every message must lead to its published row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.logged_replay import LoggedReplay
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.replay import PublishedRows, Replay, Replayed, ReplayMismatch
from market_pipeline.books.tables import BBO, CHECKPOINTS
from market_pipeline.config.instruments import Policies
from market_pipeline.errors import CheckpointError, MissingDataError
from market_pipeline.sources.crypto_lake import (
    DELTAS,
    SNAPSHOTS,
    RawTable,
    open_shard,
    read_deltas,
)
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.sources.parquet_window import scan_shard, scanning
from market_pipeline.stages.published_rows import in_batches
from market_pipeline.stages.rebuild.prefetch import read_ahead
from market_pipeline.stages.rebuild.seed import closing_book, keyframe_of
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan

__all__ = ["DayReplay", "PublishedDay", "published_messages"]

_BATCH_ROWS = 1 << 17
# Since when a book was crossed or in doubt, and what led there, is not known from a checkpoint.
_NO_START = int(BookFlag.CROSSED | BookFlag.SNAPSHOT_MISMATCH)
_HAS_TIME = pl.col("flags") & int(BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY) == 0
_TOUCH = [
    pl.col(f"{side}_{part}").fill_null(0)
    for side in ("bid", "ask")
    for part in ("price_ticks", "size_lots")
]
_PUBLISHED = [pl.col("ts_receipt_ns", "sequence_number"), *_TOUCH, pl.col("flags", "verified")]


@dataclass(frozen=True, slots=True)
class PublishedDay:
    """One instrument's published day and what it was rebuilt from.

    Attributes:
        warehouse: Where its rows and checkpoints are.
        record: How it was rebuilt.
        files: The raw files of one of its raw tables in order; asked for when they are needed.
    """

    warehouse: Warehouse
    record: RebuildRecord
    files: Callable[[RawTable], Sequence[Path]]

    @property
    def instrument(self) -> str:
        """Its id, VENUE:SYMBOL."""
        return f"{self.record.exchange}:{self.record.symbol}"

    def messages(self) -> pl.LazyFrame:
        """Its rows of `books.bbo`, one for each message.

        Raises:
            MissingDataError: It was published from its snapshots and has no messages.
        """
        record = self.record
        if record.is_of_snapshots:
            raise MissingDataError(
                "This day was published from its snapshots, so there are no messages to replay",
                next_step="Leave the day out, or read its rows from books.bbo and books.depth.",
                exchange=record.exchange,
                symbol=record.symbol,
                day=record.dt,
            )
        return scan(self.warehouse, BBO, record.dt, {self.instrument})

    def error(self, expected: str, found: str) -> CheckpointError:
        """The error of a day whose raw rows lead elsewhere than its published ones."""
        return CheckpointError(
            "The checkpoint and the raw rows after it do not lead to the published row",
            next_step="Run the books of that day again: since they were published the raw files "
            "or the code changed.",
            exchange=self.record.exchange,
            symbol=self.record.symbol,
            day=self.record.dt,
            expected=expected,
            found=found,
        )


class DayReplay:
    """A replay of a published day, which begins not after a message.

    Args:
        day: A day that was rebuilt from its deltas.
        message: The number, in the day from 0, of the first message that is asked for.
        changes: Whether to say who changed what.

    Raises:
        MissingDataError: The day was published from its snapshots and has no messages.
        CheckpointError: A checkpoint is damaged, or its message is not in the lake.
        LakeFileError, SchemaError: A raw file cannot be read.
    """

    def __init__(self, day: PublishedDay, message: int = 0, *, changes: bool = False) -> None:
        record = day.record
        self._day = day
        self._rows = day.messages()
        self._start, first = self._last_checkpoint(message)
        policies = record.policies
        self._replay = (LoggedReplay if changes else Replay)(
            *record.scales,
            RebuildOptions.of(
                Policies() if policies is None else Policies.model_validate_json(policies),
                depth_interval_ms=None,
                keyframe_seconds=0,
                day=record.dt,
            ),
            self._published(first),
            first=first,
            start=self._state(first),
            clock_ns=_clock_before(self._rows, first),
        )
        self._is_open = False

    @property
    def message(self) -> int:
        """The number in the day of the next message to replay."""
        return self._replay.message

    def book(self) -> Keyframe:
        """The full book after the last message, with the flags that are known by then."""
        if self._start is not None and not self._is_open:
            return self._start
        return self._replay.book()

    def until(self, message: int | None = None) -> Iterator[Replayed]:
        """Replays up to and with a message, or to the end of the day, which is read ahead.

        Raises:
            CheckpointError: A message leads to another row than the published one.
            MarketPipelineError: Whatever reading the raw files raises.
        """
        if message is not None and message < self.message:
            return
        try:
            if not self._is_open:
                self._open(overlap=message is None)
            yield from self._replay.until(message)
        except ReplayMismatch as mismatch:
            raise self._day.error(mismatch.expected, mismatch.found) from mismatch

    def _last_checkpoint(self, message: int) -> tuple[Keyframe | None, int]:
        """The book before the first message to replay, and the number of that message."""
        day, scales = self._day, self._day.record.scales
        checkpoints = scan(day.warehouse, CHECKPOINTS, day.record.dt, {day.instrument})
        before = checkpoints.filter(
            (pl.col("messages") <= message) & (pl.col("flags") & _NO_START == 0)
        )
        messages = before.select(pl.col("messages").max()).collect().item()
        if messages is not None:
            found = checkpoints.filter(pl.col("messages") == messages).last().collect()
            return keyframe_of(found.row(0, named=True), *scales), messages
        if day.record.seed != "previous_close":
            return None, 0
        close = closing_book(day.warehouse, day.instrument, day.record.dt - timedelta(days=1))
        if close is None:
            raise day.error("the closing book of the day before", "none is published")
        return keyframe_of(close, *scales), 0

    def _state(self, first: int) -> RebuildState | None:
        if self._start is None:
            return None
        after = RebuildState.after_keyframe if first else RebuildState.after_close
        return after(self._start)

    def _published(self, first: int) -> Iterator[PublishedRows]:
        """The published rows from a message on."""
        for batch in in_batches(self._rows.select(_PUBLISHED), _BATCH_ROWS, first):
            yield PublishedRows._make(column.to_numpy() for column in batch)

    def _open(self, *, overlap: bool) -> None:
        """Finds the raw rows to begin with."""
        day, first, row, snapshot = self._day, self.message, 0, 0
        deltas, snapshots = day.files(DELTAS), day.files(SNAPSHOTS)
        if first and self._start is not None:
            keys = self._rows.slice(first, 1).select("ts_receipt_ns", "sequence_number").collect()
            if keys.is_empty():
                raise day.error("a further message", "none is published")
            receipt_ns, sequence = keys.row(0)
            is_first = (pl.col("receipt_timestamp") == receipt_ns) & (
                pl.col("sequence_number") == sequence
            )
            found = _first_row(deltas, DELTAS, is_first)
            if found is None:
                raise day.error(f"message {first} of the day", "none of its rows in the lake")
            row = found
            # That of the checkpoint's own number is met after it.
            unmet = pl.col("sequence_number") >= self._start.sequence_number
            snapshot = _first_row(snapshots, SNAPSHOTS, unmet) or 0
        self._replay.open(
            read_ahead(read_deltas(deltas, row), overlap=overlap),
            read_ahead(read_snapshots(snapshots, snapshot), overlap=overlap),
            row,
        )
        self._is_open = True


def published_messages(day: PublishedDay, message: int = 0) -> Iterator[Replayed]:
    """The messages of a published day with the touch after each, as published.

    No raw file is read, and nothing is rebuilt.

    Args:
        day: A day that was rebuilt from its deltas.
        message: The number, in the day from 0, of the first message that is asked for. Where no
            message before it has a sound time, these are given too: their clock stands at the
            first sound one.

    Raises:
        MissingDataError: The day was published from its snapshots and has no messages.
    """
    rows = day.messages()
    first, clock_ns = message, _latest_time(rows.slice(0, message))
    if clock_ns is None:
        first, clock_ns = 0, _clock_before(rows, 0)
    for batch in in_batches(rows.select("ts_origin_ns", *_PUBLISHED), _BATCH_ROWS, first):
        ts_origin_ns, *published = (column.to_numpy() for column in batch)
        block = Replayed.of_touch(first, PublishedRows._make(published), ts_origin_ns, clock_ns)
        clock_ns, first = int(block.clock_ns[-1]), first + batch.height
        yield block


def _clock_before(rows: pl.LazyFrame, first: int) -> int | None:
    """The largest sound receipt time before a message, or else the first one; None for none."""
    latest = _latest_time(rows.slice(0, first))
    if latest is not None:
        return latest
    of_day = rows.filter(_HAS_TIME).select("ts_receipt_ns").head(1).collect()
    return None if of_day.is_empty() else int(of_day.item())


def _latest_time(rows: pl.LazyFrame) -> int | None:
    """The largest sound receipt time of rows; None for none."""
    latest: int | None = (
        rows.filter(_HAS_TIME).select(pl.col("ts_receipt_ns").max()).collect().item()
    )
    return latest


def _first_row(files: Sequence[Path], table: RawTable, wanted: pl.Expr) -> int | None:
    """The first row of a day's shards that is wanted, counted over all of them; None for none.

    Row groups that cannot hold any are not read.

    Raises:
        LakeFileError, SchemaError: A file cannot be read, or has other columns.
    """
    before = 0
    for file in files:
        parquet, names = open_shard(file, table)
        rows = parquet.metadata.num_rows
        keys = {raw: names[raw] for raw in ("receipt_timestamp", "sequence_number")}
        columns = [pl.col(own).alias(raw) for raw, own in keys.items()]
        with scanning(file, table.name), parquet:
            for part in scan_shard(parquet, file, list(keys.values()), "row"):
                selected = part.select("row", *columns).filter(wanted).select("row")
                found = selected.head(1).collect()
                if found.height:
                    return before + int(found.item())
        before += rows
    return None
