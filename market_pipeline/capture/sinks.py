"""Where derived rows go: JSON lines, Parquet parts, Delta tables, or a sink of one's own.

A sink of another package is an entry point of the group `market_pipeline.sinks`: a function that
takes a folder and gives a `Sink`.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Protocol, get_args, get_type_hints

import msgspec
import polars as pl
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction
from msgspec import Struct
from msgspec.structs import asdict

from market_pipeline.errors import SettingsError
from market_pipeline.sources.recording.open_file import write_at
from market_pipeline.warehouse.delta import settle_log
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder, written_whole

__all__ = ["SINKS_GROUP", "DeltaTables", "JsonLines", "ParquetParts", "Sink", "sink_of"]

SINKS_GROUP = "market_pipeline.sinks"

_PART_ROWS = 100_000
_MOST_ROWS = 3 * _PART_ROWS


class Sink(Protocol):
    """Takes rows of one kind at a time; it is called by one task, in order.

    Where it has integers `commits` and `failures`, the status shows them: how often it has put rows
    where they are safe, and could not.
    """

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """Takes rows; it has `close` to write what it gathers.

        If it raises, these rows and those of this kind of up to a second are not given to it again,
        later ones are; up to twice as long each time that it raises again, up to a minute.
        """
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class JsonLines:
    """One file for each kind, a row a line; it is continued, never overwritten.

    Attributes:
        commits, failures: How often lines were written, and could not be.
    """

    def __init__(self, folder: Path) -> None:
        self.commits = self.failures = 0
        self._folder = folder
        self._files: dict[str, int] = {}

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """See `Sink`."""
        try:
            if kind not in self._files:
                make_private_folder(self._folder)
                path, mode = self._folder / f"{kind}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._files[kind] = os.open(path, mode, PRIVATE_FILE)
            file = self._files[kind]
            lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
            write_at(file, os.fstat(file).st_size, lines)  # whole, or not at all
        except OSError:
            self.failures += 1
            with suppress(KeyError):  # it is opened again, as another may be there by then
                os.close(self._files.pop(kind))
            raise
        self.commits += 1

    def close(self) -> None:
        """See `Sink`."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


class _Gathering(ABC):
    """Gathers the rows of each kind until they are worth a file.

    What is gathered is lost with the process, and can be made of the record again. Rows that cannot
    be written, as on a full disk, stay and are tried again after as long, up to so many that they
    are no longer a file's. Those that are there in spite of the error are not written again.

    Args:
        folder: With a folder for each kind.
        every_s: For how long they are gathered.

    Attributes:
        commits, failures: How often rows were written, and could not be.
    """

    def __init__(self, folder: Path, every_s: float) -> None:
        self.commits = self.failures = 0
        self._folder, self._every_s = folder, every_s
        self._rows: dict[str, list[Struct]] = {}
        self._since_s: dict[str, float] = {}
        self._tried: dict[str, tuple[Path, int]] = {}  # a part, and how many rows are in it

    @abstractmethod
    def _put(self, part: Path, rows: pl.DataFrame) -> None:
        """Writes rows whole or not at all, to a part of that name."""

    @abstractmethod
    def _has(self, part: Path) -> bool:
        """Whether rows are there that were written to a part of that name."""

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """See `Sink`."""
        now_s = time.monotonic()
        gathered = self._rows.setdefault(kind, [])
        if not gathered:
            self._since_s[kind] = now_s
        gathered += rows
        is_due = now_s - self._since_s[kind] >= self._every_s
        if is_due or len(gathered) >= _PART_ROWS:
            try:
                self._write(kind)
            except Exception as error:
                self._since_s[kind] = now_s
                if len(gathered) >= _MOST_ROWS or not isinstance(error, (OSError, DeltaError)):
                    # Whoever gave these counts them as left out, and gives more after a while.
                    del gathered[-len(rows) :]
                    if kind in self._tried:
                        part, count = self._tried[kind]
                        self._tried[kind] = part, min(count, len(gathered))
                    raise

    def close(self) -> None:
        """See `Sink`."""
        refused = None
        for kind in [kind for kind, rows in self._rows.items() if rows]:
            try:
                self._write(kind)
            except Exception as error:  # the other kinds are written all the same
                refused = refused or error
        if refused is not None:
            raise refused

    def _write(self, kind: str) -> None:
        rows, folder = self._rows[kind], self._folder / kind
        try:
            make_private_folder(folder)
            self._drop_what_is_there(kind)
            if rows:
                frame = pl.DataFrame([asdict(row) for row in rows], schema=_schema(type(rows[0])))
                part = folder / f"{time.time_ns()}-{os.getpid()}.parquet"
                self._tried[kind] = part, len(rows)
                self._put(part, frame)
        except Exception:
            self.failures += 1
            raise
        del self._rows[kind]
        self._tried.pop(kind, None)
        self.commits += 1

    def _drop_what_is_there(self, kind: str) -> None:
        if kind in self._tried:
            part, count = self._tried[kind]
            if self._has(part):
                del self._rows[kind][:count]
            else:
                part.unlink(missing_ok=True)
            del self._tried[kind]


class ParquetParts(_Gathering):
    """A folder for each kind, and in it Parquet files named by the time they were written.

    A part has its name only once it is whole, so that whoever reads the folder reads whole ones.
    """

    def _put(self, part: Path, rows: pl.DataFrame) -> None:
        _write_part(part, rows)

    def _has(self, part: Path) -> bool:
        return part.exists()


class DeltaTables(_Gathering):
    """A Delta table for each kind; what is gathered is one commit, there whole or not at all.

    Columns that a later version adds are added to the table.
    """

    def _put(self, part: Path, rows: pl.DataFrame) -> None:
        folder = part.parent
        schema = DeltaSchema.from_arrow(rows.to_arrow().schema)
        make_private_folder(folder / "_delta_log")
        table = DeltaTable.create(str(folder), schema, mode="ignore")
        known = {each.name for each in table.schema().fields}
        fresh = [each for each in schema.fields if each.name not in known]
        if fresh:
            table.alter.add_columns(fresh)
        _write_part(part, rows)
        added = AddAction(
            path=part.name,
            size=part.stat().st_size,
            partition_values={},
            modification_time=time.time_ns() // 1_000_000,
            data_change=True,
            stats=msgspec.json.encode({"numRecords": rows.height}).decode(),
        )
        table.create_write_transaction([added], mode="append", schema=table.schema())
        settle_log(folder)

    def _has(self, part: Path) -> bool:
        folder = part.parent
        if not DeltaTable.is_deltatable(str(folder)):
            return False
        return any(uri.endswith(part.name) for uri in DeltaTable(str(folder)).file_uris())


def _write_part(part: Path, rows: pl.DataFrame) -> None:
    with written_whole(part) as file:
        rows.write_parquet(file)


def _schema(row: type[Struct]) -> dict[str, pl.DataType | type[pl.DataType]]:
    """The types of a row's fields, also where all of a part are null."""
    types: dict[object, type[pl.DataType]]
    types = {int: pl.Int64, float: pl.Float64, str: pl.String, bool: pl.Boolean}
    named = get_type_hints(row)
    return {
        field.name: types[
            next(
                each for each in (*get_args(named[field.name]), named[field.name]) if each in types
            )
        ]
        for field in msgspec.structs.fields(row)
    }


_OURS: dict[str, Callable[[Path, float], Sink]] = {
    "jsonl": lambda folder, every_s: JsonLines(folder),
    "parquet": ParquetParts,
    "delta": DeltaTables,
}


def sink_of(name: str, folder: Path, every_s: float) -> Sink:
    """A sink by its name, ours or another package's.

    Args:
        folder: Where it may write.
        every_s: How long the rows of one file are gathered, where it gathers any.

    Raises:
        SettingsError: There is none, or several packages bring one.
    """
    if name in _OURS:
        return _OURS[name](folder, every_s)
    entries = list(entry_points(group=SINKS_GROUP, name=name))
    if len(entries) != 1:
        problem = "is brought by several packages" if entries else "is unknown"
        expected = f"{', '.join(_OURS)} or one entry point of {SINKS_GROUP}"
        raise SettingsError([f"the sink {name} {problem}; expected {expected}"])
    made: Sink = entries[0].load()(folder)
    return made
