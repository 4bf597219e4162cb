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
    FAILED_EXAM = 1 << 5
    PRECISION_LOSS = 1 << 6
    UNCONFIRMED_DEPTH = 1 << 7
    EMPTY_SIDE = 1 << 8
    SNAPSHOT_ONLY = 1 << 9


MEANING: dict[BookFlag, str] = {
    BookFlag.NOT_SEEDED: "No snapshot has been applied yet, so levels are missing.",
    BookFlag.GAP: "Messages were lost before this row and no snapshot confirmed the book since.",
    BookFlag.CROSSED: "The best bid is above the best ask.",
    BookFlag.LOCKED: "The best bid equals the best ask.",
    BookFlag.STALE: "The feed was silent for too long for this book to be current.",
    BookFlag.FAILED_EXAM: "The last snapshot disagreed with the book at the touch.",
    BookFlag.PRECISION_LOSS: (
        "A level was refused since the last snapshot because its price or size is not a whole "
        "number of ticks or lots."
    ),
    BookFlag.UNCONFIRMED_DEPTH: "The touch lies beyond the levels that any snapshot confirmed.",
    BookFlag.EMPTY_SIDE: "A side of the book is empty.",
    BookFlag.SNAPSHOT_ONLY: (
        "The row is a snapshot of a day without usable deltas; what happened between is unknown."
    ),
}

INVALIDATING = (
    BookFlag.NOT_SEEDED
    | BookFlag.GAP
    | BookFlag.CROSSED
    | BookFlag.STALE
    | BookFlag.FAILED_EXAM
    | BookFlag.PRECISION_LOSS
)
"""A row with any of these bits is not part of the day's valid time."""
