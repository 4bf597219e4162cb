"""Rows that change levels, counted for every message by level or by distance, as far out as asked.

The level of a price is one more than the better prices of its side. Where a size grew, or a price
came, they are those of the book after the message, where one fell, or went, of the book before it:
as LOB-Bench counts inserts and cancels. A distance is in ticks behind the best price of its side
before the message. docs/metrics.md has the edges.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.change_log import Change
from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.levels import ASK, BID, key_of
from market_pipeline.books.walk import write_levels
from market_pipeline.jit import inlined_kernel

__all__ = ["INSIDE_SPREAD", "UpdateCounts", "count_updates"]

INSIDE_SPREAD: Final = -1
"""The distance of every price that is better than the best one before."""

_INVALIDATING = int(INVALIDATING)
_MESSAGE = int(Change.MESSAGE)
_REPAIR = int(Change.REPAIR)
_IS_COMPARABLE, _BEFORE = range(2)


class UpdateCounts(NamedTuple):
    """What is counted in each of some intervals, and the best levels before the next message.

    Attributes:
        from_ns: Earlier messages are not counted, only compared with.
        start_ns, every_ns: When the intervals begin, and how long each is.
        by_ticks: Whether distances are counted, and not levels.
        counts: int64 (intervals, 2, 2, places): bids and asks; rows that made a size larger and
            those that made it smaller. The last place is what is farther out than the limit.
        messages: int64 (intervals,), those whose rows are counted.
        last: int64 (2,): whether the message before can be compared with, and which half of the
            levels are its.
        prices, sizes: int64 (4, levels), bids and asks of two messages, best first.
    """

    from_ns: int
    start_ns: int
    every_ns: int
    by_ticks: bool
    counts: NDArray[np.int64]
    messages: NDArray[np.int64]
    last: NDArray[np.int64]
    prices: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @classmethod
    def between(
        cls, from_ns: int, until_ns: int, every_ns: int, limit: int, *, by_ticks: bool
    ) -> Self:
        """Of the intervals of a span, without a message; up to a level, or a distance in ticks."""
        start_ns = from_ns // every_ns * every_ns
        number = max(0, -(-(until_ns - start_ns) // every_ns))
        places = limit + 3 if by_ticks else limit + 1
        levels = 1 if by_ticks else limit
        return cls(
            from_ns,
            start_ns,
            every_ns,
            by_ticks,
            np.zeros((number, 2, 2, places), np.int64),
            np.zeros(number, np.int64),
            np.zeros(2, np.int64),
            *np.zeros((2, 4, levels), np.int64),
        )

    def frame(self) -> pl.DataFrame:
        """A row for each interval with a message, side and place, in this order.

        `ts_interval_ns`, `message_count` (int64), `is_bid` (bool), `level` or `ticks` (int64, null
        farther out than the limit), `increase_count`, `decrease_count` (int64).
        """
        name, first = ("ticks", INSIDE_SPREAD) if self.by_ticks else ("level", 1)
        at = np.flatnonzero(self.messages)
        counts = self.counts[at]
        number, places = at.size, counts.shape[-1]
        place = np.tile(np.arange(first, first + places), 2 * number)
        is_beyond = place == first + places - 1
        return pl.DataFrame(
            {
                "ts_interval_ns": np.repeat(self.start_ns + at * self.every_ns, 2 * places),
                "message_count": np.repeat(self.messages[at], 2 * places),
                "is_bid": np.tile(np.repeat([True, False], places), number),
                name: pl.Series(place).set(pl.Series(is_beyond), None),
                "increase_count": counts[:, :, 0].ravel(),
                "decrease_count": counts[:, :, 1].ravel(),
            }
        )


@inlined_kernel
def _better_prices(prices, sizes, row, side, key):
    """How many levels of a row are better than a key; all of them is that many or more."""
    low, high = np.int64(0), np.int64(prices.shape[1])
    while low < high:
        middle = (low + high) >> 1
        price = prices[row, middle]
        if sizes[row, middle] > 0 and (price if side == ASK else -price) < key:
            low = middle + 1
        else:
            high = middle
    return low


def count_updates(state, message, levels):
    """A callback of `books.player` that is shown changes: counts the rows of a message.

    They are counted if the books before and after it are valid and have both sides, and if nothing
    but the message changed the second.
    """
    is_compared = state.last[_IS_COMPARABLE] != 0
    before = state.last[_BEFORE]
    after = 2 - before
    is_valid = message.flags & _INVALIDATING == 0
    is_valid &= message.bid_size_lots > 0 and message.ask_size_lots > 0
    state.last[_IS_COMPARABLE], state.last[_BEFORE] = is_valid, after
    if is_valid:
        write_levels(levels, BID, state.prices, state.sizes, after + BID)
        write_levels(levels, ASK, state.prices, state.sizes, after + ASK)
    at = (message.clock_ns - state.start_ns) // state.every_ns
    changes = message.changes
    is_compared &= is_valid and message.clock_ns >= state.from_ns and at < state.messages.size
    for n in range(message.first, message.end):
        is_compared &= changes.kind[n] != _REPAIR
    if not is_compared:
        return False
    state.messages[at] += 1
    for n in range(message.first, message.end):
        size, was = changes.size_lots[n], changes.before_lots[n]
        if changes.kind[n] != _MESSAGE or size == was:
            continue
        side = BID if changes.is_bid[n] else ASK
        key = key_of(side, changes.price_ticks[n])
        falls = np.int64(size < was)
        if state.by_ticks:
            best = key_of(side, state.prices[before + side, 0])
            place = max(key - best, INSIDE_SPREAD) - INSIDE_SPREAD
        else:
            row = (before if falls else after) + side
            place = _better_prices(state.prices, state.sizes, row, side, key)
        state.counts[at, side, falls, min(place, state.counts.shape[3] - 1)] += 1
    return False
