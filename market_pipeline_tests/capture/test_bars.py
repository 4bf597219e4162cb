"""Live bars: those of the batch for the same prints, in whatever parts they come."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market_pipeline.books.scale import Scale
from market_pipeline.capture.bars import Bar, BarOperator
from market_pipeline.config.instruments import Instrument
from market_pipeline.metrics.bars import QUOTE_COLUMNS, day_bars
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.sources.batches import MARKET, OUTSIDE_MARKET, UNMARKED, Trades
from market_pipeline.sources.binance_capture.lines import Findings, read_lines
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.records import Trade
from market_pipeline.sources.venues.venue import Kind
from market_pipeline.warehouse.runs import RowRuns
from market_pipeline_tests.sources.capture_sample import SETS

TICK, LOT = Scale.of(Decimal("0.1")), Scale.of(Decimal("0.001"))
DAY = date(2024, 8, 8)
START_NS = 1723075200 * NS_PER_SECOND
COLUMNS = tuple(
    name
    for name in Bar.__struct_fields__
    if name not in ("symbol", "start_ns", "width_seconds", "value")
)

PRINTS = st.lists(
    st.builds(
        Trade,
        ts_origin_ns=st.integers(0, 400).map(lambda second: START_NS + second * NS_PER_SECOND),
        price=st.integers(1, 50).map(lambda ticks: ticks / 10),
        quantity=st.sampled_from((0.001, 0.25, 3.0, 0.0005)),
        is_buy=st.booleans(),
        id=st.integers(1, 9),
        is_market=st.sampled_from((True, True, False, None)),
    ),
    min_size=1,
    max_size=40,
)


def batch_bars(trades: list[Trade], day: date, tick: Scale, lot: Scale) -> list[tuple]:
    """The rows with prints that the pipeline publishes of the same prints, minute by minute."""
    marks = {True: MARKET, False: OUTSIDE_MARKET, None: UNMARKED}
    columns = Trades(
        np.array([each.ts_origin_ns for each in trades]),
        np.arange(len(trades)) + START_NS,
        np.array([each.price for each in trades]),
        np.array([each.quantity for each in trades]),
        np.array([each.is_buy for each in trades]),
        np.array([each.id for each in trades]),
        np.array([marks[each.is_market] for each in trades], np.int8),
    )
    rows = minute_bars(columns, day, tick, lot).expanded().filter(pl.col("trade_count") > 0)
    return list(rows.select(pl.col("bar_start").dt.epoch("us") * 1000, *COLUMNS).iter_rows())


def minute_bars(trades: Trades, day: date, tick: Scale, lot: Scale) -> RowRuns:
    """The bars that are published of trades, without books."""
    no_books = pl.DataFrame(schema=dict.fromkeys(QUOTE_COLUMNS, pl.Int64)).with_columns(
        pl.col("flags").cast(pl.UInt16)
    )
    (bars,) = day_bars(
        [no_books],
        trades,
        instrument=Instrument(venue="BINANCE", symbol="BTC-USDT", source="simulated"),
        day=day,
        price_scale=tick,
        size_scale=lot,
        not_observed=np.empty((0, 2), np.int64),
        bar_seconds=[60],
    )
    return bars


def live_rows(bars: list[Bar]) -> list[tuple]:
    return [(each.start_ns, *(getattr(each, name) for name in COLUMNS)) for each in bars]


@given(PRINTS, st.integers(1, 7))
def test_live_bars_are_those_of_the_batch(trades, size):
    """Prints in any order and parts, waited for long enough, make the published bars."""
    operator = BarOperator("X", TICK, LOT, allowed_lateness_ns=500 * NS_PER_SECOND)
    bars = [
        bar for at in range(0, len(trades), size) for bar in operator.take(trades[at : at + size])
    ]
    bars += operator.finish()
    assert batch_bars(trades, DAY, TICK, LOT) == live_rows(bars)


def a_print(second: float, price: float = 1.0) -> Trade:
    return Trade(START_NS + int(second * NS_PER_SECOND), price, 1.0, True, 1)


class TestWatermark:
    def test_a_bar_is_given_once_and_in_order(self):
        """A bar is closed when the watermark passes its end, and not before."""
        operator = BarOperator("X", TICK, LOT)
        assert [] == operator.take([a_print(10), a_print(64.9), a_print(50, 2.0)])
        (bar,) = operator.take([a_print(65)])
        assert (START_NS, 2, 20, 1) == (
            bar.start_ns,
            bar.trade_count,
            bar.close_ticks,
            bar.late_count,
        )
        assert [START_NS + 60 * NS_PER_SECOND] == [each.start_ns for each in operator.finish()]

    def test_what_comes_too_late_is_counted(self):
        """A print of a closed bar changes nothing that was given."""
        operator = BarOperator("X", TICK, LOT)
        operator.take([a_print(10), a_print(70)])
        operator.take([a_print(20)])
        assert (1, 1) == (operator.too_late, len(operator.finish()))


@pytest.mark.slow
@pytest.mark.parametrize("each", SETS[:1], ids=lambda each: each.name)
def test_real_prints(each, sample_data: Path):
    """Bars of real prints, as they come and with five seconds' lateness, are the batch's."""
    reader = FrameReader(VENUES[f"binance_{each.market}"])
    trades = [
        trade
        for file in each.files(sample_data)
        for _, _, text in read_lines(file, Findings())
        if reader.classify(text).kind is Kind.TRADES
        for trade in reader.records(text, Kind.TRADES)
    ]
    operator = BarOperator("X", TICK, LOT)
    bars: list[Bar] = []
    for at in range(0, len(trades), 100):
        bars += operator.take(trades[at : at + 100])
    bars += operator.finish()
    day = [row for row in live_rows(bars) if row[0] < START_NS + 86_400 * NS_PER_SECOND]
    assert (batch_bars(trades, DAY, TICK, LOT), 0) == (day, operator.too_late)
