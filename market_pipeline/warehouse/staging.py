"""Stream one instrument's rows into a Parquet file that is named by the hash of its bytes.

The file lies in `staging/` until it is published.
Its bytes follow from the rows and the metadata alone: the same rows make the same file however they
were cut into batches, so publishing them a second time changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from market_pipeline.errors import WarehouseBusyError
from market_pipeline.warehouse.conform import Conformer, instrument_parts, stored_schema
from market_pipeline.warehouse.layout import Warehouse, make_private_folder
from market_pipeline.warehouse.ledger import digest
from market_pipeline.warehouse.locks import locking
from market_pipeline.warehouse.staging_file import StagingFile
from market_pipeline.warehouse.tables import Table

__all__ = [
    "KEEP_STAGED",
    "ROW_GROUP_ROWS",
    "StagedFile",
    "StagedWriter",
    "abandon",
    "rows_of_group",
    "staging_age",
    "staging_in_use",
    "stale_staging",
    "sweep_staging",
]

ROW_GROUP_ROWS = 1 << 20
"""Rows of a row group, unless the rows are so wide that it would pass `ROW_GROUP_BYTES`."""

ROW_GROUP_BYTES = 32 << 20
"""Most memory that the buffered rows of one row group may take, fixed-width columns counted."""

_CHUNK_BYTES = 8 << 20

KEEP_STAGED = timedelta(days=1)
"""How long an unfinished file is left alone while a run is alive: it may own it."""

_BLOCK_BYTES = 512
"""The unit that the system counts the blocks of a file in."""


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A finished file of one instrument, on disk but not published.

    `bytes` is its size and `sha256` the hash of its bytes in hexadecimal.
    The rows of one instrument and day may be spread over several files: `part` counts them from 0
    in the order of the rows.
    """

    instrument: str
    path: Path
    rows: int
    bytes: int
    sha256: str
    part: int = 0

    def lies_at(self, path: Path) -> bool:
        """Whether these very bytes lie there; no where they cannot be read."""
        try:
            return path.stat().st_size == self.bytes and digest(path, "sha256") == self.sha256
        except OSError:
            return False


class StagedWriter:
    """Write one instrument's rows of one day; a context manager.

    After the `with` block `staged` describes the finished file.
    If the block raises, the unfinished file is removed.

    Args:
        warehouse: Where to write.
        table: What is written; the batches must have exactly its columns.
        instrument: The instrument id, e.g. `BINANCE:BTC-USDT`.
        metadata: Key-value pairs for the Parquet footer, e.g. tick size and code version; part of
            the hashed bytes, so no clock times here.
        row_group_rows: Rows of a row group; give fewer where rows hold long lists, whose size the
            writer cannot know beforehand.
        part: Which of the instrument's files of the day this is.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        table: Table,
        instrument: str,
        *,
        metadata: Mapping[str, str] | None = None,
        row_group_rows: int = ROW_GROUP_ROWS,
        part: int = 0,
    ) -> None:
        instrument_parts(instrument)
        self._table = table
        self._instrument = instrument
        self._part = part
        self._group_rows = rows_of_group(table, row_group_rows)
        self._chunk_rows = min(self._group_rows, _chunk_rows(table))
        self._folder = warehouse.staging_dir
        self._metadata = dict(sorted((metadata or {}).items()))
        self._schema = _written_schema(table)
        self._conformer = Conformer(table, self._schema)
        self._loose: list[pa.Table] = []
        self._loose_rows = 0
        self._group: list[pa.Table] = []
        self._group_rows_taken = 0
        self._rows = 0
        self._staged: StagedFile | None = None

    def __enter__(self) -> Self:
        self._file = StagingFile(self._folder, self._table.sql_name)
        self._writer = pq.ParquetWriter(
            self._file,
            self._schema,
            compression="zstd",
            compression_level=1,
            write_statistics=True,
            # Readers are to see strings, not that we wrote repeated ones as dictionaries.
            store_schema=False,
            **_encodings(self._table),
        )
        if self._metadata:
            self._writer.add_key_value_metadata(self._metadata)
        return self

    def write(self, rows: pa.RecordBatch | pa.Table) -> None:
        """Take the next rows; they are written once a row group is full.

        Raises:
            PublishError: The columns or their types are not the table's.
        """
        data = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
        data = self._conformer.conform(data)
        if data.num_rows:
            self._loose.append(data)
            self._loose_rows += data.num_rows
        while self._loose_rows >= self._chunk_rows:
            self._take_chunk(self._chunk_rows)

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
            # On a full disk neither of the others succeeds.
            self._file.remove()
            abandon(self._writer)
            with suppress(OSError):
                self._file.close()

    def _take_chunk(self, rows: int) -> None:
        """Cut the next chunk from what came, and write the row group that it completes.

        Chunk borders may become page borders, so they are where the rows say, not where the batches
        were cut. A batch of just that many rows is not copied.
        """
        loose = pa.concat_tables(self._loose)
        rest = loose.slice(rows)
        self._loose = [rest] if rest.num_rows else []
        self._loose_rows = rest.num_rows
        chunk = loose.slice(0, rows)
        if any(column.num_chunks > 1 for column in chunk.columns):
            chunk = chunk.combine_chunks()
        self._group.append(chunk)
        self._group_rows_taken += rows
        if self._group_rows_taken == self._group_rows:
            self._write_group()

    def _write_group(self) -> None:
        group = pa.concat_tables(self._group)
        self._writer.write_table(group, row_group_size=self._group_rows)
        self._rows += group.num_rows
        self._group, self._group_rows_taken = [], 0

    def _finish(self) -> None:
        if self._loose:
            self._take_chunk(self._loose_rows)
        if self._group:
            self._write_group()
        self._writer.close()
        path = self._file.finish()
        self._staged = StagedFile(
            self._instrument, path, self._rows, self._file.bytes, self._file.sha256, self._part
        )


def abandon(writer: pq.ParquetWriter) -> None:
    """Lets go of a writer whose file nobody will read, also where the disk takes nothing more.

    It would try again when it is collected, and print a traceback.
    """
    with suppress(OSError, ValueError):
        writer.close()
    writer.is_open = False


@contextmanager
def staging_in_use(warehouse: Warehouse) -> Iterator[None]:
    """Says that a run is alive, whose files in `staging/` are its own; any number may be at once.

    The operating system takes it back when the process ends, however it ends.

    Raises:
        WarehouseBusyError: A prune kept the folder for a minute, which takes it a second.
    """
    make_private_folder(warehouse.staging_dir)
    with locking(warehouse.staging_dir, shared=True):
        yield


@contextmanager
def staging_age(warehouse: Warehouse) -> Iterator[timedelta]:
    """How old a file in `staging/` has to be for nobody to own it: no age while no run is alive.

    None begins before the `with` block ends.
    """
    if not warehouse.staging_dir.is_dir():
        yield KEEP_STAGED
        return
    with ExitStack() as held:
        # A clock that was set back may have left files of the future.
        age = timedelta.min
        try:
            held.enter_context(locking(warehouse.staging_dir, timeout_seconds=0))
        except WarehouseBusyError:
            age = KEEP_STAGED
        yield age


def stale_staging(warehouse: Warehouse, older_than: timedelta = KEEP_STAGED) -> dict[Path, int]:
    """What killed runs left in `staging/`, and what each file takes of the disk.

    Args:
        warehouse: Whose staging folder.
        older_than: Files written to more recently are none.
    """
    oldest = time.time() - older_than.total_seconds()
    left_over = {}
    for path in sorted(warehouse.staging_dir.glob("*")):
        # Another run may rename or publish it at any moment.
        with suppress(FileNotFoundError):
            found = path.stat()
            ours = path.suffix in {".partial", ".parquet", ".resume", ".messages"}
            if ours and found.st_mtime < oldest:
                # An index of messages has room for as many as there are rows, which takes none.
                left_over[path] = min(found.st_size, found.st_blocks * _BLOCK_BYTES)
    return left_over


def sweep_staging(warehouse: Warehouse, older_than: timedelta = KEEP_STAGED) -> list[Path]:
    """Remove what `stale_staging` finds, and return it."""
    swept = []
    for path in stale_staging(warehouse, older_than):
        with suppress(FileNotFoundError):
            path.unlink()
            swept.append(path)
    return swept


def _written_schema(table: Table) -> pa.Schema:
    """`stored_schema` with the instrument's names as dictionaries: each row repeats them."""
    repeated = pa.dictionary(pa.int32(), pa.string())
    return pa.schema(
        [
            pa.field(field.name, repeated if field.name in {"exchange", "symbol"} else field.type)
            for field in stored_schema(table)
        ]
    )


def rows_of_group(table: Table, row_group_rows: int = ROW_GROUP_ROWS) -> int:
    """Rows of each row group of a file but the last: whole chunks, if there may be so many."""
    rows = max(1, min(row_group_rows, ROW_GROUP_BYTES // _row_bytes(table)))
    chunk_rows = min(rows, _chunk_rows(table))
    return rows // chunk_rows * chunk_rows


def _chunk_rows(table: Table) -> int:
    """A power of two of rows that take a few megabytes."""
    return 1 << (_CHUNK_BYTES // _row_bytes(table)).bit_length() - 1


def _row_bytes(table: Table) -> int:
    """Bytes of one row in memory, a list or a string counted as one 8-byte value."""
    bits = 0
    for field in table.arrow_schema:
        try:
            bits += field.type.bit_width
        except ValueError:  # a type of variable width
            bits += 64
    return max(1, bits // 8)


def _encodings(table: Table) -> dict[str, dict[str, str] | list[str] | bool | None]:
    """Which columns get which Parquet encoding.

    Measured on real top-of-book rows (26,824, zstd level 1): differences for integers, because
    times, sequence numbers, ticks and lots move by little (8.2 bytes a row; dictionaries, the
    library's default, need 16.4); plain for doubles, because zstd finds their repetitions and
    neither dictionaries nor byte-stream-split beat it; dictionaries for what repeats.
    """
    delta: dict[str, str] = {}
    dictionary: list[str] = []
    for field in stored_schema(table):
        path, kind = field.name, field.type
        if pa.types.is_list(kind):
            path, kind = f"{field.name}.list.element", kind.value_type
        if pa.types.is_int64(kind) or pa.types.is_int32(kind):
            delta[path] = "DELTA_BINARY_PACKED"
        elif pa.types.is_string(kind) or pa.types.is_date(kind):
            dictionary.append(path)
    return {"column_encoding": delta or None, "use_dictionary": dictionary or False}
