"""The snapshots of a Crypto Lake day, the deeper they are the fewer at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline.sources.converted_columns import level_columns, levels_in
from market_pipeline.sources.crypto_lake import (
    SNAPSHOT_LEVELS,
    SNAPSHOTS,
    RawBatch,
    open_shard,
    read_whole,
)

__all__ = ["read_snapshots"]

_BATCH_ROWS = 1 << 13
_LEVELS_AT_ONCE = 1 << 16
"""Of a side: arrays of a megabyte would be made of new pages each (`machine.give_memory_back`)."""


def read_snapshots(
    files: Sequence[Path], skip_rows: int = 0, *, with_origin: bool = False
) -> Iterator[SnapshotBatch]:
    """Yields the snapshots of a day's shards in order; a level without a finite price has size 0.

    Args:
        files: The shards in order.
        skip_rows: Snapshots at the start that are left out, counted over all shards.
        with_origin: Whether to read the exchange's time too.

    Raises:
        LakeFileError, SchemaError: See `open_shard`.
        DomainError: On a null time or sequence number.
    """
    keys = ["receipt_timestamp", "sequence_number"]
    if with_origin:
        keys.append("timestamp")
    for batch in _snapshot_batches(files, keys, skip_rows):
        rows, depth = batch.arrays["sequence_number"].size, levels_in(batch.arrays)
        at_once = max(1, _LEVELS_AT_ONCE // depth)
        for first in range(0, rows, at_once):
            yield _snapshots(batch, slice(first, min(first + at_once, rows)), depth)


def _snapshots(batch: RawBatch, rows: slice, depth: int) -> SnapshotBatch:
    """Some rows of a batch."""
    arrays = {name: column[rows] for name, column in batch.arrays.items()}
    prices, sizes = {}, {}
    for side in ("bid", "ask"):
        price = np.stack([arrays[f"{side}_{k}_price"] for k in range(depth)], axis=1)
        size = np.stack([arrays[f"{side}_{k}_size"] for k in range(depth)], axis=1)
        if not (_is_there(price) and _is_there(size)):
            absent = ~(np.isfinite(price) & np.isfinite(size)) | (price <= 0) | (size <= 0)
            price[absent] = size[absent] = 0.0
        prices[side], sizes[side] = price, size
    return SnapshotBatch(
        file=batch.file,
        first_row=batch.first_row + rows.start,
        ts_receipt_ns=arrays["receipt_timestamp"],
        sequence_number=arrays["sequence_number"],
        bid_price=prices["bid"],
        bid_size=sizes["bid"],
        ask_price=prices["ask"],
        ask_size=sizes["ask"],
        ts_origin_ns=arrays.get("timestamp"),
    )


def _is_there(values: NDArray[np.float64]) -> bool:
    """Whether all are finite and above 0; both are NaN where a value is, which fails."""
    return bool(values.min(initial=np.inf) > 0 and values.max(initial=0) < np.inf)


def _snapshot_batches(
    files: Sequence[Path], keys: Sequence[str], skip_rows: int
) -> Iterator[RawBatch]:
    """The rows of each shard with all of its levels."""
    for file in files:
        parquet, names = open_shard(file, SNAPSHOTS)
        with parquet:
            rows, depth = parquet.metadata.num_rows, levels_in(names)
        skipped = min(skip_rows, rows)
        skip_rows -= skipped
        levels = level_columns(depth)
        at_once = max(1, _BATCH_ROWS * SNAPSHOT_LEVELS // depth)
        columns = [*keys, *levels]
        yield from read_whole(
            [file], SNAPSHOTS, columns, at_once, nullable=levels, skip_rows=skipped
        )
