"""Columns of runs of equal rows as Parquet pages, without a value being written twice.

A run of one value costs a page two to four bytes, however many rows it has: definition levels and
indices into a dictionary are run-length encoded
(https://parquet.apache.org/docs/file-format/data-pages/encodings/).
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.warehouse._run_kernel import MOST_RUN_BYTES, encode_runs
from market_pipeline.warehouse.thrift import varint, zigzag

__all__ = ["PLAIN", "RLE", "Page", "RunEncoder", "counting_page", "one_page"]

PLAIN, RLE = 0, 3
"""Parquet's numbers of encodings."""
_DELTA, _DICTIONARY = 5, 8

_BLOCK: Final = 128
_SHAPE: Final = varint(_BLOCK) + varint(4)


class Page(NamedTuple):
    """What a column has in a row group.

    Attributes:
        encoding: Of the values.
        data: Levels and values, not compressed.
        dictionary: The values that the data refers to, not compressed; empty without any.
        distinct: How many those are.
    """

    encoding: int
    data: bytes
    dictionary: bytes = b""
    distinct: int = 0


class RunEncoder:
    """Encodes columns of the same runs, one after the other.

    Args:
        rows: int64, shape (runs,): how many rows each run has, at least 1.
    """

    def __init__(self, rows: NDArray[np.int64]) -> None:
        runs = len(rows)
        self._rows = rows
        self._numbers = np.empty(runs, np.int64)
        self._dictionary = np.empty(runs, np.int64)
        self._slots = np.empty(1 << (2 * runs).bit_length(), np.int32)
        self._levels, self._indices = np.empty((2, runs * MOST_RUN_BYTES + 1), np.uint8)
        self._found = np.empty(4, np.int64)

    def page(self, values: NDArray[np.int64], is_valid: NDArray[np.bool_]) -> Page:
        """The page of a column of 64-bit values, given as integers of the same bits.

        Its values are a dictionary and runs, or are written out where that is shorter.
        """
        encode_runs(
            values,
            is_valid,
            self._rows,
            self._numbers,
            self._dictionary,
            self._slots,
            self._levels,
            self._indices,
            self._found,
        )
        level_bytes, index_bytes, distinct, present = self._found.tolist()
        levels = _sized(self._levels[:level_bytes].tobytes())
        if 8 * distinct + index_bytes < 8 * present:
            dictionary = self._dictionary[:distinct].tobytes()
            indices = self._indices[:index_bytes].tobytes()
            return Page(_DICTIONARY, levels + indices, dictionary, distinct)
        repeated = np.repeat(values[is_valid], self._rows[is_valid])
        return Page(PLAIN, levels + repeated.tobytes())


def one_page(value: bytes, rows: int) -> Page:
    """The page of a column that has one value, in Parquet's plain encoding, in all rows."""
    run = varint(rows << 1)
    return Page(_DICTIONARY, _sized(run + b"\1") + b"\1" + run + b"\0", value, 1)


def counting_page(first: int, step: int, rows: int) -> Page:
    """The page of a column of numbers that are each a step above the one before."""
    blocks = -(-(rows - 1) // _BLOCK) * (zigzag(step) + bytes(4))
    data = _SHAPE + varint(rows) + zigzag(first) + blocks
    return Page(_DELTA, _sized(varint(rows << 1) + b"\1") + data)


def _sized(levels: bytes) -> bytes:
    return struct.pack("<I", len(levels)) + levels
