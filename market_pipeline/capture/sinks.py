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
from typing import BinaryIO, Protocol

import msgspec
import polars as pl
from msgspec import Struct

from market_pipeline.errors import SettingsError
from market_pipeline.warehouse.layout import PRIVATE_FILE, make_private_folder, written_whole

__all__ = ["SINKS_GROUP", "JsonLines", "ParquetParts", "Sink", "sink_of"]

SINKS_GROUP = "market_pipeline.sinks"


class Sink(Protocol):
    """Takes rows of one kind at a time; it is called by one task, in order."""

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """Keeps rows, so that they are there if the process ends."""
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
    """A folder for each kind, a Parquet file for each batch, named by the time it was written.

    A part has its name only once it is whole, so that whoever reads the folder reads whole ones.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, kind: str, rows: Sequence[Struct]) -> None:
        """See `Sink`."""
        folder = self._folder / kind
        make_private_folder(folder)
        with written_whole(folder / f"{time.time_ns()}-{os.getpid()}.parquet") as file:
            pl.DataFrame([msgspec.structs.asdict(row) for row in rows]).write_parquet(file)

    def close(self) -> None:
        """See `Sink`."""


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
