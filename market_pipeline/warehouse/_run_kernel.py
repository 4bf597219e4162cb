"""Encodes a column of runs as Parquet's run-length encoded levels and dictionary indices."""

from __future__ import annotations

from typing import Final

import numpy as np

from market_pipeline.jit import inlined_kernel, kernel

__all__ = ["MOST_RUN_BYTES", "encode_runs"]

MOST_RUN_BYTES: Final = 16
"""No run of less than 2^63 rows takes more, with its index of up to 4 bytes."""


@inlined_kernel
def _put_run(out, at, length, value, width_bytes):
    """Writes a run; returns where the next one begins."""
    head = length << 1
    while head > 0x7F:
        out[at] = head & 0x7F | 0x80
        head >>= 7
        at += 1
    out[at] = head
    at += 1
    for _ in range(width_bytes):
        out[at] = value & 0xFF
        value >>= 8
        at += 1
    return at


@inlined_kernel
def _number_of(value, dictionary, slots, distinct):
    """Where a value stands in the dictionary, where it is put if it is new."""
    mask = slots.size - 1
    mixed = value ^ (value >> 29)
    slot = (mixed * 0x1E3779B97F4A7C15 >> 31) & mask
    while slots[slot] >= 0 and dictionary[slots[slot]] != value:
        slot = (slot + 1) & mask
    if slots[slot] < 0:
        slots[slot] = distinct
        dictionary[distinct] = value
    return slots[slot]


@kernel
def encode_runs(values, is_valid, rows, numbers, dictionary, slots, levels, indices, found):
    """Encodes a column; writes into `found` the bytes of both, distinct values, and values."""
    slots[:] = -1
    distinct, present = 0, 0
    level_bytes, level, level_rows = 0, np.int64(is_valid[0]), 0
    for run in range(values.size):
        if is_valid[run] != level:
            level_bytes = _put_run(levels, level_bytes, level_rows, level, 1)
            level, level_rows = np.int64(is_valid[run]), 0
        level_rows += rows[run]
        if is_valid[run]:
            number = _number_of(values[run], dictionary, slots, distinct)
            numbers[run] = number
            distinct = max(distinct, number + 1)
            present += rows[run]
    level_bytes = _put_run(levels, level_bytes, level_rows, level, 1)
    bits = 1
    while (distinct - 1) >> bits > 0:
        bits += 1
    width_bytes = (bits + 7) // 8
    indices[0] = bits
    index_bytes, number, length = 1, -1, 0
    for run in range(values.size):
        if is_valid[run]:
            if length and numbers[run] != number:
                index_bytes = _put_run(indices, index_bytes, length, number, width_bytes)
                length = 0
            number = numbers[run]
            length += rows[run]
    if length:
        index_bytes = _put_run(indices, index_bytes, length, number, width_bytes)
    found[0], found[1], found[2], found[3] = level_bytes, index_bytes, distinct, present
