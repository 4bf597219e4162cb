"""Columns of a day in a file, written part by part and then mapped instead of held.

Pages of a mapped file are the system's to take back: a day of millions of rows has as much memory
as there is to spare, and costs no process its life where there is none.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["ColumnArray", "ColumnWriter", "map_columns", "mapped", "mapped_zeros"]

ColumnArray = NDArray[Any]
"""A column of a table; what its values are follows from the column's name."""

_ALIGNED = 8


class ColumnWriter:
    """Writes columns of equal length, some rows at a time.

    Args:
        file: Open for writing.
        types: Of each column.
        most: No more rows are written; room that stays empty takes none on most disks.
        offset: Where in the file they begin, a multiple of 8.

    Attributes:
        most: As given.
        rows: Written so far.
    """

    def __init__(
        self, file: BinaryIO, types: Sequence[DTypeLike], most: int, offset: int = 0
    ) -> None:
        self._file = file
        self._starts = _starts(types, most, offset)
        self._types = [np.dtype(each) for each in types]
        self.most = most
        self.rows = 0

    def add(self, columns: Sequence[ColumnArray]) -> None:
        """Writes further rows, an array of each column.

        Raises:
            OSError: If they cannot be written.
            ValueError: If they are more than there may be, as of a file that has grown meanwhile.
        """
        if self.rows + len(columns[0]) > self.most:
            raise ValueError(f"more than the {self.most} rows that there were to be")
        for start, dtype, column in zip(self._starts, self._types, columns, strict=True):
            self._file.seek(start + self.rows * dtype.itemsize)
            self._file.write(np.ascontiguousarray(column, dtype).data)
        self.rows += len(columns[0])


def map_columns(
    file: BinaryIO, types: Sequence[DTypeLike], most: int, rows: int, offset: int = 0
) -> list[ColumnArray]:
    """Columns as a `ColumnWriter` wrote them, read-only, shape (rows,) each.

    Args:
        file: Open for reading; it may be closed, and its name removed, but never be cut short.
        types, most, offset: As they were written with.
        rows: How many of them.

    Raises:
        OSError, ValueError: If the file is too short or cannot be mapped.
    """
    if rows == 0:
        return [np.empty(0, each) for each in types]
    file.flush()
    pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    starts = _starts(types, most, offset)
    return [
        np.frombuffer(pages, each, rows, start) for each, start in zip(types, starts, strict=True)
    ]


def mapped(
    parts: Iterable[Sequence[ColumnArray]],
    types: Sequence[DTypeLike],
    most: int,
    folder: Path | None = None,
) -> list[ColumnArray]:
    """Columns that come part by part, mapped from a file that is gone with the last of them.

    Args:
        parts: Arrays of each column, of equal length.
        types, most: As for `ColumnWriter`.
        folder: Where the file lies; it has no name there. None is the system's folder for
            temporary files.

    Raises:
        OSError, ValueError: See `ColumnWriter.add`.
    """
    with cast("BinaryIO", tempfile.TemporaryFile(dir=folder)) as file:
        columns = ColumnWriter(file, types, most)
        for part in parts:
            columns.add(part)
            del part  # or it would be held while the next one is made
        return map_columns(file, types, most, columns.rows)


def mapped_zeros(
    types: Sequence[DTypeLike], rows: int, folder: Path | None = None
) -> list[ColumnArray]:
    """Columns of zeros to be filled in any order, shape (rows,) each, mapped like `mapped` ones.

    Args:
        types, folder: As for `mapped`.
        rows: How many.

    Raises:
        OSError: If the disk has no room for them: it is taken at once, because a page that finds
            none when it is written ends the whole process.
    """
    if rows == 0:
        return [np.empty(0, each) for each in types]
    *starts, size = _starts([*types, np.uint8], rows, 0)
    with cast("BinaryIO", tempfile.TemporaryFile(dir=folder)) as file:
        os.posix_fallocate(file.fileno(), 0, size)
        pages = mmap.mmap(file.fileno(), size)
    return [
        np.frombuffer(pages, each, rows, start) for each, start in zip(types, starts, strict=True)
    ]


def _starts(types: Sequence[DTypeLike], most: int, offset: int) -> list[int]:
    starts = []
    for each in types:
        starts.append(offset)
        offset += -(-most * np.dtype(each).itemsize // _ALIGNED) * _ALIGNED
    return starts
