"""Thrift's compact protocol, as far as Parquet's page headers and footers take it.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

__all__ = ["Encoded", "array", "flag", "i16", "i32", "i64", "struct", "text", "varint", "zigzag"]

_TRUE, _FALSE, _I16, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 2, 4, 5, 6, 8, 9, 12
_SHORT_LIST: Final = 15
_SHORT_STEP: Final = 15
_ONE_BYTE: Final = [bytes([value]) for value in range(0x80)]


Encoded = tuple[int, bytes]
"""A value: the protocol's number of its type, and its bytes."""


def varint(value: int) -> bytes:
    """A whole number of at least 0, 7 bits a byte, the lowest first."""
    if value <= 0x7F:  # which most of them are
        return _ONE_BYTE[value]
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def zigzag(value: int) -> bytes:
    """A signed number of 64 bits."""
    return varint((value << 1) ^ (value >> 63))


def flag(value: bool) -> Encoded:
    """A truth value of a struct."""
    return _TRUE if value else _FALSE, b""


def i16(value: int) -> Encoded:
    """A number of 16 bits."""
    return _I16, zigzag(value)


@lru_cache(1 << 10)  # sizes and numbers of Parquet come again and again
def i32(value: int) -> Encoded:
    """A number of 32 bits."""
    return _I32, zigzag(value)


def i64(value: int) -> Encoded:
    """A number of 64 bits."""
    return _I64, zigzag(value)


def text(value: str | bytes) -> Encoded:
    """A text, or bytes."""
    data = value.encode() if isinstance(value, str) else value
    return _BINARY, varint(len(data)) + data


def array(items: Sequence[Encoded]) -> Encoded:
    """A list of at least one value, all of one type."""
    kind, number = items[0][0], len(items)
    head = (
        bytes([number << 4 | kind])
        if number < _SHORT_LIST
        else bytes([_SHORT_LIST << 4 | kind]) + varint(number)
    )
    return _LIST, head + b"".join([data for _, data in items])


def struct(fields: Mapping[int, Encoded]) -> Encoded:
    """A struct of its fields by number, ascending."""
    whole, last = bytearray(), 0
    for number, (kind, data) in fields.items():
        step = number - last
        if step <= _SHORT_STEP:
            whole.append(step << 4 | kind)
        else:
            whole.append(kind)
            whole += zigzag(number)
        whole += data
        last = number
    whole.append(0)
    return _STRUCT, bytes(whole)
