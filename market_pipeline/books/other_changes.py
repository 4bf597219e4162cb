"""What else than its rows changed the book up to a message: snapshots, policies, late messages.

The rebuild kernel is stopped after each message up to which there was something else. Its registers
then tell between which levels the book may differ from one that has only set the rows.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.entry_points import call_at
from market_pipeline.books.levels import ASK, BID, far_is_full, key_of, set_level
from market_pipeline.books.live_levels import remove_between
from market_pipeline.books.scale import NOT_REPRESENTABLE
from market_pipeline.books.state import Status
from market_pipeline.books.walk import best_level, level_at_or_after
from market_pipeline.jit import kernel

__all__ = [
    "COUNT",
    "NO_ROOM",
    "advance_noting",
    "changed_range",
    "is_late",
    "know",
    "make_other_changes",
    "new_known",
    "new_noted",
    "settled",
]

_MESSAGE = int(Status.MESSAGE)
_OUTPUT_FULL = int(Status.OUTPUT_FULL)
NO_ROOM = -1
"""There is no room for all other changes before a message: give more, and ask again."""

_FROM_BEST = np.int64(-(2**62))
_TO_LAST = np.int64(2**62)
_SEEDED, _RESYNCS, _LEARNED, _UNCROSSED, _LATE, _BID_HORIZON, _ASK_HORIZON = range(7)

# Entries of what is noted: how many changes are written, and whether those before the message that
# was closed last are still to be.
COUNT, _IS_DUE = range(2)


def new_known(registers: NDArray[np.int64]) -> NDArray[np.int64]:
    """What is known of the registers of a rebuild: int64 (7,), updated by `know`."""
    known = np.zeros(7, np.int64)
    know(registers, known)
    return known


def new_noted() -> NDArray[np.int64]:
    """What `advance_noting` has noted at the beginning: int64 (2,)."""
    return np.zeros(2, np.int64)


@kernel
def know(registers, known):
    """Keeps what tells, after a later message, whether something else changed the book."""
    known[_SEEDED] = registers[reg.SEEDED]
    known[_RESYNCS] = registers[reg.RESYNCS]
    known[_LEARNED] = registers[reg.LEARNED]
    known[_UNCROSSED] = registers[reg.UNCROSSED]
    known[_LATE] = registers[reg.LATE_MESSAGES]
    known[_BID_HORIZON] = registers[reg.BID_HORIZON]
    known[_ASK_HORIZON] = registers[reg.ASK_HORIZON]


@kernel
def settled(known):
    """The `other_changes` that are known."""
    return known[_SEEDED] + known[_RESYNCS] + known[_LEARNED] + known[_UNCROSSED] + known[_LATE]


@kernel
def is_late(registers, known):
    """Whether a message came late: it sets those of its levels that nothing has overtaken."""
    return registers[reg.LATE_MESSAGES] != known[_LATE]


@kernel
def changed_range(registers, known, levels, side):
    """The first and the last key between which a side may differ; none if the last is less.

    A late message may have set its own levels too.
    """
    resyncs = registers[reg.RESYNCS] - known[_RESYNCS]
    learned = registers[reg.LEARNED] != known[_LEARNED]
    horizon = key_of(side, registers[reg.BID_HORIZON if side == BID else reg.ASK_HORIZON])
    before = key_of(side, known[_BID_HORIZON if side == BID else _ASK_HORIZON])
    first, last = _TO_LAST, _FROM_BEST
    if registers[reg.SEEDED] != known[_SEEDED] or resyncs > 1 or (resyncs > 0 and learned):
        first, last = _FROM_BEST, _TO_LAST
    elif resyncs > 0:
        first, last = _FROM_BEST, horizon
    elif learned:
        first, last = before, horizon
    if registers[reg.UNCROSSED] != known[_UNCROSSED]:
        # Those removed lie before what is the best level now.
        best, size = best_level(levels, side)
        first, last = _FROM_BEST, max(last, best) if size > 0 else _TO_LAST
    return first, last


@kernel
def advance_noting(
    address, registers, levels, history, feed, cursor, options, outputs,
    known, others, noted, ends, until,
):  # fmt: skip
    """As `kernel.advance`, and notes what else than rows changed the book up to each message.

    It stops with `MESSAGE` after the message that makes `until` of them, with `OUTPUT_FULL` where
    rows of messages, or half of the other changes, must be taken away, and with `NO_ROOM`.

    Args:
        address: That of `advance`.
        registers, levels, history, feed, cursor: As for `advance`.
        options: With `is_logged`.
        outputs: As for `advance`; all but the rows of messages are passed over.
        known: int64, that of `new_known`, updated.
        others: `OtherChanges`, filled from `noted` on; their message counts in those rows.
        noted: int64, that of `new_noted`, updated.
        ends: (starts, ends), int64 each: of the rows of the messages not yet taken away.
        until: After how many messages to stop.
    """
    while True:
        if noted[_IS_DUE] != 0:
            if not _note(registers, levels, feed.deltas, known, others, noted, ends, cursor):
                return NO_ROOM
            noted[_IS_DUE] = 0
            if registers[reg.MESSAGES] >= until:
                return _MESSAGE
            if noted[COUNT] > others.message.size >> 1:
                return _OUTPUT_FULL
        cursor[at.DEPTH_ROW :] = 0
        cursor[at.UNTIL], cursor[at.SETTLED] = until, settled(known)
        status = call_at(address, registers, levels, history, feed, cursor, options, outputs)
        if status == _MESSAGE:
            noted[_IS_DUE] = 1
        elif status != _OUTPUT_FULL or cursor[at.BBO_ROW] == outputs.bbo.flags.size:
            return status


@kernel
def _note(registers, levels, deltas, known, others, noted, ends, cursor):
    """Notes what else changed the book up to the message closed last; False for want of room."""
    message, written = cursor[at.BBO_ROW] - 1, noted[COUNT]
    late = is_late(registers, known)
    has_room = True
    for side in (BID, ASK):
        first, last = changed_range(registers, known, levels, side)
        if late and message == 0:
            # Rows of it may lie in an earlier batch.
            first, last = _FROM_BEST, _TO_LAST
        has_room &= _note_range(levels, side, first, last, message, others, noted)
    if late and message > 0:
        for row in range(ends[1][message - 1], ends[0][message]):
            if deltas.size_lots[row] != NOT_REPRESENTABLE:
                side = BID if deltas.is_bid[row] else ASK
                key = key_of(side, deltas.price_ticks[row])
                has_room &= _note_range(levels, side, key, key, message, others, noted)
    if not has_room:
        noted[COUNT] = written
        return False
    know(registers, known)
    return True


@kernel
def _note_range(levels, side, first, last, message, others, noted):
    """Notes the levels of a side between two keys; False for want of room."""
    if first > last:
        return True
    room = others.message.size
    n = noted[COUNT]
    if n == room:
        return False
    others.message[n], others.is_cleared[n], others.is_bid[n] = message, True, side == BID
    others.price_ticks[n], others.size_lots[n] = key_of(side, first), key_of(side, last)
    n += 1
    key, size = level_at_or_after(levels, side, first)
    while size > 0 and key <= last:
        if n == room:
            return False
        others.message[n], others.is_cleared[n], others.is_bid[n] = message, False, side == BID
        others.price_ticks[n], others.size_lots[n] = key_of(side, key), size
        n += 1
        key, size = level_at_or_after(levels, side, key + 1)
    noted[COUNT] = n
    return True


@kernel
def make_other_changes(levels, others, n, message):
    """Makes the changes from one on that come after the rows of a message.

    Returns:
        The first of a later message, or one there is no room for, which is of this one.
    """
    while n < others.message.size and others.message[n] <= message:
        side = BID if others.is_bid[n] else ASK
        key, size = key_of(side, others.price_ticks[n]), others.size_lots[n]
        if others.is_cleared[n]:
            remove_between(levels, side, key, key_of(side, size))
        elif far_is_full(levels.far_keys, levels.far_sizes, levels.meta, 1):
            return n
        else:
            set_level(levels, side, key, size)
        n += 1
    return n
