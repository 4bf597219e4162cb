"""Metrics of the real sample days against an independent pass with Polars, second by second."""

from __future__ import annotations

import polars as pl
import pytest

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.scale import Scale
from market_pipeline.metrics.day_rows import InstrumentRows
from market_pipeline.quality.intervals import NO_SPANS, NS_PER_SECOND, day_bounds_ns
from market_pipeline_tests.metrics.rows import (
    LOT,
    TICK,
    TOUCH,
    a_depth,
    made,
    reader,
    with_no_book,
)
from market_pipeline_tests.quality.sample import SAMPLE_DAYS, read_table, sample_day

EVERY_DAY = pytest.mark.parametrize("key", SAMPLE_DAYS, ids=lambda key: f"{key[1]} {key[2]}")
STEP_NS = NS_PER_SECOND


def reference_books(key):
    """The sample's own best bids and asks, message by message, in hundredths and millionths."""
    sample = sample_day(*key)
    steps = [
        (pl.col(f"{side}_0_{what}") * per_unit).round().cast(pl.Int64).alias(name)
        for (side, what, per_unit), name in zip(
            [(s, w, u) for s in ("bid", "ask") for w, u in (("price", 100), ("size", 100_000))],
            TOUCH,
            strict=True,
        )
    ]
    times = pl.DataFrame(
        {"sequence_number": sample.sequence_number, "ts_receipt_ns": sample.ts_receipt_ns}
    )
    seeded = pl.col("bid_price_ticks").is_not_null()
    return times.join(
        read_table("truth/reference_bbo", *key).select("sequence_number", *steps),
        on="sequence_number",
        how="left",
        maintain_order="left",
    ).with_columns(
        flags=pl.when(seeded).then(0).otherwise(int(BookFlag.NOT_SEEDED)).cast(pl.UInt16)
    )


def trades_of(key):
    """The sample's trades as `books.trades` has them, each an order of its own."""
    trades = sample_day(*key).trades.select(
        pl.col("ts_receipt_ns"),
        pl.int_range(pl.len()).alias("id"),
        pl.int_range(pl.len()).alias("taker_order"),
        pl.col("quantity").alias("size"),
        pl.col("is_buy"),
    )
    return with_no_book(trades)


def second_of(times, start_ns):
    return ((times - start_ns) // NS_PER_SECOND).alias("second")


def by_time(books, start_ns):
    """Means by time: each second's edge is one more row with the book from before."""
    times = pl.DataFrame(
        {"ts_receipt_ns": range(start_ns, start_ns + 86_400 * NS_PER_SECOND, NS_PER_SECOND)},
        schema={"ts_receipt_ns": pl.Int64},
    )
    known = books.with_columns(is_edge=0)
    rows = (
        pl.concat([known, times.with_columns(is_edge=-1)], how="diagonal")
        .sort("ts_receipt_ns", "is_edge", maintain_order=True)
        .with_columns(pl.col(*TOUCH, "flags").forward_fill())
        .with_columns(held=pl.col("ts_receipt_ns").shift(-1) - pl.col("ts_receipt_ns"))
        .filter(
            (pl.col("flags") == 0)
            & (pl.col("held") > 0)
            & (pl.col("ts_receipt_ns") < books["ts_receipt_ns"].max())
        )
    )
    bid, bid_size, ask, ask_size = (pl.col(name) for name in TOUCH)
    held = pl.col("held")

    def mean(value):
        return (value * held).sum() / held.sum()

    return rows.group_by(second_of(pl.col("ts_receipt_ns"), start_ns)).agg(
        valid_seconds=held.sum() / NS_PER_SECOND,
        spread_ticks=mean(ask - bid),
        spread_bps=mean((ask - bid) / (ask + bid) * 20_000),
        mid=mean(ask + bid) / 2,
        touch_imbalance=mean((bid_size - ask_size) / (bid_size + ask_size)),
        ask_touch_size=mean(ask_size),
    )


def by_message(books, start_ns):
    """Flow and counts of pairs of messages."""
    bid, bid_size, ask, ask_size = (pl.col(name) for name in TOUCH)
    was_bid, was_bid_size, was_ask, was_ask_size = (pl.col(name).shift(1) for name in TOUCH)
    flow = (
        (bid >= was_bid) * bid_size
        - (bid <= was_bid) * was_bid_size
        - (ask <= was_ask) * ask_size
        + (ask >= was_ask) * was_ask_size
    )
    return (
        books.with_columns(
            flow=flow,
            moved=(bid + ask != was_bid + was_ask),
            is_pair=(pl.col("flags") == 0) & (pl.col("flags").shift(1) == 0),
            since=pl.col("ts_receipt_ns").diff(),
        )
        .group_by(second_of(pl.col("ts_receipt_ns"), start_ns))
        .agg(
            message_count=pl.len(),
            ofi=pl.col("flow").filter("is_pair").sum(),
            mid_change_count=pl.col("moved").filter("is_pair").sum(),
            inter_arrival_mean_ms=pl.col("since").mean() / 1e6,
        )
    )


def by_step(books, start_ns):
    """Squared returns of the mid from second to second."""
    edges = pl.DataFrame(
        {"ts_receipt_ns": range(start_ns, start_ns + 86_401 * NS_PER_SECOND, STEP_NS)},
        schema={"ts_receipt_ns": pl.Int64},
    )
    mid = pl.col("bid_price_ticks") + pl.col("ask_price_ticks")
    return (
        edges.join_asof(books.with_columns(mid=mid.cast(pl.Float64)), on="ts_receipt_ns")
        .filter(pl.col("ts_receipt_ns") < books["ts_receipt_ns"].max())
        .with_columns(square=(pl.col("mid").shift(-1) / pl.col("mid")).log() ** 2)
        .filter(pl.col("square").is_not_null())
        .select(second_of(pl.col("ts_receipt_ns"), start_ns), realised_variance_1s="square")
    )


@EVERY_DAY
def test_agrees_with_polars(key):
    """Means, flow, counts, returns and volumes of every second are those of the other pass."""
    start_ns, _ = day_bounds_ns(key[2])
    books, trades = reference_books(key), trades_of(key)
    day = InstrumentRows(
        bbo=reader(books),
        depth=reader(a_depth()),
        trades=reader(trades),
        tick=Scale.of(TICK),
        lot=Scale.of(LOT),
        not_observed=NO_SPANS,
    )
    found = made(day, 1, of=key[2])

    rows = found.intervals[0].with_row_index("second").with_columns(pl.col("second").cast(pl.Int64))
    # On one clock: a receipt time before that of the row above counts as that.
    books = books.with_columns(pl.col("ts_receipt_ns").cum_max())
    volumes = trades.group_by(second_of(pl.col("ts_receipt_ns"), start_ns)).agg(
        trade_count=pl.len(), buy_volume=pl.col("size").filter("is_buy").sum()
    )
    scale = {"mid": 0.1, "ask_touch_size": 0.001, "ofi": 0.001}
    for expected in (
        *(by_time(books, start_ns), by_message(books, start_ns), by_step(books, start_ns)),
        volumes,
    ):
        joined = expected.join(rows, on="second", how="left", suffix="_made").sort("second")
        assert expected.height > 100
        for name in expected.columns[1:]:
            wanted = [
                each if each is None else pytest.approx(each * scale.get(name, 1), abs=1e-12)
                for each in joined[name].to_list()
            ]
            made_here = joined[f"{name}_made"].to_list()
            if name == "ofi":  # without a pair and without time there is no flow
                made_here = [each or 0.0 for each in made_here]
            assert wanted == made_here, name
    assert (books.height, trades.height, 0) == found.daily.select(
        "message_count", "trade_count", "feature_violations"
    ).row(0)
