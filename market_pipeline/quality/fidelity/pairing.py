"""Two books side by side on one clock: errors on time grids, and histograms of five-minute blocks.

The book at an instant is the one after the last message at or before it. Only instants at which
both books are valid count; how long only one of them was is measured beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.state import read_only
from market_pipeline.quality.fidelity.books import BookRows, no_rows
from market_pipeline.quality.fidelity.grid_kernel import Sums, new_held, new_sums, walk
from market_pipeline.quality.intervals import BoolArray, IntArray, running_time_ns

__all__ = ["Clock", "pair_books"]

Clock = Literal["exchange", "receipt"]


class _Timed:
    """One book, a batch at a time, with times of one clock that never run backwards.

    A message without a sound time of its own came with the one before it.
    """

    def __init__(self, batches: Iterator[BookRows], clock: Clock, shift_ns: int) -> None:
        self._batches = batches
        self._of_exchange = clock == "exchange"
        self._bad = BookFlag.BAD_TS_ORIGIN if self._of_exchange else BookFlag.BAD_TS_RECEIPT
        self._shift_ns = shift_ns
        self._last_ns = 0
        self.rows = no_rows()
        self.time_ns: IntArray = np.empty(0, np.int64)
        self.holds: BoolArray = np.empty(0, np.bool_)

    @property
    def arguments(self) -> tuple[BookRows, IntArray, BoolArray]:
        """What the kernel takes of it."""
        return self.rows, self.time_ns, self.holds

    def load_next(self) -> bool:
        """Takes the next batch; False if there is none."""
        rows = next(self._batches, None)
        if rows is None:
            return False
        self.rows = rows = rows.as_input()
        # Nobody knows the book between its last message and a gap's first.
        self.holds = rows.are_valid() & ~rows.breaks
        stamps = rows.ts_origin_ns if self._of_exchange else rows.ts_receipt_ns
        # Stamps at or before the epoch are none; the walk passes them over, as those before any.
        times = np.where(rows.have(self._bad), 0, np.maximum(stamps - self._shift_ns, 0))
        self.time_ns = running_time_ns(np.append(self._last_ns, times))[1:]
        self.time_ns = read_only(self.time_ns)
        self._last_ns = int(self.time_ns[-1]) if self.time_ns.size else self._last_ns
        return True


def pair_books(
    golden: Iterator[BookRows], other: Iterator[BookRows], clock: Clock, shift_ns: int
) -> Sums:
    """Walks through both books side by side, from the later first message to the earlier last one.

    Args:
        golden, other: Batches in feed order, in shared units.
        clock: By which of the two clocks of a message.
        shift_ns: How far the other book's clock is ahead of the golden one's; it is taken away.
    """
    own, its = _Timed(golden, clock, 0), _Timed(other, clock, shift_ns)
    cursor, held, sums = np.zeros(2, np.int64), new_held(), new_sums()
    while True:
        for book, timed in enumerate((own, its)):
            while cursor[book] == timed.time_ns.size:
                if not timed.load_next():
                    return sums
                cursor[book] = 0
        walk(*own.arguments, *its.arguments, cursor, held, sums)
