"""How large a row group of a Parquet file becomes in memory, known before anything is unpacked.

Footers and statistics are not believed: the header of each page is read, whose uncompressed size is
the one that decoders allocate and a longer page does not fit into.
"""

from __future__ import annotations

import io
import struct
import time
from functools import lru_cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from market_pipeline.errors import LakeFileError
from market_pipeline.security.stored import open_stored, stat_as_it_lies
from market_pipeline.sources.memory_limits import FOOTER_BYTES, PAGES_BYTES
from market_pipeline.sources.parquet_window import open_unbuffered

__all__ = ["Unpacked", "check_footer", "check_pages", "refuse_long_footer"]


_FOOTER_END = struct.Struct("<I4s")
_SETTLED_NS = 1_000_000_000
_NEXT_STEP = "Fetch the file from the vendor again, or report it; then rerun this day."


def refuse_long_footer(file: Path) -> None:
    """Looks how long the footer of a file says it is, before anybody parses it.

    Raises:
        LakeFileError: If it is longer than `FOOTER_BYTES`.
        OSError: If the file cannot be read.
    """
    with open_stored(file) as raw:
        if raw.seek(0, io.SEEK_END) < _FOOTER_END.size:
            return  # no Parquet file, which its reader says
        raw.seek(-_FOOTER_END.size, io.SEEK_END)
        footer_bytes, magic = _FOOTER_END.unpack(raw.read(_FOOTER_END.size))
    if magic == b"PAR1" and footer_bytes > FOOTER_BYTES:
        raise LakeFileError(
            "The file's footer is longer than may be held in memory",
            next_step=_NEXT_STEP,
            file=file,
            expected=f"a footer of at most {FOOTER_BYTES} bytes",
            found=f"{footer_bytes} bytes",
        )


def check_footer(parquet: pq.ParquetFile, file_bytes: int) -> None:
    """Has Arrow check what the footer says of every column, without any data.

    Where it contradicts itself, asking `metadata` for a column ends the whole process; only Arrow's
    reader tells of it as an error. It is given a file of that size whose data cannot be read.
    Without threads it looks at all columns before it asks for data once, and with threads it asks
    for that of each, of which every refusal costs a traceback.

    Raises:
        ArrowException, OSError: If the footer contradicts itself.
        UnicodeError: If a name in it is no text.
    """
    probe = pq.ParquetFile(
        _NoData(file_bytes), metadata=parquet.metadata, pre_buffer=False, buffer_size=1 << 12
    )
    for group in range(parquet.metadata.num_row_groups):
        try:
            names = probe.schema_arrow.names
            next(probe.iter_batches(1, [group], names, use_threads=False), None)
        except _NoDataError:
            continue


class _NoDataError(Exception):
    """Arrow has come as far as the data."""


class _NoData(io.RawIOBase):
    """A file of some size, no byte of which can be read."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise _NoDataError


class Unpacked(NamedTuple):
    """What the columns of a row group unpack to.

    Attributes:
        all_bytes: All their pages.
        largest_bytes: Of each column the largest dictionary and the largest page of rows.
    """

    all_bytes: int
    largest_bytes: int


def check_pages(
    file: Path,
    metadata: pq.FileMetaData,
    group: int,
    columns: list[int],
    first_row: int,
    *,
    source: Path | None = None,
) -> Unpacked:
    """Reads the page headers of some columns of a row group, each once while the file is the same.

    Args:
        file: The Parquet file.
        metadata: Its footer.
        group: Which row group.
        columns: Which columns, by number; none may be nested.
        first_row: The row group's first row in the file.
        source: Where these columns are readable, if not at `file`.

    Raises:
        LakeFileError: If the headers are damaged or hold other rows than the footer says, if texts
            are encoded such that a small page can become any size, or if the pages that must be
            held at once are larger than `PAGES_BYTES`.
    """
    row_group = metadata.row_group(group)
    known = _known_columns(source or file, group, metadata.num_columns)
    # A buffer would be filled for each of the headers, which lie far apart.
    with open_unbuffered(source or file) as raw:
        for column in columns:
            if known[column, 0] >= 0:
                continue
            try:
                known[column] = _column(raw, row_group, column)
            except (ValueError, OSError) as error:
                raise LakeFileError(
                    "The file is damaged inside",
                    next_step=_NEXT_STEP,
                    file=file,
                    row=first_row,
                    column=metadata.schema.column(column).name,
                    expected=f"{metadata.num_rows} readable rows",
                    found=str(error),
                ) from error
    found = Unpacked(*map(sum, known[columns].T.tolist()))
    if found.largest_bytes > PAGES_BYTES:
        raise LakeFileError(
            "The file unpacks to more than may be held in memory",
            next_step=_NEXT_STEP,
            file=file,
            row=first_row,
            expected=f"pages of at most {PAGES_BYTES} bytes together",
            found=f"{found.largest_bytes} bytes in the largest pages of a row group",
        )
    return found


def _known_columns(at: Path, group: int, columns: int) -> NDArray[np.int64]:
    """An `Unpacked` for each column of a row group, -1 until it is known: a day asks several times.

    It is kept while the inode is unchanged, whose time nobody can set back, as a copy that keeps a
    file's times does the other one. The next write may leave it as it is if the last was just now.
    """
    stat = stat_as_it_lies(at)
    which = stat.st_dev, stat.st_ino, stat.st_size, stat.st_ctime_ns
    if time.time_ns() - stat.st_ctime_ns > _SETTLED_NS:
        return _kept_columns(which, group, columns)
    return _unknown(columns)


@lru_cache(maxsize=1 << 9)
def _kept_columns(file: tuple[int, ...], group: int, columns: int) -> NDArray[np.int64]:
    return _unknown(columns)


def _unknown(columns: int) -> NDArray[np.int64]:
    return np.full((columns, len(Unpacked._fields)), -1)


def _column(raw: IO[bytes], row_group: pq.RowGroupMetaData, column: int) -> Unpacked:
    # It loads numba, which readers of published rows need not wait for.
    from market_pipeline.sources.page_headers import read_pages  # noqa: PLC0415

    rows = row_group.num_rows
    chunk = row_group.column(column)
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        # Readers differ in where they begin if it is not the first page.
        if chunk.dictionary_page_offset > at:
            raise ValueError("a dictionary behind the rows that need it")
        at = chunk.dictionary_page_offset
    pages = read_pages(raw, at, at + chunk.total_compressed_size)
    if chunk.physical_type == "BYTE_ARRAY" and pages.delta_byte_arrays:
        raise ValueError("texts encoded as DELTA_BYTE_ARRAY, which may unpack to any size")
    if pages.values != rows:
        raise ValueError(f"pages of {pages.values} values in a row group of {rows} rows")
    largest_bytes = pages.largest_dictionary_bytes + pages.largest_data_bytes
    return Unpacked(pages.all_bytes, largest_bytes)
