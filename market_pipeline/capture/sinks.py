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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, get_args, get_type_hints

import msgspec
import polars as pl
from deltalake import DeltaTable
from deltalake import Schema as DeltaSchema
from deltalake.transaction import AddAction
from msgspec import Struct
from msgspec.structs import asdict

from market_pipeline.config.entry_points import entry_point_of
from market_pipeline.errors import PublishError
from market_pipeline.shown import shown_logger
from market_pipeline.sources.recording.open_file import write_at
from market_pipeline.warehouse.delta import settle_log
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder, sync, written_whole

__all__ = ["SINKS_GROUP", "DeltaTables", "JsonLines", "ParquetParts", "Sink", "sink_of"]

SINKS_GROUP = "market_pipeline.sinks"

_PART_ROWS = 100_000
_MOST_ROWS = 3 * _PART_ROWS
_TAIL_BYTES = 1 << 20

_LOG = shown_logger(__name__)


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
        lines = b"".join(msgspec.json.encode(row) + b"\n" for row in rows)
        try:
            if kind not in self._files:
                make_private_folder(self._folder)
                self._files[kind] = _opened(self._folder / f"{kind}.jsonl")
            file = self._files[kind]
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


def _opened(path: Path) -> int:
    """A file to append lines to, without the part of a line that a killed process left."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
    end = whole = os.fstat(file).st_size
    while whole and os.pread(file, 1, whole - 1) != b"\n":
        whole = max(whole - _TAIL_BYTES, 0)
        whole += os.pread(file, _TAIL_BYTES, whole).rfind(b"\n") + 1
    if whole < end:
        os.ftruncate(file, whole)
    return file


@dataclass(slots=True)
class _Waiting:
    """Rows of a kind that are not written yet.

    Attributes:
        part: Rows under the name that they were tried by, so that the next try is of the same; None
            before the first one.
        frames: What came after them.
        due_s: When they are to be written.
        error: Why they could not be, the last time.
    """

    due_s: float
    part: tuple[Path, pl.DataFrame] | None = None
    frames: list[pl.DataFrame] = field(default_factory=list)
    error: Exception | None = None

    @property
    def rows(self) -> int:
        """How many wait."""
        tried = 0 if self.part is None else self.part[1].height
        return tried + sum(frame.height for frame in self.frames)

    def next_part(self, folder: Path) -> tuple[Path, pl.DataFrame] | None:
        """What is to be written next; None if nothing waits."""
        if self.part is None and self.frames:
            name = f"{time.time_ns()}-{os.getpid()}.parquet"
            self.part, self.frames = (folder / name, pl.concat(self.frames)), []
        return self.part


class _Gathering(ABC):
    """Gathers the rows of each kind until they are worth a file.

    What is gathered is lost with the process, and can be made of the record again. Rows that cannot
    be written, as on a full disk, stay and are tried again after as long; once they are three
    files' no more are taken. None is written twice: a part is tried again under its name.

    Args:
        folder: With a folder for each kind.
        every_s: For how long they are gathered.

    Attributes:
        commits, failures: How often rows were written, and could not be.
    """

    def __init__(self, folder: Path, every_s: float) -> None:
        self.commits = self.failures = 0
        self._folder, self._every_s = folder, every_s
        self._waiting: dict[str, _Waiting] = {}

    @abstractmethod
    def _put(self, part: Path, rows: pl.DataFrame) -> None:
        """Has a part there, whole and synced; after an error it is called with the same again."""

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """See `Sink`."""
        # Here, so that a row no column can hold keeps none but those it came with from a file.
        frame = pl.DataFrame([asdict(row) for row in rows], schema=_schema(type(rows[0])))
        now_s = time.monotonic()
        waiting = self._waiting.setdefault(kind, _Waiting(now_s + self._every_s))
        if waiting.error is not None and now_s >= waiting.due_s:
            self._write(kind)
        if waiting.error is not None and waiting.rows + frame.height > _MOST_ROWS:
            raise waiting.error.with_traceback(None)
        if not waiting.rows:
            waiting.due_s = now_s + self._every_s
        waiting.frames.append(frame)
        is_due = now_s >= waiting.due_s or waiting.rows >= _PART_ROWS
        if is_due and waiting.error is None:
            self._write(kind)

    def close(self) -> None:
        """See `Sink`."""
        for kind in self._waiting:
            self._write(kind)
        for waiting in self._waiting.values():
            if waiting.error is not None:
                raise waiting.error.with_traceback(None)

    def _write(self, kind: str) -> None:
        """Writes what waits; an error is kept until it is tried again."""
        waiting, folder = self._waiting[kind], self._folder / kind
        try:
            while (part := waiting.next_part(folder)) is not None:
                make_private_folder(folder)
                self._put(*part)
                waiting.part = waiting.error = None
                self.commits += 1
        except Exception as error:
            if waiting.error is None:
                _LOG.warning("Rows for %s cannot be written and wait: %s", folder, error)
            waiting.error, waiting.due_s = error, time.monotonic() + self._every_s
            self.failures += 1


class ParquetParts(_Gathering):
    """A folder for each kind, and in it Parquet files named by the time they were written.

    A part has its name only once it is whole, so that whoever reads the folder reads whole ones.
    """

    def _put(self, part: Path, rows: pl.DataFrame) -> None:
        if part.exists():
            sync(part.parent)  # all but that was done
        else:
            _write_part(part, rows)


class DeltaTables(_Gathering):
    """A Delta table for each kind; what is gathered is one commit, there whole or not at all.

    Columns that a later version adds are added to the table.
    """

    def _put(self, part: Path, rows: pl.DataFrame) -> None:
        folder = part.parent
        schema = DeltaSchema.from_arrow(rows.to_arrow().schema)
        make_private_folder(folder / "_delta_log")
        table = DeltaTable.create(str(folder), schema, mode="ignore")
        is_there = part.exists() and any(uri.endswith(part.name) for uri in table.file_uris())
        if not is_there:
            self._commit(table, schema, part, rows)
        settle_log(folder)

    @staticmethod
    def _commit(table: DeltaTable, schema: DeltaSchema, part: Path, rows: pl.DataFrame) -> None:
        known = {each.name: each.type for each in table.schema().fields}
        for each in schema.fields:
            if known.get(each.name, each.type) != each.type:
                raise PublishError(
                    "A column of a sink's table has another type",
                    file=part.parent,
                    column=each.name,
                    expected=str(each.type),
                    found=str(known[each.name]),
                    next_step="Move the table away, or set PIPELINE_CAPTURE__SINK_FOLDER.",
                )
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
    made: Sink = entry_point_of(SINKS_GROUP, name, "sink", _OURS).load()(folder)
    return made
