from __future__ import annotations

import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.sources import page_headers
from market_pipeline.sources.page_headers import PageError, Pages, read_pages

MOST = 2**60
BLOCKS = (24, 200)
DATA = {5: 2, 8: 4}  # by kind of data page: which field of its struct is the encoding


# --- The naive twin: the whole header as a dictionary, then what is wanted of it ------------------


class Cut(Exception):
    """The bytes end before the header does."""


def byte_at(data: bytes, at: int) -> int:
    if at >= len(data):
        raise Cut
    return data[at]


def number_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = byte_at(data, at)
        at += 1
        value |= (byte & 0x7F) << shift
        if value >= 2**64:
            raise PageError("a number of more than 64 bits")
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise PageError("a number of more than 64 bits")


def signed(bits: int) -> int:
    return (bits >> 1) ^ -(bits & 1)


def struct_at(data: bytes, at: int, depth: int = 0) -> tuple[dict, int]:
    """A struct's fields by number; what is no integer and no struct is None."""
    fields: dict = {}
    key = 0
    while head := byte_at(data, at):
        at += 1
        kind = head & 15
        if head >> 4:
            key += head >> 4
        else:
            bits, at = number_at(data, at)
            key += signed(bits)
        fields.pop(key, None)
        value = None
        if 4 <= kind <= 6:
            bits, at = number_at(data, at)
            value = signed(bits)
        elif kind == 8:
            length, at = number_at(data, at)
            if length > len(data) - at:
                raise Cut
            at += length
        elif kind == 12 and depth < 8:
            value, at = struct_at(data, at, depth + 1)
        elif kind in (3, 7):
            at += 1 if kind == 3 else 8
        elif kind not in (1, 2):
            raise PageError(f"a page header with a field of Thrift's type {kind}")
        fields[key] = value
    return fields, at + 1


def natural(fields: dict, key: int) -> int:
    value = fields.get(key)
    if not isinstance(value, int) or value < 0:
        raise PageError(f"field {key} of a page header is not there or below 0")
    return value


def header_at(raw: bytes, at: int) -> tuple[dict, int]:
    for size in BLOCKS:
        try:
            return struct_at(raw[at : at + size], 0)
        except Cut:
            continue
    raise PageError("a page header that does not end")


def plain_pages(raw: bytes, start: int, end: int) -> Pages:
    everything = dictionary = largest = values = deltas = 0
    at = start
    while at < end:
        header, length = header_at(raw, at)
        unpacked, stored = natural(header, 2), natural(header, 3)
        everything = min(everything + unpacked, MOST)
        kind = next((each for each in DATA if each in header), None)
        if kind is None:
            dictionary = max(dictionary, unpacked)
        elif not isinstance(header[kind], dict):
            raise PageError("a page header without its parts")
        else:
            values = min(values + natural(header[kind], 1), MOST)
            largest = max(largest, unpacked)
            deltas += header[kind].get(DATA[kind]) == 7
        at += length + stored
    return Pages(everything, dictionary, largest, values, deltas)


# --- Headers as a writer would write them, and worse ----------------------------------------------


def varint(bits: int) -> bytes:
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    return bytes([*out, bits])


def written(fields: list[tuple[int, object]]) -> bytes:
    """A struct of fields in order: integers, bytes, booleans, doubles and structs."""
    out, last = bytearray(), 0
    for key, value in fields:
        kind = {int: 5, bytes: 8, bool: 1, float: 7, list: 12}[type(value)]
        step = key - last
        zigzag = (step << 1) ^ (step >> 63)
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + varint(zigzag)
        last = key
        if kind == 5:
            out += varint(((value << 1) ^ (value >> 63)) & (2**64 - 1))
        elif kind == 8:
            out += varint(len(value)) + value
        elif kind == 7:
            out += bytes(8)
        elif kind == 12:
            out += written(value)
    return bytes(out) + b"\0"


sizes = st.integers(0, 300) | st.integers(-2, 2**63 - 1)
leaves = sizes | st.binary(max_size=12) | st.just(True) | st.just(1.5)
statistics = st.lists(st.tuples(st.integers(1, 8), leaves), max_size=4)
parts = st.lists(
    st.tuples(st.sampled_from([1, 2, 4, 5, 300]), leaves | statistics), max_size=5
) | st.tuples(st.tuples(st.just(1), st.integers(0, 90))).map(list)
page_fields = st.lists(
    st.tuples(st.sampled_from([1, 2, 3, 4, 5, 7, 8, -3]), leaves | parts), max_size=6
)
usual_fields = st.tuples(
    st.just((1, 0)),
    st.tuples(st.just(2), st.integers(0, 900)),
    st.tuples(st.just(3), st.integers(0, 90)),
    st.tuples(st.sampled_from([5, 7, 8]), parts),
).map(list)
pages = st.tuples(usual_fields | page_fields, st.binary(max_size=60))


def read_of(raw: bytes, start: int, end: int) -> Pages:
    """What is read of a file of these bytes."""
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(raw)
        return read_pages(file, start, end)


def outcome(read, *arguments) -> object:
    try:
        return read(*arguments)
    except PageError as error:
        return str(error)


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(pages, max_size=6), st.binary(max_size=3), st.integers(0, 40), st.data())
def test_as_the_naive_twin(headers, damage, short, data):
    """Whatever the headers are, the sums or the error are those of the twin, in blocks or not."""
    raw = bytearray(b"PAR1" + b"".join(written(fields) + body for fields, body in headers))
    at = data.draw(st.integers(4, len(raw)))
    raw[at : at + len(damage)] = damage
    end = max(4, len(raw) - short)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page_headers, "_BLOCK_BYTES", BLOCKS)
        found = outcome(read_of, bytes(raw), 4, end)
    assert outcome(plain_pages, bytes(raw), 4, end) == found


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 40)), max_size=9))
def test_pages_as_they_are_written(told):
    """A dictionary and pages of rows, with bodies of any length between the headers."""
    raw = bytearray()
    for values, length in told:
        fields = [(1, 0), (2, 3 * length), (3, length), (5, [(1, values), (2, 7), (3, 3)])]
        raw += written(fields) + bytes(length)
    raw += written([(1, 2), (2, 77), (3, 5), (7, [(1, 9)])]) + bytes(5)
    lengths = [length for _, length in told]
    expected = Pages(
        all_bytes=3 * sum(lengths) + 77,
        largest_dictionary_bytes=77,
        largest_data_bytes=3 * max(lengths, default=0),
        values=sum(values for values, _ in told),
        delta_byte_arrays=len(told),
    )
    assert expected == read_of(bytes(raw), 0, len(raw))


def test_a_header_longer_than_a_block():
    """It is read with more of the file at hand; one that never ends is refused."""
    statistics = [(5, bytes(5_000))]
    raw = written([(2, 8), (3, 0), (5, [(1, 4), (5, statistics)])])
    assert Pages(8, 0, 8, 4, 0) == read_of(raw, 0, len(raw))
    with pytest.raises(PageError, match="does not end"):
        read_of(raw[:-1], 0, len(raw))
