"""Snapshots that are misplaced: they agree with the book of a neighbouring message.

That is one up to `EARLIER` before or `LATER` after their own; such a snapshot never replaces
anything. A second one by as many messages, with none between them that agrees at its own message
alone, shows that the snapshots are misplaced and not the book wrong; a single one may as well show
a lost message, and snapshots that agree with a later message than that of their very number may as
well show that the messages are late.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import registers as reg
from market_pipeline.books.comparison import count_differing, depth_of
from market_pipeline.books.history import rows_since, step_back, step_forward
from market_pipeline.books.levels import far_is_full
from market_pipeline.books.log import give_evidence, write_repair
from market_pipeline.books.replacement import replace
from market_pipeline.books.state import Proof, Repair, Resync
from market_pipeline.jit import kernel

__all__ = [
    "TESTS",
    "WAITS",
    "agreed",
    "best_fit",
    "count_misplaced",
    "fail",
    "keep_pending",
    "settle_pending",
]

EARLIER = 16
LATER = 2
# What a snapshot is kept for: it waits for a message to agree with, or tests a misplacement.
WAITS, TESTS = 1, 2

_NEVER = int(Resync.NEVER)
_RESYNC = int(Repair.RESYNC)
_MATCH = int(Proof.MATCH)
_ADOPTED = int(Proof.ADOPTED)
_EXPLAINED = int(Proof.EXPLAINED)


@kernel
def agreed(registers, levels, history, snapshots, k, bids, asks, back):
    """Whether the book so many messages ago agreed with a snapshot; no where that is not known."""
    end = registers[reg.HISTORY]
    start = rows_since(registers, history, registers[reg.MESSAGES] - back)
    if start < 0:
        return False
    step_back(levels, history, start, end)
    differing = count_differing(
        registers, levels, snapshots.bid_price_ticks, snapshots.bid_size_lots,
        snapshots.ask_price_ticks, snapshots.ask_size_lots, k, bids, asks,
    )  # fmt: skip
    step_forward(levels, history, start, end)
    return differing == 0


@kernel
def best_fit(registers, levels, history, snapshots, k, bids, asks):
    """Where among the last messages a snapshot that disagrees differs least from the book.

    Returns:
        How many messages ago that was, the latest of equals; and whether all agrees there.
    """
    message = registers[reg.MESSAGES]
    end = at = registers[reg.HISTORY]
    best, least = np.int64(0), np.int64(2**62)
    for back in range(EARLIER + 1):
        start = rows_since(registers, history, message - back)
        if start < 0:
            break
        step_back(levels, history, start, at)
        at = start
        differing = count_differing(
            registers, levels, snapshots.bid_price_ticks, snapshots.bid_size_lots,
            snapshots.ask_price_ticks, snapshots.ask_size_lots, k, bids, asks,
        )  # fmt: skip
        if differing < least:
            best, least = np.int64(back), differing
        if differing == 0:
            break
    step_forward(levels, history, at, end)
    return best, least == 0


@kernel
def keep_pending(registers, history, snapshots, k, bids, asks, what_for, back, in_step):
    """Keeps a snapshot until later messages, in place of the one kept before."""
    registers[reg.PENDING] = what_for
    registers[reg.PENDING_IN_STEP] = in_step
    registers[reg.PENDING_BACK] = back
    registers[reg.PENDING_MESSAGE] = registers[reg.MESSAGES]
    registers[reg.PENDING_RECEIPT] = snapshots.ts_receipt_ns[k]
    registers[reg.PENDING_SEQUENCE] = snapshots.sequence_number[k]
    for n in range(history.bid_price_ticks.shape[1]):
        has_bid, has_ask = n < bids, n < asks
        history.bid_price_ticks[0, n] = snapshots.bid_price_ticks[k, n] if has_bid else 0
        history.bid_size_lots[0, n] = snapshots.bid_size_lots[k, n] if has_bid else 0
        history.ask_price_ticks[0, n] = snapshots.ask_price_ticks[k, n] if has_ask else 0
        history.ask_size_lots[0, n] = snapshots.ask_size_lots[k, n] if has_ask else 0


@kernel
def settle_pending(registers, levels, history, options, outputs, cursor):
    """Compares the snapshot that waits with the book after one more message.

    If it agrees it is misplaced; after `LATER` messages it replaces the book by policy, but for the
    levels that were set meanwhile, and not where messages or values were lost since.

    Returns:
        False for want of room in the far arrays.
    """
    repairs, evidence = outputs.repairs, outputs.evidence
    depth = history.bid_price_ticks.shape[1]
    if far_is_full(levels.far_keys, levels.far_sizes, levels.meta, depth):
        return False
    message, waits_from = registers[reg.MESSAGES], registers[reg.PENDING_MESSAGE]
    passed = message - waits_from
    if passed == 0:
        return True
    receipt, sequence = registers[reg.PENDING_RECEIPT], registers[reg.PENDING_SEQUENCE]
    bid_prices, bid_sizes = history.bid_price_ticks, history.bid_size_lots
    ask_prices, ask_sizes = history.ask_price_ticks, history.ask_size_lots
    bids, asks = depth_of(bid_sizes, 0), depth_of(ask_sizes, 0)
    differing = count_differing(
        registers, levels, bid_prices, bid_sizes, ask_prices, ask_sizes, 0, bids, asks
    )
    if registers[reg.PENDING] == TESTS:
        if passed >= -registers[reg.MISPLACED_LAG]:
            registers[reg.PENDING] = 0
            if differing > 0:
                registers[reg.MISPLACED_RUN] = 0
        return True
    if differing == 0:
        registers[reg.PENDING] = 0
        registers[reg.SOFT_DOUBTS] -= 1
        # A number inside a message may be that of its end; what shows more than the message of its
        # own number does may as well mean that the messages tell too little.
        goes_on = registers[reg.PENDING_IN_STEP] == 0 and registers[reg.MISPLACED_LAG] <= -passed
        count_misplaced(
            registers, evidence, cursor, message, receipt, sequence, bids + asks, -passed, goes_on
        )
        return True
    if passed < LATER:
        return True
    registers[reg.PENDING] = 0
    registers[reg.SOFT_DOUBTS] -= 1
    fail(registers)
    start = rows_since(registers, history, waits_from - registers[reg.PENDING_BACK])
    # What was lost or refused meanwhile is in no snapshot of before.
    has_lost = registers[reg.GAP] != 0 or registers[reg.REFUSED_SINCE] != 0
    if options.resync == _NEVER or start < 0 or has_lost:
        return True
    registers[reg.RESYNCS] += 1
    registers[reg.REPLACED_SEQUENCE] = sequence
    book_sequence = registers[reg.BOOK_SEQUENCE]
    replace(
        registers, levels, history, bid_prices, bid_sizes, ask_prices, ask_sizes, 0, bids, asks,
        max(sequence, book_sequence), start, sequence,
    )  # fmt: skip
    give_evidence(
        registers, evidence, cursor, _ADOPTED, message, receipt, sequence, bids + asks, differing
    )
    write_repair(
        registers, repairs, cursor, _RESYNC, receipt, sequence, bids + asks,
        bid_prices[0, bids - 1], ask_prices[0, asks - 1],
    )  # fmt: skip
    return True


@kernel
def count_misplaced(
    registers, evidence, cursor, message, receipt, sequence, compared, lag, goes_on
):  # fmt: skip
    """Counts a snapshot that agreed with the book before another message than its own.

    It lags by so many messages, or comes before minus so many; `goes_on` says whether it may as
    well lag as the one before it did.
    """
    if registers[reg.MISPLACED] == 0:
        registers[reg.FIRST_MISPLACED] = receipt
        registers[reg.FIRST_MISPLACED_SEQUENCE] = sequence
    registers[reg.MISPLACED] += 1
    if not goes_on or registers[reg.MISPLACED_RUN] == 0:
        registers[reg.MISPLACED_RUN], registers[reg.MISPLACED_LAG] = 0, lag
    registers[reg.MISPLACED_RUN] += 1
    registers[reg.SOFT_DOUBTS] += 1
    if registers[reg.MISPLACED_RUN] > 1 and registers[reg.HARD_DOUBTS] == 0:
        give_evidence(
            registers, evidence, cursor, _EXPLAINED, message, receipt, sequence, compared, 0
        )
        if message > registers[reg.LAST_ANCHOR]:
            give_evidence(
                registers, evidence, cursor, _MATCH, message, receipt, sequence, compared, 0
            )


@kernel
def fail(registers):
    """The book is known to be wrong until the next snapshot agrees."""
    registers[reg.HARD_DOUBTS] += 1
    registers[reg.SNAPSHOT_MISMATCH] = 1
    registers[reg.MISPLACED_RUN] = 0
