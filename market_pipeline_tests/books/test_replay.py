from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books import rebuild as driver
from market_pipeline.books import replay as replays
from market_pipeline.books.change_log import Change
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.levels import empty_levels
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.replay import PublishedRows, Replay, Replayed, ReplayMismatch
from market_pipeline.books.state import BboRows
from market_pipeline.quality.reference.feed import Row
from market_pipeline_tests.books.test_resumed import ONE, Feed, around, cuts, options, split_gaps

pytestmark = pytest.mark.slow
SMALL = {"_MESSAGE_ROOM": 3, "_CHANGE_ROOM": 8, "_SPARE_ROOM": 2}


@pytest.fixture(scope="module", autouse=True)
def narrow_windows():
    """Windows of 64 ticks, and little room in the log, so that all is moved, emptied, enlarged."""
    with ExitStack() as patched:
        narrow = {"empty_levels": lambda: empty_levels(64, 32), "levels_around": around}
        patched.enter_context(mock.patch.multiple(driver, **narrow))
        patched.enter_context(mock.patch.multiple(replays, levels_around=around, **SMALL))
        yield


def rebuilt(feed: Feed, options: RebuildOptions) -> tuple[PublishedRows, list[Keyframe]]:
    """The rows of a day as they are published, and the full book after many of its messages."""
    rebuild = Rebuild(ONE, ONE, options, gap_rows=feed.suspected)
    blocks = list(rebuild.blocks(feed.deltas([]), feed.books(2)))
    rows = [block for block in blocks if isinstance(block, BboRows)]
    columns = {
        name: np.concatenate([getattr(block, name) for block in rows])
        for name in PublishedRows._fields
    }
    return PublishedRows(**columns), [block for block in blocks if isinstance(block, Keyframe)]


def cut(rows: PublishedRows, size: int, first: int = 0) -> Iterator[PublishedRows]:
    for start in range(first, rows.flags.size, size):
        yield PublishedRows._make(column[start : start + size] for column in rows)


def played(blocks: list[Replayed]) -> Iterator[tuple[dict, dict, list]]:
    """A book of two dicts, bids and asks, that does what the log says: after each message."""
    book: dict[bool, dict[int, int]] = {True: {}, False: {}}
    for block in blocks:
        start = 0
        for end in block.messages.end.tolist():
            kinds = block.changes.kind[start:end].tolist()
            for n in range(start, end):
                if block.changes.kind[n] in (Change.OLD_MESSAGE, Change.REFUSED):
                    continue
                side = book[is_bid := bool(block.changes.is_bid[n])]
                price, size = int(block.changes.price_ticks[n]), int(block.changes.size_lots[n])
                if block.changes.kind[n] == Change.CLEARED:
                    for level in list(side):
                        if (size <= level <= price) if is_bid else (price <= level <= size):
                            del side[level]
                    continue
                before = side.pop(price, 0)
                if block.changes.before_lots.size:
                    assert before == block.changes.before_lots[n]
                if size:
                    side[price] = size
            yield dict(book[True]), dict(book[False]), kinds
            start = end


def levels(prices: np.ndarray, sizes: np.ndarray) -> dict[int, int]:
    return dict(zip(prices.tolist(), sizes.tolist(), strict=True))


def replay(feed: Feed, options: RebuildOptions, rows: PublishedRows, cuts=(), together=2, **how):
    engine = Replay(ONE, ONE, options, cut(rows, 3), **how)
    engine.open(feed.deltas(cuts), feed.books(together))
    return engine


class TestTheLog:
    @settings(max_examples=100)
    @given(split_gaps(), options, cuts, st.integers(1, 3))
    def test_leads_to_the_published_rows(self, feed, options, cuts, together):
        """A plain book that does what the log says has the touch of every published row."""
        rows, _ = rebuilt(feed, options)
        blocks = list(replay(feed, options, rows, cuts, together).until())
        found = [
            (
                max(bids, default=None),
                bids.get(max(bids, default=0), 0),
                min(asks, default=None),
                asks.get(min(asks, default=0), 0),
            )
            for bids, asks, _ in played(blocks)
        ]
        expected = [
            (bid if bid_size else None, bid_size, ask if ask_size else None, ask_size)
            for bid, bid_size, ask, ask_size in zip(*(c.tolist() for c in rows[2:6]), strict=True)
        ]
        assert expected == found
        flags = np.concatenate([block.messages.flags for block in blocks])
        assert rows.flags.tolist() == flags.tolist()
        assert [block.first for block in blocks] == np.cumsum(
            [0, *(block.messages.end.size for block in blocks[:-1])]
        ).tolist()

    @settings(max_examples=100)
    @given(split_gaps(), options, cuts)
    def test_leads_to_the_full_book(self, feed, options, cuts):
        """At every keyframe the plain book has the levels of the rebuild, near and far."""
        rows, keyframes = rebuilt(feed, options)
        books = list(played(list(replay(feed, options, rows, cuts).until())))
        for frame in keyframes:
            if frame.kind == "closing" or not frame.messages:
                continue  # a snapshot may come after the last message
            bids, asks, _ = books[frame.messages - 1]
            sides = {True: bids, False: asks}
            assert sides == {
                True: levels(frame.bid_price_ticks, frame.bid_size_lots),
                False: levels(frame.ask_price_ticks, frame.ask_size_lots),
            }

    @settings(max_examples=100)
    @given(split_gaps(), options, cuts, st.integers(1, 3))
    def test_of_levels_only(self, feed, options, cuts, together):
        """Without who changed what from what, the log leads to the same book after each message."""
        rows, _ = rebuilt(feed, options)
        whole, levels_only = (
            [
                book[:2]
                for book in played(
                    list(replay(feed, options, rows, cuts, together, levels_only=only).until())
                )
            ]
            for only in (False, True)
        )
        assert whole == levels_only

    @settings(max_examples=100)
    @given(split_gaps(), options, cuts)
    def test_holds_every_row(self, feed, options, cuts):
        """Every raw row is in the log once, in feed order, as it was told."""
        rows, _ = rebuilt(feed, options)
        blocks = list(replay(feed, options, rows, cuts).until())
        told = [
            (int(row), bool(bid), int(number))
            for block in blocks
            for row, bid, number in zip(
                block.changes.feed_row,
                block.changes.is_bid,
                block.changes.sequence_number,
                strict=True,
            )
            if row >= 0
        ]
        assert [(n, r.is_bid, r.sequence_number) for n, r in enumerate(feed.rows)] == told

    @settings(max_examples=50)
    @given(split_gaps(), options, st.lists(st.integers(0, 40), min_size=1, max_size=4))
    def test_stops_at_a_message(self, feed, options, stops):
        """A replay in pieces gives what one in a single piece does, and the book at each stop."""
        rows, _ = rebuilt(feed, options)
        whole = [book[:2] for book in played(list(replay(feed, options, rows).until()))]
        engine, blocks = replay(feed, options, rows), []
        for stop in sorted({stop % rows.flags.size for stop in stops}):
            blocks += engine.until(stop)
            assert stop + 1 == engine.message
            book = engine.book()
            bids = levels(book.bid_price_ticks, book.bid_size_lots)
            assert whole[stop][0] == bids
        blocks += engine.until()
        assert whole == [book[:2] for book in played(blocks)]


class TestRefusals:
    FEED = Feed(
        [Row(k * 10**9, k, k % 2 == 0, 100 + k % 2, 1 + k) for k in range(1, 6)],
        [],
        [],
        [],
        np.empty(0, np.int64),
    )

    @pytest.mark.parametrize(
        ("column", "change"), [("sequence_number", 9), ("bid_size_lots", 1), ("flags", 4)]
    )
    def test_another_row(self, column, change):
        """A row that differs from the message replayed is refused with its number."""
        rows, _ = rebuilt(self.FEED, RebuildOptions())
        getattr(rows, column)[3] += change
        with pytest.raises(ReplayMismatch) as caught:
            list(replay(self.FEED, RebuildOptions(), rows).until())
        assert 3 == caught.value.message

    def test_fewer_and_more_rows(self):
        """One row too few or too many is refused."""
        rows, _ = rebuilt(self.FEED, RebuildOptions())
        fewer = PublishedRows._make(column[:-1] for column in rows)
        more = PublishedRows._make(np.append(column, column[-1:]) for column in rows)
        for other in (fewer, more):
            with pytest.raises(ReplayMismatch, match=r"no further message|none in the lake"):
                list(replay(self.FEED, RebuildOptions(), other).until())
