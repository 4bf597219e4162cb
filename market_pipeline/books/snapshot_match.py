"""What a snapshot does to a book: it seeds it, is compared with it, replaces it, or widens it.

The first usable snapshot seeds: the book begins with it, and what was heard of before is dropped.
Every later one that finds its place is compared with the book, level by level as far as both reach.

* It **matches**: evidence that the book is right, here and since the last such evidence. It also
  teaches the levels beyond our horizon.
* It **matches the book of a neighbouring message**: it is misplaced (`books.misplaced`), and never
  replaces anything.
* It **has the content of an earlier snapshot**: it may be stale (`books.stale`), and replaces
  nothing.
* Otherwise it **disagrees**, and by policy replaces the book inside its window as of the message,
  at its number or some before, where it differs least: but for the levels that messages
  set since. Whether it was right to do so, the next snapshot tells: until then no row
  is verified, and all rows since the last match are in doubt (`books.lookback`).

A book that is known to be wrong, because a snapshot disagreed before, is replaced at once; one that
is crossed, or lacks messages or values, always as of the snapshot's number.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.comparison import compare, count_differing, depth_of
from market_pipeline.books.history import rows_since
from market_pipeline.books.levels import clear, far_is_full
from market_pipeline.books.log import give_evidence, write_repair
from market_pipeline.books.misplaced import (
    TESTS,
    WAITS,
    agreed,
    best_fit,
    count_misplaced,
    fail,
    keep_pending,
)
from market_pipeline.books.replacement import extend, replace
from market_pipeline.books.stale import count_stale, lag_of, may_be_stale, remember
from market_pipeline.books.state import HISTORY_ROWS, Proof, Repair, Resync
from market_pipeline.jit import kernel

__all__ = ["EVIDENCE_ROOM", "leave_out", "meet_snapshot"]

EVIDENCE_ROOM = 8
"""A snapshot gives at most so many pieces of evidence."""

_NEVER = int(Resync.NEVER)
_ALWAYS = int(Resync.ALWAYS)
_SEED = int(Repair.SEED)
_RESYNC = int(Repair.RESYNC)
_CONFIRMED = int(Repair.CONFIRMED)
_MATCH = int(Proof.MATCH)
_ADOPTED = int(Proof.ADOPTED)
_MISMATCH = int(Proof.MISMATCH)
_HOUR_NS = 3_600_000_000_000


@kernel
def leave_out(registers, receipt, reason):
    """Counts a snapshot that is compared with nothing; `reason` is the register of its kind."""
    registers[reason] += 1
    if registers[reg.SEEDED] == 0:
        return
    registers[reg.UNCOMPARED] += 1
    if registers[reg.FIRST_UNCOMPARED] == 0:
        registers[reg.FIRST_UNCOMPARED] = receipt
    if registers[reg.UNCOMPARED_SINCE] == 0:
        registers[reg.UNCOMPARED_SINCE] = registers[reg.LAST_COMPARED]
    _measure_uncompared(registers, receipt)


@kernel
def _measure_uncompared(registers, receipt):
    since = registers[reg.UNCOMPARED_SINCE]
    if since != 0 and receipt - since > registers[reg.LONGEST_UNCOMPARED_DURATION]:
        registers[reg.LONGEST_UNCOMPARED_DURATION] = receipt - since
        registers[reg.LONGEST_UNCOMPARED] = since


@kernel
def meet_snapshot(registers, levels, history, snapshots, at_end, options, outputs, cursor):
    """Lets the cursor's snapshot do its work; False for want of room in the far arrays.

    Room in the far arrays for the whole snapshot, and for stepping back, is asked for first, so
    that nothing is done twice when it is called again.
    """
    repairs, evidence, k = outputs.repairs, outputs.evidence, cursor[at.SNAPSHOT]
    depth = snapshots.bid_price_ticks.shape[1]
    room = depth + HISTORY_ROWS
    if far_is_full(levels.far_keys, levels.far_sizes, levels.meta, room):
        return False
    registers[reg.SNAPSHOTS] += 1
    sequence, receipt = snapshots.sequence_number[k], snapshots.ts_receipt_ns[k]
    if not snapshots.usable[k]:
        leave_out(registers, receipt, reg.UNUSABLE)
        return True
    if sequence < registers[reg.BOOK_SEQUENCE]:
        # It would set the book back.
        registers[reg.UNPLACED] += 1
        leave_out(registers, receipt, reg.PASSED)
        return True
    bid_prices, bid_sizes = snapshots.bid_price_ticks, snapshots.bid_size_lots
    ask_prices, ask_sizes = snapshots.ask_price_ticks, snapshots.ask_size_lots
    bids, asks = depth_of(bid_sizes, k), depth_of(ask_sizes, k)
    message = registers[reg.MESSAGES]
    if registers[reg.SEEDED] == 0:
        registers[reg.SEEDED] = 1
        registers[reg.SEED_SEQUENCE] = sequence
        registers[reg.SEED_RECEIPT] = receipt
        registers[reg.LAST_COMPARED] = receipt
        registers[reg.REPLACED_SEQUENCE] = sequence
        clear(levels)
        start = registers[reg.HISTORY]
        replace(
            registers, levels, history, bid_prices, bid_sizes, ask_prices, ask_sizes, k, bids, asks,
            sequence, start, sequence,
        )  # fmt: skip
        remember(registers, history, snapshots.content[k])
        write_repair(
            registers, repairs, cursor, _SEED, receipt, sequence, bids + asks,
            bid_prices[k, bids - 1], ask_prices[k, asks - 1],
        )  # fmt: skip
        give_evidence(
            registers, evidence, cursor, _ADOPTED, message, receipt, sequence, bids + asks, 0
        )
        return True
    in_step = registers[reg.LAST_SEQUENCE] == sequence
    # Whether one of this number agreed with this very book: then this one has a wrong number.
    in_doubt = registers[reg.GAP] + registers[reg.SNAPSHOT_MISMATCH]
    was_matched = in_doubt == 0 and registers[reg.MATCHED_MESSAGE] == message
    was_matched &= registers[reg.MATCHED_SEQUENCE] == sequence
    if was_matched or (at_end and not in_step):
        differing = count_differing(
            registers, levels, bid_prices, bid_sizes, ask_prices, ask_sizes, k, bids, asks
        )
        if differing > 0:
            # Else what it shows came after the last message.
            registers[reg.UNPLACED] += 1
            leave_out(registers, receipt, reg.BAD_NUMBER if was_matched else reg.NEVER_REACHED)
            return True
    if registers[reg.PENDING] == WAITS:
        # The snapshot before found no message to agree with.
        fail(registers)
    registers[reg.PENDING] = 0
    registers[reg.OFF_NUMBER] += not in_step
    _measure_uncompared(registers, receipt)
    registers[reg.UNCOMPARED_SINCE] = 0
    registers[reg.LAST_COMPARED] = receipt
    lost = registers[reg.GAP] + registers[reg.SNAPSHOT_MISMATCH]
    was_failed = registers[reg.SNAPSHOT_MISMATCH] != 0
    compared, differing, agrees = compare(registers, levels, history, snapshots, k, bids, asks)
    invalid = _is_invalid(registers, options, receipt)
    adopts = options.resync == _ALWAYS
    lag = registers[reg.MISPLACED_LAG]
    kind, back = np.int64(0), np.int64(0)
    if agrees:
        registers[reg.MATCHED_SEQUENCE], registers[reg.MATCHED_MESSAGE] = sequence, message
        registers[reg.STALE_RUN] = 0
        if (
            registers[reg.MISPLACED_RUN] > 0
            and lag > 0
            and not agreed(registers, levels, history, snapshots, k, bids, asks, lag)
        ):
            registers[reg.MISPLACED_RUN] = 0
        give_evidence(registers, evidence, cursor, _MATCH, message, receipt, sequence, compared, 0)
        adopts |= invalid and options.resync != _NEVER
        if not adopts and options.resync != _NEVER:
            extend(registers, levels, history, snapshots, k, bids, asks)
        if not adopts and lost:
            kind = _CONFIRMED
        if not adopts and registers[reg.MISPLACED_RUN] > 0 and lag < 0:
            keep_pending(registers, history, snapshots, k, bids, asks, TESTS, 0, in_step)
    else:
        _count_failed(registers, snapshots, k)
        repeats = lag_of(registers, history, snapshots.content[k])
        is_broken = invalid or registers[reg.CROSSED_SINCE] != 0
        is_wrong = is_broken or was_failed
        is_exact = False
        if not (adopts or is_broken):
            back, is_exact = best_fit(registers, levels, history, snapshots, k, bids, asks)
        if options.ids_prove and not in_step and lost == 0:
            # The ids prove the book up to the last message: what is lost came after it.
            give_evidence(registers, evidence, cursor, _MATCH, message, receipt, sequence, 0, 0)
        give_evidence(
            registers, evidence, cursor, _MISMATCH, message, receipt, sequence, compared, differing
        )
        if is_exact and not is_wrong:
            goes_on = lag == back or (
                lag > back and agreed(registers, levels, history, snapshots, k, bids, asks, lag)
            )
            count_misplaced(
                registers, evidence, cursor, message - back, receipt, sequence, compared, back,
                goes_on,
            )  # fmt: skip
        elif not is_wrong and not adopts and may_be_stale(registers, repeats):
            count_stale(registers, levels, evidence, cursor, message, receipt, sequence, repeats)
        else:
            registers[reg.STALE_RUN] = 0
            if not (is_wrong or adopts or at_end):
                registers[reg.SOFT_DOUBTS] += 1
                keep_pending(registers, history, snapshots, k, bids, asks, WAITS, back, in_step)
            else:
                fail(registers)
                adopts |= options.resync != _NEVER
    remember(registers, history, snapshots.content[k])
    if adopts:
        registers[reg.RESYNCS] += 1
        registers[reg.REPLACED_SEQUENCE] = sequence
        kind = _RESYNC
        start = rows_since(registers, history, message - back)
        replace(
            registers, levels, history, bid_prices, bid_sizes, ask_prices, ask_sizes, k, bids, asks,
            sequence, start, sequence,
        )  # fmt: skip
        give_evidence(
            registers, evidence, cursor, _ADOPTED, message, receipt, sequence, compared, differing
        )
    if kind != 0:
        write_repair(
            registers, repairs, cursor, kind, receipt, sequence, bids + asks,
            bid_prices[k, bids - 1], ask_prices[k, asks - 1],
        )  # fmt: skip
    return True


@kernel
def _is_invalid(registers, options, now_ns):
    crossed_since = registers[reg.CROSSED_SINCE]
    crossed_too_long = crossed_since != 0 and now_ns - crossed_since > options.crossed_resync_ns
    return registers[reg.GAP] != 0 or registers[reg.REFUSED_SINCE] != 0 or crossed_too_long


@kernel
def _count_failed(registers, snapshots, k):
    registers[reg.SNAPSHOTS_MISMATCHED] += 1
    registers[reg.MISMATCHED_BY_HOUR + snapshots.ts_receipt_ns[k] // _HOUR_NS % 24] += 1
