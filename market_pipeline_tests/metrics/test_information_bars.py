"""Bars of equal activity against a naive twin in exact fractions, by hand, and on real days."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from math import ceil
from typing import get_args
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.scale import Scale, to_steps
from market_pipeline.config.information_bars import BarKind, InformationBars
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import DomainError
from market_pipeline.metrics import information_bars as module
from market_pipeline.metrics.information_bars import (
    TRADE_COLUMNS,
    bar_trades,
    information_bars,
    steps_of,
)
from market_pipeline.metrics.tables import INFORMATION_BARS
from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline_tests.naive.information_bars import naive_information_bars
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, sample_root

DAY = date(2024, 8, 8)
START_NS, END_NS = day_bounds_ns(DAY)
TICK, LOT = Decimal("0.1"), Decimal("0.001")
INSTRUMENT = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")
TYPES = (*[pl.Int64] * 5, pl.Boolean, pl.Boolean)
KINDS = get_args(BarKind)


def at(second):
    """An instant of the day."""
    return START_NS + second * NS_PER_SECOND


def rows_of(*trades):
    """Rows of `books.trades`: (second, received, id, ticks, lots, taker bought[, market])."""
    rows = [
        (at(second), at(received), *more[:4], *market)
        for second, received, *more in trades
        for market in [more[4:] or (None,)]
    ]
    return pl.DataFrame(rows, dict(zip(TRADE_COLUMNS, TYPES, strict=True)), orient="row")


def bars_of(rows, kind, step, *, cut=1_000, day=DAY, tick=TICK, lot=LOT):
    """The bars of some rows of one kind and step."""
    scales = Scale.of(tick), Scale.of(lot)
    batches = [rows[at : at + cut] for at in range(0, rows.height, cut)]
    frames = information_bars(
        bar_trades(batches, day, rows.height),
        steps_of(InformationBars(**{"tick": (), kind: step}), *scales),
        instrument=INSTRUMENT,
        day=day,
        price_scale=scales[0],
        size_scale=scales[1],
    )
    return pl.concat([pl.from_arrow(INFORMATION_BARS.arrow_schema.empty_table()), *frames])


def only(rows, *names):
    """Those columns of the rows as tuples."""
    return rows.select(names).rows()


class TestByHand:
    def test_a_tick_bar_has_its_trades(self):
        """Two trades each; the third is alone in a bar that is not complete."""
        rows = rows_of((1, 1, 7, 50, 2, True), (2, 2, 8, 40, 3, False), (3, 3, 9, 60, 4, True))

        expected = [
            ("tick", 2.0, 0, True, 50, 50, 40, 40, 5, 2, 2, 7, 8, False),
            ("tick", 2.0, 1, False, 60, 60, 60, 60, 4, 4, 1, 9, 9, False),
        ]
        names = ("kind", "step", "bar_number", "is_complete")
        prices = [f"{name}_ticks" for name in ("open", "high", "low", "close")]
        sums = ("volume_lots", "buy_volume_lots", "trade_count", "first_id", "last_id", "goes_on")
        assert expected == only(bars_of(rows, "tick", 2), *names, *prices, *sums)

    def test_a_volume_bar_splits_a_trade(self):
        """Of 3 + 25 lots come three bars of 10 lots but the last, which has 8."""
        rows = rows_of((1, 1, 7, 50, 3, True), (2, 2, 8, 40, 25, False))

        expected = [
            (10, 3, 2, 7, 8, 50, 40, False, True),
            (10, 0, 1, 8, 8, 40, 40, True, True),
            (8, 0, 1, 8, 8, 40, 40, True, False),
        ]
        names = ("volume_lots", "buy_volume_lots", "trade_count", "first_id", "last_id")
        found = bars_of(rows, "volume", "0.010")
        assert expected == only(
            found, *names, "open_ticks", "close_ticks", "goes_on", "is_complete"
        )

    def test_a_value_bar_ends_at_the_nearest_lot(self):
        """At 3.0 a lot is worth 0.003: 0.010 is nearest to 3 lots, so it takes 3 of each 7."""
        rows = rows_of((1, 1, 1, 30, 7, True))

        expected = [(3, 0.009, True), (3, 0.009, True), (1, 0.003, False)]
        found = bars_of(rows, "value", "0.010")
        assert expected == only(found, "volume_lots", "quote_volume", "is_complete")

    def test_a_lot_worth_more_than_a_bar(self):
        """Each lot is a bar of its own, since there is no smaller part."""
        rows = rows_of((1, 1, 1, 3_000, 3, True))

        assert [(1, True)] * 3 == only(
            bars_of(rows, "value", "0.010"), "volume_lots", "is_complete"
        )

    def test_an_imbalance_bar_ends_where_one_side_is_ahead(self):
        """Sellers are 4 lots ahead, and buyers 5 after 9 of their 12: there the bar ends."""
        rows = rows_of((1, 1, 7, 50, 4, False), (2, 2, 8, 51, 12, True))

        expected = [(13, 9, 2, 7, 8, False, True), (3, 3, 1, 8, 8, True, False)]
        names = ("volume_lots", "buy_volume_lots", "trade_count", "first_id", "last_id")
        found = bars_of(rows, "volume_imbalance", "0.005")
        assert expected == only(found, *names, "goes_on", "is_complete")

    def test_a_runs_bar_has_one_side_only(self):
        """Two in a row make a bar: the first buyer is in none, and the last one in an open one."""
        sides = enumerate((True, False, False, True), start=1)
        rows = rows_of(*((at, at, at, 50, 1, is_buy) for at, is_buy in sides))

        expected = [(2, 3, 0, True), (4, 4, 1, False)]
        found = bars_of(rows, "tick_runs", 2)
        assert expected == only(found, "first_id", "last_id", "buy_volume_lots", "is_complete")

    def test_what_is_left_of_a_trade_begins_the_next_run(self):
        """Of 15 lots 10 make a bar, and 5 make the next one with 5 of the 7 that follow."""
        rows = rows_of((1, 1, 1, 50, 15, True), (2, 2, 2, 50, 7, True))

        expected = [(10, 1, 1, True), (10, 1, 2, True), (2, 2, 2, False)]
        found = bars_of(rows, "volume_runs", "0.010")
        assert expected == only(found, "volume_lots", "first_id", "last_id", "is_complete")

    def test_a_day_that_ends_with_a_full_bar(self):
        """Then none is incomplete."""
        rows = rows_of((1, 1, 1, 30, 10, True), (2, 2, 2, 30, 10, True))

        assert [True, True] == bars_of(rows, "volume", "0.01")["is_complete"].to_list()

    def test_the_order_is_the_exchanges(self):
        """Trades count by exchange time, then by id, wherever they stand in the file; and a bar is
        known when its latest trade, or one of a bar before it, was received.
        """
        rows = rows_of(
            (5, 6, 3, 30, 1, True),
            (4, 9, 2, 20, 1, True),
            (4, 4, 1, 10, 1, True),
            (7, 7, 4, 40, 1, True),
        )
        found = bars_of(rows, "tick", 2)

        expected = [(1, 2, 10, 20, 9), (3, 4, 30, 40, 9)]
        known = pl.Series("known", (found["known_ns"] - START_NS) // NS_PER_SECOND)
        names = ("first_id", "last_id", "open_ticks", "close_ticks", "known")
        assert expected == only(found.with_columns(known), *names)

    def test_what_is_left_out(self):
        """Trades of another day, off the tick or lot, and those that the market did not make."""
        rows = rows_of(
            (-1, 1, 1, 10, 1, True),
            (1, 1, 2, None, 1, True),
            (1, 1, 3, 10, None, True),
            (1, 1, 4, 0, 1, True),
            (1, 1, 5, 10, 1, True, False),
            (1, 1, 6, 10, 1, True, True),
            (86_400, 1, 7, 10, 1, True),
        )

        assert [(6, 6, 1)] == only(bars_of(rows, "tick", 9), "first_id", "last_id", "trade_count")

    def test_no_trade(self):
        """A day without a trade has no bar."""
        assert 0 == sum(bars_of(rows_of(), kind, 1).height for kind in KINDS)


class TestRefused:
    def test_a_volume_of_half_a_lot(self):
        """It is refused with the day's lot: rounded, it would be another bar."""
        with pytest.raises(DomainError, match=r"multiple of the day's lot 0\.001"):
            bars_of(rows_of(), "volume", "0.0005")

    def test_a_step_that_cannot_be_counted(self):
        """So is one of more ticks times lots than fit."""
        with pytest.raises(DomainError, match="fewer of the day's ticks and lots"):
            bars_of(rows_of(), "value", "1e18")

    def test_the_largest_steps(self):
        """A value of 2e18 ticks times lots is counted, but not an imbalance of it: that may be
        twice the step away from the next bar.
        """
        scales = Scale.of(Decimal("0.01")), Scale.of(Decimal("1e-8"))
        (step,) = steps_of(InformationBars(tick=(), value="2e8"), *scales)
        assert 2 * 10**18 == step.whole
        with pytest.raises(DomainError, match="fewer of the day's ticks and lots"):
            steps_of(InformationBars(tick=(), value_imbalance="2e8"), *scales)

    def test_more_bars_than_trades_may_be(self, monkeypatch):
        """A step that a day's trade has too often in it is refused before the disk is full."""
        monkeypatch.setattr(module, "_MOST_BARS", 5)

        with pytest.raises(DomainError, match="at most 5 bars a day"):
            bars_of(rows_of((1, 1, 1, 10, 6, True)), "volume", "0.001")

    def test_more_than_can_be_counted(self):
        """Volumes beyond what fits are refused, as they are of clock bars."""
        rows = rows_of(*[(1, 1, 1, 1, 2**51 - 1, True)] * 2_049)

        with pytest.raises(DomainError, match="than whole lots can count"):
            bars_of(rows, "tick", 1)


TRADES = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.integers(0, 6),
        st.integers(1, 4),
        st.integers(1, 9),
        st.integers(1, 40),
        st.booleans(),
    ),
    max_size=14,
)


@settings(max_examples=150, deadline=None)
@given(
    trades=TRADES,
    kind=st.sampled_from(KINDS),
    count=st.integers(1, 12),
    tick=st.sampled_from(["0.1", "0.03"]),
    room=st.sampled_from([1, 2, 64]),
    at_once=st.sampled_from([1, 3, 64]),
    cut=st.integers(1, 14),
)
def test_agrees_with_the_naive_twin(trades, kind, count, tick, room, at_once, cut):
    """Bars are those of a walk through the trades in order, wherever rows, trades in order and
    bars are cut; and each lot traded is in one bar, unless another side ends its run.
    """
    tick, lot = Decimal(tick), Fraction(LOT)
    what, _, rule = kind.partition("_")
    step = {"tick": count, "volume": count * LOT, "value": Decimal(count) / 1_000}[what]
    with (
        patch.object(module, "_ROWS_AT_ONCE", room),
        patch.object(module, "_TRADES_AT_ONCE", at_once),
    ):
        found = bars_of(rows_of(*trades), kind, step, cut=cut, tick=tick)
    unit = Fraction(tick) * lot
    expected = naive_information_bars(
        [
            (at(second), at(received), number, ticks * Fraction(tick), lots * lot, is_buy)
            for second, received, number, ticks, lots, is_buy in trades
        ],
        kind,
        ceil(Fraction(step) / unit) * unit if what == "value" else step,
        tick=Fraction(tick),
        lot=lot,
    )

    assert len(expected) == found.height
    for wanted, row in zip(expected, found.to_dicts(), strict=True):
        wanted["quote_volume"] = pytest.approx(float(wanted["quote_volume"]), rel=1e-12)
        assert wanted == {name: row[name] for name in wanted}
    traded = sum(lots for *_, lots, _ in trades)
    in_bars = found["volume_lots"].sum()
    assert in_bars <= traded if rule == "runs" else in_bars == traded


@pytest.mark.parametrize("key", SAMPLE_DAYS, ids=lambda key: f"{key[1]} {key[2]}")
def test_a_real_day(key):
    """Tick bars are those of the sorted file cut by number, volume bars have just their size, and
    value bars theirs but for half a lot; and of each kind all size traded is in the bars.
    """
    exchange, symbol, day = key
    folder = sample_root() / "lake/trades" / f"exchange={exchange}" / f"symbol={symbol}"
    raw = read_trades([folder / f"dt={day}" / "1.snappy.parquet"], with_ids=True)
    tick, lot = Decimal("0.01"), Decimal(1 if exchange == "BINANCE_DELIVERY" else "0.00001")
    steps = np.empty((2, raw.price.size), np.int64)
    for values, scale, into in ((raw.price, tick, steps[0]), (raw.quantity, lot, steps[1])):
        assert 0 == to_steps(values, Scale.of(scale), into)
    columns = (raw.ts_origin_ns, raw.ts_receipt_ns, raw.id, *steps, raw.is_buy)
    rows = pl.DataFrame(dict(zip(TRADE_COLUMNS, columns, strict=False)))
    rows = rows.with_columns(is_market=pl.lit(None, pl.Boolean))
    of_day = rows.filter(pl.from_epoch("ts_origin_ns", "ns").dt.date() == day)
    of_day = of_day.sort("ts_origin_ns", "id", maintain_order=True)
    lots = int(of_day["size_lots"].sum())

    made = {
        kind: bars_of(rows, kind, step, day=day, tick=tick, lot=lot)
        for kind, step in (("tick", 100), ("volume", lot * (lots // 50)), ("value", 100_000))
    }
    assert [lots] * 3 == [each["volume_lots"].sum() for each in made.values()]
    assert [True] * 3 == [each["is_complete"][:-1].all() for each in made.values()]
    assert {lots // 50} == set(made["volume"]["volume_lots"][:50])
    half_a_lot = made["value"]["close"] * float(lot) / 2 * (1 + 1e-9)
    assert ((made["value"]["quote_volume"] - 100_000).abs() <= half_a_lot)[:-1].all()
    expected = of_day.group_by(pl.int_range(pl.len()) // 100, maintain_order=True).agg(
        open_ticks=pl.col("price_ticks").first(),
        high_ticks=pl.col("price_ticks").max(),
        low_ticks=pl.col("price_ticks").min(),
        close_ticks=pl.col("price_ticks").last(),
        volume_lots=pl.col("size_lots").sum(),
        buy_volume_lots=pl.col("size_lots").filter("is_buy").sum(),
        first_ns=pl.col("ts_origin_ns").first(),
        last_id=pl.col("id").last(),
    )
    names = expected.columns[1:]
    assert expected.select(names).equals(made["tick"].select(names))
