"""Small files that become large: a few kilobytes each, whatever they unpack to."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline_tests.sources.raw_files import deltas, shard, trades

MEGABYTE = 1 << 20


def sides(rows: int, text: str | pa.StringArray) -> pa.Table:
    """Trades whose sides are all one text, which the file holds once."""
    texts = pa.array([text]) if isinstance(text, str) else text
    all_equal = pa.DictionaryArray.from_arrays(np.zeros(rows, np.int32), texts)
    return trades(rows, side=all_equal)


def write(path: Path, rows: pa.Table, **settings) -> Path:
    """Rows as a file that is squeezed as far as it goes, without Arrow's own schema.

    Nor with statistics, of which Arrow keeps none of long texts but compares them all.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unneeded = {"store_schema": False, "write_statistics": False}
    pq.write_table(rows, path, compression="zstd", **unneeded, **settings)
    return path


def shared_text(path: Path, *, megabytes: int = 40, rows: int = 10_000) -> Path:
    """One side of some megabytes, shared by many rows: 400 GB if each had its own."""
    return write(path, sides(rows, "y" * (megabytes * MEGABYTE)))


def shared_gigabyte(path: Path) -> Path:
    """Four sides of 250 MB each, in a file of some kilobytes."""
    size = 250 * MEGABYTE
    letters = pa.py_buffer(b"abc" + b"y" * size)  # in one piece: to make each takes a second

    def beginning(first: int) -> pa.StringArray:
        ends = pa.py_buffer(np.array([first, first + size], np.int32))
        return pa.StringArray.from_buffers(1, ends, letters)

    rows = pa.concat_tables(sides(2, beginning(first)) for first in range(4))
    return write(path, rows, compression_level=-7)


def prefixed_text(path: Path, *, rows: int = 2_000) -> Path:
    """Sides of 16 KB each, told as all of the one before."""
    texts = trades(rows, side=pa.array(["y" * (1 << 14)] * rows))
    encoding = {"side": "DELTA_BYTE_ARRAY"}
    return write(path, texts, use_dictionary=False, column_encoding=encoding)


def wide_pages(path: Path, *, rows: int) -> Path:
    """Delta rows whose columns are one page each."""
    return write(
        path,
        deltas(rows),
        use_dictionary=False,
        data_page_size=1 << 30,
        write_batch_size=rows,
        row_group_size=rows,
    )


def many(path: Path, rows: int, part: Callable[[np.ndarray], pa.Table]) -> Path:
    """A file of many rows, made from their numbers a row group at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, part(np.arange(2)).schema, compression="zstd") as writer:
        for first in range(0, rows, 1 << 20):
            writer.write_table(part(np.arange(first, min(first + (1 << 20), rows))))
    return path


def one_message(folder: Path, *, rows: int) -> Path:
    """Delta rows that are all of one message."""
    same = {name: np.zeros(rows, np.int64) for name in ("receipt_timestamp", "sequence_number")}
    return shard(folder, 1, deltas(rows, **same))


def line_without_end(path: Path, *, megabytes: int) -> Path:
    """A capture that is one line."""
    return squeezed(path, [b"1723161600000 ", *[b"[" * MEGABYTE] * megabytes])


def squeezed(path: Path, parts: Iterable[bytes]) -> Path:
    """A gzip of some parts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wb", compresslevel=1) as file:
        for part in parts:
            file.write(part)
    return path
