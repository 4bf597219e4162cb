"""Stream rows that repeat into a Parquet file, as runs of equal rows.

Most seconds of a quiet instrument are the second before: a day of 86,400 of them has some thousand
that differ. Given as runs, they are hashed, compared and encoded as often as they differ, and the
file has all rows. `warehouse.staging` writes any other rows.
"""

from __future__ import annotations

import struct as packed
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple, Self

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from market_pipeline.errors import PublishError
from market_pipeline.warehouse._run_pages import (
    PLAIN,
    RLE,
    Page,
    RunEncoder,
    counting_page,
    one_page,
)
from market_pipeline.warehouse.conform import instrument_parts
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.staging_file import StagingFile
from market_pipeline.warehouse.tables import Column, Table
from market_pipeline.warehouse.thrift import Encoded, array, flag, i16, i32, i64, struct, text

__all__ = ["RowRuns", "StagedRuns"]

_MAGIC: Final = b"PAR1"
_PLAIN_BYTES, _ZSTD = 0, 6
_SHORT_CHUNK_BYTES: Final = 1 << 9
"""What is no longer is not compressed: that would take as long as to make it."""
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_EPOCH: Final = date(1970, 1, 1)

_OPTIONAL: Final = 1
_PHYSICAL: Final = {"INTEGER": 1, "DATE": 1, "BIGINT": 2, "TIMESTAMP": 2, "DOUBLE": 5, "VARCHAR": 6}
_CONVERTED: Final = {"VARCHAR": 0, "DATE": 6}
_ORDER: Final = struct({1: struct({})})
_NOWHERE: Final = i64(0)
_MICROSECONDS: Final = struct({2: struct({})})
_LOGICAL: Final = {
    "VARCHAR": struct({1: struct({})}),
    "DATE": struct({6: struct({})}),
    "TIMESTAMP": struct({8: struct({1: flag(value=False), 2: _MICROSECONDS})}),
}


@dataclass(frozen=True, slots=True, eq=False)
class RowRuns:
    """Rows of one instrument, whose runs of equal rows are given once.

    Attributes:
        constants: The columns that are the same in all rows, by name.
        counting: The name of the column of TIMESTAMP that goes up from row to row.
        first_us, step_us: Its first value, and by how much it goes up.
        columns: The other columns, each BIGINT or DOUBLE, a row for each run.
        rows: int64, shape (runs,): how many rows each run has, at least 1.
    """

    constants: Mapping[str, str | int | date]
    counting: str
    first_us: int
    step_us: int
    columns: pl.DataFrame
    rows: NDArray[np.int64]

    def expanded(self) -> pl.DataFrame:
        """All the rows, each by itself, as a reader of the file gets them but for their order."""
        number = int(self.rows.sum())
        starts = pl.int_range(number, eager=True) * self.step_us + self.first_us
        return self.columns.select(
            pl.all().repeat_by(pl.lit(pl.Series(self.rows))).explode()
        ).with_columns(
            *(pl.lit(value).alias(name) for name, value in self.constants.items()),
            starts.cast(pl.Datetime("us")).alias(self.counting),
        )


class _Chunk(NamedTuple):
    """A column of a row group in the file: its metadata, and its bytes before compression."""

    metadata: Encoded
    plain_bytes: int
    bytes: int


class StagedRuns:
    """Write one instrument's rows of one day as runs; a context manager.

    After the `with` block `staged` describes the finished file, whose bytes follow from what was
    written, and how it was cut. If the block raises, the unfinished file is removed.

    Args:
        warehouse: Where to write.
        table: What is written; each `RowRuns` must have exactly its columns.
        instrument: The instrument id, e.g. `BINANCE:BTC-USDT`.
        metadata: Key-value pairs for the Parquet footer, part of the hashed bytes.
    """

    def __init__(
        self, warehouse: Warehouse, table: Table, instrument: str, metadata: Mapping[str, str]
    ) -> None:
        instrument_parts(instrument)
        self._table = table
        self._instrument = instrument
        self._folder = warehouse.staging_dir
        self._metadata = dict(sorted(metadata.items()))
        self._codec = pa.Codec("zstd", 1)
        self._groups: list[Encoded] = []
        self._pages: list[bytes] = []
        self._end = 0
        self._rows = 0
        self._staged: StagedFile | None = None

    def __enter__(self) -> Self:
        self._file = StagingFile(self._folder, self._table.sql_name)
        self._pages, self._end = [_MAGIC], len(_MAGIC)
        return self

    def write(self, rows: RowRuns) -> None:
        """Writes the next rows as a row group of their own, which is in memory meanwhile.

        Raises:
            PublishError: The columns or their types are not the table's.
        """
        self._check(rows)
        number = int(rows.rows.sum())
        encoder = RunEncoder(rows.rows)
        start = self._end
        # All at once: asked of each column by itself it takes three times as long.
        arrays = rows.columns.to_arrow().combine_chunks()
        chunks = [
            self._chunk(column, *_page_of(column, rows, arrays, encoder, number), number)
            for column in self._table.columns
        ]
        self._groups.append(
            struct(
                {
                    1: array([struct({2: _NOWHERE, 3: chunk.metadata}) for chunk in chunks]),
                    2: i64(sum(chunk.plain_bytes for chunk in chunks)),
                    3: i64(number),
                    5: i64(start),
                    6: i64(sum(chunk.bytes for chunk in chunks)),
                    7: i16(len(self._groups)),
                }
            )
        )
        self._write_pages()
        self._rows += number

    @property
    def staged(self) -> StagedFile:
        """The finished file; there only after the `with` block ended without an error."""
        if self._staged is None:
            raise RuntimeError("the staged file is finished only after the `with` block")
        return self._staged

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._file.remove()
            with suppress(OSError):
                self._file.close()

    def _check(self, rows: RowRuns) -> None:
        kinds: dict[pl.DataType, str] = {pl.Int64(): "BIGINT", pl.Float64(): "DOUBLE"}
        found = dict.fromkeys(rows.constants) | {rows.counting: "TIMESTAMP"}
        schema = rows.columns.schema
        found |= {name: kinds.get(kind, str(kind)) for name, kind in schema.items()}
        wanted = {column.name: column.type for column in self._table.columns}
        wrong = [
            name
            for name in found.keys() | wanted.keys()
            if name not in found or found[name] not in (None, wanted.get(name))
        ]
        if wrong:
            name = min(wrong)
            raise PublishError(
                f"the columns are not those of {self._table.sql_name}",
                next_step="Give the rows exactly the columns that the table declares.",
                column=name,
                expected=wanted.get(name, "no such column"),
                found=str(found.get(name, "nothing")),
            )

    def _chunk(self, column: Column, page: Page, bounds: Sequence[bytes], rows: int) -> _Chunk:
        """Adds the pages of a column."""
        start = self._end
        plain_bytes = 0
        places = {}
        is_short = len(page.data) + len(page.dictionary) <= _SHORT_CHUNK_BYTES
        if page.distinct:
            head = {7: _dictionary_head(page.distinct)}
            places[11] = i64(start)
            plain_bytes += self._add_page(_DICTIONARY_PAGE, page.dictionary, head, is_short)
        at = self._end
        head = {5: _data_head(rows, page.encoding)}
        plain_bytes += self._add_page(_DATA_PAGE, page.data, head, is_short)
        statistics = {}
        if bounds:
            least, most = bounds
            statistics = {12: struct({3: i64(0), 5: text(most), 6: text(least)})}
        metadata = struct(
            {
                1: i32(_PHYSICAL[column.type]),
                2: _encodings(page.encoding, has_dictionary=page.distinct > 0),
                3: _path(column.name),
                4: i32(_PLAIN_BYTES if is_short else _ZSTD),
                5: i64(rows),
                6: i64(plain_bytes),
                7: i64(self._end - start),
                9: i64(at),
                **places,
                **statistics,
            }
        )
        return _Chunk(metadata, plain_bytes, self._end - start)

    def _add_page(self, kind: int, data: bytes, head: dict[int, Encoded], is_short: bool) -> int:
        """Adds a page to those of the row group; returns its bytes before compression."""
        compressed = data if is_short else self._codec.compress(data, asbytes=True)
        sizes = {2: i32(len(data)), 3: i32(len(compressed))}
        header = struct({1: i32(kind), **sizes, **head})[1]
        self._pages += header, compressed
        self._end += len(header) + len(compressed)
        return len(header) + len(data)

    def _write_pages(self) -> None:
        self._file.write(b"".join(self._pages))
        self._pages = []

    def _finish(self) -> None:
        self._write_pages()
        pairs = [struct({1: text(k), 2: text(v)}) for k, v in self._metadata.items()]
        footer = struct(
            {
                1: i32(2),
                2: _schema_of(self._table),
                3: i64(self._rows),
                4: array(self._groups),
                **({5: array(pairs)} if pairs else {}),
                6: text("market-pipeline"),
                7: array([_ORDER] * len(self._table.columns)),
            }
        )[1]
        self._file.write(footer + packed.pack("<I", len(footer)) + _MAGIC)
        path = self._file.finish()
        self._staged = StagedFile(
            self._instrument, path, self._rows, self._file.bytes, self._file.sha256
        )


# Of the columns of a row group, and of its row groups, these come again and again.


@lru_cache(1 << 10)
def _dictionary_head(distinct: int) -> Encoded:
    """What the header of a dictionary page says of its values."""
    return struct({1: i32(distinct), 2: i32(PLAIN)})


@lru_cache(1 << 10)
def _data_head(rows: int, encoding: int) -> Encoded:
    """What the header of a data page says of its values."""
    return struct({1: i32(rows), 2: i32(encoding), 3: i32(RLE), 4: i32(RLE)})


@lru_cache
def _encodings(encoding: int, *, has_dictionary: bool) -> Encoded:
    """All encodings of a column whose values have one."""
    return array([i32(each) for each in sorted({RLE, encoding, *([PLAIN] * has_dictionary)})])


@lru_cache(1 << 10)
def _path(column: str) -> Encoded:
    """Where a column is in the schema."""
    return array([text(column)])


def _page_of(
    column: Column, rows: RowRuns, arrays: pa.Table, encoder: RunEncoder, number: int
) -> tuple[Page, Sequence[bytes]]:
    """The page of a column, and the least and the most of it where readers look for rows by it."""
    if column.name in rows.constants:
        plain = _plain(column, rows.constants[column.name])
        bound = plain[4:] if column.type == "VARCHAR" else plain
        return one_page(plain, number), (bound, bound)
    if column.name == rows.counting:
        last_us = rows.first_us + (number - 1) * rows.step_us
        bounds = [packed.pack("<q", each) for each in (rows.first_us, last_us)]
        return counting_page(rows.first_us, rows.step_us, number), bounds
    return encoder.page(*_bits(arrays[column.name].chunk(0))), ()


def _bits(values: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The values of an array of 64-bit numbers as they lie in memory, and where there are any."""
    number, start = len(values), values.offset
    mask, data = values.buffers()
    if mask is None:
        is_valid = np.ones(number, np.bool_)
    else:
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")
        is_valid = bits[start : start + number].view(np.bool_)
    return np.frombuffer(data, np.int64)[start : start + number], is_valid


def _plain(column: Column, value: str | int | date) -> bytes:
    """A value in Parquet's plain encoding."""
    if isinstance(value, str):
        data = value.encode()
        return packed.pack("<I", len(data)) + data
    number = (value - _EPOCH).days if isinstance(value, date) else value
    return packed.pack("<i" if _PHYSICAL[column.type] == _PHYSICAL["INTEGER"] else "<q", number)


@lru_cache
def _schema_of(table: Table) -> Encoded:
    """The schema of a table's files."""
    root = struct({4: text("schema"), 5: i32(len(table.columns))})
    return array([root, *(_element(column) for column in table.columns)])


def _element(column: Column) -> Encoded:
    """A column of the schema, as the Arrow types of the table are written."""
    fields = {1: i32(_PHYSICAL[column.type]), 3: i32(_OPTIONAL), 4: text(column.name)}
    if column.type in _CONVERTED:
        fields[6] = i32(_CONVERTED[column.type])
    if column.type in _LOGICAL:
        fields[10] = _LOGICAL[column.type]
    return struct(fields)
