"""The format of a recording to the byte: blocks, records, and what header and footer say.

`docs/sources/recording.md` describes it for readers in other languages. Integers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = [
    "BLOCK",
    "BLOCK_MAGIC",
    "CHUNK_BYTES",
    "END",
    "END_MAGIC",
    "END_NOT_SEEN",
    "FORMAT",
    "MAX_UNPACKED_BYTES",
    "PARTIAL_SUFFIX",
    "SUFFIX",
    "VERSION",
    "BlockKind",
    "Clock",
    "Columns",
    "Connect",
    "Disconnect",
    "Drop",
    "Entry",
    "Footer",
    "Gap",
    "Header",
    "IndexEntry",
    "Record",
    "RecordKind",
    "StreamFacts",
    "closed_name",
    "compressed",
    "decompressed",
    "encode_block",
    "encode_entries",
    "parts_of",
]

FORMAT = "market-pipeline recording"
VERSION = 1

SUFFIX = ".recording"
PARTIAL_SUFFIX = ".recording.partial"

CHUNK_BYTES = 1 << 20
"""A chunk takes records until it has as many bytes of payload; a flush makes as many as needed."""

MAX_UNPACKED_BYTES = 192 << 20
"""A block that unpacks to more is refused: a frame has at most 64 MiB, and a chunk one beyond its
limit.
"""

BLOCK_MAGIC = b"MPB1"
BLOCK = struct.Struct("<4sB3xIIIII")
"""Magic, kind, number, stored bytes, unpacked bytes, records, CRC-32 of what is before and after
it.
"""

END_MAGIC = b"MPRECEND"
END = struct.Struct("<Q8s")
"""The last 16 bytes of a closed file: where the footer's block begins, and a magic."""

END_NOT_SEEN = (
    "Frames that were lost after the last record of a stream cannot be seen in this file: only the "
    "next recorded frame of that stream proves that nothing, or how much, is missing in between."
)

_CHECKED = BLOCK.size - 4
_zstd = pa.Codec("zstd", compression_level=1)


class BlockKind(IntEnum):
    """What a block holds."""

    HEADER = 1
    RECORDS = 2
    FOOTER = 3


class RecordKind(IntEnum):
    """What a record is; a reader passes over kinds that it does not know.

    `FRAME` is a websocket frame and `SNAPSHOT` the body of a REST answer, both byte for byte as
    received. The payload of the others is the JSON of the record named like them.
    """

    FRAME = 0
    CONNECT = 1
    DISCONNECT = 2
    GAP = 3
    DROP = 4
    SNAPSHOT = 5
    CLOCK = 6


class Connect(msgspec.Struct, frozen=True, omit_defaults=True):
    """A connection is open and its streams are subscribed.

    Attributes:
        endpoint: The address, without secrets.
        streams: What was subscribed on it.
        replaces: The connection that it takes the place of, if any.
    """

    endpoint: str
    streams: tuple[str, ...] = ()
    replaces: int | None = None


class Disconnect(msgspec.Struct, frozen=True, omit_defaults=True):
    """A connection ended, for this reason; `code` is the websocket's close code."""

    reason: str
    code: int | None = None


class Gap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Messages of the record's stream are missing between two ids, as seen while recording.

    Attributes:
        reason: What proves it.
        after_id, before_id: The ids between which they are missing, where the venue numbers.
    """

    reason: str
    after_id: int | None = None
    before_id: int | None = None


class Drop(msgspec.Struct, frozen=True, omit_defaults=True):
    """Records of the record's stream that arrived and were not written.

    Attributes:
        reason: Why.
        records, size_bytes: How many, and their payload.
        first_wall_ns, last_wall_ns: When the first and the last of them arrived.
    """

    reason: str
    records: int
    size_bytes: int = 0
    first_wall_ns: int | None = None
    last_wall_ns: int | None = None


class Clock(msgspec.Struct, frozen=True, omit_defaults=True):
    """The state of the host's clock.

    Attributes:
        offset_ns: The host's clock less the exchange's; None if it was not measured.
        round_trip_ns: How long the measurement took.
        synchronised: Whether the kernel calls its clock synchronised.
        estimated_error_ns: The kernel's estimate of its error.
    """

    offset_ns: int | None = None
    round_trip_ns: int | None = None
    synchronised: bool | None = None
    estimated_error_ns: int | None = None


class Header(msgspec.Struct, frozen=True):
    """What a file is of: the JSON of its first block.

    Attributes:
        exchange, symbol: As in the instruments file.
        host, session: Which machine and which run of the recorder wrote it.
        software: Name and version of what wrote it.
        start_wall_ns, start_monotonic_ns: The clocks at its first record.
        format, version: `FORMAT` and `VERSION`.
    """

    exchange: str
    symbol: str
    host: str
    session: str
    software: str
    start_wall_ns: int
    start_monotonic_ns: int
    format: str = FORMAT
    version: int = VERSION


class StreamFacts(msgspec.Struct):
    """What a file holds of a stream: records and payload, their times, and ids where given."""

    records: int = 0
    size_bytes: int = 0
    first_wall_ns: int | None = None
    last_wall_ns: int | None = None
    first_id: int | None = None
    last_id: int | None = None


class IndexEntry(NamedTuple):
    """Where a block of records lies, how many they are, and the span of their wall clock."""

    offset: int
    records: int
    first_wall_ns: int
    last_wall_ns: int


class Footer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a file holds: the JSON of its last block.

    Attributes:
        kinds: Records by the name of their kind, in lower case; `kind_<number>` of one not known.
        streams: What there is of each stream.
        index: Every block of records.
        sha256: Of all bytes before the footer's block, in hexadecimal.
        recovered_bytes: Bytes after the last whole block that were cut off, where the file was
            left by a process that ended without closing it; None where it was closed.
        note: What the file cannot show.
    """

    kinds: dict[str, int]
    streams: dict[str, StreamFacts]
    index: tuple[IndexEntry, ...]
    sha256: str
    recovered_bytes: int | None = None
    note: str = END_NOT_SEEN


class Record(NamedTuple):
    """One record; `opcode` is the websocket's (1 text, 2 binary)."""

    kind: int
    wall_ns: int
    monotonic_ns: int
    connection: int
    stream: str
    payload: bytes
    opcode: int = 1


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record on its way to the disk, with the symbol whose file it belongs to.

    There are many, and nothing they hold leads back to them: the collector need not look at them.

    Attributes:
        update_id: The frame's last id, if known; the footer has the first and the last.
    """

    symbol: str
    kind: int
    wall_ns: int
    monotonic_ns: int
    connection: int
    stream: str
    payload: bytes
    opcode: int = 1
    update_id: int | None = None


class Columns(NamedTuple):
    """The records of a block, without their payloads.

    Attributes:
        wall_ns, monotonic_ns: int64 (n,).
        size_bytes: int64 (n,), of each payload.
        stream: uint16 (n,), indices of `streams`.
        connection: uint16 (n,).
        kind, opcode: uint8 (n,).
        streams: Names.
    """

    wall_ns: NDArray[np.int64]
    monotonic_ns: NDArray[np.int64]
    size_bytes: NDArray[np.int64]
    stream: NDArray[np.uint16]
    connection: NDArray[np.uint16]
    kind: NDArray[np.uint8]
    opcode: NDArray[np.uint8]
    streams: tuple[str, ...]


def closed_name(partial: Path) -> Path:
    """The name of a `.partial` file once it is closed."""
    return partial.with_name(partial.name.removesuffix(PARTIAL_SUFFIX) + SUFFIX)


def compressed(text: bytes) -> bytes:
    """One zstd frame."""
    packed: bytes = _zstd.compress(text, asbytes=True)
    return packed


def decompressed(packed: bytes, size: int) -> bytes:
    """The bytes of one zstd frame, which are as many as expected.

    Raises:
        OSError: They are not, or it is damaged.
    """
    text: bytes = _zstd.decompress(packed, size, asbytes=True)
    return text


def encode_block(kind: BlockKind, number: int, text: bytes, records: int = 0) -> bytes:
    """A block: its head, and the compressed text."""
    packed = compressed(text)
    head = BLOCK.pack(BLOCK_MAGIC, kind, number, len(packed), len(text), records, 0)[:_CHECKED]
    return b"".join((head, zlib.crc32(packed, zlib.crc32(head)).to_bytes(4, "little"), packed))


def _columns_of(entries: Sequence[Entry]) -> Columns:
    """The columns of entries; streams in the order in which they come first."""
    streams = [entry.stream for entry in entries]
    code_of = {name: code for code, name in enumerate(dict.fromkeys(streams))}
    return Columns(
        np.array([entry.wall_ns for entry in entries], "<i8"),
        np.array([entry.monotonic_ns for entry in entries], "<i8"),
        np.array([len(entry.payload) for entry in entries], "<i8"),
        np.array([code_of[name] for name in streams], "<u2"),
        np.array([entry.connection for entry in entries], "<u2"),
        np.array([entry.kind for entry in entries], "u1"),
        np.array([entry.opcode for entry in entries], "u1"),
        tuple(code_of),
    )


def parts_of(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Entries in parts of about `CHUNK_BYTES` of payload."""
    if sum([len(entry.payload) for entry in entries]) + 32 * len(entries) < CHUNK_BYTES:
        if entries:
            yield entries
        return
    begin = size = 0
    for at, entry in enumerate(entries, 1):
        size += len(entry.payload) + 32
        if size >= CHUNK_BYTES:
            yield entries[begin:at]
            begin, size = at, 0
    if begin < len(entries):
        yield entries[begin:]


def encode_entries(entries: Sequence[Entry], number: int) -> tuple[bytes, Columns]:
    """The block of entries that has this number in its file, and the columns in it.

    Its text is columns, the names of its streams, payloads. The wall clock is written as
    differences, and the monotonic one as differences of what it is behind, next to nothing.
    """
    columns = _columns_of(entries)
    names = [name.encode() for name in columns.streams]
    text = b"".join(
        (
            np.array((len(columns.kind), len(names)), "<u4").tobytes(),
            np.diff(columns.wall_ns, prepend=0).tobytes(),
            np.diff(columns.wall_ns - columns.monotonic_ns, prepend=0).tobytes(),
            columns.size_bytes.astype("<u4").tobytes(),
            columns.stream.tobytes(),
            columns.connection.tobytes(),
            columns.kind.tobytes(),
            columns.opcode.tobytes(),
            *(len(name).to_bytes(2, "little") + name for name in names),
            *[entry.payload for entry in entries],
        )
    )
    return encode_block(BlockKind.RECORDS, number, text, len(entries)), columns
