"""Recordings read back: their blocks one at a time, each checked, and what a crash left."""

from __future__ import annotations

import fcntl
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from market_pipeline.errors import LakeFileError, WarehouseBusyError, naming
from market_pipeline.security.stored import open_stored
from market_pipeline.sources.recording.footer import ClosedRecording, Contents, finish
from market_pipeline.sources.recording.format import (
    BLOCK,
    BLOCK_MAGIC,
    END,
    END_MAGIC,
    FORMAT,
    MAX_UNPACKED_BYTES,
    PARTIAL_SUFFIX,
    VERSION,
    BlockKind,
    Columns,
    Entry,
    Footer,
    Header,
    Record,
    closed_name,
    decompressed,
    encode_entries,
    parts_of,
)
from market_pipeline.sources.recording.open_file import is_at, write_at

__all__ = ["Chunk", "Damage", "Recovered", "read_footer", "read_header", "read_recording"]
__all__ += ["recover"]

_CHECKED = BLOCK.size - 4
_SEARCH_BYTES = 1 << 20
_SAFE = "The blocks before and after it are whole; take the time of this one from another host."

Form = TypeVar("Form", Header, Footer)
_header_decoder = msgspec.json.Decoder(Header)
_footer_decoder = msgspec.json.Decoder(Footer)


@dataclass(frozen=True, slots=True)
class Chunk:
    """The records of a block, in the order they were written.

    Attributes:
        number, offset: The block's number from 1, and where it lies in the file.
        kind: uint8 (n,), see `RecordKind`.
        wall_ns, monotonic_ns: int64 (n,), when each was received.
        connection: uint16 (n,).
        stream: uint16 (n,), indices of `streams`.
        opcode: uint8 (n,).
        begin: int64 (n + 1,), where each payload begins in `payload`, and the end of the last.
        streams: The names of this block's streams.
        payload: The bytes of all.
    """

    number: int
    offset: int
    kind: NDArray[np.uint8]
    wall_ns: NDArray[np.int64]
    monotonic_ns: NDArray[np.int64]
    connection: NDArray[np.uint16]
    stream: NDArray[np.uint16]
    opcode: NDArray[np.uint8]
    begin: NDArray[np.int64]
    streams: tuple[str, ...]
    payload: bytes

    def columns(self) -> Columns:
        """The columns, as they were written."""
        return Columns(
            self.wall_ns, self.monotonic_ns, np.diff(self.begin), self.stream, self.connection,
            self.kind, self.opcode, self.streams,
        )  # fmt: skip

    def records(self) -> Iterator[Record]:
        """The records, one by one."""
        begin = self.begin.tolist()
        for at, (kind, wall, monotonic, connection, stream, opcode) in enumerate(
            zip(
                self.kind.tolist(),
                self.wall_ns.tolist(),
                self.monotonic_ns.tolist(),
                self.connection.tolist(),
                self.stream.tolist(),
                self.opcode.tolist(),
                strict=True,
            )
        ):
            payload = self.payload[begin[at] : begin[at + 1]]
            name = self.streams[stream]
            yield Record(kind, wall, monotonic, connection, name, payload, opcode)


class Damage(NamedTuple):
    """Bytes of a file that are no whole block: where, how many, and what is wrong with them."""

    path: Path
    offset: int
    size_bytes: int
    found: str


class Recovered(NamedTuple):
    """A file that a crash left, made whole; so many bytes after its last whole block are gone."""

    closed: ClosedRecording
    lost_bytes: int


class _Block(NamedTuple):
    kind: int
    number: int
    offset: int
    end: int
    records: int
    text: bytes


def read_recording(
    path: Path, on_damage: Callable[[Damage], None] | None = None
) -> Iterator[Chunk]:
    """Yields the blocks of records, one in memory at a time; also of a `.partial` file.

    Args:
        path: The file, by its plain name where it is sealed.
        on_damage: Takes what is damaged, which is passed over up to the next whole block; where a
            `.partial` file is cut off is such a damage.

    Raises:
        LakeFileError: It is no recording, or is damaged and `on_damage` is None.
        SealError: See `open_stored`; here and below.
    """
    for block in _blocks(path, on_damage):
        if block.kind == BlockKind.RECORDS:
            yield _chunk(path, block)


def read_header(path: Path) -> Header:
    """What a file is of.

    Raises:
        LakeFileError: It is no recording, of a later version, or begins with damage.
    """
    block = next(_blocks(path, None), None)
    if block is None or block.kind != BlockKind.HEADER:
        raise _damaged(path, 0, "no header")
    return _header(path, block)


def _header(path: Path, block: _Block) -> Header:
    header = _decoded(path, block, _header_decoder)
    if header.format != FORMAT or header.version != VERSION:
        raise LakeFileError(
            "The recording has a format that is not known here",
            next_step="Read it with the version of market-pipeline that wrote it.",
            file=path,
            expected=f"{FORMAT} {VERSION}",
            found=f"{header.format} {header.version}",
        )
    return header


def read_footer(path: Path) -> Footer:
    """What a closed file holds.

    Raises:
        LakeFileError: It has no whole footer.
    """
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        if size >= END.size:
            file.seek(size - END.size)
            offset, magic = END.unpack(file.read(END.size))
            if magic == END_MAGIC and offset < size:
                file.seek(offset)
                block = _block(file, offset)
                if isinstance(block, _Block) and block.kind == BlockKind.FOOTER:
                    return _decoded(path, block, _footer_decoder)
    raise _damaged(path, size, "no footer")


def recover(partial: Path, rest: Sequence[Entry] = ()) -> Recovered | None:
    """Closes a file that a process left without closing it, at its last whole block.

    What is after that block is cut off, and the footer tells how many bytes. A file with no whole
    block of records is removed, and None returned. A recovery that is killed is repeated.

    Args:
        partial: The file.
        rest: Records that its process had and did not write, which are put behind the others.

    Raises:
        WarehouseBusyError: A process still writes it, or has closed it just now.
        OSError: It is not there, or the machine refuses.
        LakeFileError: Blocks before the last are damaged, or a later version of the format wrote
            them; nothing is changed.
    """
    file = os.open(partial, os.O_RDWR | os.O_CLOEXEC)
    with naming(partial), os.fdopen(file, "r+b") as stream:
        is_ours = False
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = is_at(file, partial)  # or its writer has closed it, or another recovery has
        if not is_ours:
            raise WarehouseBusyError(
                "The recording is being written",
                next_step="Stop the recorder first, or leave this file to it.",
                file=partial,
            )
        size = stream.seek(0, os.SEEK_END)
        contents, number, end = Contents(), 0, 0
        damages: list[Damage] = []
        for block in _blocks(partial, damages.append):
            if block.kind == BlockKind.FOOTER:
                break
            if damages:
                raise _damaged(partial, damages[0].offset, damages[0].found)
            if block.kind == BlockKind.HEADER:
                _header(partial, block)
            elif block.kind == BlockKind.RECORDS:
                contents.add(block.offset, _chunk(partial, block).columns())
            number, end = block.number + 1, block.end
        if not contents.index:
            partial.unlink()
            return None
        os.ftruncate(file, end)
        lost_bytes = size - end
        for part in parts_of(rest):
            added, columns = encode_entries(part, number)
            write_at(file, end, added)
            contents.add(end, columns)
            number, end = number + 1, end + len(added)
        stream.seek(0)
        before = hashlib.sha256()
        while data := stream.read(_SEARCH_BYTES):
            before.update(data)
        closed = finish(file, partial, contents, number, end, before, lost_bytes)
        return Recovered(closed, lost_bytes)


def _blocks(path: Path, on_damage: Callable[[Damage], None] | None) -> Iterator[_Block]:
    """The whole blocks of a file, in their order."""
    with _opened(path) as file:
        size = file.seek(0, os.SEEK_END)
        offset, ended = 0, False
        while offset < size and not ended:
            file.seek(offset)
            block = _block(file, offset)
            if isinstance(block, _Block):
                yield block
                offset, ended = block.end, block.kind == BlockKind.FOOTER
                continue
            if on_damage is None:
                raise _damaged(path, offset, block)
            resumed = _next_block(file, offset + 1, size)
            on_damage(Damage(path, offset, resumed - offset, block))
            offset = resumed
        if not ended and not path.name.endswith(PARTIAL_SUFFIX):
            if on_damage is None:
                raise _damaged(path, size, "the end of the file, and no footer")
            on_damage(Damage(path, size, 0, "the end of the file, and no footer"))


def _block(file: BinaryIO, offset: int) -> _Block | str:
    """The block that begins where the file is, or what is there instead."""
    head = file.read(BLOCK.size)
    if len(head) < BLOCK.size:
        return f"{len(head)} bytes of a block's head"
    magic, kind, number, stored, unpacked, records, checksum = BLOCK.unpack(head)
    if magic != BLOCK_MAGIC or unpacked > MAX_UNPACKED_BYTES or stored > MAX_UNPACKED_BYTES:
        return "no block"
    packed = file.read(stored)
    if len(packed) < stored:
        return f"{len(packed)} of the {stored} bytes of block {number}"
    if zlib.crc32(packed, zlib.crc32(head[:_CHECKED])) != checksum:
        return f"block {number} with another checksum"
    try:
        text = decompressed(packed, unpacked)
    except OSError as error:
        return f"block {number}, which does not unpack: {error}"
    return _Block(kind, number, offset, offset + BLOCK.size + stored, records, text)


def _next_block(file: BinaryIO, begin: int, size: int) -> int:
    """Where the next whole block begins, or the end of the file."""
    while begin < size:
        file.seek(begin)
        data = file.read(_SEARCH_BYTES)
        at = data.find(BLOCK_MAGIC)
        if at < 0:
            begin += max(1, len(data) - len(BLOCK_MAGIC) + 1)
            continue
        file.seek(begin + at)
        if isinstance(_block(file, begin + at), _Block):
            return begin + at
        begin += at + 1
    return size


def _chunk(path: Path, block: _Block) -> Chunk:
    text = block.text
    try:
        records, names = np.frombuffer(text, "<u4", 2).tolist()
        at = 8
        columns = []
        for dtype in ("<i8", "<i8", "<u4", "<u2", "<u2", "u1", "u1"):
            columns.append(np.frombuffer(text, dtype, records, at))
            at += columns[-1].nbytes
        streams = []
        for _ in range(names):
            length = int.from_bytes(text[at : at + 2], "little")
            streams.append(text[at + 2 : at + 2 + length].decode())
            at += 2 + length
    except ValueError as error:
        raise _damaged(path, block.offset, f"block {block.number}: {error}") from error
    walls, behind, lengths, stream, connection, kind, opcode = columns
    wall_ns = np.cumsum(walls)
    begin = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    if len(text) - at != begin[-1] or (records and stream.max() >= names):
        raise _damaged(path, block.offset, f"block {block.number} of other lengths than it says")
    monotonic_ns = wall_ns - np.cumsum(behind)
    return Chunk(
        block.number,
        block.offset,
        kind,
        wall_ns,
        monotonic_ns,
        connection,
        stream,
        opcode,
        begin,
        tuple(streams),
        text[at:],
    )


def _decoded(path: Path, block: _Block, decoder: msgspec.json.Decoder[Form]) -> Form:
    try:
        return decoder.decode(block.text)
    except msgspec.MsgspecError as error:
        raise _damaged(path, block.offset, str(error)) from error


def _opened(path: Path) -> BinaryIO:
    """Opens a file; one that its writer has closed since it was found by the name it has now."""
    is_partial = path.name.endswith(PARTIAL_SUFFIX)
    try:
        try:
            return open_stored(path)
        except FileNotFoundError:
            if not is_partial:
                raise
            return open_stored(closed_name(path))
    except OSError as error:
        raise LakeFileError(
            "The recording cannot be opened",
            next_step="Run this again: it was removed meanwhile, as it held no record."
            if is_partial and isinstance(error, FileNotFoundError)
            else "Check the path and its mode.",
            file=path,
            expected="a recording",
            found=str(error),
        ) from error


def _damaged(path: Path, offset: int, found: str) -> LakeFileError:
    return LakeFileError(
        "The recording is damaged",
        next_step=_SAFE,
        file=path,
        expected=f"a whole block at byte {offset}",
        found=found,
    )
