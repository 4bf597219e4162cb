"""Trades with their books against a naive twin, rule by rule, and on real days."""

from __future__ import annotations

import itertools
from datetime import date
from decimal import Decimal
from unittest import mock

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.tables import BOOK_TRADES, TAKER_ORDERS
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics import books_around as lookup
from market_pipeline.metrics import trades as module
from market_pipeline.metrics.books_around import books_around
from market_pipeline.metrics.trades import trade_rows
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.warehouse.tables import Table
from market_pipeline_tests.naive.trades import is_broken, naive_trades
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_books

DAY = date(2024, 8, 8)
TICK, LOT = Scale.of(Decimal("0.5")), Scale.of(Decimal("0.001"))
INSTRUMENT = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")
TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
A_BOOK = (1_000, 30, 1_004, 10)
NAMES_AFTER = ("realised_spread", "price_impact")
AFTER = [f"{name}_{seconds}s_ticks" for seconds in (1, 5, 60) for name in NAMES_AFTER]
NO_BID, NO_ASK = (None, None, 1_004, 10), (1_000, 30, None, None)


def a_bbo(*messages):
    """The frame of messages given as (ns, (bid, size, ask, size), flags, verified)."""
    rows = [(ns, *book, int(flags), verified) for ns, book, flags, verified in messages]
    schema = {"ts_receipt_ns": pl.Int64, **dict.fromkeys(TOUCH, pl.Int64)}
    schema |= {"flags": pl.UInt16, "verified": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")


def a_trades(*prints):
    """Trades given as (exchange ns, receipt ns, id, ticks, taker bought, lots), or a mark too."""
    columns = [*zip(*prints, strict=True)] if prints else [()] * 6
    (origin, receipt, ids, ticks, is_buy, lots), marks = columns[:6], columns[6:]
    return Trades(
        np.array(origin, np.int64),
        np.array(receipt, np.int64),
        TICK.to_floats(np.array(ticks, np.int64)),
        LOT.to_floats(np.array(lots, np.int64)),
        np.array(is_buy, np.bool_),
        np.array(ids, np.int64),
        np.array(marks[0], np.int8) if marks else None,
    )


def rows_of(batches, trades, spans=(), tick=TICK, lot=LOT):
    """The rows of trades as the table has them, and where they are off the grid."""
    unknown = {
        flag: np.array([each[1:] for each in spans if each[0] == flag], np.int64).reshape(-1, 2)
        for flag in {each[0] for each in spans}
    }
    books = books_around(batches, unknown, trades.ts_receipt_ns)
    parts = trade_rows(trades, books, instrument=INSTRUMENT, day=DAY, tick=tick, lot=lot)
    frame, off_tick, off_lot = BOOK_TRADES.empty(), [], []
    for part in parts:
        frame = pl.concat([frame, pl.DataFrame(part.rows).cast(dict(frame.schema))])
        off_tick += part.off_tick.tolist()
        off_lot += part.off_lot.tolist()
    return frame, off_tick, off_lot


def row_of(messages, *, receipt_ns=100, ticks=1_003, is_buy=True, spans=()):
    """The row of a single trade."""
    trades = a_trades((90, receipt_ns, 7, ticks, is_buy, 2))
    frame, _, _ = rows_of([a_bbo(*messages)], trades, spans)
    (row,) = frame.to_dicts()
    return row


class TestByHand:
    def test_a_buy(self):
        """A buy at 501.5 on 500 to 502: a half tick above the mid twice over, 1 tick, 19.96 bps."""
        row = row_of([(99, A_BOOK, 0, True)])

        assert {
            "exchange": "BINANCE",
            "symbol": "BTC-USDT",
            "dt": DAY,
            "ts_origin_ns": 90,
            "ts_receipt_ns": 100,
            "id": 7,
            "taker_order": 7,
            "price_ticks": 1_003,
            "size_lots": 2,
            "price": 501.5,
            "size": 0.002,
            "is_buy": True,
            "is_market": None,
            "bid_price_ticks": 1_000,
            "bid_size_lots": 30,
            "ask_price_ticks": 1_004,
            "ask_size_lots": 10,
            "flags": 0,
            "verified": True,
            "book_age_ns": 1,
            "valid_run": 1,
            "mid_distance_half_ticks": 2,
            "effective_spread_ticks": 2,
            "effective_spread_bps": pytest.approx(1e4 * 2 * (501.5 - 501) / 501),
            **dict.fromkeys(AFTER),
        } == row

    def test_a_sell_below_the_mid_paid(self):
        """The distance has the sign of the price, the spread that of what the taker paid."""
        row = row_of([(99, A_BOOK, 0, True)], ticks=1_000, is_buy=False)

        assert (-4, 4) == (row["mid_distance_half_ticks"], row["effective_spread_ticks"])

    def test_at_the_same_time_the_trade_comes_first(self):
        """A message of the trade's own receipt time is not before it."""
        row = row_of([(40, A_BOOK, 0, True), (100, (1, 1, 2, 1), 0, True)])

        assert (1_000, 60) == (row["bid_price_ticks"], row["book_age_ns"])

    def test_before_the_first_message(self):
        """Without a message before it there is no book, and no flag of one."""
        row = row_of([(100, A_BOOK, 0, True)])

        assert [None] * 17 == list(row.values())[-17:]
        assert 1_003 == row["price_ticks"]

    def test_without_any_message(self):
        """A day without a row of the book has its trades."""
        assert row_of([])["book_age_ns"] is None

    @pytest.mark.parametrize(("book", "side"), [(NO_BID, "bid"), (NO_ASK, "ask")])
    def test_an_empty_side(self, book, side):
        """An empty side is null, and so is whatever needs a mid; the other side is there."""
        row = row_of([(99, book, BookFlag.EMPTY_SIDE, False)])
        other = {"bid": "ask", "ask": "bid"}[side]

        assert (None, None) == (row[f"{side}_price_ticks"], row[f"{side}_size_lots"])
        assert row[f"{other}_price_ticks"] is not None
        assert int(BookFlag.EMPTY_SIDE) == row["flags"]
        assert [None] * 9 == list(row.values())[-9:]

    @pytest.mark.parametrize(
        ("receipt_ns", "flags", "verified"),
        [(50, 0, True), (51, 2, False), (100, 2, False), (101, 2, False), (200, 2, False)],
    )
    def test_a_gap(self, receipt_ns, flags, verified):
        """From after the last known message on the book is in doubt, though its row is not."""
        messages = [(40, A_BOOK, 0, True), (50, A_BOOK, 0, True)]
        messages += [(100, A_BOOK, BookFlag.GAP, False)]
        row = row_of(messages, receipt_ns=receipt_ns, spans=[(BookFlag.GAP, 50, 150)])

        assert (flags, verified) == (row["flags"], row["verified"])

    def test_a_message_without_a_time(self):
        """It came with the one before it, and its book is in force and flagged."""
        bad = BookFlag.BAD_TS_RECEIPT
        row = row_of([(40, A_BOOK, 0, True), (9_999, (1, 1, 2, 1), bad, False)])

        assert (1, int(bad), 60) == (row["bid_price_ticks"], row["flags"], row["book_age_ns"])


class TestMidsAfter:
    """A buy at 501.5 on 500 to 502 at second 100; the market rises a tick at 103 and 9 at 130."""

    BOOKS = ((40, A_BOOK), (103, (1_001, 1, 1_005, 1)), (130, (1_010, 1, 1_014, 1)), (160, A_BOOK))

    def after(self, *more, is_buy=True, spans=(), drop=0):
        """The six columns of the trade, with further messages (second, book, flags)."""
        messages = [(second, book, 0) for second, book in self.BOOKS[: len(self.BOOKS) - drop]]
        messages = sorted([*messages, *more], key=lambda each: each[0])
        row = row_of(
            [(second * 10**9, book, flags, True) for second, book, flags in messages],
            receipt_ns=100 * 10**9,
            is_buy=is_buy,
            spans=[(flag, start * 10**9, end * 10**9) for flag, start, end in spans],
        )
        return [row[name] for name in AFTER]

    def test_a_buy(self):
        """2 ticks effective: 2 realised at once, none after a tick's rise, -18 after 10."""
        assert [2, 0, 0, 2, -18, 20] == self.after()

    def test_a_sell(self):
        """The other side's signs are the opposite."""
        assert [-2, 0, 0, -2, 18, -20] == self.after(is_buy=False)

    def test_the_day_ends_before(self):
        """A time at which a message came is known, one after the last message is not."""
        assert [2, 0, 0, 2, None, None] == self.after(drop=1)
        assert [2, 0] == self.after((101, A_BOOK, 0), drop=3)[:2]
        assert [None, None] == self.after((100.5, A_BOOK, 0), drop=3)[:2]

    def test_an_invalid_book_in_between(self):
        """One that was in force for some time takes all later mids; one that was not, none."""
        crossed = BookFlag.CROSSED
        assert [2, 0, *[None] * 4] == self.after((101, A_BOOK, crossed), (102, A_BOOK, 0))
        assert [2, 0, 0, 2, -18, 20] == self.after((102, A_BOOK, crossed), (102, A_BOOK, 0))
        assert [None] * 6 == self.after((99, A_BOOK, crossed), (100, A_BOOK, 0))

    def test_a_clock_that_was_set_back_in_between(self):
        """Nobody knows how much later a mid behind a message without a time is: it is none."""
        bad = BookFlag.BAD_TS_RECEIPT
        rows = [(40, 0), (50, 0), (70, bad), (45, 0), (120, 0)]
        messages = [(second * 10**9, A_BOOK, flags, True) for second, flags in rows]
        row = row_of(messages, receipt_ns=42 * 10**9)
        assert [2, 0, 2, 0, None, None] == [row[name] for name in AFTER]

    @pytest.mark.parametrize(
        ("span", "known"),
        [((104, 110), 2), ((105, 110), 4), ((90, 100), 0), ((50, 99), 6), ((102, 102), 6)],
    )
    def test_an_unknown_span_in_between(self, span, known):
        """From the trade to the later time nobody may have lost the book."""
        whole = [2, 0, 0, 2, -18, 20]

        assert whole[:known] + [None] * (6 - known) == self.after(spans=[(BookFlag.GAP, *span)])

    def test_an_empty_side(self):
        """Without a mid later there is neither, without one before no impact."""
        assert [2, 0, None, None] == self.after((104, NO_ASK, 0))[:4]
        assert [2, None, 0, None] == self.after((41, NO_ASK, 0), (100, A_BOOK, 0))[:4]


def test_off_the_grid():
    """A price off the tick and a size off the lot are null in steps, as they are, and located."""
    trades = a_trades(*((1, 100, id_, 1_003, True, 2) for id_ in range(3)))
    trades.price[1], trades.quantity[2] = 501.3, 0.0021
    frame, off_tick, off_lot = rows_of([a_bbo((9, A_BOOK, 0, True))], trades)

    assert ([1], [2]) == (off_tick, off_lot)
    assert [1_003, None, 1_003] == frame["price_ticks"].to_list()
    assert [2, 2, None] == frame["size_lots"].to_list()
    assert [501.5, 501.3, 501.5] == frame["price"].to_list()
    assert [0.002, 0.002, 0.0021] == frame["size"].to_list()
    assert [2, None, 2] == frame["effective_spread_ticks"].to_list()


def test_orders_of_takers():
    """Neighbours of one time and side with ids in sequence are one order."""
    prints = [(1, 1, True), (1, 2, True), (1, 3, False), (1, 5, False), (2, 6, False)]
    prints += [(2, 7, False), (2, 8, False)]
    trades = a_trades(*((ns, 100, id_, 1_003, buys, 2) for ns, id_, buys in prints))

    assert [1, 1, 3, 5, 6, 6, 6] == rows_of([], trades)[0]["taker_order"].to_list()


def test_orders_of_takers_in_sql():
    """The view has an order in two prints at 501 and 502.5 as one, with the first one's book."""
    prints = [(1, 100, 8, 1_005, True, 6), (1, 100, 7, 1_002, True, 2), (1, 99, 9, 999, False, 4)]
    books = [a_bbo((99, A_BOOK, 0, True), (101, A_BOOK, 0, True))]
    trades = rows_of(books, a_trades(*prints))[0].with_columns(taker_order=pl.Series([7, 7, 9]))
    with duckdb.connect() as connection:
        connection.execute("CREATE SCHEMA books; CREATE TABLE books.trades AS FROM trades")
        found = connection.sql(TAKER_ORDERS.query).order("taker_order").pl()
    buy, sell = found.to_dicts()

    assert trades.height == 3
    assert [column.name for column in TAKER_ORDERS.columns] == found.columns
    schema = Table("a", "b", "c", TAKER_ORDERS.columns, "duckdb").empty().schema
    assert schema == found.schema
    assert (2, 2, 0.008, 502.5, 1_000, 0, 1) == tuple(
        buy[name]
        for name in (
            "prints",
            "prices",
            "size",
            "last_price",
            "bid_price_ticks",
            "flags",
            "valid_run",
        )
    )
    assert pytest.approx((501 * 2 + 502.5 * 6) / 8) == buy["vwap"]
    assert pytest.approx((0 * 2 + 2 * 1.5 * 6) / 8 / 501 * 1e4) == buy["effective_spread_bps"]
    assert (1, False, None, None, None) == tuple(
        sell[name] for name in ("prints", "is_buy", "flags", "valid_run", "effective_spread_bps")
    )


def test_marks():
    """What the venue says of each is a truth value, and ends a taker's order where it changes."""
    trades = a_trades(
        *((1, 100, 1 + at, 1_003, True, 2, mark) for at, mark in enumerate([1, 1, 0, -1]))
    )
    frame, _, _ = rows_of([], trades)

    assert [True, True, False, None] == frame["is_market"].to_list()
    assert [1, 1, 3, 4] == frame["taker_order"].to_list()


def test_without_trades():
    """No trade gives no row."""
    assert rows_of([a_bbo((9, A_BOOK, 0, True))], a_trades())[0].is_empty()


def test_without_ids():
    """Trades that were read without their ids are refused."""
    trades = a_trades((1, 1, 1, 1, True, 1))
    bare = Trades(*trades.times, trades.price, trades.quantity, trades.is_buy)
    with pytest.raises(ValueError, match="without their ids"):
        rows_of([], bare)


TIMES = st.integers(0, 30)
SIDE = st.one_of(st.just((None, None)), st.tuples(st.integers(995, 1_005), st.integers(1, 9)))
FLAGS = st.sampled_from(
    [0] * 4 + [BookFlag.GAP, BookFlag.CROSSED, BookFlag.BAD_TS_RECEIPT, BookFlag.OUTSIDE_DAY]
)


@settings(max_examples=100, deadline=None)
@given(
    messages=st.lists(
        st.tuples(
            TIMES,
            st.tuples(SIDE, SIDE).map(lambda each: (*each[0], *each[1])),
            FLAGS,
            st.booleans(),
        ),
        max_size=30,
    ),
    spans=st.lists(
        st.tuples(
            st.sampled_from([BookFlag.GAP, BookFlag.SNAPSHOT_MISMATCH]), TIMES, st.integers(0, 9)
        ),
        max_size=4,
    ),
    prints=st.lists(
        st.tuples(
            *(st.integers(0, 2), TIMES, st.integers(0, 3), st.integers(990, 1_010)),
            *(st.booleans(), st.integers(1, 9), st.sampled_from([1, 1, 1, 0, -1])),
        ),
        max_size=20,
    ),
    in_order=st.booleans(),
    cuts=st.lists(st.integers(0, 30), max_size=5),
    at_once=st.integers(1, 8),
    unit_ns=st.sampled_from([1, 5 * 10**8, 5 * 10**9]),
)
def test_agrees_with_the_naive_twin(messages, spans, prints, in_order, cuts, at_once, unit_ns):
    """For any books, clocks, gaps, orders and cuts each trade has the books of the twin."""
    messages = [(ns * unit_ns, *more) for ns, *more in messages]
    spans = [(flag, start * unit_ns, length * unit_ns) for flag, start, length in spans]
    prints = [(ns, at * unit_ns, *more) for ns, at, *more in prints]
    if in_order:
        messages = sorted(messages, key=lambda each: each[0])
        prints = sorted(prints, key=lambda each: each[1])
    prints = [(ns, at, 10 + n + id_, *more) for n, (ns, at, id_, *more) in enumerate(prints)]
    spans = [(flag, start, start + length) for flag, start, length in spans]
    books = a_bbo(*messages)
    edges = [0, *sorted(min(cut, books.height) for cut in cuts), books.height]
    batches = [books.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    with (
        mock.patch.object(module, "_TRADES_AT_ONCE", at_once),
        mock.patch.object(lookup, "_TRADES_AT_ONCE", at_once),
    ):
        frame, *off_grid = rows_of(batches, a_trades(*prints), spans)
    expected = naive_trades(messages, spans, prints)

    assert [[], []] == off_grid
    assert expected == frame.select(*(expected[0] if expected else [])).to_dicts()
    assert [each[3] for each in prints] == frame["price_ticks"].to_list()
    assert [each[5] for each in prints] == frame["size_lots"].to_list()
    runs, flags = frame["valid_run"].to_list(), frame["flags"].to_list()
    assert [each is not None and not each & INVALIDATING for each in flags] == [
        run is not None for run in runs
    ]
    timed = [(each[1], run) for each, run in zip(prints, runs, strict=True) if run is not None]
    for (one_ns, one), (other_ns, other) in itertools.combinations(sorted(timed), 2):
        assert one <= other
        assert (one == other) != is_broken(messages, spans, one_ns, other_ns)
    effective = frame["effective_spread_ticks"]
    for seconds in (1, 5, 60):
        realised, impact = (frame[f"{each}_{seconds}s_ticks"] for each in NAMES_AFTER)
        both = realised.is_not_null() & impact.is_not_null()
        assert (realised + impact).filter(both).equals(effective.filter(both))


# --- real days --------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SAMPLE_DAYS, ids=lambda key: f"{key[1]} {key[2]}")
def test_a_real_day_agrees_with_an_as_of_join(key, sample_data):
    """On a real day every trade has the book that an as-of join of Polars finds for it."""
    folder = "exchange={}/symbol={}/dt={}".format(*key)
    trades = read_trades([sample_data / "lake/trades" / folder / "1.snappy.parquet"], with_ids=True)
    books, (tick, _) = sample_books(*key)
    frame, off_tick, _ = rows_of(
        [books.slice(at, 1_000) for at in range(0, books.height, 1_000)], trades, tick=tick
    )
    joined = (
        frame.select("id", "ts_receipt_ns")
        .with_row_index()
        .sort("ts_receipt_ns", maintain_order=True)
        .join_asof(
            books.select("ts_receipt_ns", *TOUCH, book_ns="ts_receipt_ns").sort(
                "ts_receipt_ns", maintain_order=True
            ),
            on="ts_receipt_ns",
            strategy="backward",
            allow_exact_matches=False,
        )
        .sort("index")
    )

    assert frame.height > 600
    assert [] == off_tick
    assert joined.select(*TOUCH).equals(frame.select(*TOUCH))
    assert (joined["ts_receipt_ns"] - joined["book_ns"]).equals(frame["book_age_ns"])
    assert frame["effective_spread_ticks"].median() >= 1
    last_ns, has_book = int(books["ts_receipt_ns"].max()), frame["book_age_ns"].is_not_null()
    sign = 2 * frame["is_buy"].cast(pl.Int64) - 1
    for seconds in (1, 5, 60):
        then_ns = frame["ts_receipt_ns"] + seconds * 10**9
        later = (
            pl.DataFrame({"ts_receipt_ns": then_ns})
            .with_row_index()
            .sort("ts_receipt_ns", maintain_order=True)
            .join_asof(
                books.select("ts_receipt_ns", mid2=pl.col(TOUCH[0]) + pl.col(TOUCH[2])),
                on="ts_receipt_ns",
                strategy="backward",
                allow_exact_matches=False,
            )
            .sort("index")
            .select(pl.when(has_book & (then_ns <= last_ns)).then("mid2"))["mid2"]
        )
        realised = sign * (2 * frame["price_ticks"] - later)
        impact = sign * (later - frame[TOUCH[0]] - frame[TOUCH[2]])
        assert realised.equals(frame[f"realised_spread_{seconds}s_ticks"])
        assert impact.equals(frame[f"price_impact_{seconds}s_ticks"])
        assert 0 < realised.null_count() < frame.height
