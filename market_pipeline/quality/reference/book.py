"""The reference book, a second rebuild: dicts and ints, one rule after the other, nothing clever.

It shares no code with the kernel but the meaning of the flags. The tests hold the two against each
other on random feeds, and the pipeline on sampled minutes of every real day, in
`stages.validation.reference_replay`.

What snapshots do is in `snapshot_match`, what the book remembers in `state`; here are the
messages: those that come in order, those that are old, and where in the feed a snapshot is met.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from market_pipeline.books.flags import BookFlag
from market_pipeline.quality.reference.feed import REFUSED, Message, Row, Snapshot
from market_pipeline.quality.reference.snapshot_match import (
    leave_out,
    meet_snapshot,
    settle_waiting,
)
from market_pipeline.quality.reference.soundness import Marks
from market_pipeline.quality.reference.state import (
    REMEMBERED_ROWS,
    PlainBook,
    PlainEvidence,
    PlainSide,
)

__all__ = ["PlainBook", "PlainRow", "PlainSide", "plain_rebuild"]


class PlainRow(NamedTuple):
    """What `books.bbo` should say after a message; price and size are 0 where a side is empty.

    Its flags are without those that later evidence adds (SNAPSHOT_MISMATCH, OUT_OF_ORDER).
    """

    ts_origin_ns: int
    ts_receipt_ns: int
    sequence_number: int
    bid_price_ticks: int
    bid_size_lots: int
    ask_price_ticks: int
    ask_size_lots: int
    flags: int


def plain_rebuild(
    book: PlainBook,
    messages: Iterable[Message],
    snapshots: Iterable[Snapshot],
    most_work: float = math.inf,
) -> Iterator[PlainRow]:
    """Rebuilds a book and yields what it says after every message; meanwhile it can be read.

    Args:
        book: To begin with.
        messages: In feed order, marked (`feed.mark_messages`); old ones yield no row.
        snapshots: In feed order, marked. Those that no message comes after are met in the end.
        most_work: After so much `PlainBook.work` it ends, between two snapshots too.
    """
    waiting = iter(snapshots)
    snapshot = next(waiting, None)
    gaps = 0
    messages = list(messages)
    for at, message in enumerate(messages):
        settle_waiting(book)
        if message.recovered:
            _prove_up_to_here(book)
            book.gap = True
            book.count("gaps")
        while snapshot is not None and _is_done_with(book, snapshot, message):
            if book.work >= most_work:
                return
            snapshot = next(waiting, None)
        gaps += message.after_gap
        if message.marks.is_old:
            _meet_old(book, message)
            continue
        following = messages[at + 1] if at + 1 < len(messages) else message
        yield _apply(book, message, gaps, following)
        gaps = 0
    while snapshot is not None:
        if _has_no_place(book, snapshot):
            _pass_over(book, snapshot, "snapshots_bad_number")
        else:
            meet_snapshot(book, snapshot, at_end=True)
        snapshot = next(waiting, None)


# --- where a snapshot is met ------------------------------------------------------------------


def _is_done_with(book: PlainBook, snapshot: Snapshot, message: Message) -> bool:
    """Meets a snapshot that comes before a message, or gives it up; False if it is to wait."""
    marks, stamps = message.marks, message.stamps
    if _has_no_place(book, snapshot):
        _pass_over(book, snapshot, "snapshots_bad_number")
        return True
    if marks.is_old or marks.bad_sequence:
        # Its own number says nothing; it is not before the last one.
        is_before = (
            book.last_sequence is not None and snapshot.sequence_number <= book.last_sequence
        )
    else:
        is_before = snapshot.sequence_number < stamps.sequence_number
    epoch = book.epoch + marks.is_restart
    if snapshot.epoch < epoch or (snapshot.epoch == epoch and is_before):
        meet_snapshot(book, snapshot, at_end=False)
        return True
    is_believed = not (marks.is_old or marks.bad_receipt)
    now_ns = stamps.ts_receipt_ns if is_believed else book.last[0]
    if now_ns - snapshot.ts_receipt_ns > book.patience_ns:
        _pass_over(book, snapshot, "snapshots_never_reached")
        return True
    return False


def _has_no_place(book: PlainBook, snapshot: Snapshot) -> bool:
    return not snapshot.placeable or snapshot.epoch < book.epoch


def _pass_over(book: PlainBook, snapshot: Snapshot, reason: str) -> None:
    book.count("snapshots")
    book.count("snapshots_unplaced")
    leave_out(book, snapshot, reason)


# --- messages that are old --------------------------------------------------------------------


def _meet_old(book: PlainBook, message: Message) -> None:
    """Drops a message of before, or applies what nothing has overtaken of it."""
    receipt_ns, number = message.stamps.ts_receipt_ns, message.stamps.sequence_number
    book.keep_first(first_old_ns=receipt_ns, first_old_sequence_number=number)
    book.count("rows", len(message.rows))
    is_newer = book.replaced_sequence is None or number > book.replaced_sequence
    known = [-(2**63) if each is None else each for each in book.numbers]
    place = book.messages - sum(each > number for each in known)
    late_numbers = {
        change.late_number for past in book.past if past.message >= place for change in past.changes
    }
    if number in known or (any(each < number for each in known) and book.reaches(place)
                           and number in late_numbers):  # fmt: skip
        book.count("repeated_messages")
        return
    is_within = any(each < number for each in known)
    if is_within and book.reaches(place) and is_newer:
        book.count("late_messages")
        book.evidence.append(PlainEvidence("LATE", place, receipt_ns, number, book.messages, 0))
        _apply_late(book, message, place, number)
        return
    book.count("stale_messages")
    is_from_before = book.is_from_keyframe and not is_within
    if is_newer and (is_within or message.marks.is_alone) and not is_from_before:
        book.gap = True


def _apply_late(book: PlainBook, message: Message, place: int, number: int) -> None:
    touched = book.touched_since(place, number)
    book.matched = None
    for row in message.rows:
        if row.size_lots != REFUSED and book.rows_since(place) >= REMEMBERED_ROWS:
            book.gap = True
            return
        if row.size_lots == REFUSED:
            book.refused += 1
            book.count("refused_rows")
        elif (row.is_bid, row.price_ticks) not in touched:
            book.set_level(row.is_bid, row.price_ticks, row.size_lots, number)


# --- messages that are new --------------------------------------------------------------------


def _apply(book: PlainBook, message: Message, gaps: int, following: Message) -> PlainRow:
    """Applies a message: only after its last row may the book be read."""
    marks, number = message.marks, message.stamps.sequence_number
    _count_marks(book, message)
    if marks.is_restart:
        book.epoch += 1
        book.last_sequence = book.book_sequence = book.replaced_sequence = None
        book.numbers.clear()
        book.forget()
        book.gap = True
    if not marks.bad_sequence and book.last_sequence is not None:
        book.count("sequence_backwards", number < book.last_sequence)
    if gaps:
        _prove_up_to_here(book)
        book.gap = True
        book.count("gaps", gaps)
    book.begin()
    for row in message.rows:
        _apply_row(book, row)
    return _close(book, message, following)


def _prove_up_to_here(book: PlainBook) -> None:
    """Where ids link the messages, the book is right up to those that are lost."""
    if book.ids_prove and not book.gap and book.seeded:
        number = -(2**63) if book.last_sequence is None else book.last_sequence
        book.prove("MATCH", Snapshot(book.last[0], number, [], []), 0, 0)


def _count_marks(book: PlainBook, message: Message) -> None:
    marks, receipt_ns = message.marks, message.stamps.ts_receipt_ns
    if marks.is_restart:
        book.count("restarts")
        if book.counts["restarts"] == 1:
            book.counts["first_restart_ns"] = receipt_ns
    if marks.is_part:
        book.count("split_messages")
        if book.counts["split_messages"] == 1:
            book.counts["first_split_ns"] = receipt_ns
    if marks.bad_sequence:
        book.count("bad_sequences")
        if book.counts["bad_sequences"] == 1:
            book.counts["first_bad_sequence_ns"] = receipt_ns
    book.count("bad_receipt_stamps", marks.bad_receipt)
    book.count("bad_origin_stamps", marks.bad_origin)


def _apply_row(book: PlainBook, row: Row) -> None:
    """Sets or removes one level."""
    book.count("rows")
    if row.size_lots == REFUSED:
        book.refused += 1
        book.count("refused_rows")
        return
    before = book.set_level(row.is_bid, row.price_ticks, row.size_lots)
    if not before and not row.size_lots:
        book.count("unknown_removals")


def _remove_stale(book: PlainBook, receipt_ns: int, number: int) -> None:
    """Where a message crossed the book from one side, the other side's levels there go."""
    bid, bid_size, ask, ask_size = book.best()
    if not (book.uncross and book.seeded and bid_size and ask_size and bid > ask):
        return
    last_bid, last_ask = book.last_touch
    bid_moved = last_bid is None or bid > last_bid
    ask_moved = last_ask is None or ask < last_ask
    if bid_moved == ask_moved:
        return
    if bid_moved:
        stale = [price for price in book.asks.prices if price <= bid]
        book.asks = PlainSide({p: s for p, s in book.asks.sizes.items() if p > bid})
    else:
        stale = [price for price in book.bids.prices if price >= ask]
        book.bids = PlainSide({p: s for p, s in book.bids.sizes.items() if p < ask})
    book.count("uncrossed_levels", len(stale))
    book.repairs.append(
        ("UNCROSS", book.messages, receipt_ns, number, len(stale), min(stale), max(stale))
    )
    book.forget()


def _once_flags(marks: Marks) -> BookFlag:
    """Flags of one row alone."""
    flags = BookFlag(0)
    if marks.is_part:
        flags |= BookFlag.OUT_OF_ORDER
    if marks.bad_sequence:
        flags |= BookFlag.BAD_SEQUENCE
    if marks.bad_receipt:
        flags |= BookFlag.BAD_TS_RECEIPT
    if marks.bad_origin:
        flags |= BookFlag.BAD_TS_ORIGIN
    return flags


def _close(book: PlainBook, message: Message, following: Message) -> PlainRow:
    """Ends a message; `following` is the next one of the feed, or the same one at its end."""
    marks, stamps = message.marks, message.stamps
    number, receipt_ns, origin_ns = stamps
    _remove_stale(book, receipt_ns, number)
    once = _once_flags(marks)
    flags = book.flags() | int(once)
    now_ns = receipt_ns
    if marks.bad_receipt:
        has_last = book.messages > 0 or book.is_from_keyframe
        now_ns = book.last[0] if has_last else following.stamps.ts_receipt_ns
    elif book.day_ns is not None and not book.day_ns[0] <= receipt_ns < book.day_ns[1]:
        flags |= int(BookFlag.OUTSIDE_DAY)
        book.count("outside_day_messages")
    book.count("messages")
    if not once:
        latency = receipt_ns - origin_ns
        book.count("negative_latency_messages", latency < 0)
        for name, better in (("min_latency_ns", min), ("max_latency_ns", max)):
            book.counts[name] = better(book.counts.get(name, latency), latency)
    last_ns, last_flags = book.last
    for flag, name in ((BookFlag.CROSSED, "crossed"), (BookFlag.LOCKED, "locked")):
        if last_flags & flag:
            book.count(f"{name}_ns", max(now_ns - last_ns, 0))
        book.count(f"{name}_messages", bool(flags & flag))
    book.last = (now_ns, flags)
    if flags & BookFlag.CROSSED:
        book.crossed_since = book.crossed_since or now_ns
    else:
        book.crossed_since = 0
    book.note_touch()
    book.messages += 1
    if not marks.bad_sequence:
        book.last_sequence = number
    book.book_sequence = book.last_sequence
    book.numbers.append(book.last_sequence)
    bid, bid_size, ask, ask_size = book.best()
    return PlainRow(origin_ns, receipt_ns, number, bid, bid_size, ask, ask_size, flags)
