"""One file of a recording while it is written.

What was appended is with the system once it is flushed, and safe from a power cut once it is
synced. A file ends in `.partial` until it is closed, whole and synced; no name is used twice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from market_pipeline.errors import naming
from market_pipeline.security.stored import is_stored
from market_pipeline.sources.recording.footer import ClosedRecording, Contents, finish
from market_pipeline.sources.recording.format import (
    PARTIAL_SUFFIX,
    SUFFIX,
    BlockKind,
    Columns,
    Drop,
    Entry,
    Header,
    RecordKind,
    StreamFacts,
    encode_block,
    encode_entries,
    parts_of,
)
from market_pipeline.sources.recording.open_file import created, is_at, write_at
from market_pipeline.warehouse.layout import make_private_folder, sync

__all__ = ["BACKLOG_BYTES", "Backlog", "RecordingOf", "RecordingWriter"]

BACKLOG_BYTES = 64 << 20
"""So many compressed bytes wait in memory, of all files of a recorder, while the disk takes none;
later records are dropped, and a record tells how many.
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


@dataclass(slots=True)
class Backlog:
    """How many compressed bytes wait in memory, of all writers that share it."""

    size_bytes: int = 0


class RecordingWriter:
    """Writes one file, which the first flush of a record makes; used by one thread.

    A write that fails leaves every whole block as it was; its records wait for the next flush.

    Args:
        root: The folder of all recordings.
        of: What is recorded.
        waiting: What waits of all files of its recorder; without it of this one.
    """

    def __init__(self, root: Path, of: RecordingOf, waiting: Backlog | None = None) -> None:
        self._root, self._of, self._waiting = root, of, waiting or Backlog()
        self._pending: list[Entry] = []
        self._ids: dict[str, tuple[int | None, int | None]] = {}
        self._backlog: deque[tuple[bytes, Columns | None]] = deque()
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
        self.extend(
            [
                Entry(
                    self._of.symbol, kind, wall_ns, monotonic_ns, connection, stream, payload,
                    opcode, update_id,
                )
            ]
        )  # fmt: skip

    def extend(self, entries: Sequence[Entry]) -> None:
        """Takes records, as `append` does; all are of this file."""
        self._pending.extend(entries)
        known = [entry for entry in entries if entry.update_id is not None]
        first = {entry.stream: entry.update_id for entry in reversed(known)}
        for stream, last in {entry.stream: entry.update_id for entry in known}.items():
            begin = self._ids[stream][0] if stream in self._ids else first[stream]
            self._ids[stream] = begin, last

    def flush(self) -> None:
        """Writes what was appended, in blocks.

        Raises:
            OSError: The machine refuses, such as a full disk; nothing is lost by that until
                `BACKLOG_BYTES` wait, and a later flush resumes.
        """
        records, self._pending = self._pending, []
        # Where only other files are refused, nothing waits of this one, and nothing is dropped.
        is_full = bool(self._backlog) and self._waiting.size_bytes > BACKLOG_BYTES
        if records and is_full:
            self._drop(records)
            records = []
        if self._dropped and not is_full:
            records = self._taken_drops() + records
        for part in parts_of(records):
            if self._number == 0:
                self._queue(self._header(part[0]), None)
            self._queue(*encode_entries(part, self._number))
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
            first = self._backlog[1][1]
            assert first is not None  # behind the header come records
            self._file = self._created(int(first.wall_ns[0]))

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
            block, columns = self._backlog[0]
            write_at(self._file, self._end, block)
            if columns is not None:
                self._contents.add(self._end, columns)
            self._hash.update(block)
            self._end += len(block)
            self._backlog.popleft()
            self._waiting.size_bytes -= len(block)

    def _queue(self, block: bytes, columns: Columns | None) -> None:
        self._backlog.append((block, columns))
        self._waiting.size_bytes += len(block)
        self._number += 1

    def _header(self, first: Entry) -> bytes:
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

    def _drop(self, records: Sequence[Entry]) -> None:
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

    def _taken_drops(self) -> list[Entry]:
        dropped, self._dropped = self._dropped, {}
        last = self._last_dropped
        return [
            Entry(
                self._of.symbol,
                RecordKind.DROP,
                last.wall_ns,
                last.monotonic_ns,
                0,
                stream,
                msgspec.json.encode(drop),
            )
            for stream, drop in dropped.items()
        ]


def _utc(wall_ns: int) -> datetime:
    return datetime.fromtimestamp(wall_ns // 1_000_000_000, UTC)
