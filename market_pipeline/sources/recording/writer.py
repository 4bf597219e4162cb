"""One file of a recording while it is written.

What was appended is with the system once it is flushed, and safe from a power cut once it is
synced. A file ends in `.partial` until it is closed, whole and synced; no name is used twice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec

from market_pipeline.errors import naming
from market_pipeline.security.stored import is_stored
from market_pipeline.sources.recording.format import (
    CHUNK_BYTES,
    END,
    END_MAGIC,
    PARTIAL_SUFFIX,
    SUFFIX,
    BlockKind,
    Drop,
    Footer,
    Header,
    IndexEntry,
    Record,
    RecordKind,
    StreamFacts,
    encode_block,
    encode_records,
)
from market_pipeline.sources.recording.open_file import created, is_at, write_at
from market_pipeline.warehouse.layout import make_private_folder, sync

__all__ = ["BACKLOG_BYTES", "ClosedRecording", "Contents", "RecordingOf", "RecordingWriter"]
__all__ += ["finish"]

BACKLOG_BYTES = 64 << 20
"""So many compressed bytes wait in memory while the disk takes none; later records are dropped,
and a record tells how many.
"""

_COPY_BYTES = 1 << 20
_UNSAFE = re.compile(r"[^A-Za-z0-9.]+")


@dataclass(frozen=True, slots=True)
class RecordingOf:
    """What is recorded, and by whom; it names the files.

    Args:
        exchange, symbol: As in the instruments file, such as BINANCE and BTC-USDT.
        host, session: Which machine, and which run of the recorder.
    """

    exchange: str
    symbol: str
    host: str
    session: str

    def folder(self, root: Path, wall_ns: int) -> Path:
        """Where files of that UTC day lie: `<root>/<exchange>/<symbol>/<YYYY-MM-DD>`."""
        return root / self.exchange / self.symbol / f"{_utc(wall_ns):%Y-%m-%d}"

    def stem(self, wall_ns: int, part: int) -> str:
        """The name of a part of that hour: `<HH>_<host>_<session>_<part>`."""
        host, session = (_UNSAFE.sub("-", each) for each in (self.host, self.session))
        return f"{_utc(wall_ns):%H}_{host}_{session}_{part}"


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

    def add(self, offset: int, records: Sequence[Record]) -> None:
        """Adds a block of records that lies there."""
        walls = [record.wall_ns for record in records]
        self.index.append(IndexEntry(offset, len(records), min(walls), max(walls)))
        for kind, count in Counter(record.kind for record in records).items():
            self.kinds[_name_of(kind)] += count
        by_stream: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_stream[record.stream].append(record)
        for stream, each in by_stream.items():
            facts = self.streams.setdefault(stream, StreamFacts(first_wall_ns=each[0].wall_ns))
            facts.records += len(each)
            facts.size_bytes += sum(len(record.payload) for record in each)
            facts.last_wall_ns = each[-1].wall_ns


class RecordingWriter:
    """Writes one file, which the first flush of a record makes; used by one thread.

    A write that fails leaves every whole block as it was; its records wait for the next flush.

    Args:
        root: The folder of all recordings.
        of: What is recorded.
    """

    def __init__(self, root: Path, of: RecordingOf) -> None:
        self._root, self._of = root, of
        self._pending: list[Record] = []
        self._ids: dict[str, tuple[int, int]] = {}
        self._backlog: deque[tuple[bytes, Sequence[Record]]] = deque()
        self._backlog_bytes = 0
        self._dropped: dict[str, Drop] = {}
        self._file: int | None = None
        self._partial = Path()
        self._number = self._end = 0
        self._hash = hashlib.sha256()
        self._contents = Contents()

    def append(
        self,
        kind: int,
        wall_ns: int,
        monotonic_ns: int,
        connection: int,
        stream: str,
        payload: bytes,
        opcode: int = 1,
        update_id: int | None = None,
    ) -> None:
        """Takes a record; nothing is written yet.

        Args:
            kind: What it is, see `RecordKind`.
            wall_ns, monotonic_ns: When it was received: since the epoch, and since some start.
            connection: Which connection it came on, up to 65,535; 0 for none.
            stream: Which stream it is of, as the venue spells it; empty for the connection itself.
            payload: The bytes received, or the JSON of a record that the recorder makes.
            opcode: The websocket's, 1 for text and 2 for binary.
            update_id: The frame's last id, if known; the footer has the first and the last.
        """
        self._pending.append(
            Record(kind, wall_ns, monotonic_ns, connection, stream, payload, opcode)
        )
        if update_id is not None:
            first = self._ids[stream][0] if stream in self._ids else update_id
            self._ids[stream] = (first, update_id)

    def flush(self) -> None:
        """Writes what was appended, in blocks.

        Raises:
            OSError: The machine refuses, such as a full disk; nothing is lost by that until
                `BACKLOG_BYTES` wait, and a later flush resumes.
        """
        records, self._pending = self._pending, []
        if records and self._backlog_bytes > BACKLOG_BYTES:
            self._drop(records)
            records = []
        if self._dropped and self._backlog_bytes <= BACKLOG_BYTES:
            records = self._taken_drops() + records
        for part in _parts(records):
            if self._number == 0:
                self._queue(self._header(part[0]), ())
            text = encode_records(part)
            self._queue(encode_block(BlockKind.RECORDS, self._number, text, len(part)), part)
        if not self._backlog:
            return
        with naming(self._partial if self._file is not None else self._root):
            self._open()
            self._write_backlog()
        if self._dropped:
            self.flush()

    def sync(self) -> None:
        """Puts on the disk what was flushed.

        Raises:
            OSError: The machine refuses; or somebody removed the file, which is there again.
        """
        if self._file is None:
            return
        with naming(self._partial):
            if not is_at(self._file, self._partial):
                self._write_again()
                raise OSError(errno.ESTALE, "The file was removed, and was written again")
            os.fsync(self._file)

    def close(self) -> ClosedRecording | None:
        """Writes the rest and the footer, and gives the file its name; None if it has no record.

        Raises:
            OSError: The machine refuses; it may be called again.
        """
        self.flush()
        if self._file is None:
            return None
        for stream, (first, last) in self._ids.items():
            facts = self._contents.streams.setdefault(stream, StreamFacts())
            facts.first_id, facts.last_id = first, last
        with naming(self._partial):
            if not is_at(self._file, self._partial):
                self._write_again()
            closed = finish(
                self._file, self._partial, self._contents, self._number, self._end, self._hash
            )
            os.close(self._file)
        self._file = None
        return closed

    def _open(self) -> None:
        if self._file is None:
            self._file = self._created(self._backlog[1][1][0].wall_ns)

    def _created(self, wall_ns: int) -> int:
        """A new file of that hour, of the first part that is not there; `_partial` is its name."""
        folder = self._of.folder(self._root, wall_ns)
        make_private_folder(folder)
        file, part = None, 0
        while file is None:
            path = folder / self._of.stem(wall_ns, part)
            self._partial = path.with_name(path.name + PARTIAL_SUFFIX)
            part += 1
            if not is_stored(path.with_name(path.name + SUFFIX)):
                file = created(self._partial)
        sync(folder)
        return file

    def _write_again(self) -> None:
        """Copies what was written so far to a new file, as somebody removed the one there was."""
        assert self._file is not None
        before = self._file
        file = self._created(self._contents.index[0].first_wall_ns)
        try:
            done = 0
            while done < self._end:
                data = os.pread(before, _COPY_BYTES, done)
                write_at(file, done, data)
                done += len(data)
        except OSError:
            os.close(file)
            self._partial.unlink(missing_ok=True)
            raise
        os.close(before)
        self._file = file

    def _write_backlog(self) -> None:
        assert self._file is not None
        while self._backlog:
            block, records = self._backlog[0]
            write_at(self._file, self._end, block)
            if records:
                self._contents.add(self._end, records)
            self._hash.update(block)
            self._end += len(block)
            self._backlog.popleft()
            self._backlog_bytes -= len(block)

    def _queue(self, block: bytes, records: Sequence[Record]) -> None:
        self._backlog.append((block, records))
        self._backlog_bytes += len(block)
        self._number += 1

    def _header(self, first: Record) -> bytes:
        header = Header(
            self._of.exchange,
            self._of.symbol,
            self._of.host,
            self._of.session,
            f"market-pipeline {version('market-pipeline')}",
            first.wall_ns,
            first.monotonic_ns,
        )
        return encode_block(BlockKind.HEADER, 0, msgspec.json.encode(header))

    def _drop(self, records: Sequence[Record]) -> None:
        for record in records:
            before = self._dropped.get(record.stream)
            self._dropped[record.stream] = Drop(
                "The disk took nothing for longer than memory lasts",
                (before.records if before else 0) + 1,
                (before.size_bytes if before else 0) + len(record.payload),
                before.first_wall_ns if before else record.wall_ns,
                record.wall_ns,
            )
        self._last_dropped = records[-1]

    def _taken_drops(self) -> list[Record]:
        dropped, self._dropped = self._dropped, {}
        last = self._last_dropped
        return [
            Record(
                RecordKind.DROP,
                last.wall_ns,
                last.monotonic_ns,
                0,
                stream,
                msgspec.json.encode(drop),
            )
            for stream, drop in dropped.items()
        ]


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
    path = partial.with_name(partial.name.removesuffix(PARTIAL_SUFFIX) + SUFFIX)
    if is_stored(path):
        raise FileExistsError(f"A recording of that name exists: {path}")
    partial.rename(path)
    sync(path.parent)
    records = sum(entry.records for entry in contents.index)
    return ClosedRecording(path, records, end + len(block), whole.hexdigest())


def _parts(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """The records in parts of about `CHUNK_BYTES` of payload."""
    begin = size = 0
    for at, record in enumerate(records, 1):
        size += len(record.payload) + 32
        if size >= CHUNK_BYTES:
            yield records[begin:at]
            begin, size = at, 0
    if begin < len(records):
        yield records[begin:]


def _name_of(kind: int) -> str:
    """A kind's name in lower case; of one that a later version knows, `kind_` and its number."""
    try:
        return RecordKind(kind).name.lower()
    except ValueError:
        return f"kind_{kind}"


def _utc(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC)
