from __future__ import annotations

from itertools import combinations, pairwise
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.integers import (
    OffStep,
    OffStepCount,
    SnapshotFeed,
    deltas_in_steps,
    no_deltas,
)
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale
from market_pipeline.books.state import Deltas
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

TICK, LOT = Scale(1, 1), Scale(1, 3)
FIRST_FILE_ROW = 1_000


def batch(prices: list[float], sizes: list[float], first: int = 0) -> DeltaBatch:
    """Rows whose file has more rows before them than the feed."""
    number = np.arange(len(prices), dtype=np.int64)
    return DeltaBatch(
        Path("deltas"),
        FIRST_FILE_ROW + first,
        *[number] * 3,
        number % 2 == 0,
        np.array(prices),
        np.array(sizes),
    )


def counted(is_off: list[bool], edges: list[int]) -> OffStepCount:
    """The count of a feed in which some sizes are off the lot, cut into batches."""
    off_tick, off_lot = OffStepCount(), OffStepCount()
    for start, end in pairwise(edges):
        sizes = [row + (0.0005 if off else 0.001) for row, off in enumerate(is_off)][start:end]
        part = batch([100.0] * (end - start), sizes, start)
        in_steps(part, off_tick, off_lot, feed_row=start)
    return off_lot


def in_steps(part: DeltaBatch, *counts: OffStepCount, feed_row: int = 0) -> Deltas:
    """The rows in ticks and lots, in arrays of their own."""
    steps = [np.empty(part.price.size, np.int64) for _ in range(2)]
    return deltas_in_steps(part, feed_row, TICK, LOT, *counts, *steps)


@st.composite
def cut_feeds(draw):
    """Rows that are off their step or not, and ascending edges from the first to the last."""
    is_off = draw(st.lists(st.booleans(), min_size=1, max_size=60))
    inner = draw(st.sets(st.integers(0, len(is_off)), max_size=4))
    return is_off, sorted({0, len(is_off), *inner})


class TestOffStepCount:
    @given(cut_feeds())
    def test_counts_all_and_keeps_the_first_ten(self, feed):
        """Wherever the batches are cut, the first ten are located in the file and in the feed."""
        is_off, edges = feed
        off_lot = counted(is_off, edges)
        rows = np.flatnonzero(is_off).tolist()
        assert off_lot.losses == len(rows)
        assert off_lot.first == [
            OffStep(Path("deltas"), FIRST_FILE_ROW + row, row + 0.0005, row) for row in rows[:10]
        ]

    @given(cut_feeds(), st.data())
    def test_before_a_row_of_the_last_batch(self, feed, data):
        """It is the count of a feed that ends there, if the row is in the batch met last."""
        is_off, edges = feed
        row = data.draw(st.integers(edges[-2], edges[-1]))
        shorter = counted(is_off, sorted({0, *edges[:-1], row}))
        before = counted(is_off, edges).before(row)
        assert (before.losses, before.first) == (shorter.losses, shorter.first)

    def test_it_does_not_change_what_it_is_taken_of(self):
        """The rebuild goes on counting after its state was taken."""
        count = counted([True] * 3, [0, 3])
        count.before(1)
        assert (count.losses, len(count.first), count.latest_rows.tolist()) == (3, 3, [0, 1, 2])


class TestDeltasInSteps:
    def test_a_row_off_its_tick_or_lot_is_marked(self):
        """Either makes the kernel refuse the row; each is counted in its own column."""
        off_tick, off_lot = OffStepCount(), OffStepCount()
        part = batch([100.0, 100.03, 100.1, 100.07], [1.0, 2.0, 0.0005, 0.0007])
        deltas = in_steps(part, off_tick, off_lot)
        assert deltas.size_lots.tolist() == [1000, *[NOT_REPRESENTABLE] * 3]
        assert deltas.price_ticks[[0, 2]].tolist() == [1000, 1001]
        assert (off_tick.losses, off_lot.losses) == (2, 2)
        assert [step.value for step in off_tick.first] == [100.03, 100.07]

    def test_removals_stay_removals(self):
        """A size of 0 is 0 lots, whatever the lot."""
        counts = OffStepCount(), OffStepCount()
        deltas = in_steps(batch([0.1], [0.0]), *counts)
        assert (deltas.price_ticks.tolist(), deltas.size_lots.tolist()) == ([1], [0])

    def test_no_rows(self):
        """A batch of none has the types of any other: the kernel is compiled once for both."""
        some = in_steps(batch([0.1], [1.0]), OffStepCount(), OffStepCount())
        assert numba.typeof(no_deltas()) == numba.typeof(some)
        assert [column.size for column in no_deltas()] == [0] * 6


BOOK = ([100.0, 99.9], [1.0, 2.0]), ([100.1, 100.3], [3.0, 4.0])


def offered(bids, asks) -> SnapshotFeed:
    """A feed that has loaded one snapshot."""
    only = np.array([5], np.int64)
    sides = [np.array([column]) for side in (bids, asks) for column in side]
    feed = SnapshotFeed([SnapshotBatch(Path("book"), 0, only, only, *sides)], TICK, LOT)
    feed.load_next()
    return feed


def sides(worsening: int) -> st.SearchStrategy[tuple[list[float], list[float]]]:
    """Three levels of a side, mostly in order, now and then absent or off their step."""
    best = 100.0 + (worsening > 0) * 0.2

    def level(rank: int) -> st.SearchStrategy[tuple[float, float]]:
        usual = st.sampled_from([0, 0, 0, -1, 1]).map(
            lambda shift: round(best + worsening * (rank + shift) / 10, 1)
        )
        size = st.sampled_from([1.0, 1.0, 2.0, 0.0, 0.0004])
        return st.tuples(usual | st.sampled_from([100.03, 0.0]), size)

    return st.tuples(*map(level, range(3))).map(
        lambda side: tuple(map(list, zip(*side, strict=True)))
    )


def is_book(bids, asks) -> bool:
    """The naive twin: levels without holes, on the grid, each worse than the one before."""
    for worsening, (prices, sizes) in ((-1, bids), (1, asks)):
        filled = [(price, size) for price, size in zip(prices, sizes, strict=True) if size > 0]
        depth = len(filled)
        if depth == 0 or 0.0 in sizes[:depth]:
            return False
        if any(price in {0.0, 100.03} or size == 0.0004 for price, size in filled):
            return False
        ordered = sorted((price for price, _ in filled), key=lambda price: worsening * price)
        if ordered != [price for price, _ in filled] or len(set(ordered)) < depth:
            return False
    return bids[0][0] < asks[0][0]


class TestSnapshotFeed:
    def test_in_steps(self):
        """Prices and sizes are whole ticks and lots, best first."""
        feed = offered(*BOOK)
        assert feed.current.usable.tolist() == [True]
        assert feed.current.bid_price_ticks.tolist() == [[1000, 999]]
        assert feed.current.ask_size_lots.tolist() == [[3000, 4000]]

    def test_ends(self):
        """After the last batch it is exhausted and offers none."""
        feed = offered(*BOOK)
        assert not feed.exhausted
        kind = numba.typeof(feed.current)
        feed.load_next()
        assert (feed.exhausted, feed.current.sequence_number.size) == (True, 0)
        assert numba.typeof(feed.current) == kind

    @pytest.mark.parametrize(
        ("bids", "asks"),
        [
            (([0.0, 0.0], [0.0, 0.0]), BOOK[1]),
            (BOOK[0], ([100.0, 100.3], [3.0, 4.0])),
            (([99.9, 100.0], [2.0, 1.0]), BOOK[1]),
            (BOOK[0], ([100.1, 100.1], [3.0, 4.0])),
            (([100.0, 99.93], [1.0, 2.0]), BOOK[1]),
            (BOOK[0], ([100.1, 100.3], [3.0, 0.0004])),
            (([0.0, 99.9], [0.0, 2.0]), BOOK[1]),
            (([100.0, 0.0, 99.9], [1.0, 0.0, 2.0]), ([100.1] * 3, [1.0, 0.0, 0.0])),
        ],
        ids=["no bid", "locked", "unordered", "twice", "off tick", "off lot", "no best", "hole"],
    )
    def test_what_is_no_book_is_not_usable(self, bids, asks):
        """A side without levels, a cross, another order, a repeat, a hole, a value off its step."""
        assert offered(bids, asks).current.usable.tolist() == [False]

    def test_shorter_sides_are_usable(self):
        """Absent levels behind the last one, of size 0, are no hole."""
        bids, asks = ([100.0, 0.0], [1.0, 0.0]), ([100.1, 0.0], [1.0, 0.0])
        assert offered(bids, asks).current.usable.tolist() == [True]

    @given(st.lists(st.tuples(sides(-1), sides(1)), min_size=1, max_size=8))
    def test_as_the_naive_twin(self, books):
        """Each is marked as a person would; equal contents have equal numbers, others others."""
        number = np.arange(len(books))
        columns = [np.array([book[side][at] for book in books]) for side in (0, 1) for at in (0, 1)]
        feed = SnapshotFeed([SnapshotBatch(Path("book"), 0, number, number, *columns)], TICK, LOT)
        feed.load_next()
        assert [is_book(*book) for book in books] == feed.current.usable.tolist()
        contents = feed.current.content.tolist()
        for one, other in combinations(range(len(books)), 2):
            assert (books[one] == books[other]) == (contents[one] == contents[other])
