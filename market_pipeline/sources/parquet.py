"""Parquet shards as numpy columns, one bounded piece after the other.

A piece is some whole row groups, or a half of a large one, decoded by Polars, which is about twice
as fast as Arrow's reader. Of a file that lies sealed a piece's columns are opened in memory.
A row group too large to be held whole is streamed page by page by Arrow instead, and so is a piece
that Polars cannot read: Arrow then says where the file is damaged. What is read of a row group is
bounded beforehand by `sources/parquet_pages.py`, and no text is longer than `TEXT_BYTES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from market_pipeline.errors import LakeFileError
from market_pipeline.mapped import ColumnArray
from market_pipeline.security.stored import is_sealed
from market_pipeline.sources.memory_limits import PIECE_BYTES, ROW_GROUP_BYTES, TEXT_BYTES
from market_pipeline.sources.parquet_pages import check_pages
from market_pipeline.sources.parquet_window import parquet_source, readable_parts, window_bytes

__all__ = ["Columns", "largest_piece_bytes", "read_pieces", "streamed_row_groups"]


_STREAM_BUFFER_BYTES = 1 << 20
_SHOWN_CHARACTERS = 60

_Values = tuple[ColumnArray, NDArray[np.bool_] | None]
"""The values, and which of them are null (None if none is); a null float is NaN."""

Columns = dict[str, _Values]


def read_pieces(
    parquet: pq.ParquetFile, file: Path, columns: Sequence[str], rows: int, skip_rows: int = 0
) -> Iterator[tuple[int, Columns]]:
    """Yields (first row, columns) of pieces of at most `rows` rows, or of one row group, in order.

    Args:
        parquet: The open file.
        file: Its path.
        columns: Which columns to read.
        rows: Row groups are taken together up to this many rows; a streamed one is cut into this.
        skip_rows: Rows at the file's start that are left out.

    Raises:
        LakeFileError: If a part of the file cannot be decoded, or not in bounded memory.
        SealError: If it lies sealed, and no key opens it or it is not as it was sealed.
    """
    metadata = parquet.metadata
    # Asked once, as Arrow makes it each time: a snapshot of 1,000 levels has 4,000 columns.
    numbered = {name: number for number, name in enumerate(parquet.schema_arrow.names)}
    numbers = [numbered[name] for name in columns]
    with readable_parts(file, metadata) as part_at:
        for groups, first_row, count in _pieces(metadata, columns, rows):
            skip = max(0, skip_rows - first_row)
            if skip >= count:
                continue
            is_streamed = _is_streamed(metadata, groups[0], columns) or (
                is_sealed(file) and window_bytes(metadata, groups, numbers) > 2 * ROW_GROUP_BYTES
            )
            source = nullcontext(file) if is_streamed else part_at(groups, numbers)
            with source as at:
                unpacked = [
                    check_pages(file, metadata, group, numbers, first_row, source=at)
                    for group in groups
                ]
                all_bytes = sum(group.all_bytes for group in unpacked)
                if not is_streamed and all_bytes <= 2 * ROW_GROUP_BYTES:
                    most = _rows_at_once(count, columns)
                    while skip < count:
                        piece = _decode(
                            at, file, columns, first_row + skip, min(most, count - skip)
                        )
                        if piece is None:
                            break
                        yield first_row + skip, piece
                        del piece  # or it would be held while the next one is decoded
                        skip = min(skip + most, count)
            if skip < count:
                yield from _stream(metadata, file, columns, groups, first_row, rows, skip)


def streamed_row_groups(parquet: pq.ParquetFile, columns: Sequence[str]) -> int:
    """How many row groups of a file are too large to be decoded whole."""
    groups = range(parquet.metadata.num_row_groups)
    return sum(_is_streamed(parquet.metadata, group, columns) for group in groups)


def largest_piece_bytes(parquet: pq.ParquetFile, columns: Sequence[str], rows: int) -> int:
    """Decoded bytes of the largest piece that `read_pieces` would yield."""
    metadata = parquet.metadata
    largest = 0
    for groups, _, count in _pieces(metadata, columns, rows):
        is_streamed = _is_streamed(metadata, groups[0], columns)
        held = min(count, rows) if is_streamed else _rows_at_once(count, columns)
        largest = max(largest, held * len(columns) * 8)
    return largest


def _pieces(
    metadata: pq.FileMetaData, columns: Sequence[str], rows: int
) -> Iterator[tuple[list[int], int, int]]:
    """(row groups, first row, rows) of each piece; one to be streamed is a piece of its own."""
    groups: list[int] = []
    first_row = count = 0
    for group in range(metadata.num_row_groups):
        size = metadata.row_group(group).num_rows
        alone = _is_streamed(metadata, group, columns)
        if groups and (alone or count + size > rows):
            yield groups, first_row, count
            groups, first_row, count = [], first_row + count, 0
        groups.append(group)
        count += size
        if alone:
            yield groups, first_row, count
            groups, first_row, count = [], first_row + count, 0
    if groups:
        yield groups, first_row, count


def _is_streamed(metadata: pq.FileMetaData, group: int, columns: Sequence[str]) -> bool:
    rows = int(metadata.row_group(group).num_rows)
    return rows * len(columns) * 8 > ROW_GROUP_BYTES


def _rows_at_once(count: int, columns: Sequence[str]) -> int:
    """Into how many rows at a time a piece is cut for Polars, evenly."""
    parts = max(1, -(-count * len(columns) * 8 // PIECE_BYTES))
    return -(-count // parts)


def _decode(
    at: Path, file: Path, columns: Sequence[str], first_row: int, rows: int
) -> Columns | None:
    """The rows decoded by Polars from where they are readable; None where it cannot."""
    try:
        frame = (
            pl.scan_parquet(at, glob=False, hive_partitioning=False)
            .select(pl.col(columns))  # one expression, where a snapshot has eighty columns
            .slice(first_row, rows)
            .collect()
        )
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
        return None
    if frame.height != rows:
        return None
    return {series.name: _from_polars(series, file, first_row) for series in frame.iter_columns()}


def _from_polars(series: pl.Series, file: Path, first_row: int) -> _Values:
    if series.dtype == pl.String:
        # Rows may share one long text here, and would no longer in Arrow's strings.
        too_long = series.str.len_bytes() > TEXT_BYTES
        if too_long.any():
            at = too_long.arg_max() or 0
            raise _long_text(file, first_row + at, series.name, series[at])
        return _from_arrow(series.to_arrow())
    if not series.null_count():
        return (_truths(series) if series.dtype == pl.Boolean else series.to_numpy()), None
    # An integer column with a null in it would become one of floats.
    filled = series if series.dtype.is_float() else series.fill_null(strategy="zero")
    return filled.to_numpy(), series.is_null().to_numpy()


def _truths(series: pl.Series) -> NDArray[np.bool_]:
    """As Polars makes them of their bits, which takes it ten times as long."""
    array = series.to_arrow()
    bits = np.frombuffer(array.buffers()[1], np.uint8)
    first, skip = divmod(array.offset, 8)
    found = np.unpackbits(bits[first:], count=skip + len(array), bitorder="little")
    return found[skip:].view(np.bool_)


def _stream(
    metadata: pq.FileMetaData,
    file: Path,
    columns: Sequence[str],
    groups: list[int],
    first_row: int,
    rows: int,
    skip: int,
) -> Iterator[tuple[int, Columns]]:
    texts = [
        column.path
        for column in (metadata.schema.column(at) for at in range(metadata.num_columns))
        if column.physical_type == "BYTE_ARRAY"
    ]
    try:
        # A row group is read as it is decoded, and a text is held once however many rows share it.
        with pq.ParquetFile(
            parquet_source(file),
            metadata=metadata,
            read_dictionary=texts,
            pre_buffer=False,
            buffer_size=_STREAM_BUFFER_BYTES,
        ) as parquet:
            for batch in parquet.iter_batches(rows, row_groups=groups, columns=list(columns)):
                kept = batch.slice(min(skip, batch.num_rows))
                skip -= batch.num_rows - kept.num_rows
                first_row += batch.num_rows - kept.num_rows
                for name in texts:
                    if name in columns:
                        _refuse_long(kept.column(name), file, first_row, name)
                if kept.num_rows:
                    yield first_row, {name: _from_arrow(kept.column(name)) for name in columns}
                first_row += kept.num_rows
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise LakeFileError(
            "The file is damaged inside",
            next_step="Fetch the file from the vendor again, then rerun this day.",
            file=file,
            row=first_row,
            expected=f"{metadata.num_rows} readable rows",
            found=str(error),
        ) from error


def _refuse_long(encoded: pa.DictionaryArray, file: Path, first_row: int, name: str) -> None:
    lengths = pc.binary_length(encoded.dictionary).to_numpy(zero_copy_only=False)
    too_long = np.flatnonzero(lengths > TEXT_BYTES)
    if too_long.size:
        text = encoded.dictionary[too_long[0]].as_py()
        at = pc.index(encoded.indices, int(too_long[0])).as_py()
        raise _long_text(file, first_row + max(at, 0), name, text)


def _long_text(file: Path, row: int, name: str, text: str) -> LakeFileError:
    return LakeFileError(
        "A text is longer than any of its column",
        next_step="Fetch the file from the vendor again, or report it; then rerun this day.",
        file=file,
        row=row,
        column=name,
        expected=f"at most {TEXT_BYTES} bytes",
        found=f"{len(text.encode())} bytes, from {text[:_SHOWN_CHARACTERS]!r}",
    )


def _from_arrow(array: pa.Array) -> _Values:
    nulls = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    kind = array.type
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # A string object for each different value, not for each row.
        encoded = array if pa.types.is_dictionary(kind) else array.dictionary_encode()
        words = np.array([*encoded.dictionary.to_pylist(), None], object)
        return words[encoded.indices.fill_null(words.size - 1).to_numpy()], nulls
    if nulls is not None and not pa.types.is_floating(kind):
        array = array.fill_null(pa.scalar(0).cast(kind))
    return array.to_numpy(zero_copy_only=False), nulls
