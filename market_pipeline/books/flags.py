"""Why the book of a row is not, or not fully, to be trusted: one bit and one sentence each."""

from __future__ import annotations

from enum import IntFlag

__all__ = ["INVALIDATING", "MEANING", "BookFlag"]


class BookFlag(IntFlag):
    """Bits of the `flags` column; 0 means the book is valid."""

    NOT_SEEDED = 1 << 0
    GAP = 1 << 1
    CROSSED = 1 << 2
    LOCKED = 1 << 3
    STALE = 1 << 4
    SNAPSHOT_MISMATCH = 1 << 5
    PRECISION_LOSS = 1 << 6
    UNCONFIRMED_DEPTH = 1 << 7
    EMPTY_SIDE = 1 << 8
    SNAPSHOT_ONLY = 1 << 9
    OUTSIDE_DAY = 1 << 10
    OUT_OF_ORDER = 1 << 11
    BAD_SEQUENCE = 1 << 12
    BAD_TS_RECEIPT = 1 << 13
    BAD_TS_ORIGIN = 1 << 14


MEANING: dict[BookFlag, str] = {
    BookFlag.NOT_SEEDED: "No snapshot has been applied yet, so levels are missing.",
    BookFlag.GAP: "Messages were lost before this row and no snapshot confirmed the book since.",
    BookFlag.CROSSED: "The best bid is above the best ask.",
    BookFlag.LOCKED: "The best bid equals the best ask.",
    BookFlag.STALE: "The feed was silent for too long for this book to be current.",
    BookFlag.SNAPSHOT_MISMATCH: (
        "A snapshot disagreed with the book, and this row lies after the last evidence that the "
        "book was right, or between such failures."
    ),
    BookFlag.PRECISION_LOSS: (
        "A level was refused since the last snapshot because its price or size is not a whole "
        "number of ticks or lots."
    ),
    BookFlag.UNCONFIRMED_DEPTH: "The touch lies beyond the levels that any snapshot confirmed.",
    BookFlag.EMPTY_SIDE: "A side of the book is empty.",
    BookFlag.SNAPSHOT_ONLY: (
        "The row is a snapshot of a day without usable deltas; what happened between is unknown."
    ),
    BookFlag.OUTSIDE_DAY: "The message was received outside the UTC day.",
    BookFlag.OUT_OF_ORDER: (
        "A message that belongs before this row, or the rest of its own, came after it."
    ),
    BookFlag.BAD_SEQUENCE: (
        "The sequence number contradicts the messages around it; the message was applied."
    ),
    BookFlag.BAD_TS_RECEIPT: (
        "The receipt time contradicts the messages around it; when the book was like this is "
        "unknown."
    ),
    BookFlag.BAD_TS_ORIGIN: (
        "The exchange time contradicts the messages around it; the receipt time is sound."
    ),
}

INVALIDATING = (
    BookFlag.NOT_SEEDED
    | BookFlag.GAP
    | BookFlag.CROSSED
    | BookFlag.STALE
    | BookFlag.SNAPSHOT_MISMATCH
    | BookFlag.PRECISION_LOSS
    | BookFlag.OUTSIDE_DAY
    | BookFlag.OUT_OF_ORDER
    | BookFlag.BAD_SEQUENCE
    | BookFlag.BAD_TS_RECEIPT
)
"""A row with any of these bits is not part of the day's valid time."""
