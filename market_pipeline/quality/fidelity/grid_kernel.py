"""The kernel that walks through two books side by side in time; called by `pairing` only.

numba infers its types.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.jit import inlined_kernel, kernel
from market_pipeline.quality.intervals import BoolArray, FloatArray, IntArray

__all__ = ["BINS", "BLOCKS", "BLOCK_NS", "EXACT_BINS", "GRIDS_MS", "ZERO_BIN"]
__all__ += ["Error", "Held", "Sampled", "Span", "Sums", "new_held", "new_sums", "walk"]

_MS = 1_000_000
GRIDS_MS = (10, 100)
OFFSET_NS = _MS // 2
"""Instants lie half a millisecond behind whole ones: venues stamp in whole ms, and vendors' stamps
of one message may lie on either side of it."""
_STEPS_NS = (10 * _MS, 100 * _MS)
_SECOND_NS = 1_000 * _MS
BLOCK_NS = 300 * _SECOND_NS
BLOCKS = 600
EXACT_BINS = 64
_OCTAVES = 38
ZERO_BIN = EXACT_BINS + _OCTAVES * (EXACT_BINS // 2)
"""The bin of 0; positive values lie behind it and negative ones before it."""
BINS = 2 * ZERO_BIN
_LARGEST = float(1 << 43)


class Span(IntEnum):
    """Where in time the walk is, and how much of it was which; ns."""

    NOW = 0
    START = 1
    BOTH_VALID = 2
    GOLDEN_ONLY = 3
    OTHER_ONLY = 4
    FIRST_GOLDEN_ONLY = 5
    FIRST_BLOCK = 6
    LAST_INSTANT = 7
    BOTH_BEGUN = 8


class Error(IntEnum):
    """What is summed at the instants of a grid."""

    INSTANTS = 0
    PAIRED = 1
    ONE_SIDED = 2
    MID_SQUARES = 3
    MID_MOST = 4
    SPREAD_SQUARES = 5
    SPREAD_MOST = 6
    WITH_DEPTH = 7


class Sampled(IntEnum):
    """What distributions are taken of."""

    SPREAD = 0
    MID_RETURN = 1
    TOUCH_IMBALANCE = 2
    TOUCH_SIZE = 3
    DEPTH_20 = 4
    INTER_ARRIVAL = 5
    UPDATES = 6


class Held(NamedTuple):
    """The two books in force, golden first; what is false or 0 before a book's first message.

    Attributes:
        begun, valid: bool (2,).
        touch: int64 (2, 4).
        has_depth: bool (2,), whether `levels` are those after the last message.
        levels: int64 (2, 20, 4).
        confirmed: int64 (2, 2).
        time_ns: int64 (2,), of the last message.
        updates: int64 (2,), messages since the last second.
        mid2: int64 (2,), bid plus ask at the last second, where that is no longer ago.
    """

    begun: BoolArray
    valid: BoolArray
    touch: IntArray
    has_depth: BoolArray
    levels: IntArray
    confirmed: IntArray
    time_ns: IntArray
    updates: IntArray
    mid2: IntArray


class Sums(NamedTuple):
    """What the walk adds up.

    Attributes:
        span: int64, by `Span`.
        errors: float64 (grids, `Error`).
        most_ns: int64 (grids,), when the mid was farthest off.
        size_errors, sizes: float64 (grids, 20, 2): sums of |other - golden| and of golden sizes.
        instants: int64 (`BLOCKS`,): seconds of each block at which both books are valid.
        histograms: uint32 (2, `Sampled`, `BLOCKS`, `BINS`).
    """

    span: IntArray
    errors: FloatArray
    most_ns: IntArray
    size_errors: FloatArray
    sizes: FloatArray
    instants: IntArray
    histograms: NDArray[np.uint32]


def new_held() -> Held:
    """No book yet."""
    return Held(
        np.zeros(2, np.bool_),
        np.zeros(2, np.bool_),
        np.zeros((2, 4), np.int64),
        np.zeros(2, np.bool_),
        np.zeros((2, DEPTH_LEVELS, 4), np.int64),
        np.zeros((2, 2), np.int64),
        np.zeros(2, np.int64),
        np.zeros(2, np.int64),
        np.zeros(2, np.int64),
    )


def new_sums() -> Sums:
    """Nothing summed yet. The histograms take memory only where something is counted."""
    grids = len(GRIDS_MS)
    return Sums(
        np.zeros(len(Span), np.int64),
        np.zeros((grids, len(Error))),
        np.zeros(grids, np.int64),
        np.zeros((grids, DEPTH_LEVELS, 2)),
        np.zeros((grids, DEPTH_LEVELS, 2)),
        np.zeros(BLOCKS, np.int64),
        np.zeros((2, len(Sampled), BLOCKS, BINS), np.uint32),
    )


@inlined_kernel
def _bin_of(value):
    # Values up to 63 have a bin each, larger ones share 32 bins for each doubling.
    size = min(abs(value), _LARGEST)
    whole = np.int64(size)
    shift = 0
    while (whole >> shift) >= EXACT_BINS:
        shift += 1
    place = whole
    if shift > 0:
        half = EXACT_BINS // 2
        place = min(EXACT_BINS + (shift - 1) * half + (whole >> shift) - half, ZERO_BIN - 1)
    return ZERO_BIN - place if value < 0 else ZERO_BIN + place


@inlined_kernel
def _instants(start_ns, end_ns, step_ns):
    # How many instants of a grid lie in [start, end).
    return (end_ns - 1 - OFFSET_NS) // step_ns - (start_ns - 1 - OFFSET_NS) // step_ns


@kernel
def _add_errors(held, sums, grid, count, now_ns):
    errors, touch = sums.errors[grid], held.touch
    weight = float(count)
    errors[Error.INSTANTS] += weight
    golden_sided = touch[0, 1] > 0 and touch[0, 3] > 0
    other_sided = touch[1, 1] > 0 and touch[1, 3] > 0
    if golden_sided and other_sided:
        errors[Error.PAIRED] += weight
        mid = abs(float((touch[1, 0] + touch[1, 2]) - (touch[0, 0] + touch[0, 2])))
        spread = abs(float((touch[1, 2] - touch[1, 0]) - (touch[0, 2] - touch[0, 0])))
        errors[Error.MID_SQUARES] += weight * mid * mid
        errors[Error.SPREAD_SQUARES] += weight * spread * spread
        errors[Error.SPREAD_MOST] = max(errors[Error.SPREAD_MOST], spread)
        if mid > errors[Error.MID_MOST]:
            errors[Error.MID_MOST] = mid
            sums.most_ns[grid] = now_ns
    elif golden_sided or other_sided or (touch[0, 1] > 0) != (touch[1, 1] > 0):
        errors[Error.ONE_SIDED] += weight
    both_deep = held.has_depth[0] and held.has_depth[1]
    if both_deep:
        errors[Error.WITH_DEPTH] += weight
    for side in range(2):
        q, other_q = touch[0, 2 * side + 1], touch[1, 2 * side + 1]
        sums.size_errors[grid, 0, side] += weight * abs(float(other_q) - float(q))
        sums.sizes[grid, 0, side] += weight * float(q)
        if both_deep:
            known = min(held.confirmed[0, side], held.confirmed[1, side])
            for level in range(1, known):
                q = held.levels[0, level, 2 * side + 1]
                other_q = held.levels[1, level, 2 * side + 1]
                sums.size_errors[grid, level, side] += weight * abs(float(other_q) - float(q))
                sums.sizes[grid, level, side] += weight * float(q)


@kernel
def _sample(held, sums, instant_ns):
    # One second of both books, each into the histograms of its block.
    span = sums.span
    block = instant_ns // BLOCK_NS - span[Span.FIRST_BLOCK]
    follows = span[Span.LAST_INSTANT] == instant_ns - _SECOND_NS
    span[Span.LAST_INSTANT] = instant_ns
    if block < 0 or block >= BLOCKS:
        return
    sums.instants[block] += 1
    two_sided = True
    for book in range(2):
        two_sided = two_sided and held.touch[book, 1] > 0 and held.touch[book, 3] > 0
    both_deep = held.has_depth[0] and held.has_depth[1]
    for book in range(2):
        histograms = sums.histograms[book]
        bid, bid_size = held.touch[book, 0], held.touch[book, 1]
        ask, ask_size = held.touch[book, 2], held.touch[book, 3]
        if two_sided:
            histograms[Sampled.SPREAD, block, _bin_of(float(ask - bid))] += np.uint32(1)
            total = float(bid_size) + float(ask_size)
            share = np.rint(50.0 * (float(bid_size) - float(ask_size)) / total)
            histograms[Sampled.TOUCH_IMBALANCE, block, _bin_of(share)] += np.uint32(1)
            histograms[Sampled.TOUCH_SIZE, block, _bin_of(total)] += np.uint32(1)
            if follows and held.mid2[0] != 0 and held.mid2[1] != 0:
                moved = float(bid + ask - held.mid2[book])
                histograms[Sampled.MID_RETURN, block, _bin_of(moved)] += np.uint32(1)
        if both_deep:
            total = 0.0
            for level in range(held.levels.shape[1]):
                total += float(held.levels[book, level, 1]) + float(held.levels[book, level, 3])
            histograms[Sampled.DEPTH_20, block, _bin_of(total)] += np.uint32(1)
        if follows:
            updates = float(held.updates[book])
            histograms[Sampled.UPDATES, block, _bin_of(updates)] += np.uint32(1)
        held.updates[book] = 0
    for book in range(2):
        sided = held.touch[book, 0] + held.touch[book, 2]
        held.mid2[book] = sided if two_sided else 0


@inlined_kernel
def _pass_time(held, sums, until_ns):
    # The books in force hold from now to until_ns.
    span = sums.span
    now_ns = span[Span.NOW]
    if until_ns <= now_ns:
        return
    span[Span.NOW] = until_ns
    if not (held.begun[0] and held.begun[1]):
        return
    if span[Span.BOTH_BEGUN] == 0:
        span[Span.BOTH_BEGUN] = 1
        span[Span.START] = now_ns
        span[Span.FIRST_BLOCK] = now_ns // BLOCK_NS
    if held.valid[0] and held.valid[1]:
        span[Span.BOTH_VALID] += until_ns - now_ns
        for grid in range(len(_STEPS_NS)):
            count = _instants(now_ns, until_ns, _STEPS_NS[grid])
            if count > 0:
                _add_errors(held, sums, grid, count, now_ns)
        count = _instants(now_ns, until_ns, _SECOND_NS)
        if count > 0:
            last = (until_ns - 1 - OFFSET_NS) // _SECOND_NS
            for second in range(last - count + 1, last + 1):
                _sample(held, sums, second * _SECOND_NS + OFFSET_NS)
    elif held.valid[0]:
        if span[Span.GOLDEN_ONLY] == 0:
            span[Span.FIRST_GOLDEN_ONLY] = now_ns
        span[Span.GOLDEN_ONLY] += until_ns - now_ns
    elif held.valid[1]:
        span[Span.OTHER_ONLY] += until_ns - now_ns


@inlined_kernel
def _take(held, sums, book, rows, row, time_ns, holds, is_counted):
    if is_counted:
        block = time_ns // BLOCK_NS - sums.span[Span.FIRST_BLOCK]
        if sums.span[Span.BOTH_BEGUN] and 0 <= block < BLOCKS:
            waited_us = float((time_ns - held.time_ns[book]) // 1_000)
            histogram = sums.histograms[book, Sampled.INTER_ARRIVAL, block]
            histogram[_bin_of(waited_us)] += np.uint32(1)
    held.begun[book] = True
    held.valid[book] = holds
    held.time_ns[book] = time_ns
    held.updates[book] += 1
    for part in range(4):
        held.touch[book, part] = rows.touch[row, part]
    depth_row = rows.depth_row[row]
    held.has_depth[book] = depth_row >= 0
    if depth_row >= 0:
        for side in range(2):
            held.confirmed[book, side] = rows.confirmed[depth_row, side]
        for level in range(rows.levels.shape[1]):
            for part in range(4):
                held.levels[book, level, part] = rows.levels[depth_row, level, part]


@kernel
def walk(golden, golden_ns, golden_holds, other, other_ns, other_holds, cursor, held, sums):
    """Walks through both books in time, until one has no further message.

    Args:
        golden, other: `BookRows`.
        golden_ns, other_ns: Their times, which never fall; 0 is none.
        golden_holds, other_holds: Whether the book is valid from a message to the next.
        cursor: The next row of each, changed.
        held, sums: Changed.
    """
    i, j = cursor[0], cursor[1]
    while i < golden_ns.size and j < other_ns.size:
        if golden_ns[i] == 0:
            i += 1
        elif other_ns[j] == 0:
            j += 1
        else:
            # At the same time both are taken, so that equal books are sampled equally to the end.
            own, its = golden_ns[i], other_ns[j]
            _pass_time(held, sums, min(own, its))
            # Of both books before either message: the first may end the book of the second.
            is_counted = held.begun[0] and held.begun[1] and held.valid[0] and held.valid[1]
            if own <= its:
                _take(held, sums, 0, golden, i, own, golden_holds[i], is_counted)
                i += 1
            if its <= own:
                _take(held, sums, 1, other, j, its, other_holds[j], is_counted)
                j += 1
    cursor[0], cursor[1] = i, j
