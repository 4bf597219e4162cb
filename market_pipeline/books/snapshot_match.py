"""What a snapshot does to a book: it seeds it, is compared with it, replaces it, or widens it.

The first usable snapshot seeds: the book begins with it, and what was heard of before is dropped.
Every later one that finds its place is compared with the book, level by level as far as both reach.

* It **matches**: evidence that the book is right, here and since the last such evidence. It also
  teaches the levels beyond our horizon.
* It **matches the book of a neighbouring message**, up to `EARLIER` before or `LATER` after its
  own: it is misplaced, and never replaces anything. A second one by as many messages, with none
  between them that agrees at its own message alone, shows that the snapshots are misplaced and not
  the book wrong; a single one may as well show a lost message, and snapshots that agree with a
  later message than that of their very number may as well show that the messages are late.
* It **has the content of an earlier snapshot**: it may be stale, and replaces nothing. A series of
  `STALE_SERIES` that repeats one snapshot while the book changes, or all snapshots of a time before
  in their order, is known to be stale; others are not believed a second time.
* Otherwise it **disagrees**, and by policy replaces the book inside its window as of the message,
  at its number or up to `EARLIER` before, where it differs least: but for the levels that messages
  set since. Whether it was right to do so, the next snapshot tells: until then no row
  is verified, and all rows since the last match are in doubt (`books.lookback`).

A book that is known to be wrong, because a snapshot disagreed before, is replaced at once; one that
is crossed, or lacks messages or values, always as of the snapshot's number.
"""

from __future__ import annotations

import numpy as np

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.comparison import compare, count_differing, depth_of, own_content
from market_pipeline.books.history import rows_since, step_back, step_forward
from market_pipeline.books.levels import clear, far_is_full
from market_pipeline.books.replacement import extend, replace
from market_pipeline.books.state import HISTORY_ROWS, HISTORY_SNAPSHOTS, Proof, Repair, Resync
from market_pipeline.jit import kernel

__all__ = [
    "EVIDENCE_ROOM",
    "give_evidence",
    "leave_out",
    "meet_snapshot",
    "settle_pending",
    "write_repair",
]

EVIDENCE_ROOM = 8
"""A snapshot gives at most so many pieces of evidence."""
EARLIER = 16
LATER = 2
STALE_SERIES = 3
_LEAST_LAG = 8
# What a snapshot is kept for: it waits for a message to agree with, or tests a misplacement.
_WAITS, _TESTS = 1, 2

_NEVER = int(Resync.NEVER)
_ALWAYS = int(Resync.ALWAYS)
_SEED = int(Repair.SEED)
_RESYNC = int(Repair.RESYNC)
_CONFIRMED = int(Repair.CONFIRMED)
_MATCH = int(Proof.MATCH)
_ADOPTED = int(Proof.ADOPTED)
_MISMATCH = int(Proof.MISMATCH)
_EXPLAINED = int(Proof.EXPLAINED)
_HOUR_NS = 3_600_000_000_000


@kernel
def write_repair(registers, repairs, cursor, kind, receipt, sequence, levels, low, high):
    """Writes the next row of `Repairs`, shown in the next message to be closed."""
    row = cursor[at.REPAIR_ROW]
    cursor[at.REPAIR_ROW] = row + 1
    repairs.kind[row] = kind
    repairs.message[row] = registers[reg.MESSAGES]
    repairs.ts_receipt_ns[row] = receipt
    repairs.sequence_number[row] = sequence
    repairs.levels[row] = levels
    repairs.low_ticks[row] = low
    repairs.high_ticks[row] = high


@kernel
def give_evidence(registers, evidence, cursor, kind, message, receipt, sequence, levels, differing):
    """Writes the next row of `Evidence`, and keeps what is in doubt."""
    row = cursor[at.EVIDENCE_ROW]
    cursor[at.EVIDENCE_ROW] = row + 1
    evidence.kind[row] = kind
    evidence.message[row] = message
    evidence.ts_receipt_ns[row] = receipt
    evidence.sequence_number[row] = sequence
    evidence.levels[row] = levels
    evidence.differing[row] = differing
    if kind in (_MATCH, _ADOPTED):
        registers[reg.LAST_ANCHOR] = message
        registers[reg.SOFT_DOUBTS] = 0
        registers[reg.HARD_DOUBTS] = 0
    elif kind == _EXPLAINED:
        registers[reg.SOFT_DOUBTS] = 0


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
        _remember(registers, history, snapshots.content[k])
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
    if registers[reg.PENDING] == _WAITS:
        # The snapshot before found no message to agree with.
        _fail(registers)
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
            and not _agreed(registers, levels, history, snapshots, k, bids, asks, lag)
        ):
            registers[reg.MISPLACED_RUN] = 0
        give_evidence(registers, evidence, cursor, _MATCH, message, receipt, sequence, compared, 0)
        adopts |= invalid and options.resync != _NEVER
        if not adopts and options.resync != _NEVER:
            extend(registers, levels, history, snapshots, k, bids, asks)
        if not adopts and lost:
            kind = _CONFIRMED
        if not adopts and registers[reg.MISPLACED_RUN] > 0 and lag < 0:
            _keep_pending(registers, history, snapshots, k, bids, asks, _TESTS, 0, in_step)
    else:
        _count_failed(registers, snapshots, k)
        repeats = _lag_of(registers, history, snapshots.content[k])
        is_broken = invalid or registers[reg.CROSSED_SINCE] != 0
        is_wrong = is_broken or was_failed
        is_exact = False
        if not (adopts or is_broken):
            back, is_exact = _best_fit(registers, levels, history, snapshots, k, bids, asks)
        if options.ids_prove and not in_step and lost == 0:
            # The ids prove the book up to the last message: what is lost came after it.
            give_evidence(registers, evidence, cursor, _MATCH, message, receipt, sequence, 0, 0)
        give_evidence(
            registers, evidence, cursor, _MISMATCH, message, receipt, sequence, compared, differing
        )
        if is_exact and not is_wrong:
            goes_on = lag == back or (
                lag > back and _agreed(registers, levels, history, snapshots, k, bids, asks, lag)
            )
            _misplaced(
                registers, evidence, cursor, message - back, receipt, sequence, compared, back,
                goes_on,
            )  # fmt: skip
        elif not is_wrong and not adopts and _may_be_stale(registers, repeats):
            _stale(registers, levels, evidence, cursor, message, receipt, sequence, repeats)
        else:
            registers[reg.STALE_RUN] = 0
            if not (is_wrong or adopts or at_end):
                registers[reg.SOFT_DOUBTS] += 1
                _keep_pending(registers, history, snapshots, k, bids, asks, _WAITS, back, in_step)
            else:
                _fail(registers)
                adopts |= options.resync != _NEVER
    _remember(registers, history, snapshots.content[k])
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
    if registers[reg.PENDING] == _TESTS:
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
        _misplaced(
            registers, evidence, cursor, message, receipt, sequence, bids + asks, -passed, goes_on
        )
        return True
    if passed < LATER:
        return True
    registers[reg.PENDING] = 0
    registers[reg.SOFT_DOUBTS] -= 1
    _fail(registers)
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
def _fail(registers):
    """The book is known to be wrong until the next snapshot agrees."""
    registers[reg.HARD_DOUBTS] += 1
    registers[reg.SNAPSHOT_MISMATCH] = 1
    registers[reg.MISPLACED_RUN] = 0


@kernel
def _misplaced(
    registers, evidence, cursor, message, receipt, sequence, compared, lag, goes_on
):  # fmt: skip
    """A snapshot agreed with the book before another message than its own.

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
def _may_be_stale(registers, lag):
    """Whether a snapshot that disagrees, and was seen `lag` snapshots ago, may be stale."""
    if lag == 0 or registers[reg.STALE_RUN] == 0:
        return lag > 0
    return lag == registers[reg.STALE_LAG] and (lag == 1 or lag >= _LEAST_LAG)


@kernel
def _stale(registers, levels, evidence, cursor, message, receipt, sequence, lag):
    """A snapshot that disagrees has the content of an earlier one."""
    if registers[reg.STALE] == 0:
        registers[reg.FIRST_STALE] = receipt
        registers[reg.FIRST_STALE_SEQUENCE] = sequence
    registers[reg.STALE] += 1
    registers[reg.SOFT_DOUBTS] += 1
    registers[reg.MISPLACED_RUN] = 0
    book = own_content(registers, levels)
    if registers[reg.STALE_RUN] == 0 or lag > 1 or book != registers[reg.STALE_BOOK]:
        registers[reg.STALE_RUN] += 1
    registers[reg.STALE_BOOK], registers[reg.STALE_LAG] = book, lag
    if registers[reg.STALE_RUN] >= STALE_SERIES and registers[reg.HARD_DOUBTS] == 0:
        give_evidence(registers, evidence, cursor, _EXPLAINED, message, receipt, sequence, 0, 0)


@kernel
def _remember(registers, history, content):
    count = registers[reg.HISTORY_CONTENTS]
    history.content[count & (HISTORY_SNAPSHOTS - 1)] = content
    registers[reg.HISTORY_CONTENTS] = count + 1


@kernel
def _lag_of(registers, history, content):
    """How many snapshots ago the latest one of the same content was; 0 if none is remembered."""
    count = registers[reg.HISTORY_CONTENTS]
    for lag in range(1, min(count, HISTORY_SNAPSHOTS) + 1):
        if history.content[(count - lag) & (HISTORY_SNAPSHOTS - 1)] == content:
            return np.int64(lag)
    return np.int64(0)


@kernel
def _keep_pending(registers, history, snapshots, k, bids, asks, what_for, back, in_step):
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
def _is_invalid(registers, options, now_ns):
    crossed_since = registers[reg.CROSSED_SINCE]
    crossed_too_long = crossed_since != 0 and now_ns - crossed_since > options.crossed_resync_ns
    return registers[reg.GAP] != 0 or registers[reg.REFUSED_SINCE] != 0 or crossed_too_long


@kernel
def _agreed(registers, levels, history, snapshots, k, bids, asks, back):
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
def _best_fit(registers, levels, history, snapshots, k, bids, asks):
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
def _count_failed(registers, snapshots, k):
    registers[reg.SNAPSHOTS_MISMATCHED] += 1
    registers[reg.MISMATCHED_BY_HOUR + snapshots.ts_receipt_ns[k] // _HOUR_NS % 24] += 1
