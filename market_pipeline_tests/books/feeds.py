"""Feeds of a small market for property tests, with all that is known to go wrong in one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from market_pipeline.quality.reference.feed import Row, Snapshot

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND

__all__ = ["HOUR", "SECOND", "feeds", "key_of", "sound_feeds"]

Draw = Callable[[st.SearchStrategy[Any]], Any]
Book = dict[bool, dict[int, int]]
Parts = list[list[Row]]

# Made once: most of the time of an example goes into what it is drawn from.
ONE_IN_TWENTY = st.integers(0, 19)
COUNTS = st.integers(1, 4)
FAR_PRICES = st.one_of(st.integers(900, 1100), st.integers(1, 10**12))
PRICES = st.integers(990, 1010)
NEAR = st.sampled_from(
    [(is_bid, price + 7 * (not is_bid), size)
     for is_bid in (True, False) for price in range(994, 1001) for size in range(4)]
)  # fmt: skip
WAITS = st.sampled_from([1, SECOND // 10, SECOND // 10, SECOND // 2, 3 * SECOND, 12 * SECOND])
STEPS = st.sampled_from([1, 1, 2, 7])
AGES = st.integers(-3, 3)
SNAPSHOTS = st.sampled_from([0, 0, 1, 1, 2])
# Of its own message, mostly; of a neighbour, of any other, or of no book at all.
BOOKS_AWAY = st.sampled_from([0, 0, 0, 0, 0, -1, -2, -5, -17, 1, 2, 3])
NUMBERS_AWAY = st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1, 5])
LEVELS = st.sampled_from([2, 4, 6])
LATER = st.sampled_from([0, 5, SECOND // 10])
LEVEL_STEPS = st.lists(st.integers(1, 6), min_size=1, max_size=6)
LEVEL_SIZES = SPREADS = st.integers(1, 3)
BESTS = st.integers(992, 1006)
SHIFTS = st.sampled_from([-80_000, -90, -5, 5, 90, 80_000])
GAP, RECOVERED, BOTH = 1, 2, 3
PROOFS = st.sampled_from([0] * 38 + [GAP, GAP, RECOVERED, RECOVERED, BOTH])


def key_of(row: Row) -> tuple[int, int]:
    return row.sequence_number, row.ts_receipt_ns


# No strategies of their own: hypothesis looks at each new one, and a feed would make dozens.
def rows_of_a_message(draw: Draw, receipt: int, origin: int, number: int) -> list[Row]:
    rows = []
    for _ in range(draw(COUNTS)):
        kind = draw(ONE_IN_TWENTY)
        is_bid, price, size = draw(NEAR)
        if kind == 0:
            price = draw(FAR_PRICES)
        elif kind == 1:
            price, size = draw(PRICES), -1
        elif kind == 2:
            price = draw(PRICES)
        rows.append(Row(receipt, number, is_bid, price, size, origin))
    return rows


def snapshot_of(book: Book, levels: int) -> tuple[list, list] | None:
    """The best levels of a book; None where it is none."""
    bids = sorted(book[True].items(), reverse=True)[:levels]
    asks = sorted(book[False].items())[:levels]
    if not bids or not asks or bids[0][0] >= asks[0][0]:
        return None
    return bids, asks


def any_side(draw: Draw, best: int, away: int) -> list[tuple[int, int]]:
    level, out = best, []
    for step in draw(LEVEL_STEPS):
        out.append((level, draw(LEVEL_SIZES)))
        level += away * step
    return out


def any_book(draw: Draw) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    best = draw(BESTS)
    return any_side(draw, best, -1), any_side(draw, best + draw(SPREADS), 1)


@st.composite
def sound_feeds(draw, most: int = 30, *, calm: bool = False) -> tuple[Parts, list[Snapshot]]:
    """Messages in order, with snapshots of what they make of a book, in order too.

    In a `calm` feed few of the snapshots are anything else than the book at their number.
    """
    book: Book = {True: {998: 2, 999: 1, 997: 3}, False: {1001: 1, 1003: 2, 1004: 2}}
    books, parts = [], []
    receipt, number = draw(st.sampled_from([SECOND, 86_390 * SECOND])), 100
    for _ in range(draw(st.integers(1, most))):
        receipt += draw(WAITS)
        number += draw(STEPS)
        rows = rows_of_a_message(draw, receipt, receipt - draw(AGES), number)
        parts.append(rows)
        for row in rows:
            if row.size_lots >= 0:
                book[row.is_bid].pop(row.price_ticks, None)
            if row.size_lots > 0:
                book[row.is_bid][row.price_ticks] = row.size_lots
        books.append({side: dict(levels) for side, levels in book.items()})
    snapshots = []
    for at, rows in enumerate(parts):
        for _ in range(draw(SNAPSHOTS)):
            is_right = calm and draw(st.integers(0, 11)) > 0
            shift = 0 if is_right else draw(BOOKS_AWAY)
            sides = snapshot_of(books[min(max(at + shift, 0), len(books) - 1)], draw(LEVELS))
            if sides is None or (not is_right and draw(st.integers(0, 24)) == 0):
                sides = any_book(draw)
            if snapshots and not is_right and draw(st.integers(0, 7)) == 0:
                back = draw(st.sampled_from([1, 2, 9]))
                sides = (snapshots[-min(back, len(snapshots))].bids,
                         snapshots[-min(back, len(snapshots))].asks)  # fmt: skip
            offset = 0 if is_right else draw(NUMBERS_AWAY)
            snapshots.append(
                Snapshot(
                    rows[0].ts_receipt_ns + draw(LATER),
                    rows[0].sequence_number + offset,
                    *sides,
                    usable=is_right or draw(ONE_IN_TWENTY) > 0,
                )
            )
    return parts, snapshots


def damaged(draw: Draw, parts: Parts) -> Parts:
    """The messages with one stretch of them changed, repeated, or late."""
    at = draw(st.integers(0, len(parts) - 1))
    until = min(at + draw(st.sampled_from([1, 1, 1, 2, 4, 10])), len(parts))
    before, part, after = parts[:at], parts[at:until], parts[until:]
    by = draw(SHIFTS) * SECOND

    def changed(part: Parts, number: int = 0, receipt: int = 0, origin: int = 0) -> Parts:
        return [
            [
                replace(
                    row,
                    sequence_number=row.sequence_number + number,
                    ts_receipt_ns=row.ts_receipt_ns + receipt,
                    ts_origin_ns=row.ts_origin_ns + origin,
                )
                for row in rows
            ]
            for rows in part
        ]

    match draw(st.sampled_from(["again", "late", "late", "number", "receipt", "origin", "both",
                                "restart", "clock set", "lost"])):  # fmt: skip
        case "again":
            part = [*part, *after[: draw(st.integers(0, 10))], *part]
            after = after[len(part) - 2 * (until - at) :]
        case "late":
            overtaking = draw(st.integers(1, 8))
            part, after = [*after[:overtaking], *part], after[overtaking:]
        case "number":
            part = changed(part, number=draw(st.sampled_from([-400, -60, -2, 2, 60, 5_000])))
        case "receipt":
            part = changed(part, receipt=by)
        case "origin":
            part = changed(part, origin=by)
        case "both":
            part = changed(part, receipt=by, origin=by)
        case "restart":
            at = max(at, len(parts) // 2)
            before, part, after = parts[:at], parts[at : at + 1], parts[at + 1 :]
            shift = draw(st.sampled_from([-95, -95, -20, 10_000]))
            part, after = changed(part, number=shift), changed(after, number=shift)
        case "clock set":
            part, after = changed(part, receipt=by), changed(after, receipt=by)
        case "lost":
            part = []
    return [*before, *part, *after]


@st.composite
def feeds(draw, most: int = 30, *, calm: bool = False):
    """Rows, snapshots, and the first rows of messages that others are lost before, or recovered."""
    parts, snapshots = draw(sound_feeds(most, calm=calm))
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        parts = damaged(draw, parts) or parts
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        if snapshots:
            at = draw(st.integers(0, len(snapshots) - 1))
            snapshots[at] = replace(
                snapshots[at],
                sequence_number=snapshots[at].sequence_number
                + draw(st.sampled_from([0, 5_000, -90])),
                ts_receipt_ns=snapshots[at].ts_receipt_ns + draw(st.sampled_from([0, 1])) * HOUR,
            )
    if snapshots and draw(st.integers(0, 9)) == 0:
        # Their numbers begin anew.
        at = draw(st.integers(0, len(snapshots) - 1))
        snapshots[at:] = [
            replace(s, sequence_number=s.sequence_number - 95) for s in snapshots[at:]
        ]
    rows = [row for part in parts for row in part]
    firsts = [k for k, row in enumerate(rows) if k == 0 or key_of(row) != key_of(rows[k - 1])]
    proofs = [(k, draw(PROOFS)) for k in firsts]
    gap_rows, recovered_rows = ([k for k, proof in proofs if proof & of] for of in (GAP, RECOVERED))
    return rows, snapshots, gap_rows, recovered_rows
