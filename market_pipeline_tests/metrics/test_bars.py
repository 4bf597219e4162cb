"""Bars against a naive twin in exact fractions, by hand, and on real days against Polars."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import DomainError
from market_pipeline.metrics.bars import QUOTE_COLUMNS, day_bars
from market_pipeline.metrics.tables import BARS
from market_pipeline.quality.intervals import NO_SPANS, NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.measures import print_bars
from market_pipeline.sources.batches import MARKET, OUTSIDE_MARKET, UNMARKED, Trades
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline_tests.naive.bars import naive_bars
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_root

DAY = date(2024, 8, 8)
START_NS, END_NS = day_bounds_ns(DAY)
MIDNIGHT = datetime(2024, 8, 8)  # noqa: DTZ001 - Polars' naive UTC
TICK, LOT = Decimal("0.1"), Decimal("0.001")
INSTRUMENT = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")
HOUR, QUARTER, WHOLE = WIDTHS = (3_600, 21_600, 86_400)


def at(second):
    """An instant of the day."""
    return START_NS + round(second * NS_PER_SECOND)


def a_trades(*prints):
    """Trades given as (received, exchange second, id, ticks, lots, taker bought[, mark])."""
    marks = [each[6] if len(each) > 6 else UNMARKED for each in prints]
    received, second, number, ticks, lots, is_buy = zip(*(p[:6] for p in prints), strict=True)
    return Trades(
        np.array([at(each) for each in second], np.int64),
        np.array([at(each) for each in received], np.int64),
        np.array(ticks, np.float64) / 10,
        np.array(lots, np.float64) / 1_000,
        np.array(is_buy, np.bool_),
        np.array(number, np.int64),
        np.array(marks, np.int8) if any(each != UNMARKED for each in marks) else None,
    )


NO_TRADES = Trades(*(np.empty(0, kind) for kind in (int, int, float, float, bool, int)))


def a_bbo(*messages):
    """The frame of books given as (second, (bid, ask) in ticks, flags)."""
    rows = [(at(second), int(flags), *book) for second, book, flags in messages]
    types = pl.Int64, pl.UInt16, pl.Int64, pl.Int64
    return pl.DataFrame(rows, dict(zip(QUOTE_COLUMNS, types, strict=True)), orient="row")


def bars_of(trades, bbo=None, widths=WIDTHS, not_observed=NO_SPANS, tick=TICK, lot=LOT, day=DAY):
    """All rows, smallest width first."""
    runs = day_bars(
        [a_bbo()] if bbo is None else bbo,
        trades,
        instrument=INSTRUMENT,
        day=day,
        price_scale=Scale.of(tick),
        size_scale=Scale.of(lot),
        not_observed=not_observed,
        bar_seconds=widths,
    )
    types = BARS.empty().schema
    return pl.concat(each.expanded().select(*types).cast(types) for each in runs)


def only(rows, *names):
    """Those columns of the rows as tuples."""
    return rows.select(names).rows()


class TestTrades:
    def test_the_frame_has_the_columns_and_types_of_the_table(self):
        """Every column is there, in order and of its type, also when nothing is."""
        expected = pl.from_arrow(BARS.arrow_schema.empty_table())

        for trades in (None, NO_TRADES, a_trades((1, 1, 7, 5, 2, True))):
            assert expected.schema == bars_of(trades).schema

    def test_every_interval_of_every_width_has_a_row(self):
        """Width after width, from midnight to midnight."""
        rows = bars_of(NO_TRADES)
        expected = [
            (width, MIDNIGHT + timedelta(seconds=start))
            for width in WIDTHS
            for start in range(0, WHOLE, width)
        ]

        assert expected == only(rows, "width_seconds", "bar_start")

    def test_a_bar_without_a_trade(self):
        """No price, no id, no mean price; volumes and counts of 0."""
        row = bars_of(NO_TRADES).row(0, named=True)

        assert {None} == {
            row[name]
            for name in ("open", "high_ticks", "low", "close_ticks", "vwap", "first_id", "last_id")
        }
        assert {0} == {
            row[name]
            for name in ("volume", "volume_lots", "buy_volume", "quote_volume", "trade_count")
        }

    def test_without_a_trades_file(self):
        """Unknown is not zero: nothing is said of trades."""
        row = bars_of(None).row(0, named=True)

        names = ("volume", "buy_volume_lots", "quote_volume", "trade_count", "late_count", "open")
        assert {None} == {row[name] for name in names}
        assert 0.0 == row["valid_share"]

    def test_one_print(self):
        """It is the bar's open, high, low, close and mean price, to the last bit."""
        rows = bars_of(a_trades((5, 4, 77, 617_001, 7, True)))

        expected = {
            **dict.fromkeys(("open", "high", "low", "close", "vwap"), 61_700.1),
            **dict.fromkeys(("open_ticks", "high_ticks", "low_ticks", "close_ticks"), 617_001),
            "volume_lots": 7,
            "buy_volume": 0.007,
            "quote_volume": 431.9007,
            "trade_count": 1,
            "first_id": 77,
            "last_id": 77,
        }
        for row in (0, 24, 28):
            found = rows.row(row, named=True)
            assert expected == {name: found[name] for name in expected}

    def test_prints_at_the_edge(self):
        """A bar has its first nanosecond and not its end."""
        end = HOUR - 1e-9
        rows = bars_of(
            a_trades((1, 0, 1, 1, 1, True), (2, end, 2, 2, 1, True), (3, HOUR, 3, 3, 1, True))
        )

        assert [(1, 2, 2), (3, 3, 1)] == only(rows[:2], "open_ticks", "close_ticks", "trade_count")

    def test_out_of_order(self):
        """Open and close are by exchange time, then id, then file; late ones are counted."""
        rows = bars_of(
            a_trades(
                (10, 10, 5, 50, 1, True),
                (11, 4_000, 6, 60, 1, True),
                (12, 9, 4, 40, 1, True),
                (13, 10, 3, 30, 1, False),
                (14, 9, 4, 41, 1, False),
                (15, 10, 5, 51, 1, True),
            )
        )

        names = ("open_ticks", "close_ticks", "first_id", "last_id", "trade_count", "late_count")
        assert [(40, 51, 4, 5, 5, 4), (60, 60, 6, 6, 1, 0)] == only(rows[:2], *names)
        assert [(40, 60, 4, 6, 6, 4)] == only(rows[-1:], *names)

    def test_the_order_of_receipt_decides_what_is_late(self):
        """A file that stands in another order than it was received has no late print for that."""
        rows = bars_of(a_trades((4_001, 4_000, 2, 1, 1, True), (11, 10, 1, 1, 1, True)))

        assert 0 == rows["late_count"].sum()

    def test_another_day(self):
        """Prints of yesterday count at the first bar and of tomorrow at the last; in none else."""
        rows = bars_of(
            a_trades((1, -1, 1, 5, 1, True), (2, 1, 2, 6, 1, True), (3, WHOLE, 3, 7, 1, True))
        )
        counted = rows.filter(pl.col("other_day_count") > 0)

        expected = [(HOUR, 1), (HOUR, 1), (QUARTER, 1), (QUARTER, 1), (WHOLE, 2)]
        assert expected == only(counted, "width_seconds", "other_day_count")
        assert [(6, 6, 1, 0)] == only(
            rows[-1:], "low_ticks", "high_ticks", "trade_count", "late_count"
        )

    def test_off_the_tick_and_the_lot(self):
        """They are counted and not rounded into the bar."""
        prints = (1, 1, 1, 10.5, 1, True), (2, 2, 2, 10, 0.5, True), (3, 3, 3, 10, 1, True)
        rows = bars_of(a_trades(*prints))

        assert [(2, 1, 1, 10)] == only(
            rows[:1], "off_step_count", "trade_count", "volume_lots", "high_ticks"
        )

    def test_outside_the_market(self):
        """Prints that the venue marks as none of the market's are counted and left out, whatever
        else is wrong with them; one of another day counts as that.
        """
        prints = [
            (1, 1, 1, 10, 1, True, MARKET),
            (2, 2, 2, 99, 9, True, OUTSIDE_MARKET),
            (3, 3, 3, 9.5, 1, True, OUTSIDE_MARKET),
            (4, WHOLE, 4, 11, 1, True, OUTSIDE_MARKET),
        ]
        rows = bars_of(a_trades(*prints))

        names = ("outside_market_count", "off_step_count", "trade_count", "high_ticks")
        assert [(2, 0, 1, 10)] == only(rows[:1], *names)
        assert [(2, 1)] == only(rows[-1:], "outside_market_count", "other_day_count")

    def test_more_than_can_be_counted(self):
        """Volumes beyond what fits are refused."""
        size = 2.0**51 - 1
        columns = np.full((2, 4_096), START_NS), np.ones(4_096), np.full(4_096, size)
        ids = np.arange(4_096)
        trades = Trades(*columns[0], *columns[1:], ids >= 0, ids)

        with pytest.raises(DomainError, match="than whole lots can count"):
            bars_of(trades, tick=Decimal(1), lot=Decimal(1))


class TestBook:
    def test_the_mid_in_force(self):
        """A book from before carries over; what it changes to is in the bar it changes in."""
        bbo = a_bbo(
            (10, (100, 102), 0),
            (HOUR + 10, (90, 93), 0),
            (HOUR + 20, (95, 96), 0),
            (2 * HOUR, (1, 9), 0),
        )
        rows = bars_of(None, [bbo])

        names = [f"mid_{each}" for each in ("open", "high", "low", "close")]
        ticks = [f"spread_{each}_ticks" for each in ("open", "high", "low", "close")]
        assert [(10.1,) * 4, (10.1, 10.1, 9.15, 9.55), (None,) * 4] == only(rows[:3], *names)
        assert [(2,) * 4, (2, 3, 1, 1), (None,) * 4] == only(rows[:3], *ticks)
        assert [(3_590 / 3_600,), (1.0,), (0.0,)] == only(rows[:3], "valid_share")

    def test_a_gap_inside_a_bar(self):
        """Its time is no part of the share, and the book before it ends with it."""
        bbo = a_bbo(
            (0, (100, 102), 0), (1_000, (200, 202), 0), (1_900, (300, 302), 0), (HOUR, (1, 9), 0)
        )
        gap = np.array([[at(1_000), at(1_900)]])
        rows = bars_of(None, [bbo], not_observed=gap)

        assert [(0.75, 10.1, 30.1)] == only(rows[:1], "valid_share", "mid_open", "mid_high")

    def test_invalid_and_one_sided_books(self):
        """An invalid book has no time; one without a bid is valid and has no mid."""
        bbo = a_bbo(
            (0, (100, 102), 0),
            (900, (1, 900), BookFlag.CROSSED),
            (1_800, (None, 50), 0),
            (2_700, (100, 104), BookFlag.NOT_SEEDED),
            (HOUR, (100, 102), 0),
        )
        rows = bars_of(None, [bbo])

        assert [(0.5, 10.1, 10.1, 2)] == only(
            rows[:1], "valid_share", "mid_high", "mid_low", "spread_close_ticks"
        )


SECONDS = st.sampled_from(
    [-1.0, 0.0, 1.0, 10.0, 3_599.999, 3_600.0, 3_700.0, 21_599.0, 21_600.0, 86_399.0, 86_400.0]
)
PRINTS = st.tuples(
    SECONDS,
    SECONDS,
    st.integers(1, 3),
    st.sampled_from([1.0, 2.0, 3.0, 4.0, 2.5]),
    st.sampled_from([1.0, 2.0, 7.0, 0.25]),
    st.booleans(),
    st.sampled_from([UNMARKED, MARKET, OUTSIDE_MARKET]),
)
TICKS = st.one_of(st.none(), st.integers(90, 110))
FLAGS = st.sampled_from([0, 0, 0, 1, 4, 256, int(BookFlag.BAD_TS_RECEIPT)])


@settings(max_examples=60, deadline=None)
@given(
    prints=st.lists(PRINTS, max_size=14),
    messages=st.lists(st.tuples(SECONDS, st.tuples(TICKS, TICKS), FLAGS), max_size=10),
    gap=st.tuples(SECONDS, SECONDS).map(sorted),
    at_once=st.sampled_from([1, 3, 1_000]),
    cut=st.integers(1, 10),
)
def test_agrees_with_the_naive_twin(prints, messages, gap, at_once, cut):
    """Bars of every width are those of a look through all prints and books, however both are cut:
    so a larger one is the aggregation of smaller ones.
    """
    span = np.array([[at(gap[0]), at(gap[1])]]) if gap[0] < gap[1] else NO_SPANS
    bbo = a_bbo(*messages)
    expected = naive_bars(
        [
            (at(r), at(s), n, Fraction(t), Fraction(q), b, m != OUTSIDE_MARKET)
            for r, s, n, t, q, b, m in prints
        ],
        [(at(second), book, flags) for second, book, flags in messages],
        [at(each) for each in gap],
        start_ns=START_NS,
        widths_ns=[width * NS_PER_SECOND for width in WIDTHS],
        tick=TICK,
        lot=LOT,
    )
    with patch.object(print_bars, "_TRADES_AT_ONCE", at_once):
        rows = bars_of(
            a_trades(*prints) if prints else NO_TRADES,
            [bbo[start : start + cut] for start in range(0, max(bbo.height, 1), cut)],
            not_observed=span,
        ).to_dicts()

    assert len(expected) == len(rows)
    for wanted, row in zip(expected, rows, strict=True):
        found = {name: row[name] for name in wanted}
        assert {
            name: value if value is None else pytest.approx(value, rel=1e-12)
            for name, value in wanted.items()
        } == found


@settings(max_examples=25, deadline=None)
@given(prints=st.lists(PRINTS, min_size=1, max_size=14), smallest=st.sampled_from([300, 900, HOUR]))
def test_a_width_does_not_depend_on_the_smaller_ones(prints, smallest):
    """But for what is late: bars through smaller ones are those made of the prints at once."""
    trades = a_trades(*prints)
    through = bars_of(trades, widths=(smallest, QUARTER, WHOLE)).drop("late_count")

    for width in (QUARTER, WHOLE):
        alone = bars_of(trades, widths=(width,)).drop("late_count")
        assert alone.equals(through.filter(width_seconds=width))


@pytest.mark.parametrize("key", SAMPLE_DAYS, ids=lambda key: f"{key[1]} {key[2]}")
@pytest.mark.parametrize("width", [1, 60, 300, 3_600, 86_400])
def test_a_real_day_agrees_with_polars(key, width):
    """Each bar with a trade is that of an independent pass over the raw file."""
    exchange, symbol, day = key
    folder = sample_root() / "lake/trades" / f"exchange={exchange}" / f"symbol={symbol}"
    file = folder / f"dt={day}" / "1.snappy.parquet"
    lot = Decimal(1) if exchange == "BINANCE_DELIVERY" else Decimal("0.00001")
    trades = read_trades([file], with_ids=True)
    made = bars_of(
        trades, widths=(1, 60, 300, 3_600, 86_400), tick=Decimal("0.01"), lot=lot, day=day
    )
    raw = pl.read_parquet(file, hive_partitioning=False).with_columns(
        bar_start=pl.from_epoch("timestamp", "ns").cast(pl.Datetime("us"))
    )
    price, amount = pl.col("price"), pl.col("amount")
    expected = (
        raw.filter(pl.col("bar_start").dt.date() == day)
        .sort("timestamp", "id", maintain_order=True)
        .group_by_dynamic("bar_start", every=f"{width}s")
        .agg(
            open=price.first(),
            high=price.max(),
            low=price.min(),
            close=price.last(),
            volume=amount.sum(),
            buy_volume=amount.filter(pl.col("side") == "buy").sum(),
            quote_volume=(price * amount).sum(),
            trade_count=pl.len().cast(pl.Int64),
            first_id=pl.col("id").first(),
            last_id=pl.col("id").last(),
        )
    )
    rows = made.filter(pl.col("width_seconds") == width)

    assert 86_400 // width == rows.height
    assert (0, raw.height) == (
        rows["off_step_count"].sum(),
        rows["trade_count"].sum() + rows["other_day_count"].sum(),
    )
    traded = rows.filter(pl.col("trade_count") > 0).select(expected.columns)
    for name in expected.columns:
        exact = expected[name].dtype != pl.Float64 or name in {"open", "high", "low", "close"}
        wanted, found = expected[name].to_list(), traded[name].to_list()
        assert (wanted if exact else pytest.approx(wanted, rel=1e-9)) == found
