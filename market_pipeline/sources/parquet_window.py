"""Parquet files that may lie sealed, for readers that take a path or read from many threads.

Of a sealed file so much is put into memory as is to be read: the columns of some row groups, and
the footer, each at its own place in a file that has no name and never comes to a disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow.parquet as pq

from market_pipeline.security.stored import is_sealed, open_stored

__all__ = ["parquet_source", "readable_at", "scan_shard", "window_bytes"]

_COPY_BYTES = 1 << 20
_END_BYTES = 8
_LENGTH_BYTES = 4


def parquet_source(file: Path) -> Path | BinaryIO:
    """What Arrow reads a file from: its path, or the content of one that lies sealed."""
    return open_stored(file) if is_sealed(file) else file


@contextmanager
def readable_at(
    file: Path, metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[int]
) -> Iterator[Path]:
    """A path from which some columns of some row groups are read.

    Args:
        file: By its plain name; one that lies plain is read where it is.
        metadata: Its footer.
        groups, columns: Which, by number; others must not be read.

    Raises:
        SealError: No key opens it, or it is not as it was sealed.
        OSError: It cannot be read.
    """
    if not is_sealed(file):
        yield file
        return
    memory = os.memfd_create("parquet", os.MFD_CLOEXEC)
    try:
        with open_stored(file) as source:
            size = source.seek(0, os.SEEK_END)
            os.ftruncate(memory, size)
            source.seek(size - _END_BYTES)
            footer = int.from_bytes(source.read(_LENGTH_BYTES), "little") + _END_BYTES
            for group in groups:
                for begin, end in _spans(metadata.row_group(group), columns):
                    _copy(source, memory, begin, min(end, size))
            _copy(source, memory, max(0, size - footer), size)
        yield Path(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)


def window_bytes(metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[int]) -> int:
    """What `readable_at` would hold of a sealed file, besides its footer."""
    rows = (metadata.row_group(group) for group in groups)
    return sum(end - begin for group in rows for begin, end in _spans(group, columns))


def scan_shard(
    parquet: pq.ParquetFile, file: Path, columns: Sequence[str], row_index: str | None = None
) -> Iterator[pl.LazyFrame]:
    """Yields the rows of a file as frames, each to be collected before the next is asked for.

    Args:
        parquet: The open file.
        file: Its path.
        columns: Which columns.
        row_index: If given, a column of this name has the number of each row in the file.

    Raises:
        SealError: No key opens it, or it is not as it was sealed.
    """
    if not is_sealed(file):
        # Of which Polars leaves out row groups by itself.
        yield _scan(file, columns, row_index)
        return
    numbers = [parquet.schema_arrow.names.index(name) for name in columns]
    first = 0
    for group in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        with readable_at(file, parquet.metadata, [group], numbers) as at:
            yield _scan(at, columns, row_index).slice(first, rows)
        first += rows


def _scan(at: Path, columns: Sequence[str], row_index: str | None) -> pl.LazyFrame:
    rows = pl.scan_parquet(at, glob=False, hive_partitioning=False, row_index_name=row_index)
    return rows.select(*([row_index] if row_index else []), *columns)


def _spans(group: pq.RowGroupMetaData, columns: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where each column lies in the file: from its first page to behind its last."""
    for column in columns:
        chunk = group.column(column)
        at = chunk.data_page_offset
        if chunk.has_dictionary_page and chunk.dictionary_page_offset:
            at = min(at, chunk.dictionary_page_offset)
        yield at, at + chunk.total_compressed_size


def _copy(source: BinaryIO, memory: int, begin: int, end: int) -> None:
    source.seek(begin)
    buffer = memoryview(bytearray(_COPY_BYTES))
    while begin < end and (count := source.readinto(buffer[: end - begin])):  # type: ignore[attr-defined]
        begin += os.pwrite(memory, buffer[:count], begin)
