"""A sealed file: its head, the sealed bytes, and beside it the slots that hold its key.

`NAME.sealed` never changes once it is written. `NAME.sealed.keys` holds the file's key once for
each key of the ring that may open it, so that a key is replaced without a byte of the file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from market_pipeline.errors import SealError
from market_pipeline.warehouse.layout import written_whole

__all__ = ["SLOTS_SUFFIX", "SUFFIX", "Head", "Slot", "Wrapping", "make_head", "open_regular"]
__all__ += ["read_all_slots", "read_head", "read_slots", "read_whole", "slots_path", "write_slots"]

SUFFIX = ".sealed"
"""How the name of a sealed file ends."""
SLOTS_SUFFIX = ".keys"
"""What follows it in the name of its slots."""
_MAGIC = b"MPSEALED"
_LENGTH = struct.Struct("<H")
_MAX_SLOTS_BYTES = 1 << 16
# What `written_whole` was killed at.
_PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")


class _HeadParts(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    purpose: Annotated[str, msgspec.Meta(pattern="^[a-z]{1,32}$")]
    algorithm: Literal["AES256_GCM_HKDF_1MB"] = "AES256_GCM_HKDF_1MB"
    version: Literal[1] = 1


class Head(msgspec.Struct, frozen=True):
    """The beginning of a sealed file.

    Attributes:
        file_id: 16 bytes in hexadecimal, of no other file.
        purpose: What kind of data is sealed, such as `captures`.
        size_bytes: Where the sealed bytes begin.
        digest: SHA-256 of the head, to which they are bound.
    """

    file_id: str
    purpose: str
    size_bytes: int
    digest: bytes


Wrapping = Literal["aes-kw", "hpke-x25519", "service"]
"""How a key wraps: as one that is derived, as a public key, or in a service of another package."""


class Slot(msgspec.Struct, frozen=True):
    """A file's key, wrapped by a key of the ring: its id, how it wraps, and the wrapped bytes."""

    key: str
    kind: Wrapping
    wrapped: bytes


_head_parts = msgspec.json.Decoder(_HeadParts)
_slots = msgspec.json.Decoder(dict[str, list[Slot]])


def make_head(purpose: str) -> tuple[Head, bytes]:
    """The head of a new file, also as the bytes that it begins with."""
    file_id = os.urandom(16).hex()
    parts = msgspec.json.encode(_HeadParts(file_id, purpose))
    text = _MAGIC + _LENGTH.pack(len(parts)) + parts
    return Head(file_id, purpose, len(text), hashlib.sha256(text).digest()), text


def open_regular(path: Path) -> int:
    """A descriptor of a file, open for reading.

    Raises:
        OSError: There is none, or it is a pipe, device or folder: one that may never end, or keep
            whoever opens it waiting.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_whole(path: Path, most_bytes: int) -> bytes:
    """What is in a small file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not that small.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"more than {most_bytes:,} bytes")
    return content


def read_head(path: Path, descriptor: int) -> Head:
    """The head of an open file.

    Raises:
        SealError: It is no sealed file, or of a form that is not known here.
    """
    size = len(_MAGIC) + _LENGTH.size
    start = os.pread(descriptor, size, 0)
    try:
        if not start.startswith(_MAGIC) or len(start) < size:
            raise ValueError(start[: len(_MAGIC)].hex() or "an empty file")
        (length,) = _LENGTH.unpack(start[len(_MAGIC) :])
        text = start + os.pread(descriptor, length, size)
        parts = _head_parts.decode(text[size:])
    except (ValueError, RecursionError) as error:  # msgspec's is one
        raise SealError(
            "The file does not begin as a sealed file does",
            next_step="Take it from a backup, or open it as what it is.",
            file=path,
            expected=f"{_MAGIC.decode()} and a head of version 1",
            found=str(error),
        ) from error
    return Head(parts.id, parts.purpose, len(text), hashlib.sha256(text).digest())


def slots_path(path: Path) -> Path:
    """Where the slots of a sealed file lie: beside it, also of what a kill left of one."""
    return path.with_name(_PARTIAL.sub("", path.name) + SLOTS_SUFFIX)


def write_slots(path: Path, slots: Mapping[str, Sequence[Slot]]) -> int:
    """Replaces the slots of a sealed file at one moment, mode 0600; gives the bytes written.

    Args:
        path: The sealed file.
        slots: By file id; of two files while one is about to replace the other.

    Raises:
        SealError: They are more than would be read.
    """
    text = msgspec.json.encode(slots) + b"\n"
    if len(text) > _MAX_SLOTS_BYTES:
        raise SealError(
            "The slots beside the sealed file are too many",
            next_step="Move them away if no earlier file of that name is needed.",
            file=slots_path(path),
            expected=f"{_MAX_SLOTS_BYTES:,} bytes or fewer",
            found=f"{len(text):,}",
        )
    with written_whole(slots_path(path)) as file:
        file.write(text)
    return len(text)


def read_slots(path: Path, file_id: str) -> list[Slot]:
    """The slots of a sealed file.

    Raises:
        SealError: There are none, they cannot be read, or they are of another file.
    """
    found = read_all_slots(path)
    if file_id not in found:
        raise SealError(
            "The keys beside the sealed file are those of another file",
            next_step="Put the file back that belongs beside it.",
            file=slots_path(path),
            expected=f"slots of the file {file_id}",
            found=", ".join(found) or "none",
        )
    return found[file_id]


def read_all_slots(path: Path) -> dict[str, list[Slot]]:
    """The slots beside a sealed file, by file id in hexadecimal.

    Raises:
        SealError: There are none, or they cannot be read.
    """
    beside = slots_path(path)
    try:
        return _slots.decode(read_whole(beside, _MAX_SLOTS_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise SealError(
            "The keys beside the sealed file cannot be read",
            next_step="Put back the file that belongs there: without it nothing opens this one.",
            file=beside,
            expected="the slots of the sealed file",
            found=str(error),
        ) from error
