"""Simulated days as files in Crypto Lake's raw layout.

Column order, types, snappy compression and the rounding of times are the vendor's: an exchange's
milliseconds and a receipt clock's nanoseconds both went through float64 seconds, which leaves whole
multiples of 256 ns. A day may be several shards, 1, 2, 3 …, each an equal part of its hours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline.sources.converted_columns import level_columns
from market_pipeline.sources.raw_names import Shard
from market_pipeline.sources.row_groups import RowGroups, arrow_schema
from market_pipeline.sources.simulated.market import Batch
from market_pipeline.sources.simulated.state import TOP_LEVELS
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder
from market_pipeline.warehouse.staging import abandon

__all__ = ["CONTRACT_TABLES", "RAW_TABLES", "REFERENCE_TABLE", "DayWriter"]

IntArray = npt.NDArray[np.int64]

_MS_PER_DAY = 86_400_000

REFERENCE_TABLE = "reference_bbo"
_TIMES = dict.fromkeys(("timestamp", "receipt_timestamp"), "int64")
_MESSAGE = _TIMES | {"sequence_number": "int64"}
_SCHEMAS = {
    "book_delta_v2": arrow_schema(
        _MESSAGE | {"side_is_bid": "bool", "price": "double", "size": "double"}
    ),
    "trades": arrow_schema(
        {"side": "string", "amount": "double", "price": "double", "id": "int64"} | _TIMES
    ),
    "book": arrow_schema(_MESSAGE | dict.fromkeys(level_columns(TOP_LEVELS), "double")),
    "funding": arrow_schema(
        dict.fromkeys(("mark_price", "rate", "next_funding_time"), "double")
        | _TIMES
        | {"index_price": "double"}
    ),
    "open_interest": arrow_schema({"open_interest": "double"} | _TIMES),
    REFERENCE_TABLE: arrow_schema(
        {"sequence_number": "int64"}
        | _TIMES
        | dict.fromkeys(level_columns(1), "double")
        | dict.fromkeys(("bid_levels", "ask_levels"), "int64")
    ),
}
_ROW_GROUP_ROWS = {
    "book_delta_v2": 100_000,
    "trades": 100_000,
    "book": 20_000,
    "funding": 20_000,
    "open_interest": 20_000,
    "reference_bbo": 100_000,
}

RAW_TABLES = ("trades", "book", "book_delta_v2")
"""The raw tables in the order a day's files appear in: who sees deltas sees the other two."""

CONTRACT_TABLES = ("funding", "open_interest")
"""What perpetual contracts have besides, which appears before the others."""

_CONTRACT_SLOT_MS = {"funding": 10_000, "open_interest": 60_000}
_FUNDING_S = 28_800


class DayWriter:
    """Writes one table of one instrument's day; a context manager.

    Files are written under a `.partial` name and get their own at `publish`; leaving the context
    without that removes them.

    Args:
        table: One of the raw tables, or the reference.
        folder: Where the shards go; made if it is not there.
        day_start_ms: Midnight, in milliseconds since the epoch.
        shards: How many files the day is split into.
    """

    def __init__(self, table: str, folder: Path, day_start_ms: int, shards: int) -> None:
        self._table = table
        self._folder = folder
        self._day_start_ms = day_start_ms
        self._shards = shards
        self._schema = _SCHEMAS[table]
        self._row_groups: RowGroups | None = None
        self._opened = 0

    def __enter__(self) -> DayWriter:
        make_private_folder(self._folder)
        return self

    def __exit__(self, *raised: object) -> None:
        for shard in range(1, self._opened + 1):
            self._partial(shard).unlink(missing_ok=True)
        if self._row_groups is not None:
            abandon(self._row_groups.writer)

    def write(self, batch: Batch) -> int:
        """Adds the batch's rows of this table; returns how many there were."""
        columns, origin_ms = _columns(self._table, batch)
        rows = pa.table(columns, schema=self._schema)
        # Origin times never go back within a day, so a shard is finished when the next one begins.
        shard_of_row = 1 + (origin_ms - self._day_start_ms) * self._shards // _MS_PER_DAY
        bounds = np.searchsorted(shard_of_row, np.arange(1, self._shards + 2))
        for shard in range(1, self._shards + 1):
            part = rows.slice(bounds[shard - 1], bounds[shard] - bounds[shard - 1])
            if len(part):
                self._open_up_to(shard).write(part)
        return len(rows)

    def finish(self, *, last_shard_share: float = 1.0) -> None:
        """Writes what is left to write.

        Args:
            last_shard_share: The share of its bytes that the last shard keeps.
        """
        self._open_up_to(self._shards)
        self._close()
        if last_shard_share < 1.0:
            last = self._partial(self._shards)
            last.write_bytes(last.read_bytes()[: int(last.stat().st_size * last_shard_share)])

    def publish(self) -> list[Path]:
        """Gives the files, which are finished, their names; returns them in shard order.

        Whatever else an earlier simulation of this day left in the folder is removed.
        """
        files = [self._file(shard) for shard in range(1, self._shards + 1)]
        for shard, file in enumerate(files, start=1):
            self._partial(shard).replace(file)
        self._opened = 0
        for stale in set(self._folder.glob("*.snappy.parquet*")) - set(files):
            stale.unlink()
        return files

    def _file(self, shard: int) -> Path:
        return self._folder / Shard(str(shard)).name

    def _partial(self, shard: int) -> Path:
        return self._file(shard).with_suffix(".parquet.partial")

    def _open_up_to(self, shard: int) -> RowGroups:
        while self._opened < shard:
            self._close()
            self._opened += 1
            self._partial(self._opened).touch(PRIVATE_FILE)
            writer = pq.ParquetWriter(
                self._partial(self._opened), self._schema, compression="snappy", store_schema=False
            )
            self._row_groups = RowGroups(writer, _ROW_GROUP_ROWS[self._table])
        assert self._row_groups is not None
        return self._row_groups

    def _close(self) -> None:
        if self._row_groups is not None:
            self._row_groups.close()
            self._row_groups = None


def _columns(table: str, batch: Batch) -> tuple[list[pa.Array], IntArray]:
    """The columns of a table in file order, and each row's origin time in milliseconds."""
    if table == "book_delta_v2":
        deltas = batch.deltas
        columns = [
            *_vendor_times(deltas.origin_ms, deltas.receipt_ns),
            deltas.sequence_number,
            deltas.side_is_bid,
            deltas.price,
            deltas.size,
        ]
        return [pa.array(column) for column in columns], deltas.origin_ms
    if table == "trades":
        trades = batch.trades
        side = pa.array(np.where(trades.is_buy, "buy", "sell"), pa.string())
        columns = [
            trades.size,
            trades.price,
            trades.id,
            *_vendor_times(trades.origin_ms, trades.receipt_ns),
        ]
        return [side, *(pa.array(column) for column in columns)], trades.origin_ms
    if table == "book":
        snapshots = batch.snapshots
        columns = [
            *_vendor_times(snapshots.origin_ms, snapshots.receipt_ns),
            snapshots.sequence_number,
            *np.ascontiguousarray(snapshots.levels.T),
        ]
        return [pa.array(column) for column in columns], snapshots.origin_ms
    if table in _CONTRACT_SLOT_MS:
        return _contract_columns(table, batch)
    touch = batch.touch
    columns = [
        touch.sequence_number,
        *_vendor_times(touch.origin_ms, touch.receipt_ns),
        *np.ascontiguousarray(touch.prices_and_sizes.T),
        *np.ascontiguousarray(touch.level_counts.T),
    ]
    return [pa.array(column) for column in columns], touch.origin_ms


def _contract_columns(table: str, batch: Batch) -> tuple[list[pa.Array], IntArray]:
    """A row for the first message of each slot: its mid is the mark, the rest follows from time."""
    touch = batch.touch
    slot = touch.origin_ms // _CONTRACT_SLOT_MS[table]
    first = np.flatnonzero(np.diff(slot)) + 1
    origin_ms, number = touch.origin_ms[first], slot[first]
    times = _vendor_times(origin_ms, touch.receipt_ns[first])
    phase = np.sin(number / 360.0)
    if table == "open_interest":
        return [pa.array(each) for each in (np.rint(80_000 + 900 * phase), *times)], origin_ms
    mark = touch.prices_and_sizes[first][:, [0, 2]].mean(axis=1)
    rate = np.rint(1e4 + 2e3 * phase) / 1e8
    next_s = (origin_ms // 1_000 // _FUNDING_S + 1) * _FUNDING_S
    columns = mark, rate, next_s.astype(np.float64), *times, mark * (1 - rate)
    return [pa.array(each) for each in columns], origin_ms


def _vendor_times(origin_ms: IntArray, receipt_ns: IntArray) -> tuple[IntArray, IntArray]:
    origin = (origin_ms / 1e3 * 1e9).astype(np.int64)
    receipt = (receipt_ns / 1e9 * 1e9).astype(np.int64)
    return origin, receipt
