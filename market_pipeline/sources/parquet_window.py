"""Parquet files that may lie sealed, for readers that take a path or read from many threads.

Of a sealed file so much is put into memory as is to be read: the columns of some row groups, and
the footer, each at its own place in a file that has no name and never comes to a disk.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline.errors import LakeFileError
from market_pipeline.security.stored import open_stored

__all__ = ["PartAt", "open_unbuffered", "parquet_source", "readable_parts", "scan_shard"]
__all__ += ["scanning", "window_bytes"]

_COPY_BYTES = 1 << 20
_END_BYTES = 8
_LENGTH_BYTES = 4


def parquet_source(file: Path) -> pa.NativeFile | BinaryIO:
    """What Arrow reads a file from, open: it stays what it is while the file is being sealed.

    Raises:
        OSError, SealError: As `open_stored`.
    """
    try:
        return pa.OSFile(os.fspath(file))
    except FileNotFoundError:
        return open_stored(file)


def open_unbuffered(file: Path) -> BinaryIO | io.FileIO:
    """A file for reading here and there; a sealed one has the segment it is in.

    Raises:
        OSError, SealError: As `open_stored`.
    """
    return _plain(file) or open_stored(file)


PartAt = Callable[[Sequence[int], Sequence[int]], AbstractContextManager[Path]]
"""Gives a path from which some columns of some row groups are read, by their numbers; no others
may be.
"""


@contextmanager
def readable_parts(file: Path, metadata: pq.FileMetaData) -> Iterator[PartAt]:
    """Where parts of a file are read from: the open file, or each in memory if it lies sealed.

    Args:
        file: By its plain name; it is opened once, and may be sealed or removed meanwhile.
        metadata: Its footer.

    Raises:
        SealError: No key opens it, or, also of a part, it is not as it was sealed.
        OSError: It cannot be read.
    """
    if plain := _plain(file):
        with plain:
            yield lambda groups, columns: nullcontext(_path_of(plain.fileno()))
        return
    with open_stored(file) as source:
        size = source.seek(-_END_BYTES, os.SEEK_END) + _END_BYTES
        footer_bytes = int.from_bytes(source.read(_LENGTH_BYTES), "little") + _END_BYTES
        source.seek(max(0, size - footer_bytes))
        footer = source.read()

        @contextmanager
        def in_memory(groups: Sequence[int], columns: Sequence[int]) -> Iterator[Path]:
            memory = os.memfd_create("parquet", os.MFD_CLOEXEC)
            try:
                for group in groups:
                    for begin, end in _spans(metadata.row_group(group), columns):
                        _copy(source, memory, begin, min(end, size))
                os.pwrite(memory, footer, size - len(footer))
                yield _path_of(memory)
            finally:
                os.close(memory)

        yield in_memory


def window_bytes(metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[int]) -> int:
    """What a part of a sealed file takes in memory, besides its footer."""
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
    if plain := _plain(file):
        with plain:
            # Of which Polars leaves out row groups by itself.
            yield _scan(_path_of(plain.fileno()), columns, row_index)
        return
    numbers = [parquet.schema_arrow.names.index(name) for name in columns]
    metadata, first = parquet.metadata, 0
    with readable_parts(file, metadata) as part_at:
        # A file without rows may have no row group, and is still a frame with columns.
        for groups in [[group] for group in range(metadata.num_row_groups)] or [[]]:
            rows = sum(metadata.row_group(group).num_rows for group in groups)
            with part_at(groups, numbers) as at:
                yield _scan(at, columns, row_index).slice(first, rows)
            first += rows


@contextmanager
def scanning(file: Path, table: str) -> Iterator[None]:
    """Reports what Polars meets while frames of `scan_shard` are collected as the shard's damage.

    Args:
        file: The shard.
        table: The name of its raw table.

    Raises:
        LakeFileError: Polars cannot read it.
    """
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise LakeFileError(
            f"A {table} file is damaged inside",
            next_step="Fetch the day from the vendor again, then run its books again.",
            file=file,
            found=str(error),
        ) from error


def _plain(file: Path) -> io.FileIO | None:
    """A file that lies plain, open; None else. By its name it may be gone at the next moment."""
    with suppress(FileNotFoundError):
        return file.open("rb", buffering=0)
    return None


def _path_of(descriptor: int) -> Path:
    """A path by which an open file is read, whether or not it has a name."""
    return Path(f"/proc/self/fd/{descriptor}")


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
