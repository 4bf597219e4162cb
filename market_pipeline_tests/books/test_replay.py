from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books import logged_replay
from market_pipeline.books import rebuild as driver
from market_pipeline.books import replay as replays
from market_pipeline.books.change_log import Change
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.levels import ASK, BID, empty_levels
from market_pipeline.books.logged_replay import LoggedReplay
from market_pipeline.books.player import Player, Start
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.replay import PublishedRows, Replay, Replayed, ReplayMismatch
from market_pipeline.books.state import BboRows
from market_pipeline.books.walk import write_levels
from market_pipeline.quality.reference.feed import Row
from market_pipeline_tests.books.test_resumed import ONE, Feed, around, cuts, options, split_gaps

pytestmark = pytest.mark.slow
SMALL = {"_MESSAGE_ROOM": 3, "_OTHER_ROOM": 2}
SMALL_LOG = {"_MESSAGE_ROOM": 3, "_CHANGE_ROOM": 8, "_SPARE_ROOM": 2}


@pytest.fixture(scope="module", autouse=True)
def narrow_windows():
    """Windows of 64 ticks, and little room in the log, so that all is moved, emptied, enlarged."""
    with ExitStack() as patched:
        narrow = {"empty_levels": lambda: empty_levels(64, 32), "levels_around": around}
        patched.enter_context(mock.patch.multiple(driver, **narrow))
        patched.enter_context(mock.patch.multiple(replays, **SMALL))
        patched.enter_context(mock.patch.multiple(logged_replay, levels_around=around, **SMALL_LOG))
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


def played(blocks: Iterable[Replayed]) -> Iterator[tuple[dict, dict]]:
    """A book of two dicts, bids and asks, that does what the blocks say: after each message."""
    book: dict[bool, dict[int, int]] = {True: {}, False: {}}

    def set_row(rows, n: int) -> None:
        side, price, size = book[bool(rows.is_bid[n])], int(rows.price_ticks[n]), rows.size_lots[n]
        if size >= 0:
            side.pop(price, None)
        if size > 0:
            side[price] = int(size)

    for block in blocks:
        others = block.others
        for message, end in enumerate(block.messages.end):
            for n in range(block.messages.start[message], end):
                set_row(block.rows, n)
            for n in np.flatnonzero(others.message == message):
                if not others.is_cleared[n]:
                    set_row(others, n)
                    continue
                ends = others.price_ticks[n], others.size_lots[n]
                side = book[bool(others.is_bid[n])]
                for level in [price for price in side if min(ends) <= price <= max(ends)]:
                    del side[level]
            yield dict(book[True]), dict(book[False])
        for n in range(*block.under_way):
            set_row(block.rows, n)


def logged(blocks: Iterable[Replayed]) -> Iterator[tuple[dict, dict]]:
    """The same of what the log of changes says, which has the size of each level before it."""
    book: dict[bool, dict[int, int]] = {True: {}, False: {}}
    for block in blocks:
        start, changes = 0, block.changes
        for end in block.messages.end.tolist():
            for n in range(start, end):
                if changes.kind[n] in (Change.OLD_MESSAGE, Change.REFUSED):
                    continue
                side, price = book[bool(changes.is_bid[n])], int(changes.price_ticks[n])
                assert side.pop(price, 0) == changes.before_lots[n]
                if changes.size_lots[n]:
                    side[price] = int(changes.size_lots[n])
            yield dict(book[True]), dict(book[False])
            start = end


def levels(prices: np.ndarray, sizes: np.ndarray) -> dict[int, int]:
    return dict(zip(prices.tolist(), sizes.tolist(), strict=True))


def replay(feed, options, rows: PublishedRows, cuts=(), together=2, of=Replay) -> Replay:
    is_sound = rows.flags & replays._NO_TIME == 0
    clock_ns = int(rows.ts_receipt_ns[is_sound.argmax()]) if is_sound.any() else None
    engine = of(ONE, ONE, options, cut(rows, 3), clock_ns=clock_ns)
    engine.open(feed.deltas(cuts), feed.books(together))
    return engine


BOTH = pytest.mark.parametrize("of", [Replay, LoggedReplay], ids=["rows", "logged"])


class TestMessages:
    @BOTH
    @settings(max_examples=100)
    @given(split_gaps(), options, cuts, st.integers(1, 3))
    def test_lead_to_the_published_rows(self, of, feed, options, cuts, together):
        """A plain book that does what they say has the touch of every published row, and at every
        keyframe the levels of the rebuild, near and far.
        """
        rows, keyframes = rebuilt(feed, options)
        flags, firsts = [], []

        def blocks() -> Iterator[Replayed]:
            for block in replay(feed, options, rows, cuts, together, of).until():
                firsts.append((block.first, len(flags)))
                flags.extend(block.messages.flags.tolist())
                yield block

        books = list(played(blocks()))
        found = [
            (
                max(bids, default=None),
                bids.get(max(bids, default=0), 0),
                min(asks, default=None),
                asks.get(min(asks, default=0), 0),
            )
            for bids, asks in books
        ]
        expected = [
            (bid if bid_size else None, bid_size, ask if ask_size else None, ask_size)
            for bid, bid_size, ask, ask_size in zip(*(c.tolist() for c in rows[2:6]), strict=True)
        ]
        assert expected == found
        assert rows.flags.tolist() == flags
        assert all(first == before for first, before in firsts)
        for frame in keyframes:
            if frame.kind == "closing" or not frame.messages:
                continue  # a snapshot may come after the last message
            assert books[frame.messages - 1] == (
                levels(frame.bid_price_ticks, frame.bid_size_lots),
                levels(frame.ask_price_ticks, frame.ask_size_lots),
            )

    @settings(max_examples=100)
    @given(split_gaps(), options, cuts, st.integers(1, 3))
    def test_and_their_log_say_the_same(self, feed, options, cuts, together):
        """With and without who changed what, the book after each message is the same, and every raw
        row is in the log once, in feed order, as it came.
        """
        rows, _ = rebuilt(feed, options)
        ask = feed, options, rows, cuts, together
        seen = []

        def blocks() -> Iterator[Replayed]:
            for block in replay(*ask, of=LoggedReplay).until():
                of_row = block.changes.feed_row, block.changes.is_bid, block.changes.sequence_number
                seen.extend(zip(*(column.tolist() for column in of_row), strict=True))
                yield block

        books = list(played(replay(*ask).until()))
        assert books == list(played(replay(*ask, of=LoggedReplay).until()))
        assert books == list(logged(blocks()))
        assert [(n, r.is_bid, r.sequence_number) for n, r in enumerate(feed.rows)] == [
            row for row in seen if row[0] >= 0
        ]

    @BOTH
    @settings(max_examples=50)
    @given(split_gaps(), options, st.lists(st.integers(0, 40), min_size=1, max_size=4))
    def test_stop_at_a_message(self, of, feed, options, stops):
        """A replay in pieces gives what one in a single piece does, and the book at each stop."""
        rows, _ = rebuilt(feed, options)
        whole = list(played(replay(feed, options, rows, of=of).until()))
        engine = replay(feed, options, rows, of=of)

        def pieces() -> Iterator[Replayed]:
            for stop in sorted({stop % rows.flags.size for stop in stops}):
                yield from engine.until(stop)
                assert stop + 1 == engine.message
                book = engine.book()
                assert whole[stop][0] == levels(book.bid_price_ticks, book.bid_size_lots)
            yield from engine.until()

        assert whole == list(played(pieces()))


def see_levels(state, message, levels):
    """Writes the message and the best 64 levels a side down: these feeds have no more."""
    seen, sides = state
    n = seen[0, 0] + 1
    seen[0, 0] = n
    seen[n, 0], seen[n, 1] = message.number, message.sequence_number
    write_levels(levels, BID, sides[0], sides[1], n)
    write_levels(levels, ASK, sides[2], sides[3], n)
    return False


class TestPlayed:
    @BOTH
    @settings(max_examples=50)
    @given(split_gaps(), options, cuts)
    def test_by_a_player(self, of, feed, options, cuts):
        """A compiled callback is shown the full book after every message, and each once."""
        rows, _ = rebuilt(feed, options)
        books = list(played(replay(feed, options, rows, cuts, of=of).until()))
        count, engine = len(books), replay(feed, options, rows, cuts, of=of)
        seen = np.zeros((count + 1, 2), np.int64)
        sides = tuple(np.zeros((count + 1, 64), np.int64) for _ in range(4))
        source = chain([Start(engine.book())], engine.until())
        assert not Player([source], see_levels, (seen, sides), -(2**63), 2**63 - 1).play()
        assert [count, *range(count)] == [seen[0, 0], *seen[1:, 0]]
        assert rows.sequence_number.tolist() == seen[1:, 1].tolist()
        for n, book in enumerate(books, 1):
            for side, prices, sizes in zip(book, sides[::2], sides[1::2], strict=True):
                assert side == {
                    price: size
                    for price, size in zip(prices[n].tolist(), sizes[n].tolist(), strict=True)
                    if size
                }


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
