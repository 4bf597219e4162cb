"""Minute bars: against a naive twin, rule by rule, and silent on days without a fault."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.quality.intervals import NS_PER_SECOND, day_bounds_ns
from market_pipeline.quality.measures import print_bars
from market_pipeline.quality.measures.bars import bars_report, trade_bars
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline_tests.quality.sample import SAMPLE_DAYS

DAY = date(2024, 8, 8)
START_NS, END_NS = day_bounds_ns(DAY)
MINUTE_NS = 60 * NS_PER_SECOND
HOUR = 60


def a_trades(*prints):
    """Trades given as (second, price, quantity, taker bought)."""
    columns = list(zip(*prints, strict=True)) if prints else [()] * 4
    times = np.array([START_NS + round(each * NS_PER_SECOND) for each in columns[0]], np.int64)
    price, quantity = (np.array(column, np.float64) for column in columns[1:3])
    return Trades(times, times, price, quantity, np.array(columns[3], np.bool_))


def a_market(minutes=240, per_minute=12):
    """A market that goes up and down by a few basis points a minute, the same every day."""
    rng = np.random.default_rng(7)
    count = minutes * per_minute
    steps = rng.standard_normal(count) * 2e-4 / math.sqrt(per_minute)
    times = START_NS + np.arange(count) * (MINUTE_NS // per_minute)
    price = np.round(60_000 * np.exp(np.cumsum(steps)), 1)
    return Trades(times, times, price, rng.uniform(0.5, 1.5, count), np.arange(count) % 2 == 0)


MARKET = a_market()
MIDDLE = len(MARKET.price) // 2 + 5
"""A trade in the middle of the 121st minute."""


def validated(trades, outlier_sigmas=8.0, volume_factor=20.0):
    """The report on the bars of some trades."""
    made = trade_bars(trades, DAY)
    return bars_report(made, outlier_sigmas=outlier_sigmas, volume_factor=volume_factor)


def with_price(factor, *, last=MIDDLE):
    """The market with the prices from one trade in the middle on to another multiplied."""
    price = MARKET.price.copy()
    price[MIDDLE : last + 1] *= factor
    return replace(MARKET, price=price)


def without(first_minute, last_minute):
    """The market without the trades of some minutes."""
    minute = (MARKET.ts_receipt_ns - START_NS) // MINUTE_NS
    kept = (minute < first_minute) | (minute > last_minute)
    return only(MARKET, kept)


def only(trades, kept):
    """Some of the trades."""
    columns = (getattr(trades, name) for name in Trades.__dataclass_fields__)
    return Trades(*(column if column is None else column[kept] for column in columns))


def minutes_of(report):
    """Of each bad bar, the minutes it is about."""
    return [
        ((bar.start_ns - START_NS) // MINUTE_NS, (bar.end_ns - START_NS) // MINUTE_NS)
        for bar in report.bad
    ]


class TestRules:
    def test_a_market_without_fault(self):
        """A day of moves and volumes as usual has no violation."""
        report = validated(MARKET)

        assert (240, 0, 0, ()) == (
            report.figures.bars,
            report.figures.missing_bars,
            report.figures.bar_violations,
            report.bad,
        )

    @pytest.mark.parametrize("factor", [1.02, 0.98, 10.0])
    def test_a_lone_false_print(self, factor):
        """A single price far out is the bar's only fault, and the bar after it has none."""
        report = validated(with_price(factor))
        (bar,) = report.bad

        assert ([(120, 121)], 1, "high" if factor > 1 else "low") == (
            minutes_of(report),
            report.figures.bar_violations,
            bar.column,
        )
        assert "beyond the bars beside it" in bar.notes[0]
        assert f"{MARKET.price[MIDDLE] * factor:.12g}" == bar.value

    def test_a_level_that_does_not_join(self):
        """Prices off for an hour are found where they begin, and where they end."""
        report = validated(with_price(1.01, last=MIDDLE + HOUR * 12))

        assert [(120, 121), (180, 181)] == minutes_of(report)
        assert all("from the close before" in bar.notes[0] for bar in report.bad)

    def test_a_hole_between_two_bars(self):
        """Where no price joins a bar and the one before, half as much is too far."""
        minute = (MARKET.ts_receipt_ns - START_NS) // MINUTE_NS
        jump = replace(MARKET, price=MARKET.price * np.where(minute >= 120, 1.004, 1.0))
        report = validated(jump)

        assert [(120, 121)] == minutes_of(report)
        assert "deviations or more from the bar before" in report.bad[0].notes[0]

    def test_a_fast_market_is_no_fault(self):
        """Ten deviations in a minute, traded on the way and kept, are a move."""
        price = MARKET.price.copy()
        price[120 * 12 :] *= np.exp(np.minimum(np.arange(len(price) - 120 * 12) / 12, 1) * 2e-3)

        assert 0 == validated(replace(MARKET, price=price)).figures.bar_violations

    def test_a_volume_spike(self):
        """A volume above so many times the usual, and no other, is a violation."""
        quantity = MARKET.quantity.copy()
        quantity[MIDDLE] *= 1_000
        quantity[MIDDLE + 24] *= 100
        report = validated(replace(MARKET, quantity=quantity))

        assert [(120, 121)] == minutes_of(report)
        assert ("volume", 1) == (report.bad[0].column, len(report.bad[0].notes))

    def test_each_bar_is_listed_once(self):
        """A bar with two faults is one violation with two notes."""
        quantity = MARKET.quantity.copy()
        quantity[MIDDLE] *= 1_000
        report = validated(replace(with_price(1.05), quantity=quantity))

        assert (1, [(120, 121)], 2) == (
            report.figures.bar_violations,
            minutes_of(report),
            len(report.bad[0].notes),
        )

    def test_missing_minutes(self):
        """Where every minute trades, minutes without are violations, and one run is one place."""
        report = validated(without(50, 54))

        assert (235, 5, 5, [(50, 55)]) == (
            report.figures.bars,
            report.figures.missing_bars,
            report.figures.bar_violations,
            minutes_of(report),
        )
        assert "no trade for 5 minutes" == report.bad[0].value

    def test_a_thin_market_is_not_validated(self):
        """Minutes without a trade, lone big trades and jumps are usual where little trades."""
        rng = np.random.default_rng(3)
        kept = np.sort(rng.choice(len(MARKET.price), 300, replace=False))
        quantity = np.where(rng.random(300) < 0.02, 500.0, 0.1)
        thin = only(MARKET, kept)
        report = validated(replace(thin, quantity=quantity))

        assert report.figures.missing_bars > 20
        assert (0, ()) == (report.figures.bar_violations, report.bad)

    def test_a_few_minutes_are_not_validated(self):
        """What is usual takes 30 bars to know."""
        first = np.arange(29 * 12)
        few = only(with_price(1.0), first)
        quantity = few.quantity.copy()
        quantity[100] *= 1_000

        assert 0 == validated(replace(few, quantity=quantity)).figures.bar_violations

    def test_a_market_that_stands_still(self):
        """Where no price ever moved there is no deviation, and no division by zero."""
        still = replace(MARKET, price=np.full_like(MARKET.price, 60_000.0))

        assert 0 == validated(still).figures.bar_violations

    def test_no_trade(self):
        """No trade is no bar, and no missing one."""
        report = validated(a_trades())

        assert (0, 0, 0) == (
            report.figures.bars,
            report.figures.missing_bars,
            report.figures.bar_violations,
        )


class TestBrokenBars:
    @pytest.mark.parametrize(
        ("changes", "column", "notes"),
        [
            ({"low": 2.5}, "open", ("Open or close is not between low and high.",)),
            ({"close": 9.0}, "open", ("Open or close is not between low and high.",)),
            ({"high": math.nan}, "high", ("A value is not finite.",)),
            ({"volume": math.inf}, "volume", ("A value is not finite.",)),
            ({"volume": 0.0}, "volume", ("A value is zero or negative.",)),
            ({"low": -1.0}, "low", ("A value is zero or negative.",)),
            (
                {"open": 0.0},
                "open",
                ("A value is zero or negative.", "Open or close is not between low and high."),
            ),
        ],
    )
    def test_relations_and_values(self, changes, column, notes):
        """A bar that is none is one, however few bars there are, and passes no other validation."""
        good = {"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.0, "volume": 5.0}
        rows = [
            {"minute_start_ns": START_NS + n * MINUTE_NS, "trade_count": 9, **good, **extra}
            for n, extra in enumerate(({}, changes, {}))
        ]
        report = bars_report(pl.DataFrame(rows), outlier_sigmas=8.0, volume_factor=20.0)
        (bar,) = report.bad

        assert (1, [(1, 2)], column, notes, math.inf) == (
            report.figures.bar_violations,
            minutes_of(report),
            bar.column,
            bar.notes,
            bar.excess,
        )


PRINTS = st.tuples(
    st.sampled_from([-4_000, -3_600, -1, 0, 30, 59, 60, 61, 200, 86_399, 86_400, 89_999, 90_000]),
    st.integers(1, 9).map(float),
    st.integers(1, 9).map(float),
    st.booleans(),
)


@settings(max_examples=150, deadline=None)
@given(prints=st.lists(PRINTS, max_size=25), at_once=st.sampled_from([1, 2, 7, 1_000]))
def test_bars_agree_with_the_naive_twin(prints, at_once):
    """Every bar is first, highest, lowest and last price and the sums of its minute, whatever part
    of the trades is taken at once.
    """
    minutes = {}
    for print_ in sorted(prints, key=lambda each: each[0]):
        if -3_600 <= print_[0] < 90_000:
            minutes.setdefault(print_[0] // 60, []).append(print_)
    expected = [
        {
            "minute_start_ns": START_NS + minute * MINUTE_NS,
            "open": inside[0][1],
            "high": max(price for _, price, _, _ in inside),
            "low": min(price for _, price, _, _ in inside),
            "close": inside[-1][1],
            "volume": sum(quantity for *_, quantity, _ in inside),
            "buy_volume": sum(quantity for *_, quantity, buy in inside if buy),
            "sell_volume": sum(quantity for *_, quantity, buy in inside if not buy),
            "trade_count": len(inside),
        }
        for minute, inside in minutes.items()
    ]

    with patch.object(print_bars, "_TRADES_AT_ONCE", at_once):
        assert expected == trade_bars(a_trades(*prints), DAY).to_dicts()


@pytest.mark.parametrize("key", SAMPLE_DAYS, ids=lambda key: f"{key[1]} {key[2]}")
def test_a_real_day_is_clean(sample_data, key):
    """The few minutes of each sample day make whole bars without a violation."""
    exchange, symbol, day = key
    folder = sample_data / "lake/trades" / f"exchange={exchange}" / f"symbol={symbol}" / f"dt={day}"
    trades = read_trades([folder / "1.snappy.parquet"])
    made = trade_bars(trades, day)
    report = bars_report(made, outlier_sigmas=8.0, volume_factor=20.0)

    assert (len(trades.price), 0, 0) == (
        made["trade_count"].sum(),
        report.figures.bar_violations,
        report.figures.missing_bars,
    )
