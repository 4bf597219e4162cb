"""A book to compare, read from the files of `books.bbo`, `books.depth` and `books.intervals`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import scales_of
from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.books.tables import BBO, DEPTH, INTERVALS
from market_pipeline.errors import MissingDataError
from market_pipeline.quality.fidelity.books import BookRows, ComparedBook
from market_pipeline.quality.intervals import IntArray
from market_pipeline.stages.fidelity._depth_kernel import locate_depth
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import current_files

__all__ = ["book_of_files", "published_book"]

# Whole depth rows of so many messages are in memory twice: 21 MB of numbers and as much of Arrow.
_BATCH_ROWS = 1 << 15
_TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
_KEY = ("ts_receipt_ns", "sequence_number")
_LEVELS = [
    (level, part, f"{name[:3]}_{level}_{name[4:]}")
    for level in range(DEPTH_LEVELS)
    for part, name in enumerate(_TOUCH)
]
_CONFIRMED = ("bid_levels_confirmed", "ask_levels_confirmed")


def published_book(warehouse: Warehouse, instrument: str, day: date) -> ComparedBook:
    """A published book of a day.

    Raises:
        MissingDataError: There is none.
    """
    files = {
        table.sql_name: current_files(warehouse, table, day, {instrument})
        for table in (BBO, DEPTH, INTERVALS)
    }
    name = f"{instrument} in {warehouse.data_dir}"
    if not files[BBO.sql_name]:
        raise MissingDataError(
            "There is no published book to compare",
            next_step="Run the pipeline for that instrument and day, or name another.",
            day=day,
            file=warehouse.data_dir,
            expected=f"rows of {BBO.sql_name} of {instrument}",
            found="none",
        )
    return book_of_files(name, *files.values())


def book_of_files(
    name: str, bbo: Sequence[Path], depth: Sequence[Path], intervals: Sequence[Path]
) -> ComparedBook:
    """A book of the files of one instrument's day, each table's in order.

    The files are read in batches, as often as the book is.
    """
    metadata = pq.read_metadata(bbo[0]).metadata or {}
    tick, lot = (metadata.get(key, b"").decode() or None for key in (b"tick", b"lot"))
    return ComparedBook(name, *scales_of(tick, lot), partial(_rows, bbo, depth, intervals))


def _rows(bbo: Sequence[Path], depth: Sequence[Path], gaps: Sequence[Path]) -> Iterator[BookRows]:
    """The messages in batches, each with the depth rows that belong to them."""
    broken = _breaks(gaps)
    kept = _Depth(depth)
    first = 0
    for batch in _batches(bbo, ("ts_origin_ns", *_KEY, *_TOUCH, "flags")):
        count = batch.num_rows
        column = partial(_integers, batch)
        receipt, sequence = (column(name) for name in _KEY)
        depth_row, levels, confirmed = kept.of(receipt, sequence)
        breaks = np.zeros(count, np.bool_)
        breaks[broken[(broken >= first) & (broken < first + count)] - first] = True
        first += count
        yield BookRows(
            ts_origin_ns=column("ts_origin_ns"),
            ts_receipt_ns=receipt,
            sequence_number=sequence,
            touch=np.stack([column(name) for name in _TOUCH], axis=1),
            flags=column("flags").astype(np.uint16),
            breaks=breaks,
            depth_row=depth_row,
            levels=levels,
            confirmed=confirmed,
        )


class _Depth:
    """The depth rows, of which each belongs to a message and both come in the same order."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._batches = _batches(files, None)
        self._key = np.empty((0, 2), np.int64)
        self._levels = np.empty((0, DEPTH_LEVELS, 4), np.int64)
        self._confirmed = np.empty((0, 2), np.int64)

    def of(self, receipt: IntArray, sequence: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        """For each of the next messages its row of levels, or -1; the levels; how many are sure."""
        depth_row = np.full(receipt.size, -1, np.int64)
        cursor = np.zeros(2, np.int64)  # the next message, the next depth row
        while True:
            locate_depth(receipt, sequence, self._key, cursor, depth_row)
            if cursor[1] < len(self._key) or not self._load_more():
                break
        used = int(cursor[1])
        levels, confirmed = self._levels[:used], self._confirmed[:used]
        self._key = self._key[used:]
        self._levels, self._confirmed = self._levels[used:], self._confirmed[used:]
        return depth_row, np.ascontiguousarray(levels), np.ascontiguousarray(confirmed)

    def _load_more(self) -> bool:
        """Reads the next depth rows behind those that are there."""
        batch = next(self._batches, None)
        if batch is None:
            return False
        key = np.stack([_integers(batch, name) for name in _KEY], axis=1)
        levels = np.empty((batch.num_rows, DEPTH_LEVELS, 4), np.int64)
        for level, part, name in _LEVELS:
            levels[:, level, part] = _integers(batch, name)
        confirmed = np.stack([_integers(batch, name, DEPTH_LEVELS) for name in _CONFIRMED], axis=1)
        self._key = np.concatenate([self._key, key])
        self._levels = np.concatenate([self._levels, levels])
        self._confirmed = np.concatenate([self._confirmed, confirmed])
        return True


def _batches(files: Sequence[Path], columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The rows of files in their order; of depth only what is stored of keys and levels."""
    for path in files:
        # Buffered ahead, what was read of a file would stay in memory until its end.
        with pq.ParquetFile(path, pre_buffer=False) as file:
            there = set(file.schema_arrow.names)
            wanted = columns or (*_KEY, *(name for *_, name in _LEVELS), *_CONFIRMED)
            rows = _BATCH_ROWS if columns else _BATCH_ROWS // 4
            yield from file.iter_batches(
                rows, columns=[name for name in wanted if name in there], use_threads=False
            )


def _integers(batch: pa.RecordBatch, name: str, absent: int = 0) -> IntArray:
    """A column; what is null, or a column that came to the table later, is `absent`."""
    if name not in batch.schema.names:
        return np.full(batch.num_rows, absent, np.int64)
    column = batch.column(name)
    filled = column.fill_null(absent) if column.null_count else column
    values: IntArray = filled.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return values


def _breaks(files: Sequence[Path]) -> IntArray:
    """The messages after which nobody knows the book: the last ones before gaps."""
    found = [np.empty(0, np.int64)]
    for path in files:
        rows = pq.read_table(path, columns=["cause", "invalidates", "first_message"])
        gaps = rows.filter(
            pa.compute.and_(pa.compute.equal(rows["cause"], BookFlag.GAP.name), rows["invalidates"])
        )
        found.append(gaps["first_message"].to_numpy().astype(np.int64) - 1)
    return np.sort(np.concatenate(found))
