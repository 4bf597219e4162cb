"""Messages of two books paired by their numbers: which level differs, where first, for how long."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from market_pipeline.books.flags import BookFlag
from market_pipeline.quality.fidelity.books import BookRows, no_rows
from market_pipeline.quality.fidelity.match_kernel import (
    Count,
    Tallies,
    match,
    new_tallies,
    number,
)
from market_pipeline.quality.intervals import BoolArray, IntArray

__all__ = ["Shift", "match_books", "shift_of"]


@dataclass(frozen=True, slots=True)
class Shift:
    """The other book's clock minus the golden one's over what both have, ns.

    Attributes:
        median_ns: The estimate.
        low_ns, high_ns: Quantiles of 1 and 99 %.
    """

    median_ns: int
    low_ns: int
    high_ns: int

    @classmethod
    def of(cls, differences_ns: IntArray) -> Shift:
        """The shift that these differences, at least one, show."""
        low, median, high = np.quantile(differences_ns, (0.01, 0.5, 0.99), method="lower")
        return cls(int(median), int(low), int(high))


class _Numbered:
    """One book, a batch at a time, each message with how often the numbers had begun anew."""

    def __init__(self, batches: Iterator[BookRows]) -> None:
        self._batches = batches
        self._state = np.array([0, 0, 0, -1], np.int64)
        self.rows = no_rows()
        self.epoch: IntArray = np.empty(0, np.int64)
        self.valid: BoolArray = np.empty(0, np.bool_)

    @property
    def arguments(self) -> tuple[BookRows, IntArray, BoolArray]:
        """What the kernel takes of it."""
        return self.rows, self.epoch, self.valid

    def load_next(self) -> bool:
        """Takes the next batch; False if there is none."""
        rows = next(self._batches, None)
        if rows is None:
            return False
        self.rows = rows.as_input()
        self.valid = self.rows.are_valid()
        self.epoch = np.empty(rows.flags.size, np.int64)
        number(
            self.rows.sequence_number,
            self.rows.have(BookFlag.BAD_SEQUENCE),
            self._state,
            self.epoch,
        )
        return True


def match_books(golden: Iterator[BookRows], other: Iterator[BookRows]) -> Tallies:
    """Pairs the messages of two books and compares the books after each pair.

    A message whose number repeats, falls behind or is flagged `BAD_SEQUENCE` is paired with none.
    Where the numbers begin anew, in both, messages are paired within the same beginning. A message
    is missing in a book if its number lies between those that the book has.

    Args:
        golden, other: Batches in feed order, in shared units.
    """
    own, its = _Numbered(golden), _Numbered(other)
    cursor, passed, tallies = np.zeros(2, np.int64), np.zeros(2, np.bool_), new_tallies()
    while True:
        for book, numbered in enumerate((own, its)):
            while cursor[book] == numbered.epoch.size:
                if not numbered.load_next():
                    return tallies
                cursor[book] = 0
        match(*own.arguments, *its.arguments, cursor, passed, tallies)


def shift_of(tallies: Tallies, clock: int) -> Shift | None:
    """The shift of the receipt clocks (0) or of exchange times (1); None without a pair."""
    kept = tallies.shifts[clock, : tallies.counts[Count.SHIFTS]]
    return Shift.of(kept) if kept.size else None
