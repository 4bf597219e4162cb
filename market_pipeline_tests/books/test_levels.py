from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.levels import ASK, BID, clear, far_is_full, key_of, set_level
from market_pipeline.books.walk import (
    best_level,
    level_at_or_after,
    levels_around,
    sides_of,
)

prices = st.one_of(st.integers(950, 1050), st.integers(1, 10**15))
sides = st.dictionaries(prices, st.integers(1, 10**12), max_size=30)


def columns(side: dict[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Prices and sizes of a side in the order they were drawn in, which is not that of prices."""
    return np.array([*side], np.int64), np.array([*side.values()], np.int64)


class TestLevelsAround:
    @given(sides, sides, prices, st.integers(1, 3000))
    def test_holds_every_level_wherever_its_window_lies(self, bids, asks, centre, window):
        """Levels given in any order come back best first, near and far, with their sizes."""
        levels = levels_around(centre, columns(bids), columns(asks), window)
        for side, expected in ((BID, bids), (ASK, asks)):
            price, size = sides_of(levels)[side]
            assert price.tolist() == sorted(expected, reverse=side == BID)
            assert size.tolist() == [expected[each] for each in price.tolist()]

    @given(sides, st.integers(1, 5000))
    def test_has_room_for_more(self, bids, more):
        """As many far levels as asked for fit at once, besides those that are there."""
        none = np.empty(0, np.int64)
        levels = levels_around(10**9, columns(bids), (none, none), 64, more)
        assert not far_is_full(levels.far_keys, levels.far_sizes, levels.meta, more)

    def test_of_nothing(self):
        """A book without levels exports empty sides and has no best level."""
        none = np.empty(0, np.int64)
        levels = levels_around(1000, (none, none), (none, none), 64)
        assert [prices.size for prices, _ in sides_of(levels)] == [0, 0]
        assert best_level(levels, BID)[1] == 0


class TestWalk:
    @given(sides, st.integers(0, 10**15), st.sampled_from([BID, ASK]))
    def test_the_level_at_or_after_a_price_is_the_next_worse(self, book, price, side):
        """It is the level itself or the nearest worse one, whether in the window or beyond it."""
        none = np.empty(0, np.int64)
        both = [(none, none), (none, none)]
        both[side] = columns(book)
        levels = levels_around(1000, *both, 128)
        worse = [each for each in book if (each <= price if side == BID else each >= price)]
        key, size = level_at_or_after(levels, side, key_of(side, price))
        nearest = max(worse, default=0) if side == BID else min(worse, default=0)
        assert (key_of(side, key), size) == (nearest, book.get(nearest, 0))

    @given(sides, sides, st.data())
    def test_removed_levels_are_not_met_again(self, bids, asks, data):
        """After removals, also of all, only the others are left; clearing leaves none."""
        levels = levels_around(1000, columns(bids), columns(asks), 128)
        for side, book in ((BID, bids), (ASK, asks)):
            gone = data.draw(st.sets(st.sampled_from(sorted(book)))) if book else set()
            assert all(set_level(levels, side, key_of(side, p), 0) == book[p] for p in gone)
            assert sorted(sides_of(levels)[side][0].tolist()) == sorted(book.keys() - gone)
        clear(levels)
        assert [prices.size for prices, _ in sides_of(levels)] == [0, 0]
