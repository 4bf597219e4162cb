"""Bytes sealed in segments, each of which is opened by itself: Tink's AES256_GCM_HKDF_1MB.

A header of 40 bytes (its own length, a salt, a prefix of nonces), then segments of 1 MiB, of which
the first is shorter by the header. A segment's nonce has its number and whether it is the last, so
that none is moved, left out or cut off unseen. The key of the segments is HKDF-SHA256 of the file's
key, with the associated data as info.

Source: "Streaming AEAD, AES-GCM-HKDF" of Tink's wire format (Google), which Tink itself reads.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from market_pipeline.errors import SealError

__all__ = ["FILE_KEY_BYTES", "SEGMENT_BYTES", "Sealable", "SealedBytes", "SealingStream"]
__all__ += ["plain_size"]

FILE_KEY_BYTES = 32
SEGMENT_BYTES = 1 << 20
_SALT_BYTES, _PREFIX_BYTES, _TAG_BYTES = 32, 7, 16
_HEADER_BYTES = 1 + _SALT_BYTES + _PREFIX_BYTES
_FIRST_BYTES = SEGMENT_BYTES - _HEADER_BYTES - _TAG_BYTES
_OTHER_BYTES = SEGMENT_BYTES - _TAG_BYTES


class Sealable(Protocol):
    """Takes the bytes that are written to it."""

    def write(self, data: bytes | memoryview, /) -> int:
        """Takes further bytes; how many."""
        ...


def plain_size(sealed_bytes: int) -> int:
    """How many bytes are sealed in so many; 0 in fewer than there must be."""
    segments = -(-sealed_bytes // SEGMENT_BYTES)
    return max(0, sealed_bytes - _HEADER_BYTES - segments * _TAG_BYTES)


class _Cipher:
    """Seals and opens single segments."""

    def __init__(self, file_key: bytes, associated: bytes, salt: bytes, prefix: bytes) -> None:
        self._aead = AESGCM(HKDF(SHA256(), 32, salt, associated).derive(file_key))
        self._prefix = prefix

    def seal(self, number: int, plain: memoryview, into: bytearray, *, last: bool) -> int:
        """Puts the sealed segment there; gives its length."""
        sealed = memoryview(into)[: len(plain) + _TAG_BYTES]
        return self._aead.encrypt_into(self._nonce(number, last=last), plain, None, sealed)

    def open(self, number: int, sealed: bytes, *, last: bool) -> bytes | None:
        """What a segment holds; None if it is not that segment as it was sealed."""
        try:
            return self._aead.decrypt(self._nonce(number, last=last), sealed, None)
        except InvalidTag:
            return None

    def _nonce(self, number: int, *, last: bool) -> bytes:
        return self._prefix + number.to_bytes(4, "big") + bytes([last])


class SealingStream:
    """Seals what is written to it; holds a segment.

    Args:
        file: Receives the sealed bytes, from where it is on.
        file_key: Of no other file, 32 bytes.
        associated: What the bytes are bound to; they are opened with the same only.
    """

    def __init__(self, file: Sealable, file_key: bytes, associated: bytes) -> None:
        salt, prefix = os.urandom(_SALT_BYTES), os.urandom(_PREFIX_BYTES)
        self._file = file
        self._cipher = _Cipher(file_key, associated, salt, prefix)
        self._plain, self._sealed = bytearray(SEGMENT_BYTES), bytearray(SEGMENT_BYTES)
        self._size = _FIRST_BYTES
        self._filled = self._number = 0
        file.write(bytes([_HEADER_BYTES]) + salt + prefix)

    def write(self, data: bytes | memoryview) -> int:
        """Seals every segment that is full and is not the last."""
        view = memoryview(data).cast("B")
        at = 0
        while at < len(view):
            if self._filled == self._size:
                self._seal(last=False)
            part = view[at : at + self._size - self._filled]
            self._plain[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            at += len(part)
        return len(view)

    def finish(self) -> None:
        """Seals the rest as the last segment; nothing may be written after it."""
        self._seal(last=True)

    def _seal(self, *, last: bool) -> None:
        # A file of more segments than 4 bytes count (4 PiB) fails here before a nonce repeats.
        plain = memoryview(self._plain)[: self._filled]
        size = self._cipher.seal(self._number, plain, self._sealed, last=last)
        # Counted before it is written: after a write that fails, its nonce is not used again.
        self._filled, self._size = 0, _OTHER_BYTES
        self._number += 1
        self._file.write(memoryview(self._sealed)[:size])


class SealedBytes:
    """Reads any part of what is sealed in an open file; used by any number of threads.

    Args:
        descriptor: The open file; reading moves no position in it.
        path: Its name, for errors.
        begin: Where the sealed bytes begin in it; they reach to its end.
        file_key, associated: As they were sealed with.
        crashed: Whoever sealed it was killed: the whole segments count, and what is behind them is
            none of them.

    Raises:
        SealError: The first or the last segment is not as it was sealed, or the end is cut off.
    """

    def __init__(
        self,
        descriptor: int,
        path: Path,
        begin: int,
        file_key: bytes,
        associated: bytes,
        *,
        crashed: bool = False,
    ) -> None:
        self._descriptor, self._path, self._begin = descriptor, path, begin
        sealed_bytes = os.fstat(descriptor).st_size - begin
        header = os.pread(descriptor, _HEADER_BYTES, begin)
        if len(header) < _HEADER_BYTES or header[0] != _HEADER_BYTES:
            raise self._refused("no header of sealed bytes", 0)
        salt, prefix = header[1 : 1 + _SALT_BYTES], header[1 + _SALT_BYTES :]
        self._cipher = _Cipher(file_key, associated, salt, prefix)
        self.segments = -(-sealed_bytes // SEGMENT_BYTES)
        self._has_last = True
        if crashed and self._opened(self.segments - 1) is None:
            self._has_last = False
            self.segments = sealed_bytes // SEGMENT_BYTES
            sealed_bytes = self.segments * SEGMENT_BYTES
        self.size = plain_size(sealed_bytes)
        """Bytes that are sealed."""
        for number in {0, self.segments - 1} if self.segments else ():
            self.segment(number)

    def segment(self, number: int) -> bytes:
        """What a segment holds.

        Raises:
            SealError: It is not as it was sealed.
        """
        plain = self._opened(number)
        if plain is None:
            where = "the last segment" if number == self.segments - 1 else f"segment {number}"
            raise self._refused(
                f"{where} changed, moved or cut off, or sealed with another key", number
            )
        return plain

    @staticmethod
    def place(offset: int) -> tuple[int, int]:
        """The segment that holds a byte, and where it begins among all that is sealed."""
        if offset < _FIRST_BYTES:
            return 0, 0
        number = 1 + (offset - _FIRST_BYTES) // _OTHER_BYTES
        return number, _FIRST_BYTES + (number - 1) * _OTHER_BYTES

    def _opened(self, number: int) -> bytes | None:
        begin, end = number * SEGMENT_BYTES, (number + 1) * SEGMENT_BYTES
        begin += _HEADER_BYTES if number == 0 else 0
        sealed = os.pread(self._descriptor, end - begin, self._begin + begin)
        if len(sealed) < _TAG_BYTES:
            return None
        return self._cipher.open(
            number, sealed, last=self._has_last and number == self.segments - 1
        )

    def _refused(self, found: str, number: int) -> SealError:
        return SealError(
            "The sealed file is not as it was sealed",
            next_step=(
                "Take it from a backup. Of one that a crash cut off, `market-pipeline keys open "
                "--crashed` gives what is whole."
            ),
            file=self._path,
            expected="segments in the order and number in which they were sealed",
            found=f"at byte {self._begin + number * SEGMENT_BYTES:,}: {found}",
        )
