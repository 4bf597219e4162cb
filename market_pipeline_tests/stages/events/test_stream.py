from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from datetime import date
from unittest import mock

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books import logged_replay
from market_pipeline.books import rebuild as driver
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.levels import empty_levels
from market_pipeline.books.logged_replay import LoggedReplay
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.quality.reference.feed import Row, Snapshot
from market_pipeline.sources.batches import Trades
from market_pipeline.stages.events.stream import DayEvents
from market_pipeline_tests.books.test_replay import SMALL_LOG, rebuilt, replay
from market_pipeline_tests.books.test_resumed import ONE, Feed, around, cuts, options, split_gaps
from market_pipeline_tests.naive.events import COLUMNS, read_events

pytestmark = pytest.mark.slow
DAY = date(1970, 1, 1)
INVALID = int(INVALIDATING)


@pytest.fixture(scope="module", autouse=True)
def narrow_windows():
    """Windows of 64 ticks, and little room in the log."""
    with ExitStack() as patched:
        narrow = {"empty_levels": lambda: empty_levels(64, 32), "levels_around": around}
        patched.enter_context(mock.patch.multiple(driver, **narrow))
        patched.enter_context(mock.patch.multiple(logged_replay, levels_around=around, **SMALL_LOG))
        yield


def trades_at(times_ns: list[int]) -> Trades:
    received = np.array(times_ns, np.int64)
    count = received.size
    return Trades(
        received - 1,
        received,
        np.arange(100, 100 + count, dtype=np.float64),
        np.arange(1, 1 + count, dtype=np.float64),
        np.arange(count) % 2 == 0,
        np.arange(count) + 7_000,
    )


NO_TRADES = trades_at([])


def events_of(feed: Feed, options, trades=NO_TRADES, *, cuts=(), batch_rows=5, **span):
    """The stream of a feed as one frame, and its rows of `books.bbo`."""
    rows, _ = rebuilt(feed, options)
    engine = replay(feed, options, rows, cuts, of=LoggedReplay)
    stream = DayEvents("V", "S", DAY, ONE, ONE, trades, batch_rows=batch_rows, **span)
    batches = [batch.rows for batch in stream.batches(engine.book(), engine.until())]
    return pl.from_arrow(pa.Table.from_batches(batches)) if batches else pl.DataFrame(), rows


class TestTheStream:
    @settings(max_examples=100)
    @given(split_gaps(), options, cuts)
    def test_leads_to_every_valid_row(self, feed, options, cuts):
        """A plain reader has the touch of every valid row of `books.bbo`, and no other is valid."""
        events, rows = events_of(feed, options, cuts=cuts)
        seen = {}
        for _, message, is_valid, touch in read_events(events.select(COLUMNS).iter_rows()):
            assert is_valid == (int(rows.flags[message]) & INVALID == 0)
            seen[message] = (is_valid, touch)
        assert list(range(rows.flags.size)) == list(seen)
        for message, (is_valid, touch) in seen.items():
            bid, bid_size, ask, ask_size = (int(column[message]) for column in rows[2:6])
            expected = (
                *((bid, bid_size) if bid_size else (None, None)),
                *((ask, ask_size) if ask_size else (None, None)),
            )
            assert not is_valid or expected == touch

    @settings(max_examples=60)
    @given(split_gaps(), options, cuts, st.lists(st.integers(0, 86_401), max_size=6))
    def test_does_not_depend_on_batches(self, feed, options, cuts, seconds):
        """Rows and batches are the same however the feed was cut; only the last batch is short."""
        trades = trades_at([second * 10**9 for second in seconds])
        whole, _ = events_of(feed, options, trades, batch_rows=1 << 12)
        parts, _ = events_of(feed, options, trades, cuts=cuts, batch_rows=3)
        assert whole.equals(parts)

    @settings(max_examples=60)
    @given(split_gaps(), options)
    def test_every_row_of_the_feed_is_in_it(self, feed, options):
        """Each raw row is one row, in feed order; repairs and clears come besides."""
        events, _ = events_of(feed, options)
        told = events.filter(kind="delta")
        assert [*range(len(feed.rows))] == told["file_row"].to_list()
        assert [row.sequence_number for row in feed.rows] == told["sequence_number"].to_list()

    @settings(max_examples=60)
    @given(split_gaps(), options)
    def test_nothing_leads_across(self, feed, options):
        """An invalid span begins with a clear, and every row of it is flagged; behind it come a
        clear and the whole book.
        """
        events, _ = events_of(feed, options)
        is_invalid = (events["book_flags"] & INVALID != 0).to_list()
        assert is_invalid == (events["flags"] & 4 != 0).to_list()
        is_valid_before = None
        for _, group in events.group_by("message", maintain_order=True):
            if group["message"][0] is None:
                continue
            is_valid = not group["flags"][-1] & 4
            clears = group["kind"].to_list().count("clear")
            if is_valid == is_valid_before:
                assert 0 == clears
            elif is_valid:
                kinds = group["kind"].to_list()
                assert {"snapshot"} >= set(kinds[kinds.index("clear") + 1 :])
            else:
                assert "clear" == group["kind"][0]
            is_valid_before = is_valid
            assert [*[False] * (group.height - 1), True] == (group["flags"] & 128 != 0).to_list()


FEED = Feed(
    [
        Row(10, 1, True, 99, 5, 3),
        Row(20, 2, True, 99, 0, 13),
        Row(20, 2, True, 98, 4, 13),
        Row(30, 3, False, 102, -1, 23),
    ],
    [Snapshot(10, 1, [(99, 5), (97, 2)], [(102, 1)])],
    [],
    [],
    np.empty(0, np.int64),
)
PLAIN = RebuildOptions(depth_interval_ms=None)


class TestByHand:
    def test_rows(self):
        """A small day, row by row: a cold start, the seed, a trade between, a value off the lot."""
        events, _ = events_of(FEED, PLAIN, trades_at([20, 25]))
        columns = ["kind", "action", "side", "price_ticks", "size_lots", "flags", "sequence_number"]
        assert [
            # Nothing is known before the snapshot; the book of the first message is not valid.
            ("clear", "R", "N", None, None, 16 + 4, 1),
            ("delta", "A", "B", 99, 5, 16 + 4 + 128, 1),
            # At the same time the trade comes first.
            ("trade", "T", "B", 100, 1, 128 + 4, None),
            ("delta", "C", "B", 99, 0, 16, 2),
            ("delta", "A", "B", 98, 4, 16, 2),
            ("clear", "R", "N", None, None, 16, 2),
            ("snapshot", "A", "B", 98, 4, 16 + 32, 2),
            ("snapshot", "A", "B", 97, 2, 16 + 32, 2),
            ("snapshot", "A", "A", 102, 1, 16 + 32 + 128, 2),
            ("trade", "T", "A", 101, 2, 128, None),
            ("clear", "R", "N", None, None, 16 + 4, 3),
            ("delta", "N", "A", 102, None, 16 + 4 + 128, 3),
        ] == events.select(columns).rows()
        assert [None, 0, 0, 1, 2, *[None] * 4, 1, None, 3] == events["file_row"].to_list()
        assert [7_000, 7_001] == events["trade_id"].drop_nulls().to_list()
        assert [BookFlag.PRECISION_LOSS] * 2 == events["book_flags"].to_list()[-2:]

    def test_trades_out_of_order(self):
        """Trades come in order of receipt, those of one time in order of the file; none is lost."""
        events, _ = events_of(FEED, PLAIN, trades_at([90, 15, 5, 15]))
        trades = events.with_row_index().filter(kind="trade")
        assert [2, 1, 3, 0] == trades["file_row"].to_list()
        assert events.height - 1 == trades["index"][-1]

    @pytest.mark.parametrize(("from_ns", "until_ns", "messages"), [(20, 40, [1, 2]), (0, 20, [0])])
    def test_a_span(self, from_ns, until_ns, messages):
        """Only events of the span are told, and a reader has the book after the first message."""
        trades = trades_at([5, 15, 25, 40])
        events, _ = events_of(FEED, PLAIN, trades, from_ns=from_ns, until_ns=until_ns)
        assert messages == events["message"].drop_nulls().unique().sort().to_list()
        times = events["ts_receipt_ns"]
        assert from_ns <= times.min() <= times.max() < until_ns
        seen = list(read_events(events.select(COLUMNS).iter_rows()))
        assert from_ns == 0 or ("message", 1, True, (98, 4, 102, 1)) in seen

    def test_without_ids(self):
        """Trades that were read without their ids are refused."""
        with pytest.raises(ValueError, match="ids"):
            DayEvents("V", "S", DAY, ONE, ONE, replace(NO_TRADES, id=None))
