"""A sound day breaks no rule of published bars; each planted fault is found where it is."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.scale import Scale
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.bars import QUOTE_COLUMNS, day_bars
from market_pipeline.metrics.tables import BARS
from market_pipeline.quality.intervals import NO_SPANS, day_bounds_ns
from market_pipeline.quality.measures import bar_rows
from market_pipeline.quality.measures.bar_rows import bar_violations
from market_pipeline.sources.batches import Trades

DAY = date(2024, 8, 8)
START_NS, _ = day_bounds_ns(DAY)
MIDNIGHT = datetime(2024, 8, 8)  # noqa: DTZ001 - Polars' naive UTC
WIDTHS = (3_600, 21_600, 86_400)
INSTRUMENT = Instrument(venue="BINANCE", symbol="BTC-USDT", source="crypto_lake")


@cache
def sound(*, trades: bool = True, seed: int = 1) -> pl.DataFrame:
    """The bars of a day with a trade every ten minutes but for some hours, and a later book."""
    generator = np.random.default_rng(seed)
    seconds = np.arange(0, 86_400, 600)
    seconds = seconds[(seconds // 3_600 != 3) & (seconds // 3_600 < 22)]
    number = seconds.size
    ts_ns = START_NS + seconds * 1_000_000_000
    found = Trades(
        ts_ns,
        ts_ns + 5_000_000,
        generator.integers(90, 110, number) / 10,
        generator.integers(1, 9, number) / 1_000,
        generator.random(number) < 0.5,
        np.arange(number),
    )
    bids = generator.integers(90, 100, number)
    columns = (ts_ns[7:], np.zeros(number - 7, np.uint16), bids[7:], bids[7:] + 2)
    runs = day_bars(
        [pl.DataFrame(dict(zip(QUOTE_COLUMNS, columns, strict=True)))],
        found if trades else None,
        instrument=INSTRUMENT,
        day=DAY,
        price_scale=Scale.of(Decimal("0.1")),
        size_scale=Scale.of(Decimal("0.001")),
        not_observed=NO_SPANS,
        bar_seconds=WIDTHS,
    )
    types = BARS.empty().schema
    return pl.concat(each.expanded().select(*types).cast(types) for each in runs)


def at(width, start):
    """Selects a bar."""
    return (pl.col("width_seconds") == width) & (
        pl.col("bar_start") == MIDNIGHT + timedelta(seconds=start)
    )


def changed(where, **columns):
    """The sound day with other values in one bar."""
    return sound().with_columns(
        pl.when(where).then(value).otherwise(pl.col(name)).cast(sound().schema[name]).alias(name)
        for name, value in columns.items()
    )


def found(bars):
    """(width, start in seconds, sentences) of each violation."""
    ((_, number, violations),) = bar_violations([("one", bars)], DAY)
    assert bars.height == number
    return located(violations)


def located(violations):
    """As `found`, of what was found."""
    return [
        (width, round((start - MIDNIGHT).total_seconds()), notes)
        for width, start, notes in violations.iter_rows()
    ]


@pytest.mark.parametrize("trades", [True, False])
def test_a_sound_day(trades):
    """Empty bars, hours without a book and days without a trades file break no rule."""
    assert [] == found(sound(trades=trades))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_any_sound_day(seed):
    """Nor do any other trades and books."""
    assert [] == found(sound(seed=seed))


def test_no_rows():
    """No bar breaks no rule."""
    assert [] == found(sound()[:0])


def test_days_of_before_a_count():
    """A day that was published before prints outside the market were counted is sound."""
    assert [] == found(sound().with_columns(outside_market_count=pl.lit(None, pl.Int64)))


HOUR = at(3_600, 7_200)
EMPTY = at(3_600, 3 * 3_600)
NOT_SUM = "Volumes or counts are not the sums of the smaller bars."
OF_STEPS = "A price or a size is not that of its ticks or lots."
NO_MEAN = "The mean price is not quote volume over volume."


@pytest.mark.parametrize(
    ("where", "columns", "sentences"),
    [
        (HOUR, {"volume": pl.lit(float("inf"))}, ["A value is not finite."]),
        (HOUR, {"open_ticks": pl.col("high_ticks") + 1}, ["Open or close is not between"]),
        (HOUR, {"close": pl.col("low") / 2}, ["Open or close is not between"]),
        (HOUR, {"low": pl.lit(0.0), "low_ticks": pl.lit(0)}, ["A price is not above 0."]),
        (HOUR, {"late_count": pl.lit(-1)}, ["A volume or a count is below 0."]),
        (HOUR, {"buy_volume_lots": pl.col("volume_lots") + 1}, ["More was bought than"]),
        (HOUR, {"first_id": pl.lit(None)}, ["It has trades and no price, size or id."]),
        (EMPTY, {"vwap": pl.lit(9.0)}, ["It has a price or a size and no trade."]),
        (EMPTY, {"volume_lots": pl.lit(9)}, ["It has a price or a size and no trade."]),
        (HOUR, {"volume": pl.lit(None)}, ["Counts and volumes are not all there, or not all"]),
        (HOUR, {"open": pl.col("low") + 1e-4}, [OF_STEPS]),
        (HOUR, {"volume": pl.col("volume") * 1.01}, [OF_STEPS, NO_MEAN, NOT_SUM]),
        (HOUR, {"vwap": pl.col("high") + 0.1}, ["The mean price is not between", NO_MEAN]),
        (HOUR, {"first_id": pl.col("last_id") + 1}, ["The id of its first trade is above"]),
        (HOUR, {"first_id": pl.lit(-1)}, ["The id of its first trade is not above those"]),
        (HOUR, {"mid_open": pl.col("mid_high") + 0.1}, ["Mid or spread opens or closes out"]),
        (HOUR, {"spread_close": pl.lit(-1.0)}, ["Mid or spread opens or closes outside"]),
        (HOUR, {"spread_open_ticks": pl.lit(None)}, ["Mid and spread are not all there"]),
        (HOUR, {"valid_share": pl.lit(0.0)}, ["There is a mid without valid time."]),
        (HOUR, {"valid_share": pl.lit(1.01)}, ["The valid share is not between 0 and 1."]),
        (HOUR, {"valid_share": pl.lit(None)}, ["The valid share is not between 0 and 1."]),
        (at(21_600, 0), {"trade_count": pl.col("trade_count") + 1}, [NOT_SUM]),
        (at(86_400, 0), {"high_ticks": pl.lit(200)}, ["A price is not that of the smaller bars."]),
        (at(86_400, 0), {"mid_low": pl.lit(1.0)}, ["Mid or spread is not that of the smaller"]),
        (at(86_400, 0), {"valid_share": pl.lit(0.5)}, ["The valid share is not the mean of the"]),
    ],
)
def test_a_planted_fault(where, columns, sentences):
    """The bar that a fault is in is listed once with what is wrong with it; so may be the wider
    bars around it, which it is a part of, and no other.
    """
    violations = found(changed(where, **columns))
    ((width, start),) = (
        (row[0], round((row[1] - MIDNIGHT).total_seconds()))
        for row in sound().filter(where).select("width_seconds", "bar_start").iter_rows()
    )
    (notes,) = (each[2] for each in violations if each[:2] == (width, start))

    joined = " ".join(notes)
    assert all(sentence in joined for sentence in sentences if sentence != NOT_SUM or width > 3_600)
    for other_width, other_start, _ in violations:
        assert other_start <= start < other_start + other_width or "id" in joined
    assert len(violations) == len({each[:2] for each in violations})


def test_bars_that_are_alike():
    """Each of those that are wrong alike is listed, in whatever order the rows come."""
    empty = (pl.col("width_seconds") == 3_600) & (pl.col("trade_count") == 0)
    bars = changed(empty, vwap=pl.lit(9.0)).sample(fraction=1, shuffle=True, seed=1)
    wrong = ["It has a price or a size and no trade.", NO_MEAN]
    assert [(3_600, hour * 3_600, wrong) for hour in (3, 22, 23)] == found(bars)


def test_a_missing_bar():
    """It is located where it should be, and so is the wider bar that has more than the others."""
    violations = found(sound().filter(~HOUR))

    assert (3_600, 7_200, ["The interval has no row."]) == violations[0]
    assert [21_600] == [width for width, *_ in violations[1:]]


def test_a_bar_twice():
    """It is listed once."""
    bars = pl.concat((sound(), sound().filter(HOUR)))
    (violation,) = [each for each in found(bars) if each[:2] == (3_600, 7_200)]

    assert "The interval has more than one row." in violation[2]


def test_a_bar_off_the_grid():
    """A bar of another day, or that begins between two, is none."""
    moved = changed(HOUR, bar_start=pl.col("bar_start") + timedelta(seconds=1))

    assert [(3_600, 7_200, ["The interval has no row."])] == found(moved)[:1]
    assert "It begins where no bar of the day does." in found(moved)[1][2]


FAULTS = ({"volume": pl.lit(float("inf"))}, {"first_id": pl.lit(-1)}, {"mid_low": pl.lit(1.0)})


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.sampled_from([None, *FAULTS, "none", "missing", "mixed"]), max_size=6), st.data()
)
def test_several_instruments(faults, data):
    """What is asked of several together is what is asked of each, wherever they are parted."""
    frames = []
    for seed, fault in enumerate(faults):
        bars = sound(seed=seed % 3)
        if isinstance(fault, dict):
            bars = changed(HOUR, **fault)
        elif fault == "none":
            bars = bars[:0]
        elif fault == "missing":
            bars = bars.filter(~HOUR)
        elif fault == "mixed":
            bars = bars.sample(fraction=1, shuffle=True, seed=seed)
        frames.append(bars)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bar_rows, "_ROWS_HELD", data.draw(st.sampled_from([1, 300, 1 << 15])))
        together = list(bar_violations(enumerate(frames), DAY))

    assert [(at, bars.height) for at, bars in enumerate(frames)] == [each[:2] for each in together]
    assert [found(bars) for bars in frames] == [located(each) for *_, each in together]
