"""How large a row group of a Parquet file becomes in memory, told before anything is unpacked.

Footers and statistics are not believed: the header of each page is read, whose uncompressed size is
the one that decoders allocate and a longer page does not fit into.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow.parquet as pq

from market_pipeline.errors import LakeFileError

__all__ = ["PAGES_BYTES", "Unpacked", "check_footer", "check_pages"]

PAGES_BYTES = 256 << 20
"""Most bytes that the largest pages of all columns read may unpack to together."""

_NEXT_STEP = "Fetch the file from the vendor again, or report it; then rerun this day."
_HEADER_BYTES = (1 << 9, 1 << 20)
_UNCOMPRESSED, _COMPRESSED, _DATA_V1, _DICTIONARY, _DATA_V2 = 2, 3, 5, 7, 8
# By kind of data page: where its header tells the encoding.
_ENCODING = {_DATA_V1: 2, _DATA_V2: 4}
_NUM_VALUES = 1
_DELTA_BYTE_ARRAY = 7
_MAX_DEPTH = 8

_Struct = dict[int, "int | _Struct | None"]


def check_footer(parquet: pq.ParquetFile, file_bytes: int) -> None:
    """Has Arrow judge what the footer says of every column, without any data.

    Where it contradicts itself, asking `metadata` for a column ends the whole process; only Arrow's
    reader tells of it as an error. It is given a file of that size whose data cannot be read.

    Raises:
        ArrowException, OSError: If the footer contradicts itself.
        UnicodeError: If a name in it is no text.
    """
    probe = pq.ParquetFile(
        _NoData(file_bytes), metadata=parquet.metadata, pre_buffer=False, buffer_size=1 << 12
    )
    for group in range(parquet.metadata.num_row_groups):
        try:
            next(probe.iter_batches(1, row_groups=[group], columns=probe.schema_arrow.names), None)
        except _NoDataError:
            continue


class _NoDataError(Exception):
    """Arrow has come as far as the data."""


class _NoData(io.RawIOBase):
    """A file of some size, no byte of which can be read."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise _NoDataError


class Unpacked(NamedTuple):
    """What the columns of a row group unpack to.

    Attributes:
        all_bytes: All their pages.
        largest_bytes: Of each column the largest dictionary and the largest page of rows.
    """

    all_bytes: int
    largest_bytes: int


def check_pages(
    file: Path, metadata: pq.FileMetaData, group: int, columns: list[int], first_row: int
) -> Unpacked:
    """Reads the page headers of some columns of a row group.

    Args:
        file: The Parquet file.
        metadata: Its footer.
        group: Which row group.
        columns: Which columns, by number; none may be nested.
        first_row: The row group's first row in the file.

    Raises:
        LakeFileError: If the headers are damaged or hold other rows than the footer says, if texts
            are encoded such that a small page can become any size, or if the pages that must be
            held at once are larger than `PAGES_BYTES`.
    """
    found = Unpacked(0, 0)
    with file.open("rb") as raw:
        for column in columns:
            try:
                own = _column(raw, metadata, group, column)
            except (ValueError, OSError) as error:
                raise LakeFileError(
                    "The file is damaged inside",
                    next_step=_NEXT_STEP,
                    file=file,
                    row=first_row,
                    column=metadata.schema.column(column).name,
                    expected=f"{metadata.num_rows} readable rows",
                    found=str(error),
                ) from error
            found = Unpacked(
                found.all_bytes + own.all_bytes, found.largest_bytes + own.largest_bytes
            )
    if found.largest_bytes > PAGES_BYTES:
        raise LakeFileError(
            "The file unpacks to more than may be held in memory",
            next_step=_NEXT_STEP,
            file=file,
            row=first_row,
            expected=f"pages of at most {PAGES_BYTES} bytes together",
            found=f"{found.largest_bytes} bytes in the largest pages of a row group",
        )
    return found


class _PageError(ValueError):
    """A page header that cannot be true."""


def _column(raw: BinaryIO, metadata: pq.FileMetaData, group: int, column: int) -> Unpacked:
    rows = metadata.row_group(group).num_rows
    chunk = metadata.row_group(group).column(column)
    is_text = chunk.physical_type == "BYTE_ARRAY"
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        # Readers differ in where they begin if it is not the first page.
        if chunk.dictionary_page_offset > at:
            raise _PageError("a dictionary behind the rows that need it")
        at = chunk.dictionary_page_offset
    end = at + chunk.total_compressed_size
    values = everything = 0
    largest = {_DICTIONARY: 0, _DATA_V1: 0}
    while at < end:
        header, length = _header(raw, at)
        unpacked = _number(header, _UNCOMPRESSED)
        at += length + _number(header, _COMPRESSED)
        everything += unpacked
        kind = next((each for each in _ENCODING if each in header), _DICTIONARY)
        part = _DICTIONARY if kind == _DICTIONARY else _DATA_V1
        largest[part] = max(largest[part], unpacked)
        if kind == _DICTIONARY:
            continue
        told = header[kind]
        if not isinstance(told, dict):
            raise _PageError("a page header without its parts")
        values += _number(told, _NUM_VALUES)
        if is_text and told.get(_ENCODING[kind]) == _DELTA_BYTE_ARRAY:
            raise _PageError("texts encoded as DELTA_BYTE_ARRAY, which may unpack to any size")
    if values != rows:
        raise _PageError(f"pages of {values} values in a row group of {rows} rows")
    return Unpacked(everything, sum(largest.values()))


def _number(header: _Struct, key: int) -> int:
    value = header.get(key)
    if not isinstance(value, int) or value < 0:
        raise _PageError(f"field {key} of a page header is {value}")
    return value


def _header(raw: BinaryIO, at: int) -> tuple[_Struct, int]:
    """The fields of the page header at a place, and its length."""
    for size in _HEADER_BYTES:
        raw.seek(at)
        data = raw.read(size)
        try:
            return _struct(data, 0)
        except IndexError:
            continue
    raise _PageError("a page header that does not end")


# --- Thrift's compact protocol, of which only structs of integers are kept ------------------------

_TRUE, _FALSE, _BYTE, _I16, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 6, 7, 8, 12


def _struct(data: bytes, at: int, depth: int = 0) -> tuple[_Struct, int]:
    """The fields of a struct by number, and where it ends."""
    fields: _Struct = {}
    key = 0
    while head := data[at]:
        at += 1
        if head >> 4:
            key += head >> 4
        else:
            key, at = _zigzag(data, at)
        fields[key], at = _value(data, at, head & 15, depth)
    return fields, at + 1


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[int | _Struct | None, int]:
    if kind in (_TRUE, _FALSE):
        return None, at
    if kind == _BYTE:
        return None, at + 1
    if _I16 <= kind <= _I64:
        return _zigzag(data, at)
    if kind == _DOUBLE:
        return None, at + 8
    if kind == _BINARY:
        length, at = _varint(data, at)
        return None, at + length
    if kind == _STRUCT and depth < _MAX_DEPTH:
        return _struct(data, at, depth + 1)
    raise _PageError(f"a page header with a field of Thrift's type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _PageError("a number of more than 64 bits")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
