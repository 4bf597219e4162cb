"""Writes raw tables of the Crypto Lake contract, which converters make of other vendors' files.

The same rows give the same bytes: one thread, row groups of a fixed size, no time of writing.
Such files say in their metadata that a converter wrote them, and may hold more than a vendor's:
deltas have `lost_before`, trades may have `is_market`, and snapshots more than 20 levels.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline.errors import naming
from market_pipeline.mapped import ColumnArray
from market_pipeline.shown import shown
from market_pipeline.sources.batches import MARKET, UNMARKED, DeltaBatch, SnapshotBatch, Trades
from market_pipeline.sources.converted_columns import (
    CONVERTER_KEY,
    IS_MARKET,
    LOST,
    LOST_BEFORE,
    RECOVERED,
)
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOT_LEVELS, SNAPSHOTS, TRADES, RawTable
from market_pipeline.sources.memory_limits import MAX_LEVELS
from market_pipeline.sources.raw_names import Shard
from market_pipeline.sources.row_groups import RowGroups, arrow_schema
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder
from market_pipeline.warehouse.staging import abandon

__all__ = ["RawWriter"]


_ROW_GROUP_ROWS = 1 << 18
_VALUES_PER_ROW_GROUP = _ROW_GROUP_ROWS * 8


class RawWriter:
    """Takes an instrument's day, batch by batch, and writes its raw tables; a context manager.

    Shards are `<folder>/<table>/<N>.snappy.parquet`, mode 0600, whole when the context ends well.
    A table that is given no row has no shard.

    Args:
        folder: Where the tables' folders go.
        converter: What the metadata of the files say wrote them.
    """

    def __init__(self, folder: Path, converter: str) -> None:
        self._folder = folder
        self._metadata = {CONVERTER_KEY: converter.encode()}
        self._tables: dict[str, _TableWriter] = {}
        self._counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}
        self._numbered_trades = 0

    def __enter__(self) -> RawWriter:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        for table in self._tables.values():
            if error is None:
                table.close()
            else:
                table.abandon()

    @property
    def notes(self) -> list[str]:
        """What was noted, one sentence a kind: how often, and where first."""
        return [f"{count} x {kind}; first: {self._first[kind]}" for kind, count in self._sorted()]

    def _sorted(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items())

    def note(self, kind: str, first: str, count: int = 1) -> None:
        """Notes something that was left out or found wrong; it is shown with the manifest.

        Args:
            kind: What it is, in words.
            first: Where it was, and what was found there; what cannot be printed is written out.
            count: How often.
        """
        if count:
            kind = shown(kind)
            self._counts[kind] += count
            self._first.setdefault(kind, shown(first))

    def deltas(self, batch: DeltaBatch) -> None:
        """Adds rows to `book_delta_v2`; what the batch says is lost becomes `lost_before`."""
        rows = batch.price.size
        lost = np.zeros(rows, np.int8)
        lost[batch.gap_rows] = LOST
        lost[batch.recovered_rows] = RECOVERED
        columns = {
            "timestamp": batch.ts_origin_ns,
            "receipt_timestamp": batch.ts_receipt_ns,
            "sequence_number": batch.sequence_number,
            "side_is_bid": batch.is_bid,
            "price": batch.price,
            "size": batch.size,
        }
        schema = arrow_schema(DELTAS.columns).append(pa.field(LOST_BEFORE, pa.int8()))
        self._write(DELTAS, columns | {LOST_BEFORE: lost}, schema)

    def snapshots(self, batch: SnapshotBatch) -> None:
        """Adds rows to `book`; another number of levels than before begins another shard.

        Levels beyond `MAX_LEVELS` are cut off, and fewer than 20 are filled up with empty ones.
        Without an exchange's time the time of receipt takes its place.
        """
        origin = batch.ts_receipt_ns if batch.ts_origin_ns is None else batch.ts_origin_ns
        columns: dict[str, ColumnArray] = {
            "timestamp": origin,
            "receipt_timestamp": batch.ts_receipt_ns,
            "sequence_number": batch.sequence_number,
        }
        levels = min(MAX_LEVELS, max(SNAPSHOT_LEVELS, batch.bid_price.shape[1]))
        absent = np.full(batch.ts_receipt_ns.size, np.nan)
        for side, prices, sizes in (
            ("bid", batch.bid_price, batch.bid_size),
            ("ask", batch.ask_price, batch.ask_size),
        ):
            for level in range(levels):
                if level < prices.shape[1]:
                    there = sizes[:, level] > 0
                    price = np.where(there, prices[:, level], np.nan)
                    size = np.where(there, sizes[:, level], np.nan)
                else:
                    price = size = absent
                columns[f"{side}_{level}_price"], columns[f"{side}_{level}_size"] = price, size
        keys = {name: SNAPSHOTS.columns[name] for name in list(SNAPSHOTS.columns)[:3]}
        self._write(
            SNAPSHOTS, columns, arrow_schema(keys | dict.fromkeys(list(columns)[3:], "double"))
        )

    def trades(self, batch: Trades) -> None:
        """Adds rows to `trades`; those without ids are numbered from 1.

        Marks become `is_market`; with or without them than before begins another shard.
        """
        ids = batch.id
        if ids is None:
            begin = self._numbered_trades + 1
            ids = np.arange(begin, begin + batch.price.size, dtype=np.int64)
            self._numbered_trades += batch.price.size
        columns: dict[str, ColumnArray | pa.Array] = {
            "side": pa.array(np.where(batch.is_buy, "buy", "sell"), pa.string()),
            "amount": batch.quantity,
            "price": batch.price,
            "id": ids,
            "timestamp": batch.ts_origin_ns,
            "receipt_timestamp": batch.ts_receipt_ns,
        }
        schema = arrow_schema(TRADES.columns)
        if batch.mark is not None:
            columns[IS_MARKET] = pa.array(batch.mark == MARKET, mask=batch.mark == UNMARKED)
            schema = schema.append(pa.field(IS_MARKET, pa.bool_()))
        self._write(TRADES, columns, schema)

    def contract_states(self, table: RawTable, columns: Mapping[str, ColumnArray]) -> None:
        """Adds rows to an optional table (`crypto_lake_contracts.OPTIONAL_TABLES`).

        Args:
            table: Which.
            columns: Its columns by name, one length; times are int64, ns UTC, and the next funding
                time is in any unit since the epoch.
        """
        self._write(table, columns, arrow_schema(table.columns))

    def _write(
        self, table: RawTable, columns: Mapping[str, ColumnArray | pa.Array], schema: pa.Schema
    ) -> None:
        rows = pa.table(
            {name: columns[name] for name in schema.names},
            schema=schema.with_metadata(self._metadata),
        )
        if not rows.num_rows:
            return
        if table.name not in self._tables:
            self._tables[table.name] = _TableWriter(self._folder / table.name)
        self._tables[table.name].write(rows)


class _TableWriter:
    """Writes the shards of one table, in row groups of a size that depends on nothing but rows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_private_folder(folder)
        self._shards = 0
        self._row_groups: RowGroups | None = None
        self._stream: BinaryIO
        self._schema: pa.Schema | None = None

    def write(self, rows: pa.Table) -> None:
        with naming(self._folder):
            if self._schema is None or not rows.schema.equals(self._schema):
                self._close()
                self._row_groups = self._opened(rows.schema)
            assert self._row_groups is not None
            self._row_groups.write(rows)

    def _opened(self, schema: pa.Schema) -> RowGroups:
        self._shards += 1
        path = self._folder / Shard(str(self._shards)).name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
        self._stream = os.fdopen(descriptor, "wb")
        self._schema = schema
        # Rows of many levels are wide: what a row group holds in memory stays the same.
        size = max(1, min(_ROW_GROUP_ROWS, _VALUES_PER_ROW_GROUP // len(schema)))
        return RowGroups(pq.ParquetWriter(self._stream, schema, compression="snappy"), size)

    def close(self) -> None:
        """Finishes the shard under way; its bytes are on the disk then."""
        with naming(self._folder):
            self._close()

    def abandon(self) -> None:
        """Lets go of the shard under way, of which nobody will read anything."""
        if self._row_groups is not None:
            abandon(self._row_groups.writer)
            with suppress(OSError):
                self._stream.close()

    def _close(self) -> None:
        if self._row_groups is None:
            return
        self._row_groups.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stream.close()
        self._row_groups = self._schema = None
