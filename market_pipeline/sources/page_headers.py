"""Reads the headers of a column's pages in a Parquet file, and passes over the pages themselves.

A header is a struct in Thrift's compact protocol: fields by number, of which a few integers are
wanted. A day has ten thousand pages, so a kernel walks from one header to the next.
"""

from __future__ import annotations

from enum import IntEnum
from typing import IO, NamedTuple

import numpy as np

from market_pipeline.jit import inlined_kernel, kernel

__all__ = ["PageError", "Pages", "read_pages"]

_BLOCK_BYTES = (1 << 12, 1 << 20)
"""So much of the file is looked at at once, and if a header is longer, so much."""

_MAX_DEPTH = 8
_MOST = np.int64(2**60)
_NO_NUMBER = np.int64(-(2**63))

# Fields of a header, and of the structs in it that tell about rows.
_UNPACKED, _STORED, _DATA_V1, _DATA_V2 = 2, 3, 5, 8
_NUM_VALUES, _ENCODING_V1, _ENCODING_V2 = 1, 2, 4
_DELTA_BYTE_ARRAY = 7

_TRUE, _FALSE, _BYTE, _I16, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 6, 7, 8, 12

# What is known: the sums over all pages, then of the page under way its sizes, which data page it
# is, and by kind of data page whether it is there, its values and their encoding.
(
    _ALL_BYTES,
    _LARGEST_DICTIONARY,
    _LARGEST_DATA,
    _VALUES,
    _DELTA_TEXTS,
    _PAGE_UNPACKED,
    _PAGE_STORED,
    _PAGE_V1,
    _PAGE_V2,
    _WRONG,
    _KEYS,
) = (*range(7), 7, 10, 13, 14)
_KNOWN = _KEYS + _MAX_DEPTH + 1
_ABSENT, _A_STRUCT, _NO_STRUCT = 0, 1, 2


class _Stop(IntEnum):
    """Why the walk stopped."""

    END = 0
    CUT = 1
    LONG_NUMBER = 2
    TYPE = 3
    FIELD = 4
    NO_PARTS = 5


_END, _CUT, _LONG_NUMBER, _TYPE, _FIELD, _NO_PARTS = (int(each) for each in _Stop)


class PageError(ValueError):
    """A page header that cannot be true."""


class Pages(NamedTuple):
    """What the headers of a column's pages say; sums that no file can have stay at 2^60.

    Attributes:
        all_bytes: What all pages unpack to.
        largest_dictionary_bytes, largest_data_bytes: The largest page of each kind.
        values: How many values the data pages hold.
        delta_byte_arrays: How many data pages have the encoding DELTA_BYTE_ARRAY.
    """

    all_bytes: int
    largest_dictionary_bytes: int
    largest_data_bytes: int
    values: int
    delta_byte_arrays: int


def read_pages(file: IO[bytes], start: int, end: int) -> Pages:
    """Reads the headers of the pages that begin between two places of an open file.

    Raises:
        PageError: If what stands there is no page header.
        OSError: If the file cannot be read.
    """
    known = np.zeros(_KNOWN, np.int64)
    block_bytes = _BLOCK_BYTES[0]
    at = start
    while at < end:
        file.seek(at)
        block = np.frombuffer(file.read(block_bytes), np.uint8)
        stop, passed = _walk(block, end - at, known)
        at += passed
        if stop not in (_END, _CUT):
            raise PageError(_words(_Stop(stop), int(known[_WRONG])))
        if passed == 0:
            if block_bytes == _BLOCK_BYTES[1]:
                raise PageError("a page header that does not end")
            block_bytes = _BLOCK_BYTES[1]
        else:
            block_bytes = _BLOCK_BYTES[0]
    return Pages(*known[: len(Pages._fields)].tolist())


def _words(stop: _Stop, wrong: int) -> str:
    if stop == _Stop.LONG_NUMBER:
        return "a number of more than 64 bits"
    if stop == _Stop.TYPE:
        return f"a page header with a field of Thrift's type {wrong}"
    if stop == _Stop.NO_PARTS:
        return "a page header without its parts"
    return f"field {wrong} of a page header is not there or below 0"


@kernel
def _walk(block, room, known):
    """Adds up the pages whose headers lie in a block, the first at its first byte.

    Args:
        block: uint8, bytes of the file.
        room: So many bytes after the block's first the last page has begun.
        known: int64, the sums so far, updated.

    Returns:
        Why it stopped, and how many bytes it came up to the next header.
    """
    at = np.int64(0)
    while at < room:
        stop, after = _header(block, at, known)
        if stop != _END:
            return stop, at
        unpacked, stored = known[_PAGE_UNPACKED], known[_PAGE_STORED]
        if unpacked < 0 or stored < 0:
            known[_WRONG] = _UNPACKED if unpacked < 0 else _STORED
            return _FIELD, at
        known[_ALL_BYTES] = _sum(known[_ALL_BYTES], unpacked)
        data = _PAGE_V1 if known[_PAGE_V1] != _ABSENT else _PAGE_V2
        if known[data] == _ABSENT:
            known[_LARGEST_DICTIONARY] = max(known[_LARGEST_DICTIONARY], unpacked)
        elif known[data] == _NO_STRUCT:
            return _NO_PARTS, at
        elif known[data + 1] < 0:
            known[_WRONG] = _NUM_VALUES
            return _FIELD, at
        else:
            known[_LARGEST_DATA] = max(known[_LARGEST_DATA], unpacked)
            known[_VALUES] = _sum(known[_VALUES], known[data + 1])
            known[_DELTA_TEXTS] += known[data + 2] == _DELTA_BYTE_ARRAY
        at = after + min(stored, max(room - after, np.int64(0)))
    return _END, at


@inlined_kernel
def _sum(one, other):
    return min(one + min(other, _MOST), _MOST)


@kernel
def _header(block, at, known):
    """Reads one header; returns why it stopped, and where the header ends."""
    known[_PAGE_UNPACKED] = known[_PAGE_STORED] = _NO_NUMBER
    known[_PAGE_V1] = known[_PAGE_V2] = _ABSENT
    known[_KEYS] = depth = np.int64(0)
    while True:
        if at >= block.size:
            return _CUT, at
        head = np.int64(block[at])
        at += 1
        if head == 0:
            if depth == 0:
                return _END, at
            depth -= 1
            continue
        kind = head & 15
        if head >> 4:
            known[_KEYS + depth] += head >> 4
        else:
            stop, bits, at = _number(block, at)
            if stop != _END:
                return stop, at
            known[_KEYS + depth] += _signed(bits)
        number = _NO_NUMBER
        if _I16 <= kind <= _I64:
            stop, bits, at = _number(block, at)
            if stop != _END:
                return stop, at
            number = _signed(bits)
        elif kind == _BINARY:
            stop, length, at = _number(block, at)
            if stop != _END:
                return stop, at
            if length > np.uint64(block.size - at):
                return _CUT, at
            at += np.int64(length)
        elif kind == _BYTE:
            at += 1
        elif kind == _DOUBLE:
            at += 8
        elif kind not in (_TRUE, _FALSE) and (kind != _STRUCT or depth == _MAX_DEPTH):
            known[_WRONG] = kind
            return _TYPE, at
        _keep(known, depth, number, kind == _STRUCT)
        if kind == _STRUCT:
            depth += 1
            known[_KEYS + depth] = 0


@inlined_kernel
def _keep(known, depth, number, is_struct):
    """Keeps a field if it is wanted; one that stands twice counts as it stands last."""
    key = known[_KEYS]
    data = _PAGE_V1 if key == _DATA_V1 else _PAGE_V2
    if depth == 0:
        if key == _UNPACKED:
            known[_PAGE_UNPACKED] = number
        elif key == _STORED:
            known[_PAGE_STORED] = number
        elif key in (_DATA_V1, _DATA_V2):
            known[data] = _A_STRUCT if is_struct else _NO_STRUCT
            known[data + 1] = known[data + 2] = _NO_NUMBER
    elif depth == 1 and key in (_DATA_V1, _DATA_V2):
        inner = known[_KEYS + 1]
        if inner == _NUM_VALUES:
            known[data + 1] = number
        elif inner == (_ENCODING_V1 if key == _DATA_V1 else _ENCODING_V2):
            known[data + 2] = number


@kernel
def _number(block, at):
    """The bits of a number; returns why it stopped, the bits, and where it ends."""
    bits = shift = np.uint64(0)
    while True:
        if at >= block.size:
            return _CUT, bits, at
        byte = np.uint64(block[at])
        at += 1
        if shift == 63 and byte > 1:
            return _LONG_NUMBER, bits, at
        bits |= (byte & np.uint64(0x7F)) << shift
        if byte < 0x80:
            return _END, bits, at
        shift += np.uint64(7)


@inlined_kernel
def _signed(bits):
    return np.int64(bits >> np.uint64(1)) ^ -np.int64(bits & np.uint64(1))
