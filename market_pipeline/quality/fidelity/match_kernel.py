"""The kernels that pair messages of two books by their numbers; called by `matching` only.

numba infers their types.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np

from market_pipeline.books.state import DEPTH_LEVELS
from market_pipeline.jit import inlined_kernel, kernel
from market_pipeline.quality.intervals import IntArray

__all__ = ["SHIFT_SAMPLES", "Count", "First", "Run", "Tallies", "match", "new_tallies", "number"]

SHIFT_SAMPLES = 1 << 16
"""So many differences of the clocks are kept at most; when full, every second one is dropped."""

_UNUSABLE = -1


class Count(IntEnum):
    """What is counted of messages."""

    MATCHED = 0
    COMPARED = 1
    GOLDEN_INVALID = 2
    OTHER_INVALID = 3
    ONLY_GOLDEN = 4
    ONLY_OTHER = 5
    SHIFTS = 6
    STRIDE = 7


class First(IntEnum):
    """What is kept of the first divergence of a level; FOUND is 0 without one."""

    FOUND = 0
    NUMBER = 1
    RECEIPT_NS = 2
    GOLDEN_PRICE = 3
    GOLDEN_SIZE = 4
    OTHER_PRICE = 5
    OTHER_SIZE = 6


class Run(IntEnum):
    """The runs of divergence of a level: how many, the one under way, the longest one."""

    COUNT = 0
    NOW = 1
    NOW_NUMBER = 2
    NOW_START_NS = 3
    LONGEST = 4
    LONGEST_NUMBER = 5
    LONGEST_START_NS = 6
    LONGEST_END_NS = 7


class Tallies(NamedTuple):
    """What the kernel counts; levels and sides are (20, 2), bids first.

    Attributes:
        counts: int64, by `Count`.
        compared, price_differs, differs: int64 (20, 2): messages whose level is in both books known
            to be that one; those of another price; those of another price or size.
        unconfirmed, unconfirmed_differs: int64 (20, 2): the same of the others.
        first: int64 (20, 2, `First`).
        runs: int64 (20, 2, `Run`).
        only: int64 (2, 2): number and receipt time of the first message that only the golden book
            has, and of the first that only the other one has.
        shifts: int64 (2, SHIFT_SAMPLES): the other's receipt time minus the golden's, and the same
            of exchange times.
    """

    counts: IntArray
    compared: IntArray
    price_differs: IntArray
    differs: IntArray
    unconfirmed: IntArray
    unconfirmed_differs: IntArray
    first: IntArray
    runs: IntArray
    only: IntArray
    shifts: IntArray


def new_tallies() -> Tallies:
    """Nothing counted yet."""
    levels = (DEPTH_LEVELS, 2)
    shapes = [(len(Count),), *[levels] * 5, (*levels, len(First)), (*levels, len(Run))]
    shapes += [(2, 2), (2, SHIFT_SAMPLES)]
    tallies = Tallies._make(np.zeros(shape, np.int64) for shape in shapes)
    tallies.counts[Count.STRIDE] = 1
    return tallies


@kernel
def number(sequence_number, unusable, state, epoch):
    """Writes into `epoch` how often the numbers had begun anew; -1 of a message without a place.

    One number that falls behind is a stray, a second one after it is a new beginning.

    Args:
        sequence_number, unusable: Of the messages.
        state: int64 (4,): the last number, whether there is one, how often they began anew, and the
            number that fell behind just before, or -1; changed.
        epoch: int64, written.
    """
    last, begun, now, fallen = state[0], state[1], state[2], state[3]
    for row in range(sequence_number.size):
        own = sequence_number[row]
        epoch[row] = _UNUSABLE
        if unusable[row]:
            continue
        if begun == 0 or own > last:
            begun, last, fallen = 1, own, -1
            epoch[row] = now
        elif own < last:
            if fallen >= 0 and own > fallen:
                now += 1
                last, fallen = own, -1
                epoch[row] = now
            else:
                fallen = own
    state[0], state[1], state[2], state[3] = last, begun, now, fallen


@inlined_kernel
def _keep_shift(tallies, receipt, origin):
    counts, shifts = tallies.counts, tallies.shifts
    if (counts[Count.MATCHED] - 1) % counts[Count.STRIDE]:
        return
    if counts[Count.SHIFTS] == SHIFT_SAMPLES:
        for place in range(SHIFT_SAMPLES // 2):
            shifts[0, place] = shifts[0, 2 * place]
            shifts[1, place] = shifts[1, 2 * place]
        counts[Count.SHIFTS] = SHIFT_SAMPLES // 2
        counts[Count.STRIDE] *= 2
        if (counts[Count.MATCHED] - 1) % counts[Count.STRIDE]:
            return
    shifts[0, counts[Count.SHIFTS]] = receipt
    shifts[1, counts[Count.SHIFTS]] = origin
    counts[Count.SHIFTS] += 1


@inlined_kernel
def _end_run(run, ns):
    # The level is the same again: until now it differed.
    if run[Run.NOW] > 0 and run[Run.NOW_NUMBER] == run[Run.LONGEST_NUMBER]:
        run[Run.LONGEST_END_NS] = ns
    run[Run.NOW] = 0


@inlined_kernel
def _compare(tallies, level, side, confirmed, own, ns, p, q, other_p, other_q):
    if q == 0 and other_q == 0:
        return
    # The price of a level that is not there says nothing.
    price_differs = (q == 0) != (other_q == 0) or p != other_p
    differs = price_differs or q != other_q
    if not confirmed:
        tallies.unconfirmed[level, side] += 1
        tallies.unconfirmed_differs[level, side] += differs
        return
    tallies.compared[level, side] += 1
    tallies.price_differs[level, side] += price_differs
    tallies.differs[level, side] += differs
    run = tallies.runs[level, side]
    if not differs:
        _end_run(run, ns)
        return
    if run[Run.NOW] == 0:
        run[Run.COUNT] += 1
        run[Run.NOW_NUMBER] = own
        run[Run.NOW_START_NS] = ns
    run[Run.NOW] += 1
    if run[Run.NOW] > run[Run.LONGEST]:
        run[Run.LONGEST] = run[Run.NOW]
        run[Run.LONGEST_NUMBER] = run[Run.NOW_NUMBER]
        run[Run.LONGEST_START_NS] = run[Run.NOW_START_NS]
        run[Run.LONGEST_END_NS] = ns
    first = tallies.first[level, side]
    if first[First.FOUND] == 0:
        first[First.FOUND] = 1
        first[First.NUMBER] = own
        first[First.RECEIPT_NS] = ns
        first[First.GOLDEN_PRICE] = p
        first[First.GOLDEN_SIZE] = q
        first[First.OTHER_PRICE] = other_p
        first[First.OTHER_SIZE] = other_q


@kernel
def match(golden, golden_epoch, valid, other, other_epoch, other_valid, cursor, passed, tallies):
    """Pairs messages by number, until one of the books has no further message.

    Args:
        golden, other: `BookRows`.
        golden_epoch, other_epoch: As `number` writes it.
        valid, other_valid: Whether the book after a message is valid.
        cursor: The next row of each, changed.
        passed: Whether a message of each was met: before its first one a book misses none. Changed.
        tallies: Changed.
    """
    i, j = cursor[0], cursor[1]
    counts = tallies.counts
    while i < golden_epoch.size and j < other_epoch.size:
        if golden_epoch[i] == _UNUSABLE:
            i += 1
            continue
        if other_epoch[j] == _UNUSABLE:
            j += 1
            continue
        own, its = golden.sequence_number[i], other.sequence_number[j]
        if golden_epoch[i] < other_epoch[j] or (golden_epoch[i] == other_epoch[j] and own < its):
            if passed[1]:
                if counts[Count.ONLY_GOLDEN] == 0:
                    tallies.only[0, 0] = own
                    tallies.only[0, 1] = golden.ts_receipt_ns[i]
                counts[Count.ONLY_GOLDEN] += 1
            passed[0] = True
            i += 1
            continue
        if golden_epoch[i] > other_epoch[j] or own > its:
            if passed[0]:
                if counts[Count.ONLY_OTHER] == 0:
                    tallies.only[1, 0] = its
                    tallies.only[1, 1] = other.ts_receipt_ns[j]
                counts[Count.ONLY_OTHER] += 1
            passed[1] = True
            j += 1
            continue
        passed[0] = passed[1] = True
        counts[Count.MATCHED] += 1
        _keep_shift(
            tallies,
            other.ts_receipt_ns[j] - golden.ts_receipt_ns[i],
            other.ts_origin_ns[j] - golden.ts_origin_ns[i],
        )
        counts[Count.GOLDEN_INVALID] += not valid[i]
        counts[Count.OTHER_INVALID] += valid[i] and not other_valid[j]
        if valid[i] and other_valid[j]:
            counts[Count.COMPARED] += 1
            ns = golden.ts_receipt_ns[i]
            for side in range(2):
                _compare(
                    tallies,
                    0,
                    side,
                    True,
                    own,
                    ns,
                    golden.touch[i, 2 * side],
                    golden.touch[i, 2 * side + 1],
                    other.touch[j, 2 * side],
                    other.touch[j, 2 * side + 1],
                )
            row, its_row = golden.depth_row[i], other.depth_row[j]
            if row >= 0 and its_row >= 0:
                for side in range(2):
                    known = min(golden.confirmed[row, side], other.confirmed[its_row, side])
                    for level in range(1, golden.levels.shape[1]):
                        _compare(
                            tallies,
                            level,
                            side,
                            level < known,
                            own,
                            ns,
                            golden.levels[row, level, 2 * side],
                            golden.levels[row, level, 2 * side + 1],
                            other.levels[its_row, level, 2 * side],
                            other.levels[its_row, level, 2 * side + 1],
                        )
        i += 1
        j += 1
    cursor[0], cursor[1] = i, j
