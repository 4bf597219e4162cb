"""Minute metrics against a naive twin in exact fractions, rule by rule, and on real books."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.minute import DEPTH_LEVELS, minute_metrics
from market_pipeline.metrics.tables import BOOK_METRICS
from market_pipeline.quality.intervals import NO_SPANS, NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.measures.crossed import valid_time
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline_tests.naive.minutes import naive_minutes
from market_pipeline_tests.quality.sample import read_table, sample_day, sample_root
from market_pipeline_tests.quality.spans import observed_of, spans_of

DAY = date(2024, 8, 8)
START_NS, END_NS = day_bounds_ns(DAY)
TICK, LOT = Decimal("0.1"), Decimal("0.001")
INSTRUMENT = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")

TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
TRADES_OF_THE_DAY = "exchange=BINANCE_FUTURES/symbol=BTC-USDT-PERP/dt=2024-08-08/1.snappy.parquet"
A_BOOK = (1_000, 30, 1_004, 10)
NO_TIME = BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY
NO_BID = (None, None, 1_004, 10)


def at(second):
    """An instant of the day."""
    return START_NS + round(second * NS_PER_SECOND)


def a_bbo(*messages):
    """The frame of messages given as (second, (bid, size, ask, size), flags)."""
    rows = [(at(second), *book, int(flags)) for second, book, flags in messages]
    schema = {"ts_receipt_ns": pl.Int64, **dict.fromkeys(TOUCH, pl.Int64), "flags": pl.UInt16}
    return pl.DataFrame(rows, schema=schema, orient="row")


def a_depth(*rows):
    """The frame of depth rows given as (second, bid sizes, ask sizes, flags)."""
    schema = {"ts_receipt_ns": pl.Int64, "flags": pl.UInt16}
    for side in ("bid", "ask"):
        schema |= {f"{side}_{level}_size": pl.Float64 for level in range(DEPTH_LEVELS)}
    schema |= dict.fromkeys(("bid_levels_confirmed", "ask_levels_confirmed"), pl.Int8)
    padded = [
        (
            at(second),
            int(flags),
            *bids,
            *[None] * (20 - len(bids)),
            *asks,
            *[None] * (20 - len(asks)),
            20,
            20,
        )
        for second, bids, asks, flags in rows
    ]
    return pl.DataFrame(padded, schema=schema, orient="row")


def a_trades(*trades):
    """Trades given as (second, quantity, taker bought), the price being the quantity."""
    seconds, quantity, is_buy = zip(*trades, strict=True) if trades else ((), (), ())
    times = np.array([at(second) for second in seconds], np.int64)
    amounts = np.array(quantity, np.float64)
    return Trades(times, times, amounts, amounts, np.array(is_buy, np.bool_))


def minutes_of(bbo, depth=None, trades=None, not_observed=NO_SPANS):
    """The minutes of the frames as dicts."""
    return minutes_of_batches([bbo], None if depth is None else [depth], trades, not_observed)


def minutes_of_batches(bbo, depth=None, trades=None, not_observed=NO_SPANS):
    """The minutes of frames that come in batches."""
    return minute_metrics(
        bbo,
        depth,
        trades,
        instrument=INSTRUMENT,
        day=DAY,
        tick=TICK,
        lot=LOT,
        not_observed=not_observed,
    ).to_dicts()


class TestTable:
    def test_the_frame_has_the_columns_and_types_of_the_table(self):
        """Every column is there, in order and of its type, also when nothing is."""
        for bbo, depth, trades in (
            (a_bbo(), None, None),
            (
                a_bbo((0, A_BOOK, 0), (9, NO_BID, 0)),
                a_depth((0, [1], [], 0)),
                a_trades((1, 2, True)),
            ),
        ):
            frame = minute_metrics(
                [bbo],
                None if depth is None else [depth],
                trades,
                instrument=INSTRUMENT,
                day=DAY,
                tick=TICK,
                lot=LOT,
                not_observed=NO_SPANS,
            )

            expected = pl.from_arrow(BOOK_METRICS.arrow_schema.empty_table())
            assert expected.schema == frame.schema

    def test_the_key_is_instrument_day_and_minute(self):
        """Rows say what they are of."""
        (row,) = minutes_of(a_bbo((3_600, A_BOOK, 0), (3_601, A_BOOK, 0)))

        assert ("BINANCE", "BTC-USDT", DAY) == (row["exchange"], row["symbol"], row["dt"])
        assert datetime(2024, 8, 8, 1, tzinfo=UTC) == row["minute_start"].replace(tzinfo=UTC)


class TestTimeWeighting:
    def test_figures_of_a_steady_book(self):
        """A book that never changes has its own spread, mid, sizes and imbalance."""
        (row,) = minutes_of(a_bbo((0, A_BOOK, 0), (30, A_BOOK, 0)))

        expected = {
            "valid_seconds": 30.0,
            "message_count": 2,
            "spread": pytest.approx(0.4),
            "spread_ticks": 4.0,
            "spread_bps": pytest.approx(4 / 1_002 * 1e4),
            "mid": pytest.approx(100.2),
            "weighted_mid": pytest.approx((1_000 * 10 + 1_004 * 30) / 40 * 0.1),
            "bid_touch_size": pytest.approx(0.03),
            "ask_touch_size": pytest.approx(0.01),
            "touch_imbalance": 0.5,
        }
        assert expected == {name: row[name] for name in expected}

    def test_a_book_counts_by_its_time_not_by_its_messages(self):
        """Spread 4 for 45 s and spread 8 for 15 s are 5 on average, however many messages."""
        wide = (1_000, 30, 1_008, 10)
        steady = [(45 + second / 100, wide, 0) for second in range(1_500)]
        rows = minutes_of(a_bbo((0, A_BOOK, 0), *steady, (60, wide, 0)))

        assert 5.0 == pytest.approx(rows[0]["spread_ticks"])
        assert (1_501, 60.0) == (rows[0]["message_count"], rows[0]["valid_seconds"])

    def test_a_message_carries_over_into_the_minutes_after_it(self):
        """Minutes without a message have the book of the last one before them."""
        rows = minutes_of(a_bbo((50, A_BOOK, 0), (190, NO_BID, 0)))

        assert [10.0, 60.0, 60.0, 10.0] == [row["valid_seconds"] for row in rows]
        assert [1, 0, 0, 1] == [row["message_count"] for row in rows]
        assert [4.0] * 4 == [row["spread_ticks"] for row in rows]

    def test_the_last_message_holds_for_no_time(self):
        """A minute that only has the day's last message has a count and no state."""
        rows = minutes_of(a_bbo((10, A_BOOK, 0), (60, A_BOOK, 0)))

        assert (1, 0.0, None) == (
            rows[1]["message_count"],
            rows[1]["valid_seconds"],
            rows[1]["mid"],
        )


class TestValidity:
    @pytest.mark.parametrize("flag", list(INVALIDATING & ~NO_TIME), ids=lambda flag: flag.name)
    def test_invalid_time_does_not_count(self, flag):
        """A book with an invalidating flag contributes nothing but its message."""
        odd = (1_000, 30, 9_000, 10)
        (row,) = minutes_of(
            a_bbo((0, A_BOOK, 0), (10, odd, flag), (50, A_BOOK, 0), (55, A_BOOK, 0))
        )

        assert (15.0, 4, 4.0) == (row["valid_seconds"], row["message_count"], row["spread_ticks"])

    @pytest.mark.parametrize("flag", list(NO_TIME), ids=lambda flag: flag.name)
    @pytest.mark.parametrize("second", [-(2**62) // NS_PER_SECOND, -86_400, 10, 86_399, 2**31])
    def test_a_row_without_a_time_moves_no_clock(self, flag, second):
        """Wherever its stamp says it is, it takes the time between its neighbours and no more."""
        (row,) = minutes_of(
            a_bbo((0, A_BOOK, 0), (20, A_BOOK, 0), (second, A_BOOK, flag), (50, A_BOOK, 0)),
            a_depth((0, [1], [1], 0), (second, [9], [9], flag), (30, [1], [1], 0)),
        )

        counted = 3 if flag == BookFlag.OUTSIDE_DAY else 4
        assert (20.0, counted, 0.0) == (
            row["valid_seconds"],
            row["message_count"],
            row["depth_valid_seconds"],
        )

    def test_rows_without_a_time_before_the_first_sound_one_are_left_out(self):
        """Nobody knows when they came."""
        first = (86_399, A_BOOK, BookFlag.BAD_TS_RECEIPT)
        (row,) = minutes_of(a_bbo(first, first, (0, A_BOOK, 0), (50, A_BOOK, 0)))

        assert (50.0, 2) == (row["valid_seconds"], row["message_count"])

    def test_nothing_is_carried_across_a_gap(self):
        """The book before a gap ends with it; a minute inside it has no row."""
        gap = np.array([[at(30), at(150)]], dtype=np.int64)
        rows = minutes_of(
            a_bbo((0, A_BOOK, 0), (30, A_BOOK, 0), (150, A_BOOK, 0), (170, A_BOOK, 0)),
            not_observed=gap,
        )

        assert [(0, 30.0), (2, 20.0)] == [
            (row["minute_start"].minute, row["valid_seconds"]) for row in rows
        ]

    def test_an_empty_side_is_null_and_never_zero(self):
        """Without a bid there is no mid, spread, imbalance or bid size; the ask is still there."""
        (row,) = minutes_of(a_bbo((0, NO_BID, BookFlag.EMPTY_SIDE), (20, NO_BID, 0)))

        assert (20.0, pytest.approx(0.01)) == (row["valid_seconds"], row["ask_touch_size"])
        assert {None} == {
            row[name]
            for name in (
                "spread",
                "spread_ticks",
                "spread_bps",
                "mid",
                "weighted_mid",
                "bid_touch_size",
                "touch_imbalance",
            )
        }

    def test_time_with_an_empty_side_is_left_out_of_the_average(self):
        """Ten seconds without a bid do not pull the bid size towards zero."""
        (row,) = minutes_of(
            a_bbo((0, A_BOOK, 0), (10, NO_BID, 0), (20, A_BOOK, 0), (30, A_BOOK, 0))
        )

        assert (30.0, pytest.approx(0.03), 4.0) == (
            row["valid_seconds"],
            row["bid_touch_size"],
            row["spread_ticks"],
        )


class TestDepthAndTrades:
    def test_depth_sums_the_levels_and_has_its_own_valid_time(self):
        """Levels that are not there count nothing; invalid depth rows count no time."""
        depth = a_depth(
            (0, [1.0, 2.0], [4.0], 0), (10, [9.0], [9.0], BookFlag.NOT_SEEDED), (20, [], [], 0)
        )
        (row,) = minutes_of(a_bbo((0, A_BOOK, 0)), depth)

        assert (3.0, 4.0, pytest.approx(-1 / 7), 10.0) == (
            row["bid_depth_20"],
            row["ask_depth_20"],
            row["depth_imbalance_20"],
            row["depth_valid_seconds"],
        )

    def test_an_empty_side_of_the_depth_is_null(self):
        """No bid level at all is no bid depth, not a depth of zero."""
        (row,) = minutes_of(a_bbo((0, A_BOOK, 0)), a_depth((0, [], [4.0], 0), (5, [], [4.0], 0)))

        assert (None, 4.0, None) == (
            row["bid_depth_20"],
            row["ask_depth_20"],
            row["depth_imbalance_20"],
        )

    def test_without_a_depth_table_its_figures_are_null(self):
        """What was not built is not measured."""
        (row,) = minutes_of(a_bbo((0, A_BOOK, 0)))

        assert (None, None) == (row["bid_depth_20"], row["depth_valid_seconds"])

    def test_trades_count_in_the_minute_they_were_received(self):
        """Volumes are by the taker's side; a minute with only a trade has a row."""
        trades = a_trades((3, 0.5, True), (200, 2.0, False), (4, 0.25, True))
        rows = minutes_of(a_bbo((0, A_BOOK, 0)), None, trades)

        assert [(2, 0.75, 0.0, 1), (1, 0.0, 2.0, 0)] == [
            (row["trade_count"], row["buy_volume"], row["sell_volume"], row["message_count"])
            for row in rows
        ]

    def test_without_a_trades_file_volumes_are_null(self):
        """Unknown is not zero."""
        (row,) = minutes_of(a_bbo((0, A_BOOK, 0)))

        names = ("trade_count", "buy_volume", "sell_volume", "trade_open", "trade_close")

        assert {None} == {row[name] for name in names}

    def test_a_minute_has_the_bar_of_its_trades(self):
        """First, highest, lowest and last price by receipt time; null where nothing traded."""
        trades = a_trades((9, 2.0, True), (3, 5.0, True), (4, 7.0, False), (200, 1.0, True))
        rows = minutes_of(a_bbo((0, A_BOOK, 0), (61, A_BOOK, 0)), None, trades)

        assert [(5.0, 7.0, 2.0, 2.0), (None,) * 4, (1.0,) * 4] == [
            tuple(row[f"trade_{name}"] for name in ("open", "high", "low", "close")) for row in rows
        ]

    def test_times_far_outside_the_day_are_left_out(self):
        """A receipt time of another month makes no row and no memory."""
        trades = a_trades((-40 * 86_400, 1.0, True), (-1, 1.0, True), (5, 1.0, True))

        assert [-1, 0] == [
            (row["minute_start"] - datetime(2024, 8, 8)).total_seconds() // 60  # noqa: DTZ001
            for row in minutes_of(a_bbo(), None, trades)
        ]


def test_no_batch_is_a_day_without_rows():
    """A table without a row of the instrument has no minute."""
    assert [] == minutes_of_batches([], [])


SECONDS = st.integers(0, 250).map(float)
FLAGS = st.sampled_from([0, 0, 0, 1, 4, 8, 256, *(int(flag) for flag in NO_TIME)])
EMPTY = st.just((None, None))
BID = st.one_of(EMPTY, st.tuples(st.integers(991, 1_001), st.integers(1, 5)))
ASK = st.one_of(EMPTY, st.tuples(st.integers(1_001, 1_009), st.integers(1, 5)))


class TestConfirmedLevels:
    def test_a_side_with_a_level_beyond_them_has_no_depth(self):
        """Of three levels two are confirmed: what stands before the third nobody knows."""
        depth = a_depth(
            (0, [1.0, 2.0, 3.0], [4.0, 5.0], 0), (20, [1.0], [1.0], 0), (40, [1.0], [1.0], 0)
        ).with_columns(bid_levels_confirmed=pl.Series([2, 20, 20], dtype=pl.Int8))
        (row,) = minutes_of(a_bbo((0, A_BOOK, 0)), depth)

        assert (1.0, 5.0) == (row["bid_depth_20"], row["ask_depth_20"])

    def test_days_from_before_they_were_counted(self):
        """Where nothing is said of them, all levels count."""
        depth = a_depth((0, [1.0, 2.0], [4.0], 0), (20, [1.0, 2.0], [4.0], 0)).with_columns(
            bid_levels_confirmed=pl.lit(None, pl.Int8)
        )
        (row,) = minutes_of(a_bbo((0, A_BOOK, 0)), depth)

        assert 3.0 == row["bid_depth_20"]


SIZES = st.lists(st.integers(1, 9).map(float), max_size=4)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    messages=st.lists(st.tuples(SECONDS, BID, ASK, FLAGS), max_size=15),
    depths=st.lists(st.tuples(SECONDS, SIZES, SIZES, FLAGS), max_size=8),
    trades=st.lists(st.tuples(SECONDS, st.integers(1, 9).map(float), st.booleans()), max_size=8),
    gap=st.tuples(SECONDS, SECONDS).map(sorted),
    ordered=st.booleans(),
)
def test_agrees_with_the_naive_twin(messages, depths, trades, gap, ordered):
    """Every figure of every minute equals the exact fraction, for any books, flags and clocks."""
    if ordered:
        messages, depths = sorted(messages, key=lambda m: m[0]), sorted(depths, key=lambda d: d[0])
    books = [(second, (*bid, *ask), flags) for second, bid, ask, flags in messages]
    span = np.array([[at(gap[0]), at(gap[1])]], dtype=np.int64)
    rows = minutes_of(
        a_bbo(*books),
        a_depth(*depths),
        a_trades(*trades),
        not_observed=span if gap[0] < gap[1] else NO_SPANS,
    )

    expected = naive_minutes(
        [(at(second), *book, flags) for second, book, flags in books],
        [(at(second), bids, asks, flags) for second, bids, asks, flags in depths],
        [(at(second), quantity, buy) for second, quantity, buy in trades],
        (at(gap[0]), at(gap[1])),
        start_ns=START_NS,
        tick=TICK,
        lot=LOT,
    )
    assert list(expected) == [row["minute_start"].minute for row in rows]
    for row, (_, figures) in zip(rows, expected.items(), strict=True):
        for name, figure in figures.items():
            known = None if figure is None else pytest.approx(float(figure), rel=1e-12, abs=1e-12)
            assert known == row[name], name


def batches_of(frame, cuts):
    """The frame cut at the given rows; some batches are empty."""
    edges = [0, *sorted(min(cut, frame.height) for cut in cuts), frame.height]
    return [frame.slice(begin, end - begin) for begin, end in itertools.pairwise(edges)]


ODD_SECONDS = st.floats(0, 250)
CUTS = st.lists(st.integers(0, 20), max_size=6)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(
    messages=st.lists(st.tuples(ODD_SECONDS, BID, ASK, FLAGS), max_size=20),
    depths=st.lists(
        st.tuples(
            ODD_SECONDS,
            st.lists(st.floats(0.001, 9), max_size=20),
            st.lists(st.floats(0.001, 9), max_size=3),
            FLAGS,
        ),
        max_size=12,
    ),
    gap=st.tuples(SECONDS, SECONDS).map(sorted),
    ordered=st.booleans(),
    cuts=st.tuples(CUTS, CUTS),
)
def test_no_cut_changes_a_bit(messages, depths, gap, ordered, cuts):
    """Batches cut anywhere, also where the clock runs back, give exactly the minutes of a whole."""
    if ordered:
        messages, depths = sorted(messages, key=lambda m: m[0]), sorted(depths, key=lambda d: d[0])
    bbo = a_bbo(*((second, (*bid, *ask), flags) for second, bid, ask, flags in messages))
    depth = a_depth(*depths)
    span = np.array([[at(gap[0]), at(gap[1])]], dtype=np.int64)
    not_observed = span if gap[0] < gap[1] else NO_SPANS

    whole = minutes_of(bbo, depth, not_observed=not_observed)
    cut = minutes_of_batches(
        batches_of(bbo, cuts[0]), batches_of(depth, cuts[1]), not_observed=not_observed
    )

    assert whole == cut


def test_the_minutes_of_a_real_day_add_up():
    """On a real day the minutes' valid time is the day's, and its books have real spreads."""
    key = ("BINANCE_FUTURES", "BTC-USDT-PERP", DAY)
    sample = sample_day(*key)
    reference = read_table("truth/reference_bbo", *key)
    steps = [
        (pl.col(f"{side}_0_{what}") / float(step)).round().cast(pl.Int64).alias(name)
        for (side, what, step), name in zip(
            [(s, w, t) for s in ("bid", "ask") for w, t in (("price", TICK), ("size", LOT))],
            TOUCH,
            strict=True,
        )
    ]
    times = pl.DataFrame(
        {"sequence_number": sample.sequence_number, "ts_receipt_ns": sample.ts_receipt_ns}
    )
    bbo = times.join(
        reference.select("sequence_number", *steps), on="sequence_number", how="left"
    ).with_columns(
        flags=pl.when(pl.col("bid_price_ticks").is_null())
        .then(int(BookFlag.NOT_SEEDED))
        .otherwise(0)
        .cast(pl.UInt16)
    )
    trades = read_trades([sample_root() / "lake/trades" / TRADES_OF_THE_DAY])
    rows = pl.DataFrame(minutes_of(bbo, None, trades))
    receipt, flags = bbo["ts_receipt_ns"].to_numpy(), bbo["flags"].to_numpy()
    valid = valid_time(spans_of(receipt, flags), observed_of(receipt))

    assert (6, len(bbo), len(sample.trades)) == (
        len(rows),
        rows["message_count"].sum(),
        rows["trade_count"].sum(),
    )
    assert valid.valid_seconds == pytest.approx(rows["valid_seconds"].sum())
    assert sample.trades["quantity"].sum() == pytest.approx(
        rows["buy_volume"].sum() + rows["sell_volume"].sum()
    )
    assert rows["spread_ticks"].is_between(1.0, 3.0).all()
    assert rows["mid"].is_between(61_600, 61_900).all()
    assert (rows["weighted_mid"] - rows["mid"]).abs().max() < 0.2
