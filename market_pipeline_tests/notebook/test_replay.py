from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import polars as pl
import pytest
from numba.core.errors import TypingError

from market_pipeline import books_at, replay
from market_pipeline.books.change_log import Change
from market_pipeline.books.levels import ASK, BID
from market_pipeline.books.walk import level_at_or_after
from market_pipeline.errors import DomainError, MissingDataError
from market_pipeline_tests.notebook.conftest import FAULTY, NEXT, QUIET, Market

pytestmark = pytest.mark.slow
NS = 10**9
MESSAGE = int(Change.MESSAGE)
ALL = ("2025-03-05T00:00:00Z", "2025-03-07T00:00:00Z")
FAULTS = ("2025-03-03T00:00:00Z", "2025-03-04T00:00:00Z")


def touch(message) -> tuple:
    sides = [(*side[0].tolist(),) if len(side) else (None, None) for side in
             (message.bids, message.asks)]  # fmt: skip
    return (message.ts_receipt_ns, message.sequence_number, *sides[0], *sides[1], message.flags)


def published(market: Market, *days) -> list[tuple]:
    columns = [
        *("ts_receipt_ns", "sequence_number", "bid_price_ticks", "bid_size_lots"),
        *("ask_price_ticks", "ask_size_lots", "flags"),
    ]
    frames = [market.published("book_bbo", day).select(columns) for day in days]
    return pl.concat(frames).rows()


def count(state, message, levels):
    state[0] += 1
    state[1] += message.sequence_number
    return state[0] == state[2]


def find_best(state, message, levels):
    _, state[0] = level_at_or_after(levels, ASK, 0)
    return False


def cut(message, depth: int) -> tuple:
    """All that is known of a message and of its best levels."""
    fields = astuple(replace(message, bids=message.bids[:depth], asks=message.asks[:depth]))
    return (*fields[:-2], *(side.tolist() for side in fields[-2:]))


def measure(state, message, levels):
    """Counts messages, levels that are not what their last change made them, and changes."""
    state[0] += 1
    changes = message.changes
    for n in range(message.first, message.end):
        state[2] += changes.size_lots[n] != changes.before_lots[n]
        if n + 1 == message.end and changes.kind[n] == MESSAGE:
            side = BID if changes.is_bid[n] else ASK
            key = -changes.price_ticks[n] if changes.is_bid[n] else changes.price_ticks[n]
            found, size = level_at_or_after(levels, side, key)
            state[1] += changes.size_lots[n] != (size if found == key else 0)
    return False


class TestReplay:
    def test_is_what_is_published(self, market: Market):
        """All messages of a day with faults, and over a border, have the published touch."""
        for span, days in ((FAULTS, [FAULTY]), (ALL, [QUIET, NEXT])):
            found = replay(market.instrument.id, *span, depth=2, data_dir=market.data_dir)
            assert published(market, *days) == [touch(message) for message in found]

    def test_full_books_are_books_at(self, market: Market):
        """With all levels the books are those of `books_at`, and those of a depth their best."""
        span = ("2025-03-03T13:00:00Z", "2025-03-03T13:10:00Z")
        ask = {"instruments": market.instrument.id, "start": span[0], "end": span[1],
               "data_dir": market.data_dir}  # fmt: skip
        whole, some = list(replay(**ask, depth=None)), list(replay(**ask, depth=7))
        times = [message.ts_receipt_ns for message in whole]
        books = books_at(market.instrument.id, times, data_dir=market.data_dir)
        for message, cut, book in zip(whole, some, books, strict=True):
            for side, part, frame in (
                (message.bids, cut.bids, book.bids),
                (message.asks, cut.asks, book.asks),
            ):
                assert frame.select("price_ticks", "size_lots").rows() == list(
                    map(tuple, side.tolist())
                )
                assert part.tolist() == side[:7].tolist()

    def test_a_part_of_a_day(self, market: Market):
        """The messages from the start up to the end, and none at the end, are shown."""
        rows = published(market, QUIET)
        start, end = rows[900][0], rows[1_300][0]
        found = replay(market.instrument.id, start, end, depth=2, data_dir=market.data_dir)
        assert rows[900:1_300] == [touch(message) for message in found]

    def test_a_callback(self, market: Market):
        """A compiled callback is shown every message, and ends the replay when it asks to."""
        rows = published(market, QUIET, NEXT)
        ask = (market.instrument.id, *ALL)
        state = np.array([0, 0, -1])
        assert state is replay(*ask, on_message=count, state=state, data_dir=market.data_dir)
        assert [len(rows), sum(row[1] for row in rows)] == state[:2].tolist()
        state = np.array([0, 0, 5])
        replay(*ask, on_message=count, state=state, data_dir=market.data_dir)
        assert [5, sum(row[1] for row in rows[:5])] == state[:2].tolist()

    def test_changes(self, market: Market):
        """A callback that asks for changes is shown those that lead from each book to the next."""
        rows = published(market, QUIET, NEXT)
        ask = {"on_message": measure, "data_dir": market.data_dir, "changes": True}
        state = replay(market.instrument.id, *ALL, state=np.zeros(3, np.int64), **ask)
        assert [len(rows), 0] == state[:2].tolist()
        assert state[2] > len(rows)

    def test_changes_that_are_not_asked_for(self, market: Market):
        """A callback that reads changes nobody asked for is refused when it is compiled."""
        ask = {"on_message": measure, "state": np.zeros(3, np.int64), "data_dir": market.data_dir}
        with pytest.raises(TypingError, match="none"):
            replay(market.instrument.id, *ALL, **ask)


class TestTouch:
    @pytest.mark.parametrize("depth", [0, 1])
    def test_is_the_book_cut(self, market: Market, depth: int):
        """With a level or none a replay shows what one of more levels shows, cut to that."""
        rows = published(market, QUIET)
        for span in (FAULTS, ALL, (rows[900][0], rows[1_300][0])):
            ask = (market.instrument.id, *span)
            whole = replay(*ask, depth=2, data_dir=market.data_dir)
            found = replay(*ask, depth=depth, data_dir=market.data_dir)
            assert [cut(each, depth) for each in whole] == [cut(each, depth) for each in found]

    def test_needs_no_raw_file(self, market: Market, tmp_path, monkeypatch):
        """It is read where the lake is gone, which ends a replay of whole books."""
        monkeypatch.setenv("PIPELINE_LAKE_URI", str(tmp_path))
        ask = {"instruments": market.instrument.id, "start": ALL[0], "end": ALL[1],
               "data_dir": market.data_dir}  # fmt: skip
        assert published(market, QUIET, NEXT) == [touch(each) for each in replay(**ask, depth=1)]
        with pytest.raises(MissingDataError, match="not in the lake any more"):
            list(replay(**ask, depth=2))

    @pytest.mark.parametrize("depth", [0, 1])
    def test_a_callback(self, market: Market, depth: int):
        """A compiled callback is shown every message, and ends the replay when it asks to."""
        rows = published(market, QUIET, NEXT)
        ask = {"on_message": count, "depth": depth, "data_dir": market.data_dir}
        for most, expected in ((-1, rows), (5, rows[:5])):
            state = replay(market.instrument.id, *ALL, state=np.array([0, 0, most]), **ask)
            assert [len(expected), sum(row[1] for row in expected)] == state[:2].tolist()

    def test_a_callback_that_reads_levels(self, market: Market):
        """It is refused when it is compiled: an empty book would pass for the real one."""
        ask = {"on_message": find_best, "depth": 1, "data_dir": market.data_dir}
        with pytest.raises(TypingError, match="none"):
            replay(market.instrument.id, *ALL, state=np.zeros(1, np.int64), **ask)

    def test_with_changes(self, market: Market):
        """Changes are of the whole book, so the two are refused together."""
        ask = {"on_message": count, "state": np.zeros(3, np.int64), "data_dir": market.data_dir}
        with pytest.raises(DomainError, match="Changes are those of the whole book"):
            replay(market.instrument.id, *ALL, depth=1, changes=True, **ask)


class TestRefusals:
    def test_a_day_that_is_missing(self, market: Market):
        """A range with a day that is not published names it, after the days before it."""
        found = replay(
            market.instrument.id, "2025-03-03T23:00:00Z", ALL[1], data_dir=market.data_dir
        )
        with pytest.raises(MissingDataError, match="2025-03-04"):
            list(found)

    def test_times(self, market: Market):
        """An end before the start is refused at once."""
        with pytest.raises(DomainError, match="end is before the start"):
            replay(market.instrument.id, *reversed(ALL), data_dir=market.data_dir)

    def test_a_depth_below_0(self, market: Market):
        """A negative number of levels is refused at once, as an error of this package."""
        with pytest.raises(DomainError, match="no number of levels"):
            replay(market.instrument.id, *ALL, depth=-1, data_dir=market.data_dir)

    def test_nothing(self, market: Market):
        """An empty span has no message."""
        span = (ALL[0], ALL[0])
        assert [] == list(replay(market.instrument.id, *span, data_dir=market.data_dir))
