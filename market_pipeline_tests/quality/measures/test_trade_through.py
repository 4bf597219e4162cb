"""Trades outside the book: against a naive twin, rule by rule, and on the real days."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date
from decimal import Decimal
from unittest import mock

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.books.step_inference import StepInference
from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.trade_through import check_trade_through
from market_pipeline.quality.intervals import day_bounds_ns
from market_pipeline.quality.measures.trade_through import (
    BOOK_COLUMNS,
    WINDOW_NS,
    find_trades_through,
)
from market_pipeline.sources.batches import MARKET, OUTSIDE_MARKET, UNMARKED, Trades
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline_tests.naive.stray_times import naive_strays
from market_pipeline_tests.quality.factory import NOON_NS, a_row
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, read_table, sample_day

DAY = date(2024, 8, 8)
START_NS, END_NS = day_bounds_ns(DAY)
TICK = Scale.of(Decimal("0.1"))
MS = 1_000_000


def a_books(*messages):
    """Books given as (ms, bid, ask[, flags]), prices in ticks."""
    rows = [
        (NOON_NS + round(ms * MS), int(flags[0]) if flags else 0, bid, ask)
        for ms, bid, ask, *flags in messages
    ]
    names, types = ("ts_origin_ns", *BOOK_COLUMNS), (pl.Int64, pl.UInt16, pl.Int64, pl.Int64)
    return pl.DataFrame(rows, dict(zip(names, types, strict=True)), orient="row")


def a_trades(*prints):
    """Trades given as (ms, side, ticks), received 5 ms after."""
    ms, side, ticks = zip(*prints, strict=True) if prints else ((), (), ())
    times = np.array([NOON_NS + round(each * MS) for each in ms], np.int64)
    prices = np.round(np.array(ticks, np.float64) * 0.1, 6)
    is_buy = np.array([each == "buy" for each in side], np.bool_)
    return Trades(times, times + 5 * MS, prices, np.ones(len(times)), is_buy)


def held(batches, trades, *, tick=TICK, day=DAY):
    """The report of some batches of books."""
    clock = pl.concat([a_books(), *batches]).select("ts_origin_ns", "flags")
    return find_trades_through(
        (rows.select(BOOK_COLUMNS) for rows in batches),
        trades,
        ts_origin_ns=clock["ts_origin_ns"].to_numpy(),
        flags=clock["flags"].to_numpy(),
        tick=tick,
        day=day,
    )


def found(books, trades):
    """The report of some books, in one batch."""
    return held([books], trades)


STAMPS = (
    0,
    -1,
    -(2**63),
    2**63 - 1,
    2**62,
    NOON_NS // 1_000,
    NOON_NS + 3_600 * 10**9,
    NOON_NS - 3_600 * 10**9,
    END_NS - 1,
)
"""Times that mean nothing: none, extremes, microseconds, hours off, the end of the day."""

STILL = a_books((0, 1_000, 1_001), (1_000, 1_000, 1_001), (2_000, 1_000, 1_001))


class TestRule:
    @pytest.mark.parametrize(
        ("side", "ticks", "beyond"),
        [
            ("buy", 1_001, None),
            ("buy", 1_000, None),
            ("sell", 1_000, None),
            ("sell", 1_001, None),
            ("buy", 1_002, 1.0),
            ("buy", 998, 2.0),
            ("sell", 999, 1.0),
            ("sell", 1_011, 10.0),
            ("buy", 1_001.5, 0.5),
        ],
    )
    def test_outside_the_touch(self, side, ticks, beyond):
        """Below the bid and above the ask is outside for either side, also off the tick."""
        report = found(STILL, a_trades((500, side, ticks)))

        assert 1 == report.compared
        assert ([] if beyond is None else [pytest.approx(beyond)]) == report.beyond_ticks.tolist()

    def test_a_sweep_is_one_order(self):
        """An order that goes on into the book is held against the touch by its best price only."""
        sweep = a_trades((500, "buy", 1_001), (500, "buy", 1_005), (500, "buy", 1_030))
        sold = a_trades((500, "sell", 1_000), (500, "sell", 980))
        late = a_trades((500, "buy", 1_005), (500, "buy", 1_030))

        assert [(1, 0), (1, 0), (1, 1)] == [
            (report.compared, report.through)
            for report in (found(STILL, each) for each in (sweep, sold, late))
        ]
        assert [4.0] == pytest.approx(found(STILL, late).beyond_ticks.tolist())

    def test_a_print_outside_the_market_is_not_compared(self):
        """One of an insurance fund met no order of the book; the others have their rows."""
        trades = a_trades((400, "buy", 1_300), (500, "sell", 999), (600, "buy", 1_001))
        marks = np.array([OUTSIDE_MARKET, MARKET, UNMARKED], np.int8)
        report = found(STILL, replace(trades, mark=marks))

        assert (2, [1], []) == (report.compared, report.trade.tolist(), report.unplaced.tolist())

    def test_a_print_on_the_wrong_side_is_no_sweep(self):
        """Also a later print of a buy below the bid is outside, and is the one that is named."""
        trades = a_trades((500, "buy", 1_001), (500, "buy", 990), (500, "sell", 1_000))
        report = found(STILL, trades)

        assert ([1], [10.0]) == (report.trade.tolist(), pytest.approx(report.beyond_ticks.tolist()))
        assert ([1_000], [1_001], 2) == (
            report.lowest_bid_ticks.tolist(),
            report.highest_ask_ticks.tolist(),
            report.compared,
        )

    def test_the_market_may_move_between_two_messages(self):
        """A price that the next message shows, or one within the window, is not outside."""
        moved = a_books((0, 1_000, 1_001), (1_000, 1_020, 1_021), (1_150, 1_040, 1_041))

        assert [0, 0, 1] == [
            found(moved, a_trades((960, "buy", ticks))).through for ticks in (1_021, 1_041, 1_042)
        ]

    def test_just_before_is_strictly_before(self):
        """A message of the trade's own time is not before it, so that a first one is no book."""
        assert [0, 1, 1] == [
            found(STILL, a_trades((ms, "buy", 1_001))).compared for ms in (0, 1, 9)
        ]

    def test_only_where_there_is_a_valid_book_on_both_sides(self):
        """Not compared: before the first, after the last message, and near an invalid book."""
        books = a_books(
            (0, 1_000, 1_001),
            (1_000, 900, 901, BookFlag.GAP),
            (2_000, 1_000, 1_001),
            (3_000, 1_000, 1_001, BookFlag.UNCONFIRMED_DEPTH),
        )
        times = (-10, 500, 1_100, 1_900, 2_100, 2_500, 3_000, 3_001)

        assert [0, 0, 0, 0, 0, 1, 1, 0] == [
            found(books, a_trades((ms, "buy", 1_001))).compared for ms in times
        ]

    def test_an_empty_side_sets_no_bound(self):
        """Where nobody offers, any price above is possible, and none below the bid."""
        books = a_books((0, 1_000, 1_001), (500, 1_000, None), (2_000, 1_000, 1_001))

        assert [0, 1] == [
            found(books, a_trades((600, "buy", ticks))).through for ticks in (5_000, 999)
        ]

    def test_a_stamp_from_the_future_holds_nothing_up(self):
        """One message with a time of another year does not stop the clock of the others."""
        books = a_books(
            (0, 1_000, 1_001), (100, 1_000, 1_001), *((ms, 1_050, 1_051) for ms in (900, 2_000))
        )
        ahead = books.with_columns(
            ts_origin_ns=pl.when(pl.int_range(pl.len()) == 1)
            .then(END_NS + 10**18)
            .otherwise("ts_origin_ns")
        )

        assert [1, 0] == [
            found(ahead, a_trades((1_500, "buy", ticks))).through for ticks in (1_001, 1_051)
        ]

    @pytest.mark.parametrize("column", ["ts_origin_ns", "ts_receipt_ns"])
    @pytest.mark.parametrize("stamp", STAMPS)
    def test_no_stamp_of_a_trade_moves_another(self, column, stamp):
        """One trade with any stamp is compared or not; all others are as before."""
        books = a_books(*((ms, 1_000, 1_001) for ms in range(0, 60_000, 100)))
        trades = a_trades(*((ms, "buy", 1_001) for ms in range(5_050, 55_000, 500)))
        times = getattr(trades, column).copy()
        times[40] = stamp
        report = found(books, replace(trades, **{column: times}))

        assert len(times) - 1 <= report.compared <= len(times)
        assert ([], len(times) - report.compared) == (report.trade.tolist(), len(report.unplaced))
        assert sum(report.per_hour) == 0

    @pytest.mark.parametrize("stamp", STAMPS)
    @pytest.mark.parametrize("flagged", [False, True])
    def test_no_stamp_of_a_book_moves_another(self, stamp, flagged):
        """One book with any exchange time takes that of its neighbour; no trade is outside."""
        books = a_books(
            *((ms, 1_000 + ms // 100, 1_001 + ms // 100) for ms in range(0, 60_000, 100))
        )
        trades = a_trades(*((ms, "buy", 1_001 + ms // 100) for ms in range(5_050, 55_000, 500)))
        at = pl.int_range(pl.len()) == 300
        odd = books.with_columns(
            ts_origin_ns=pl.when(at).then(pl.lit(stamp, pl.Int64)).otherwise("ts_origin_ns"),
            flags=pl.when(at & flagged)
            .then(pl.lit(int(BookFlag.BAD_TS_ORIGIN), pl.UInt16))
            .otherwise("flags"),
        )
        report = found(odd, trades)

        assert (found(books, trades).compared, []) == (report.compared, report.trade.tolist())

    @pytest.mark.parametrize("stamp", STAMPS)
    def test_all_stamps_may_be_the_same_nonsense(self, stamp):
        """Then nothing can be compared, and nothing is raised."""
        trades = a_trades(*((ms, "buy", 1_001) for ms in range(100, 1_900, 100)))
        same = np.full(len(trades.ts_origin_ns), stamp, np.int64)
        books = STILL.with_columns(ts_origin_ns=pl.lit(stamp, pl.Int64))

        assert 0 == found(books, trades).compared
        assert 0 == found(STILL, replace(trades, ts_origin_ns=same, ts_receipt_ns=same)).compared
        both = found(books, replace(trades, ts_origin_ns=same, ts_receipt_ns=same))
        assert [] == both.trade.tolist()

    def test_hours_and_the_worst_minute(self):
        """Counts are by receipt; a minute needs 20 orders to have a share."""
        minute = 60_000
        books = a_books(*((ms, 1_000, 1_001) for ms in range(-minute, 70 * minute, 1_000)))
        few = [(ms, "buy", 2_000) for ms in range(-19 * 400, 0, 400)]
        many = [(65 * minute + n * 700, "buy", 2_000 if n % 4 == 0 else 1_001) for n in range(40)]
        report = found(books, a_trades(*few, *many))

        assert {11: 19, 12: 0, 13: 10} == {hour: report.per_hour[hour] for hour in (11, 12, 13)}
        assert (NOON_NS + 65 * minute * MS, 0.25) == (
            report.worst_minute.start_ns,
            report.worst_minute.share,
        )
        assert found(STILL, a_trades((500, "buy", 1_001))).worst_minute is None

    def test_nothing_to_compare(self):
        """Without a trade, or without a book, there is no figure but zero."""
        trades = a_trades((500, "buy", 1_001))
        reports = [
            found(STILL, a_trades()),
            found(a_books(), trades),
            held([], trades),
        ]

        assert [(0, 0, (0,) * 24)] * 3 == [
            (report.compared, report.through, report.per_hour) for report in reports
        ]


# --- the naive twin ---------------------------------------------------------------------------


def naive(messages, prints):
    """By order: (compared, row of the best price or None, ticks beyond), by loops over all books.

    Messages are (ns, bid, ask, invalid) in order, prints (ns, is_buy, ticks) in file order.
    """
    stray = naive_strays([ns for ns, *_ in messages], 10**9)
    clock = next(
        (ns for (ns, *_), is_stray in zip(messages, stray, strict=True) if not is_stray), 0
    )
    books = []
    for (ns, bid, ask, invalid), is_stray in zip(messages, stray, strict=True):
        clock = clock if is_stray else max(clock, ns)
        books.append((clock, bid, ask, invalid))
    ordered = sorted(enumerate(prints), key=lambda each: each[1][0])
    for (ns, is_buy), same in itertools.groupby(ordered, key=lambda each: each[1][:2]):
        row, (_, _, ticks) = (min if is_buy else max)(same, key=lambda each: each[1][2])
        before = [n for n, book in enumerate(books) if book[0] < ns]
        if not before or before[-1] + 1 == len(books):
            continue
        in_force = {before[-1], before[-1] + 1}
        in_force |= {n for n, book in enumerate(books) if abs(book[0] - ns) <= WINDOW_NS}
        in_force |= {max([n for n, b in enumerate(books) if b[0] < ns - WINDOW_NS], default=0)}
        near = [books[n] for n in in_force]
        if any(invalid for *_, invalid in near):
            continue
        bids, asks = [b for _, b, _, _ in near], [a for _, _, a, _ in near]
        low = -(10**9) if None in bids else min(bids)
        high = 10**9 if None in asks else max(asks)
        yield row, max(low - ticks, ticks - high, 0)


TIMES = st.integers(0, 40).map(lambda each: NOON_NS + each * 50 * MS)
SIDE = st.one_of(st.none(), st.integers(995, 1_005))


@settings(max_examples=300, deadline=None)
@given(
    messages=st.lists(
        st.tuples(TIMES, SIDE, SIDE, st.sampled_from([False] * 9 + [True])), max_size=30
    ),
    prints=st.lists(st.tuples(TIMES, st.booleans(), st.integers(990, 1_010)), max_size=20),
    ordered=st.booleans(),
    cuts=st.lists(st.integers(0, 30), max_size=5),
    at_once=st.integers(1, 8),
    most=st.integers(1, 6),
)
def test_agrees_with_the_naive_twin(messages, prints, ordered, cuts, at_once, most):
    """For any books, clocks, orders and cuts the same orders are outside; the places are theirs."""
    if ordered:
        messages = sorted(messages, key=lambda each: each[0])
    flagged = [
        ((ns - NOON_NS) / MS, bid, ask, INVALIDATING if invalid else 0)
        for ns, bid, ask, invalid in messages
    ]
    books = a_books(*flagged)
    trades = a_trades(
        *(((ns - NOON_NS) / MS, "buy" if is_buy else "sell", t) for ns, is_buy, t in prints)
    )
    edges = [0, *sorted(min(cut, books.height) for cut in cuts), books.height]
    batches = [books.slice(a, b - a) for a, b in itertools.pairwise(edges)]
    sizes = {"_PRINTS_AT_ONCE": at_once, "MAX_PLACES": most}
    with mock.patch.multiple("market_pipeline.quality.measures.trade_through", **sizes):
        report = held(batches, trades)
    expected = list(naive(messages, prints))
    outside = [each for each in expected if each[1]]
    worst = max(range(len(outside)), key=lambda each: outside[each][1], default=0)
    shown = [each for at, each in enumerate(outside) if at < most or at == worst]

    assert (len(expected), len(outside)) == (report.compared, report.through)
    assert shown == list(zip(report.trade.tolist(), report.beyond_ticks.tolist(), strict=True))
    assert min(worst, most) == report.worst


# --- real days --------------------------------------------------------------------------------


def real_books(exchange, symbol, day):
    """The reference book of a sample day as the rebuilt one: its tick, and its rows."""
    reference = read_table("truth/reference_bbo", exchange, symbol, day)
    inference = StepInference()
    touch = [f"{side}_0_price" for side in ("bid", "ask")]
    for name in touch:
        inference.add(reference[name].to_numpy())
    sample = sample_day(exchange, symbol, day)
    times = pl.DataFrame(
        {"sequence_number": sample.sequence_number, "ts_origin_ns": sample.ts_origin_ns}
    )
    joined = times.join(reference, on="sequence_number", how="inner", maintain_order="left")
    ticks = [(pl.col(name) / float(inference.scale.step)).round().cast(pl.Int64) for name in touch]
    return inference.scale, joined.select(
        "ts_origin_ns",
        flags=pl.lit(0, pl.UInt16),
        bid_price_ticks=ticks[0],
        ask_price_ticks=ticks[1],
    )


def outcome_of(tick, books, trades, day):
    """What the check says with the thresholds by default."""
    report = held([books], trades, tick=tick, day=day)
    row = a_row(
        trades_compared=report.compared,
        trades_through=report.through,
        first_trade_through_ns=NOON_NS,
        worst_trade_through_ticks=float(max(report.beyond_ticks, default=0.0)),
        worst_trade_through_minute_share=report.worst_minute.share,
        worst_trade_through_minute_ns=report.worst_minute.start_ns,
    )
    return check_trade_through(row, Thresholds())


@pytest.fixture(scope="module", params=SAMPLE_DAYS, ids=lambda key: f"{key[1]} {key[2]}")
def real_day(request, sample_data):
    """Tick, books, trades and the UTC day of one sample day."""
    exchange, symbol, day = request.param
    folder = sample_data / "lake/trades" / f"exchange={exchange}" / f"symbol={symbol}" / f"dt={day}"
    trades = read_trades([folder / "1.snappy.parquet"])
    return *real_books(exchange, symbol, day), trades, day


def test_a_real_day_is_clean(real_day):
    """Less than half of what is allowed is outside, of the day and of its worst minute."""
    tick, books, trades, day = real_day
    report = held([books], trades, tick=tick, day=day)

    assert report.compared > 600
    assert len(report.unplaced) == 0
    assert report.through < 0.5 * 0.03 * report.compared
    assert report.worst_minute.share < 0.5 * 0.2
    assert outcome_of(tick, books, trades, day).passed


@pytest.mark.parametrize("ticks", [1, -2, 5])
def test_a_shifted_real_book_is_found(real_day, ticks):
    """A book, or trades, off by a tick or more are outside everywhere."""
    tick, books, trades, day = real_day
    off = books.with_columns(pl.col("bid_price_ticks", "ask_price_ticks") + ticks)
    moved = replace(trades, price=trades.price + ticks * float(tick.step))

    assert not outcome_of(tick, off, trades, day).passed
    assert not outcome_of(tick, books, moved, day).passed


def test_a_stale_minute_of_a_real_book_is_found(real_day):
    """A touch that stands still for a minute fails the day by that minute."""
    tick, books, trades, day = real_day
    time_ns = books["ts_origin_ns"].to_numpy()
    # A whole minute of the receipt clock, which is behind by up to 1.6 s.
    minute_ns = 60_000 * MS
    start_ns = (int(time_ns.mean()) // minute_ns) * minute_ns
    begin, end = np.searchsorted(time_ns, [start_ns, start_ns + minute_ns + 1_600 * MS])
    row = np.arange(books.height)
    row[begin:end] = begin
    stale = books.with_columns(books[row].select("bid_price_ticks", "ask_price_ticks"))
    said = outcome_of(tick, stale, trades, day)

    assert not said.passed
    assert "in the minute of" in said.summary
