"""Where derived rows go: JSON lines, Parquet parts, or a sink of one's own.

A sink of another package is an entry point of the group `market_pipeline.sinks`: a function that
takes a folder and gives a `Sink`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import BinaryIO, Protocol, get_args, get_type_hints

import msgspec
import polars as pl
from msgspec import Struct

from market_pipeline.errors import SettingsError
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder, written_whole

__all__ = ["SINKS_GROUP", "JsonLines", "ParquetParts", "Sink", "sink_of"]

SINKS_GROUP = "market_pipeline.sinks"

_PART_ROWS = 100_000


class Sink(Protocol):
    """Takes rows of one kind at a time; it is called by one task, in order."""

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """Takes rows; it has `close` to write what it gathers."""
        ...

    def close(self) -> None:
        """Nothing more comes."""
        ...


class JsonLines:
    """One file for each kind, a row a line; it is continued, never overwritten."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """See `Sink`."""
        if kind not in self._files:
            make_private_folder(self._folder)
            path = self._folder / f"{kind}.jsonl"
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, PRIVATE_FILE)
            self._files[kind] = os.fdopen(handle, "ab")
        file = self._files[kind]
        file.write(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        file.flush()

    def close(self) -> None:
        """See `Sink`."""
        for file in self._files.values():
            file.close()
        self._files.clear()


class ParquetParts:
    """A folder for each kind, and in it Parquet files named by the time they were written.

    Rows are gathered for a minute, so that a part is worth a file; what was gathered is lost with
    the process, and can be made of the record again. A part has its name only once it is whole, so
    that whoever reads the folder reads whole ones.
    """

    def __init__(self, folder: Path, *, every_s: float = 60.0) -> None:
        self._folder, self._every_s = folder, every_s
        self._rows: dict[str, list[Struct]] = {}
        self._since_s: dict[str, float] = {}

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """See `Sink`."""
        now_s = time.monotonic()
        gathered = self._rows.setdefault(kind, [])
        if not gathered:
            self._since_s[kind] = now_s
        gathered += rows
        if len(gathered) >= _PART_ROWS or now_s - self._since_s[kind] >= self._every_s:
            self._write_part(kind)

    def close(self) -> None:
        """See `Sink`."""
        for kind in [kind for kind, rows in self._rows.items() if rows]:
            self._write_part(kind)

    def _write_part(self, kind: str) -> None:
        rows, folder = self._rows.pop(kind), self._folder / kind
        make_private_folder(folder)
        frame = pl.DataFrame(list(map(msgspec.structs.asdict, rows)), schema=_schema(type(rows[0])))
        with written_whole(folder / f"{time.time_ns()}-{os.getpid()}.parquet") as file:
            frame.write_parquet(file)


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


_OURS: dict[str, Callable[[Path], Sink]] = {"jsonl": JsonLines, "parquet": ParquetParts}


def sink_of(name: str, folder: Path) -> Sink:
    """A sink by its name, ours or another package's.

    Raises:
        SettingsError: There is none, or several packages bring one.
    """
    if name in _OURS:
        return _OURS[name](folder)
    entries = list(entry_points(group=SINKS_GROUP, name=name))
    if len(entries) != 1:
        problem = "is brought by several packages" if entries else "is unknown"
        expected = f"{', '.join(_OURS)} or one entry point of {SINKS_GROUP}"
        raise SettingsError([f"the sink {name} {problem}; expected {expected}"])
    made: Sink = entries[0].load()(folder)
    return made
