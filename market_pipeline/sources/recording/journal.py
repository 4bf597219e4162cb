"""What a recorder received and has not put into its files yet, of all symbols in one file.

Files take a block of each symbol, so few and large ones are cheap; one write a few milliseconds
after receipt is all that a frame needs to survive the end of the process. A journal is removed once
all of it is in files and on the disk. `docs/sources/recording.md` has its form to the byte.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from market_pipeline.errors import LakeFileError, SealError, naming
from market_pipeline.sources.recording.check import find_recordings
from market_pipeline.sources.recording.format import PARTIAL_SUFFIX, Entry, Record
from market_pipeline.sources.recording.hours import HOUR_NS
from market_pipeline.sources.recording.open_file import created, locked, write_at
from market_pipeline.sources.recording.reader import Recovered, read_recording, recover
from market_pipeline.sources.recording.writer import RecordingOf, RecordingWriter
from market_pipeline.warehouse.layout import make_private_folder

__all__ = ["JOURNAL_SUFFIX", "Journal", "read_journal", "recover_journals"]

JOURNAL_SUFFIX = ".journal"
_MAGIC = b"MPJ1"
_CHUNK = struct.Struct("<4sII")
"""Magic, bytes that follow, and their CRC-32."""


class _Session(msgspec.Struct, frozen=True, array_like=True):
    """The first chunk: which run of which recorder."""

    exchange: str
    host: str
    session: str


_encoder = msgspec.msgpack.Encoder()
_session_decoder = msgspec.msgpack.Decoder(_Session)
_entries_decoder = msgspec.msgpack.Decoder(list[Entry])


class Journal:
    """One file of entries, made by the first of them.

    Args:
        folder: Where it lies: that of the exchange.
        exchange, host, session: Which run of which recorder.
    """

    def __init__(self, folder: Path, exchange: str, host: str, session: str) -> None:
        self._folder = folder
        self._session = _Session(exchange, host, session)
        self._path = Path()
        self._file: int | None = None
        self._end = 0

    @property
    def size_bytes(self) -> int:
        """How much was given to the system."""
        return self._end

    def append(self, entries: Sequence[Entry]) -> None:
        """Gives entries to the system, in one write.

        Raises:
            OSError: The machine refuses, and the journal has none of them.
        """
        with naming(self._path if self._file is not None else self._folder):
            if self._file is None:
                self._create()
            assert self._file is not None
            self._write(_encoder.encode(entries))

    def remove(self) -> None:
        """Ends it, as all that it holds is in files."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _create(self) -> None:
        make_private_folder(self._folder)
        number, file = 0, None
        while file is None:
            name = f".{self._session.host}_{self._session.session}_{number:06}{JOURNAL_SUFFIX}"
            self._path = self._folder / re.sub(r"[^A-Za-z0-9._-]+", "-", name)
            file, number = created(self._path), number + 1
        self._file, self._end = file, 0
        self._write(_encoder.encode(self._session))

    def _write(self, content: bytes) -> None:
        assert self._file is not None
        chunk = _CHUNK.pack(_MAGIC, len(content), zlib.crc32(content)) + content
        write_at(self._file, self._end, chunk)
        self._end += len(chunk)


def read_journal(path: Path) -> tuple[RecordingOf, list[Entry]] | None:
    """Whose a journal is, of no symbol, and its entries up to the last whole chunk.

    None if it has no whole beginning, or one that is not known here.
    """
    chunks = _chunks(path.read_bytes())
    try:
        session = _session_decoder.decode(next(chunks))
        entries = [entry for chunk in chunks for entry in _entries_decoder.decode(chunk)]
    except (StopIteration, msgspec.MsgspecError):
        return None
    return RecordingOf(session.exchange, "", session.host, session.session), entries


def _chunks(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + _CHUNK.size <= len(data):
        magic, size, checksum = _CHUNK.unpack_from(data, at)
        at += _CHUNK.size
        content = data[at : at + size]
        if magic != _MAGIC or len(content) < size or zlib.crc32(content) != checksum:
            return
        yield content
        at += size


def recover_journals(folder: Path, host: str | None = None) -> Iterator[Recovered]:
    """Closes the files of recorders that ended without closing them, with what journals have.

    What is in a journal and not in a file of its symbol is put behind the last block of the file
    that was left, or into a file of its own. Then the journals are removed. A recovery that is
    killed is repeated; journals of a process that still writes are left to it.

    Args:
        folder: Where journals are looked for, at any depth: the folder of all recordings, of an
            exchange, or one above.
        host: Only journals of this host, as one that still writes may have been copied from
            another; None for all.

    Raises:
        OSError: The machine refuses; the journals stay.
    """
    of_session: dict[RecordingOf, list[tuple[Path, list[Entry]]]] = defaultdict(list)
    with locked(sorted(folder.rglob(f".*{JOURNAL_SUFFIX}"))) as journals:
        for path in journals:
            found = read_journal(path)
            if found is not None and host in (None, found[0].host):
                of_session[found[0]].append((path, found[1]))
        for of, parts in of_session.items():
            by_symbol: dict[str, list[Entry]] = defaultdict(list)
            for _, entries in parts:
                for entry in entries:
                    by_symbol[entry.symbol].append(entry)
            for symbol, own in by_symbol.items():
                whose = RecordingOf(of.exchange, symbol, of.host, of.session)
                yield from _recovered(parts[0][0].parent.parent, whose, own)
            for path, _ in parts:
                path.unlink()


def _recovered(root: Path, of: RecordingOf, entries: list[Entry]) -> Iterator[Recovered]:
    partials = []
    for path in _files(root, of, entries):
        if path.name.endswith(PARTIAL_SUFFIX):
            partials.append(path)
        try:
            entries = _without(entries, path)
        except SealError:  # it is sealed once it has all of its hour
            hour = path.name[:2]
            entries = [each for each in entries if f"{each.wall_ns // HOUR_NS % 24:02}" != hour]
    for at, partial in enumerate(partials, 1):
        rest = entries if at == len(partials) else []
        with suppress(LakeFileError):  # damaged in the middle: it stays for whoever looks at it
            done = recover(partial, rest)
            if done is not None:  # else it had no whole block, and is gone
                entries = [] if rest else entries
                yield done
    if entries:
        writer = RecordingWriter(root, of)
        writer.extend(entries)
        closed = writer.close()
        if closed is not None:
            yield Recovered(closed, 0)


def _files(root: Path, of: RecordingOf, entries: list[Entry]) -> list[Path]:
    """The files of a session that may have some of the entries: of their hours and the next."""
    hours = {entry.wall_ns // HOUR_NS for entry in entries}
    names = {
        (of.folder(root, hour * HOUR_NS), of.stem(hour * HOUR_NS, 0)[:-1])
        for hour in hours | {hour + 1 for hour in hours}
    }
    return [
        path
        for folder, stem in sorted(names)
        if folder.is_dir()
        for path in find_recordings([folder])
        if path.name.startswith(stem)
    ]


def _without(entries: list[Entry], path: Path) -> list[Entry]:
    """The entries that a file does not have."""
    first_ns = min((entry.wall_ns for entry in entries), default=0)
    having: Counter[Record] = Counter()
    for chunk in read_recording(path, lambda _: None):
        if chunk.wall_ns.max() >= first_ns:
            having.update(chunk.records())
    left = []
    for entry in entries:
        record = _record(entry)
        if having[record]:
            having[record] -= 1
        else:
            left.append(entry)
    return left


def _record(entry: Entry) -> Record:
    return Record(
        entry.kind,
        entry.wall_ns,
        entry.monotonic_ns,
        entry.connection,
        entry.stream,
        entry.payload,
        entry.opcode,
    )
