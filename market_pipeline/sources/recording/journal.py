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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from market_pipeline.errors import LakeFileError, SealError, naming
from market_pipeline.sources.recording.check import find_recordings
from market_pipeline.sources.recording.format import PARTIAL_SUFFIX, Entry, Record
from market_pipeline.sources.recording.hours import HOUR_NS
from market_pipeline.sources.recording.open_file import created, is_being_written, locked, write_at
from market_pipeline.sources.recording.reader import Damage, Recovered, read_recording, recover
from market_pipeline.sources.recording.writer import RecordingOf, RecordingWriter
from market_pipeline.warehouse.layout import make_private_folder

__all__ = ["JOURNAL_SUFFIX", "Journal", "JournalDay", "LeftJournal", "left_journals"]
__all__ += ["read_journal", "recover_journals"]

JOURNAL_SUFFIX = ".journal"
_DAMAGED_SUFFIX = ".damaged"
_DAY_NS = 24 * HOUR_NS
_MAGIC = b"MPJ1"
_CHUNK = struct.Struct("<4sII")
"""Magic, bytes that follow, and their CRC-32."""


class _Session(msgspec.Struct, frozen=True, array_like=True):
    """The first chunk: which run of which recorder."""

    exchange: str
    host: str
    session: str


class _Head(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The first fields of an entry; what comes behind them is passed over, its payload too."""

    symbol: str
    kind: int
    wall_ns: int


_AnyEntry = TypeVar("_AnyEntry", Entry, _Head)

_encoder = msgspec.msgpack.Encoder()
_session_decoder = msgspec.msgpack.Decoder(_Session)
_entries_decoder = msgspec.msgpack.Decoder(list[Entry])
_heads_decoder = msgspec.msgpack.Decoder(list[_Head])


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
            if self._end == 0:
                self._write(_encoder.encode(self._session))
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

    def _write(self, content: bytes) -> None:
        assert self._file is not None
        chunk = _CHUNK.pack(_MAGIC, len(content), zlib.crc32(content)) + content
        write_at(self._file, self._end, chunk)
        self._end += len(chunk)


def read_journal(
    path: Path, on_damage: Callable[[Damage], None] = lambda _: None
) -> tuple[RecordingOf, list[Entry]] | None:
    """Whose a journal is, of no symbol, and its entries.

    Args:
        path: The journal.
        on_damage: Takes what is damaged, which is passed over up to the next whole chunk. Where the
            last chunk is cut off, as by a kill, is no damage.

    Returns:
        None if it has no whole beginning, or one that is not known here.
    """
    return _read(path, _entries_decoder, on_damage)


def _read(
    path: Path,
    decoder: msgspec.msgpack.Decoder[list[_AnyEntry]],
    on_damage: Callable[[Damage], None],
) -> tuple[RecordingOf, list[_AnyEntry]] | None:
    data = path.read_bytes()
    chunks = _chunks(path, data, on_damage)
    try:
        session = _session_decoder.decode(next(chunks))
        entries: list[_AnyEntry] = []
        for chunk in chunks:
            entries += decoder.decode(chunk)
    except (StopIteration, msgspec.MsgspecError):
        if data:  # else it was made, and its process ended
            on_damage(Damage(path, 0, len(data), "no beginning that is known here"))
        return None
    for name in {session.exchange, *(entry.symbol for entry in entries)}:
        if Path(name).is_absolute() or ".." in Path(name).parts:  # a journal may be of anyone
            on_damage(Damage(path, 0, len(data), f"a name that leads out of the folder: {name}"))
            return None
    return RecordingOf(session.exchange, "", session.host, session.session), entries


def _chunks(path: Path, data: bytes, on_damage: Callable[[Damage], None]) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        found = _chunk(data, at)
        if isinstance(found, bytes):
            yield found
            at += _CHUNK.size + len(found)
            continue
        begin, at = at, data.find(_MAGIC, at + 1)
        while at >= 0 and not isinstance(_chunk(data, at), bytes):
            at = data.find(_MAGIC, at + 1)
        at = len(data) if at < 0 else at
        if found or at < len(data):
            on_damage(Damage(path, begin, at - begin, found or "a chunk that was cut off"))


def _chunk(data: bytes, at: int) -> bytes | str:
    """The content of the chunk there, or what is there instead; nothing if it is cut off."""
    if at + _CHUNK.size > len(data):
        return ""
    magic, size, checksum = _CHUNK.unpack_from(data, at)
    content = data[at + _CHUNK.size : at + _CHUNK.size + size]
    if magic != _MAGIC:
        return "no chunk"
    if len(content) < size:
        return ""
    return content if zlib.crc32(content) == checksum else "a chunk with another checksum"


class JournalDay(NamedTuple):
    """How many records a journal has of a symbol and day; the least and the greatest of their wall
    clocks, ns UTC.
    """

    records: int
    first_ns: int
    last_ns: int


class LeftJournal(NamedTuple):
    """A journal that no process of this host writes: files may lack what it has.

    Attributes:
        of: Whose it is, of no symbol; None if its beginning cannot be read.
        days: What it has, by symbol and UTC day (`YYYY-MM-DD`).
    """

    path: Path
    of: RecordingOf | None
    days: dict[tuple[str, str], JournalDay]


def left_journals(paths: Iterable[Path]) -> Iterator[LeftJournal]:
    """Those of some journals whose process has ended; one that is removed meanwhile is left out.

    They are read one after the other, and no payload of them is kept.
    """
    for path in paths:
        found = None
        try:
            if is_being_written(path):
                continue
            found = _read(path, _heads_decoder, lambda _: None)
        except FileNotFoundError:
            continue
        except OSError:
            pass  # as of another user: it is one that cannot be read, and the others are read
        of, heads = found or (None, [])
        yield LeftJournal(path, of, _days_of(heads))


def _days_of(heads: Iterable[_Head]) -> dict[tuple[str, str], JournalDay]:
    walls: dict[tuple[str, int], list[int]] = defaultdict(list)
    for head in heads:
        walls[head.symbol, head.wall_ns // _DAY_NS].append(head.wall_ns)
    return {
        (symbol, _date(own[0])): JournalDay(len(own), min(own), max(own))
        for (symbol, _), own in walls.items()
    }


def _date(wall_ns: int) -> str:
    return datetime.fromtimestamp(wall_ns // 10**9, UTC).date().isoformat()


def recover_journals(
    folder: Path, host: str | None = None, on_damage: Callable[[Damage], None] = lambda _: None
) -> Iterator[Recovered]:
    """Closes the files of recorders that ended without closing them, with what journals have.

    What is in a journal and not in a file of its symbol is put behind the last block of the file
    that was left, or into a file of its own. Then the journals are removed; one that is damaged is
    kept, its name with `.damaged` behind it. A recovery that is killed is repeated; journals of a
    process that still writes are left to it.

    Args:
        folder: Where journals are looked for, at any depth: the folder of all recordings, of an
            exchange, or one above.
        host: Only journals of this host, as one that still writes may have been copied from
            another; None for all.
        on_damage: See `read_journal`.

    Raises:
        OSError: The machine refuses; the journals stay.
    """
    of_session: dict[tuple[Path, RecordingOf], dict[Path, list[Entry]]] = defaultdict(dict)
    damaged = set[Path]()

    def note(damage: Damage) -> None:
        damaged.add(damage.path)
        on_damage(damage)

    with locked(sorted(folder.rglob(f".*{JOURNAL_SUFFIX}"))) as journals:
        for path in journals:
            found = read_journal(path, note)
            if found is not None and host in (None, found[0].host):
                of_session[path.parent, found[0]][path] = found[1]
            elif found is None and path not in damaged:
                path.unlink()
        for (exchange, of), parts in of_session.items():
            by_symbol: dict[str, list[Entry]] = defaultdict(list)
            # Numbers are given again once a journal is removed: they tell no order.
            in_order = sorted(parts.values(), key=lambda own: own[0].monotonic_ns if own else 0)
            for entry in chain.from_iterable(in_order):
                by_symbol[entry.symbol].append(entry)
            for symbol, own in by_symbol.items():
                whose = RecordingOf(of.exchange, symbol, of.host, of.session)
                yield from _recovered(exchange.parent, whose, own)
            for path in parts:
                if path in damaged:
                    path.rename(path.with_name(path.name + _DAMAGED_SUFFIX))
                else:
                    path.unlink()


def _recovered(root: Path, of: RecordingOf, entries: list[Entry]) -> Iterator[Recovered]:
    files = _files(root, of, entries)
    for _, path in files:
        with suppress(LakeFileError, SealError):  # better twice in files than in none
            entries = _without(entries, path)
    for hour, path in reversed(files):
        if not path.name.endswith(PARTIAL_SUFFIX):
            continue
        rest = [entry for entry in entries if entry.wall_ns // HOUR_NS == hour]
        with suppress(LakeFileError):  # damaged in the middle: it stays for whoever looks at it
            done = recover(path, rest)
            if done is not None:  # else it had no whole block, and is gone
                entries = [entry for entry in entries if entry.wall_ns // HOUR_NS != hour]
                yield done
    for _, own in groupby(entries, key=lambda entry: entry.wall_ns // HOUR_NS):
        writer = RecordingWriter(root, of)
        writer.extend(list(own))
        closed = writer.close()
        if closed is not None:
            yield Recovered(closed, 0)


def _files(root: Path, of: RecordingOf, entries: list[Entry]) -> list[tuple[int, Path]]:
    """The files of a session that may have some of the entries: of their hours and the next."""
    hours = {entry.wall_ns // HOUR_NS for entry in entries}
    found = []
    for hour in sorted(hours | {hour + 1 for hour in hours}):
        folder, stem = of.folder(root, hour * HOUR_NS), of.stem(hour * HOUR_NS, 0)[:-1]
        if folder.is_dir():
            files = find_recordings([folder])
            found += [(hour, path) for path in files if path.name.startswith(stem)]
    return found


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
