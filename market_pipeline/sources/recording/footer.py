"""What the blocks of a file hold, and the footer that says it and closes the file."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from market_pipeline.security.stored import is_stored
from market_pipeline.sources.recording.format import (
    END,
    END_MAGIC,
    BlockKind,
    Columns,
    Footer,
    IndexEntry,
    RecordKind,
    StreamFacts,
    closed_name,
    encode_block,
)
from market_pipeline.sources.recording.open_file import write_at
from market_pipeline.warehouse.layout import sync

__all__ = ["ClosedRecording", "Contents", "finish"]


class ClosedRecording(NamedTuple):
    """A closed file: its place, records, size, and the SHA-256 of all its bytes."""

    path: Path
    records: int
    size_bytes: int
    sha256: str


class Contents:
    """What the blocks of a file hold, as its footer says it."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.streams: dict[str, StreamFacts] = {}
        self.index: list[IndexEntry] = []

    def add(self, offset: int, columns: Columns) -> None:
        """Adds a block of records that lies there."""
        walls, codes = columns.wall_ns, columns.stream
        self.index.append(IndexEntry(offset, len(walls), int(walls.min()), int(walls.max())))
        for kind, count in enumerate(np.bincount(columns.kind).tolist()):
            if count:
                self.kinds[_name_of(kind)] += count
        for code, stream in enumerate(columns.streams):
            (own,) = np.nonzero(codes == code)
            if own.size == 0:  # a name that another writer gave for nothing
                continue
            first_ns, last_ns = int(walls[own[0]]), int(walls[own[-1]])
            facts = self.streams.setdefault(stream, StreamFacts(first_wall_ns=first_ns))
            facts.records += own.size
            facts.size_bytes += int(columns.size_bytes[own].sum())
            facts.last_wall_ns = last_ns


def finish(
    file: int,
    partial: Path,
    contents: Contents,
    number: int,
    end: int,
    before: hashlib._Hash,
    recovered_bytes: int | None = None,
) -> ClosedRecording:
    """Writes a footer after the blocks of a file, syncs it and gives it its name.

    Args:
        file, partial: The open file, and its name so far.
        contents, number, end, before: What its blocks hold, how many they are, where they end, and
            their hash.
        recovered_bytes: See `Footer`.

    Raises:
        OSError: The machine refuses.
    """
    footer = Footer(
        dict(sorted(contents.kinds.items())),
        dict(sorted(contents.streams.items())),
        tuple(contents.index),
        before.hexdigest(),
        recovered_bytes,
    )
    block = encode_block(BlockKind.FOOTER, number, msgspec.json.encode(footer))
    block += END.pack(end, END_MAGIC)
    write_at(file, end, block)
    os.fsync(file)
    whole = before.copy()
    whole.update(block)
    path = closed_name(partial)
    if is_stored(path):
        raise FileExistsError(errno.EEXIST, "A recording of that name exists", str(path))
    partial.rename(path)
    sync(path.parent)
    records = sum(entry.records for entry in contents.index)
    return ClosedRecording(path, records, end + len(block), whole.hexdigest())


def _name_of(kind: int) -> str:
    """A kind's name in lower case; of one that a later version knows, `kind_` and its number."""
    try:
        return RecordKind(kind).name.lower()
    except ValueError:
        return f"kind_{kind}"
