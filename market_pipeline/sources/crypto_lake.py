"""Crypto Lake's raw files: hive folders of Parquet shards, read batch by batch.

Layout: `<lake>/<table>/exchange=<E>/symbol=<S>/dt=<YYYY-MM-DD>/<N>.snappy.parquet`, N from 1;
`sources/raw_names.py` has the names.

Message boundary: rows of one message share `sequence_number` and `receipt_timestamp`.
Clock: int64 ns UTC that passed through float64 seconds, so quantised to 256 ns; `dt` is the UTC
date of receipt.
Sequence: the venue's last update id. It grows but is not dense, so a jump proves nothing.
Seed: delta files start mid-stream; the first row of the `book` table is the first full view.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from market_pipeline.errors import DomainError, LakeFileError, SchemaError
from market_pipeline.mapped import ColumnArray
from market_pipeline.security.stored import is_stored, stat_as_it_lies, stored_size
from market_pipeline.shown import shown_names
from market_pipeline.sources.batches import DeltaBatch
from market_pipeline.sources.converted_columns import (
    LOST,
    LOST_BEFORE,
    RECOVERED,
    level_columns,
    more_columns,
)
from market_pipeline.sources.parquet import largest_piece_bytes, read_pieces, streamed_row_groups
from market_pipeline.sources.parquet_pages import check_footer, refuse_long_footer
from market_pipeline.sources.parquet_window import parquet_source
from market_pipeline.sources.raw_names import Series, folder_shards
from market_pipeline.threads import check_stopped

__all__ = [
    "DELTAS",
    "RAW_TABLES",
    "SNAPSHOTS",
    "SNAPSHOT_LEVELS",
    "TRADES",
    "DeltaCounts",
    "RawBatch",
    "RawTable",
    "count_deltas",
    "count_rows",
    "day_folder",
    "day_shards",
    "open_shard",
    "read_deltas",
    "read_raw",
    "read_times",
    "read_whole",
    "refuse_outside",
]

SNAPSHOT_LEVELS = 20

_BATCH_ROWS = 1 << 19
_NOTHING_LOST = np.empty(0, np.int8)

_RENAMED_BY_VENDOR_CLIENT = {
    "origin_time": "timestamp",
    "received_time": "receipt_timestamp",
    "quantity": "amount",
    "trade_id": "id",
}


@dataclass(frozen=True, slots=True)
class RawTable:
    """A table of the lake: its folder name and its columns, in the vendor's raw spelling."""

    name: str
    columns: dict[str, str]


_TIMES = {"timestamp": "int64", "receipt_timestamp": "int64"}
DELTAS = RawTable(
    "book_delta_v2",
    _TIMES
    | {"sequence_number": "int64", "side_is_bid": "bool", "price": "double", "size": "double"},
)
SNAPSHOTS = RawTable(
    "book",
    _TIMES | {"sequence_number": "int64"} | dict.fromkeys(level_columns(SNAPSHOT_LEVELS), "double"),
)
TRADES = RawTable(
    "trades", {"side": "string", "amount": "double", "price": "double", "id": "int64"} | _TIMES
)
RAW_TABLES = (DELTAS, SNAPSHOTS, TRADES)
"""What a book is rebuilt from and validated by."""


def day_folder(lake: Path, table: RawTable, exchange: str, symbol: str, day: date) -> Path:
    """Where the shards of a table lie for one instrument and day."""
    return lake / Series(table.name, exchange, symbol).day_folder(day)


def day_shards(lake: Path, table: RawTable, exchange: str, symbol: str, day: date) -> list[Path]:
    """The shards of a table for one instrument and day, in numeric order; empty if there are none.

    Of a shard with several versions the newest is meant, and one that is gone since is left out.
    Other files in the folder (a download under way, a checksum) are not shards.

    Raises:
        LakeFileError: Two names mean the same shard, or a Parquet file's name only looks like one.
    """
    return folder_shards(day_folder(lake, table, exchange, symbol, day))


@lru_cache(maxsize=1 << 12)
def _check_footer_once(file: Path, file_bytes: int, changed_ns: int, inode: int) -> None:
    """Checks a footer, but not again while the file is the same: a day opens each a dozen times."""
    with pq.ParquetFile(parquet_source(file)) as parquet:
        check_footer(parquet, file_bytes)


def open_shard(file: Path, table: RawTable) -> tuple[pq.ParquetFile, dict[str, str]]:
    """Opens a shard and maps the vendor's raw column names to those in the file.

    A file that a converter wrote may hold more: `lost_before` in deltas, deeper levels in
    snapshots, `is_market` in trades.

    Raises:
        LakeFileError: If the file is truncated or no Parquet at all, or has too long a footer.
        SealError: If it lies sealed, and no key opens it or it is not as it was sealed.
        SchemaError: If its columns or their types are not those of the table, in either spelling.
    """
    try:
        refuse_long_footer(file)
        # Not mapped into memory: a file cut short while it is read would end the whole process.
        parquet = pq.ParquetFile(parquet_source(file))
        stat = stat_as_it_lies(file)
        _check_footer_once(file, stored_size(file), stat.st_ctime_ns, stat.st_ino)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise LakeFileError(
            f"The {table.name} file cannot be read as Parquet",
            next_step="Fetch the file from the vendor again, then rerun this day.",
            file=file,
            expected="a complete Parquet file",
            found=f"{stored_size(file)} bytes: {error}" if is_stored(file) else str(error),
        ) from error
    schema = parquet.schema_arrow
    columns = table.columns | more_columns(schema, table.name)
    names: dict[str, str] = {}
    unexpected = []
    for own in schema.names:
        raw = _RENAMED_BY_VENDOR_CLIENT.get(own, own)
        if raw not in columns or raw in names:
            unexpected.append(own)
        else:
            names[raw] = own
    missing = [name for name in columns if name not in names]
    if missing or unexpected:
        raise SchemaError(
            f"The {table.name} file does not have the columns of its table",
            next_step="Fetch the file again, or check that it lies in the right table's folder.",
            file=file,
            column=shown_names(missing + unexpected),
            expected=f"columns {', '.join(columns)}",
            found=f"missing: {shown_names(missing) or 'none'}; "
            f"unexpected: {shown_names(unexpected) or 'none'}",
        )
    for raw, expected in columns.items():
        found = str(schema.field(names[raw]).type)
        if found not in (expected, f"large_{expected}"):
            raise SchemaError(
                f"A column of the {table.name} file has another type than its table",
                next_step="Fetch the file again; if the vendor changed the type, report it.",
                file=file,
                column=names[raw],
                expected=expected,
                found=found,
            )
    return parquet, names


@dataclass(frozen=True, slots=True)
class RawBatch:
    """Consecutive rows of a shard as they stand there, whatever their values.

    Attributes:
        file, first_row: The shard, and which of its rows the first of these is.
        arrays: By raw column name, shape (n,). Null is NaN in a column of floats, None in one of
            text, else 0.
        nulls: Which values are null, bool (n,), of the columns that have a null.
        names: The columns' names in the file, by raw column name.
    """

    file: Path
    first_row: int
    arrays: dict[str, ColumnArray]
    nulls: dict[str, NDArray[np.bool_]]
    names: dict[str, str]


def read_raw(
    files: Sequence[Path],
    table: RawTable,
    columns: Sequence[str],
    batch_rows: int = _BATCH_ROWS,
    *,
    skip_rows: int = 0,
    optional: Sequence[str] = (),
) -> Iterator[RawBatch]:
    """Yields the rows of a day's shards from row `skip_rows` on, in batches; no value is checked.

    Args:
        files: The shards in order.
        table, columns: Which columns of which table, in the vendor's raw spelling.
        batch_rows: Most rows of a batch, unless one row group has more.
        skip_rows: Rows at the start that are left out, counted over all shards.
        optional: Further columns, of those shards that have them.

    Raises:
        LakeFileError, SchemaError: See `open_shard`.
    """
    for file in files:
        parquet, names = open_shard(file, table)
        with parquet:
            skipped = min(skip_rows, parquet.metadata.num_rows)
            skip_rows -= skipped
            chosen = [*columns, *(column for column in optional if column in names)]
            own = [names[column] for column in chosen]
            for first_row, pieces in read_pieces(parquet, file, own, batch_rows, skipped):
                check_stopped()
                arrays, nulls = {}, {}
                for column in chosen:
                    arrays[column], absent = pieces[names[column]]
                    if absent is not None:
                        nulls[column] = absent
                yield RawBatch(file, first_row, arrays, nulls, names)
                # Here and below: or it would be held while the next one is decoded.
                del arrays, pieces


def read_whole(
    files: Sequence[Path],
    table: RawTable,
    columns: Sequence[str],
    batch_rows: int,
    *,
    nullable: Collection[str] = (),
    skip_rows: int = 0,
    optional: Sequence[str] = (),
) -> Iterator[RawBatch]:
    """Yields the rows as `read_raw` does; a null in a column that is not `nullable` is an error."""
    for batch in read_raw(
        files, table, columns, batch_rows, skip_rows=skip_rows, optional=optional
    ):
        for column, absent in batch.nulls.items():
            if column not in nullable:
                kind = table.columns.get(column, batch.arrays[column].dtype)
                raise DomainError(
                    "A value is null",
                    next_step="Fetch the file again, or report the row to the vendor.",
                    file=batch.file,
                    row=batch.first_row + int(absent.argmax()),
                    column=batch.names[column],
                    expected=f"a value of type {kind}",
                    found="null",
                )
        yield batch
        del batch


def refuse_outside(batch: RawBatch, column: str, *, above: float | None = None) -> None:
    """Refuses values that are not finite, below 0, or (with `above`) not greater than it."""
    values = batch.arrays[column]
    if not values.size:
        return
    # Both are NaN where a value is, and NaN fails every comparison.
    low, high = values.min(), values.max()
    if (low >= 0.0 if above is None else low > above) and high < np.inf:
        return
    bad = ~np.isfinite(values) | (values < 0.0 if above is None else values <= above)
    at = int(np.flatnonzero(bad)[0])
    raise DomainError(
        f"A {column} is outside its domain",
        next_step="The day is set aside; report the row to the vendor or fetch the file again.",
        file=batch.file,
        row=batch.first_row + at,
        column=batch.names[column],
        expected="a finite number, at least 0" if above is None else "a finite number above 0",
        found=repr(float(values[at])),
    )


def read_deltas(files: Sequence[Path], skip_rows: int = 0) -> Iterator[DeltaBatch]:
    """Yields the delta rows of a day's shards in order, in batches of bounded size.

    Args:
        files: The shards in order.
        skip_rows: Rows at the start that are left out, counted over all shards.

    Raises:
        LakeFileError, SchemaError: See `open_shard`.
        DomainError: On a null, a price not above 0, or a size below 0.
    """
    batches = read_whole(
        files,
        DELTAS,
        list(DELTAS.columns),
        _BATCH_ROWS,
        skip_rows=skip_rows,
        optional=[LOST_BEFORE],
    )
    for batch in batches:
        refuse_outside(batch, "price", above=0.0)
        refuse_outside(batch, "size")
        arrays = batch.arrays
        lost = arrays.get(LOST_BEFORE, _NOTHING_LOST)
        yield DeltaBatch(
            file=batch.file,
            first_row=batch.first_row,
            ts_origin_ns=arrays["timestamp"],
            ts_receipt_ns=arrays["receipt_timestamp"],
            sequence_number=arrays["sequence_number"],
            is_bid=arrays["side_is_bid"],
            price=arrays["price"],
            size=arrays["size"],
            gap_rows=np.flatnonzero(lost == LOST),
            recovered_rows=np.flatnonzero(lost == RECOVERED),
        )
        del arrays, batch


@dataclass(frozen=True, slots=True)
class DeltaCounts:
    """What the footers of a day's delta shards tell.

    Attributes:
        rows: Delta rows.
        streamed_row_groups: Row groups too large to be decoded whole.
        bytes_in_flight: Most decoded bytes that reading the shards holds at once.
    """

    rows: int
    streamed_row_groups: int
    bytes_in_flight: int


def count_deltas(files: Sequence[Path]) -> DeltaCounts:
    """Reads the footers of a day's delta shards.

    Raises:
        LakeFileError, SchemaError: See `open_shard`.
    """
    rows = streamed = in_flight = 0
    for file in files:
        parquet, names = open_shard(file, DELTAS)
        with parquet:
            columns = list(names.values())
            rows += parquet.metadata.num_rows
            streamed += streamed_row_groups(parquet, columns)
            in_flight = max(in_flight, largest_piece_bytes(parquet, columns, _BATCH_ROWS))
    return DeltaCounts(rows, streamed, in_flight)


def count_rows(files: Sequence[Path], table: RawTable) -> int:
    """The rows of a day's shards, as their footers tell.

    Raises:
        LakeFileError, SchemaError: See `open_shard`.
    """
    rows = 0
    for file in files:
        with open_shard(file, table)[0] as parquet:
            rows += parquet.metadata.num_rows
    return rows


def read_times(
    files: Sequence[Path], table: RawTable = DELTAS
) -> Iterator[tuple[NDArray[np.int64], ...]]:
    """Yields (ts_origin_ns, ts_receipt_ns, sequence_number) of delta or snapshot rows only.

    Raises:
        LakeFileError, SchemaError, DomainError: As `read_deltas`.
    """
    columns = ["timestamp", "receipt_timestamp", "sequence_number"]
    for batch in read_whole(files, table, columns, _BATCH_ROWS):
        yield tuple(batch.arrays[column] for column in columns)
