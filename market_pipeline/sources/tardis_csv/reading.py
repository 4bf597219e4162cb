"""Reads Tardis's CSV files some rows at a time, and refuses what is not as Tardis documents it.

A block is held at a time, whatever a file unpacks to, and no row is longer than a block.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
from numpy.typing import NDArray

from market_pipeline.errors import DomainError, LakeFileError, MarketPipelineError, SchemaError
from market_pipeline.mapped import ColumnArray
from market_pipeline.shown import shown_names
from market_pipeline.sources.memory_limits import HEADING_BYTES

__all__ = [
    "BOOK_25",
    "BOOK_LEVELS",
    "DATA_TYPES",
    "INCREMENTAL",
    "TICKER",
    "TRADES",
    "BoolArray",
    "IntArray",
    "Part",
    "Whose",
    "Words",
    "read_parts",
]

INCREMENTAL, TRADES, BOOK_25 = "incremental_book_L2", "trades", "book_snapshot_25"
TICKER = "derivative_ticker"
DATA_TYPES = (INCREMENTAL, BOOK_25, TRADES, TICKER)
BOOK_LEVELS = 25

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_BLOCK_BYTES = 8 << 20
_SHOWN_BYTES = 60
_US = 1_000
# From 2001 to 2096: a time in milliseconds or nanoseconds is outside.
_LEAST_US, _MOST_US = 10**15, 4 * 10**15
# Farther outside the day it is the file of another day, or no time in microseconds.
_SLACK_US = 3_600_000_000
_DAY_US = 86_400_000_000
_EPOCH = date(1970, 1, 1)

_NAMES = pa.dictionary(pa.int32(), pa.string())
_HEAD = {
    "exchange": _NAMES,
    "symbol": _NAMES,
    "timestamp": pa.int64(),
    "local_timestamp": pa.int64(),
}
_COLUMNS: dict[str, dict[str, pa.DataType]] = {
    INCREMENTAL: _HEAD
    | {"is_snapshot": pa.bool_(), "side": _NAMES, "price": pa.float64(), "amount": pa.float64()},
    TRADES: _HEAD
    | {"id": pa.string(), "side": _NAMES, "price": pa.float64(), "amount": pa.float64()},
    BOOK_25: _HEAD
    | {
        f"{side}s[{level}].{part}": pa.float64()
        for level in range(BOOK_LEVELS)
        for side in ("ask", "bid")
        for part in ("price", "amount")
    },
    TICKER: _HEAD
    | {
        # A float, because it may be empty: exact to the microsecond until 2255.
        name: pa.float64()
        for name in (
            "funding_timestamp",
            "funding_rate",
            "predicted_funding_rate",
            "open_interest",
            "last_price",
            "index_price",
            "mark_price",
        )
    },
}
_MAY_BE_EMPTY = {"id"}.union(*(list(_COLUMNS[each])[len(_HEAD) :] for each in (BOOK_25, TICKER)))
_NEXT_STEP = "Fetch the file from Tardis again, or report the row to the vendor."


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose rows a file must hold: exchange and symbol as Tardis spells them, and the day."""

    exchange: str
    symbol: str
    day: date


@dataclass(frozen=True, slots=True)
class Words:
    """A column of text with few different words: which there are, and which each row has."""

    words: list[str]
    indices: NDArray[np.int32]

    def are(self, word: str) -> BoolArray:
        """Which rows have a word, bool (n,)."""
        is_it = np.array([each == word for each in self.words], np.bool_)
        return is_it[self.indices] if self.words else np.zeros(self.indices.size, np.bool_)


@dataclass(frozen=True, slots=True)
class Part:
    """Consecutive rows of a file: which row the first is, and its columns.

    Attributes:
        file, first_row: The file, and which of its rows (without the heading) the first of these
            is.
        arrays: Numbers and ids by column name, shape (n,); an empty number is NaN. Times are ns.
        words: The columns of few words.
    """

    file: Path
    first_row: int
    arrays: dict[str, ColumnArray]
    words: dict[str, Words]

    @property
    def ts_origin_ns(self) -> IntArray:
        """The exchange's times."""
        return self.arrays["timestamp"]

    @property
    def ts_receipt_ns(self) -> IntArray:
        """The times of receipt."""
        return self.arrays["local_timestamp"]

    def refuse(self, bad: BoolArray, column: str, expected: str) -> None:
        """Raises if any row is bad, and names the first."""
        if bad.any():
            at = int(bad.argmax())
            if column in self.words:
                of = self.words[column]
                found = repr(of.words[of.indices[at]])
            else:
                found = repr(self.arrays[column][at].item())
            raise DomainError(
                f"A value of {column} is outside its domain",
                next_step=_NEXT_STEP,
                file=self.file,
                row=self.first_row + at,
                column=column,
                expected=expected,
                found=found,
            )


def read_parts(
    file: Path, data_type: str, whose: Whose, only: Sequence[str] = ()
) -> Iterator[Part]:
    """Yields a file's rows some at a time; times become nanoseconds.

    Args:
        file: A gzip of CSV.
        data_type: Which columns it must have.
        whose: What exchange and symbol each row must have.
        only: Read these columns alone; the others are not looked at then.

    Raises:
        LakeFileError: If it is damaged, or is no gzip.
        SchemaError: If its columns are not those of its data type, or a value is not of its type.
        DomainError: If a value is missing, a row is of another exchange, symbol or day, a time is
            not in microseconds, or `local_timestamp` goes back.
    """
    columns = _COLUMNS[data_type]
    begin_us = (whose.day - _EPOCH) // timedelta(microseconds=1)
    first_us, last_us = begin_us - _SLACK_US, begin_us + _DAY_US + _SLACK_US
    row, latest_us = 0, first_us
    for batch in _batches(file, columns, only):
        part = _part_of(batch, file, row, columns)
        arrays, words = part.arrays, part.words
        for name, own in (("exchange", whose.exchange), ("symbol", whose.symbol)):
            if name in words:
                part.refuse(~words[name].are(own), name, own)
        if "timestamp" in arrays:
            us = arrays["timestamp"]
            bad = (us < _LEAST_US) | (us > _MOST_US)
            part.refuse(bad, "timestamp", "microseconds since 1970, of 16 digits")
        if "local_timestamp" in arrays and batch.num_rows:
            us = arrays["local_timestamp"]
            other = (us < first_us) | (us > last_us)
            part.refuse(other, "local_timestamp", f"microseconds within {whose.day} UTC")
            back = np.diff(us, prepend=latest_us) < 0
            part.refuse(back, "local_timestamp", "at least that of the row before")
            latest_us = int(us[-1])
        for name in ("timestamp", "local_timestamp"):
            if name in arrays:
                arrays[name] = arrays[name] * _US
        row += batch.num_rows
        if batch.num_rows:
            yield part


def _part_of(
    batch: pa.RecordBatch, file: Path, row: int, columns: Mapping[str, pa.DataType]
) -> Part:
    arrays: dict[str, ColumnArray] = {}
    words: dict[str, Words] = {}
    for name in batch.schema.names:
        values = batch.column(name)
        if values.null_count and name not in _MAY_BE_EMPTY:
            raise DomainError(
                "A value is missing",
                next_step=_NEXT_STEP,
                file=file,
                row=row + pc.index(values.is_null(), True).as_py(),
                column=name,
                expected=f"a value of type {columns[name]}",
                found="nothing",
            )
        if pa.types.is_dictionary(values.type):
            indices = values.indices.to_numpy(zero_copy_only=False)
            words[name] = Words(values.dictionary.to_pylist(), indices)
        else:
            arrays[name] = values.to_numpy(zero_copy_only=False)
    return Part(file, row, arrays, words)


def _batches(
    file: Path, columns: dict[str, pa.DataType], only: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    if not file.stat().st_size:
        raise _damaged(file, "an empty file")
    _refuse_long_heading(file)
    row = 0
    try:
        with pa.OSFile(str(file)) as raw, pa.CompressedInputStream(raw, "gzip") as stream:
            # One thread, so that what is wrong is reported with its row.
            reader = pcsv.open_csv(
                stream,
                read_options=pcsv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
                convert_options=pcsv.ConvertOptions(
                    column_types=columns,
                    include_columns=list(only),
                    null_values=[""],
                    strings_can_be_null=False,
                ),
            )
            names = reader.schema.names
            if not only and names != list(columns):
                raise _other_columns(file, columns, names)
            for batch in reader:
                yield batch
                row += batch.num_rows
    except MarketPipelineError:
        raise
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise SchemaError(
            "A row of the CSV file is not of its type",
            next_step="Fetch the file from Tardis again, or check its data type.",
            file=file,
            row=row,
            expected=f"columns {', '.join(columns)}",
            found=f"from this row on: {error}",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, str(error), row) from error


def _refuse_long_heading(file: Path) -> None:
    """Refuses a heading that would become millions of columns before its names are looked at."""
    try:
        with gzip.open(file) as text:
            heading = text.readline(HEADING_BYTES)
    except (OSError, EOFError, zlib.error):
        return  # What is wrong with the file is reported where its rows are read.
    if len(heading) == HEADING_BYTES:
        raise SchemaError(
            "The heading of the CSV file does not end",
            next_step="Fetch the file from Tardis again, or check its data type.",
            file=file,
            row=0,
            expected=f"a heading of less than {HEADING_BYTES} bytes",
            found=repr(heading[:_SHOWN_BYTES]),
        )


def _damaged(file: Path, found: str, row: int = 0) -> LakeFileError:
    return LakeFileError(
        "The CSV file cannot be read to its end",
        next_step="Fetch the file from Tardis again, then rerun this day.",
        file=file,
        row=row,
        expected="a complete gzip file",
        found=found,
    )


def _other_columns(
    file: Path, columns: dict[str, pa.DataType], names: Sequence[str]
) -> SchemaError:
    missing = [name for name in columns if name not in names]
    unexpected = [name for name in names if name not in columns]
    return SchemaError(
        "The CSV file does not have the columns of its data type, in their order",
        next_step="Fetch the file from Tardis again, or check its data type.",
        file=file,
        column=shown_names(missing + unexpected) or None,
        expected=f"columns {', '.join(columns)}",
        found=f"missing: {shown_names(missing) or 'none'}; "
        f"unexpected: {shown_names(unexpected) or 'none'}",
    )
