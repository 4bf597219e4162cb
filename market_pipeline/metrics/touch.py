"""Spread, mid, sizes, order flow and rhythm of the touch by interval, of every row of `books.bbo`.

State variables are averaged over the valid time in which they were in force. Order flow imbalance
is that of Cont, Kukanov and Stoikov (2014), J. Fin. Econometrics 12(1); the weighted mid is that of
Gatheral and Oomen (2009), which is no fitted micro-price. docs/metrics.md has formulas and edges.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from market_pipeline.books.scale import Scale
from market_pipeline.books.state import read_only
from market_pipeline.mapped import ColumnArray
from market_pipeline.metrics._touch_kernel import (
    COUNTS,
    SUMS,
    QuantileBins,
    TouchRows,
    TouchWalk,
    finish_quantiles,
    walk_touch,
)
from market_pipeline.metrics.columns import RETURN_STEPS_MS, step_text
from market_pipeline.metrics.day_rows import (
    Chosen,
    Filled,
    InstrumentRows,
    NestedGrids,
    either,
    known,
    picked,
)
from market_pipeline.metrics.moments import Moments
from market_pipeline.quality.intervals import NS_PER_SECOND, FloatArray, IntArray

__all__ = ["TOUCH_INPUT", "touch_columns"]

_NS_PER_MS = 1_000_000
_TOUCH = ("bid_price_ticks", "bid_size_lots", "ask_price_ticks", "ask_size_lots")
TOUCH_INPUT = ("ts_receipt_ns", "flags", *_TOUCH)
"""The columns that are read of `books.bbo`."""


def touch_columns(day: InstrumentRows, grids: NestedGrids) -> Filled:
    """The columns of `TOUCH_COLUMNS`.

    Args:
        day: What is read: `books.bbo`.
        grids: The intervals.
    """
    steps_ns = np.array(RETURN_STEPS_MS, np.int64) * _NS_PER_MS
    unseen = read_only(day.not_observed)
    moments, every = Moments(grids, _instants_ns(day)), Moments(grids, None)
    walk = TouchWalk.of(moments, grids.width_ns, unseen, steps_ns)
    quantiles = QuantileBins.of(grids.ratios, grids.number)
    for batch in day.bbo(TOUCH_INPUT):
        rows = batch.with_columns(pl.col(*_TOUCH).fill_null(0))
        walk_touch(
            walk, quantiles, TouchRows(*(read_only(rows[name].to_numpy()) for name in TOUCH_INPUT))
        )
    finish_quantiles(quantiles)
    arrival_ns = np.split(quantiles.results, quantiles.offsets[1:])
    divisors = moments.divisors(walk.counts[:, COUNTS.index("divisor_ns")])
    sums, counts = moments.sums(walk.sums), moments.sums(walk.counts)
    variance, returns = every.sums(walk.variance), every.sums(walk.returns)
    widths_ns = grids.width_ns * grids.ratios
    known_steps = [np.flatnonzero(width_ns % steps_ns == 0) for width_ns in widths_ns]

    def columns(chosen: Chosen) -> dict[str, ColumnArray | pl.Series]:
        rows = moments.chosen(chosen)
        counted = picked(counts, rows)
        width_ns = np.repeat(widths_ns, [len(each) for each in chosen])
        return {
            **_of_book(picked(sums, rows), counted, day.tick, day.lot),
            **_of_messages(counted, picked(arrival_ns, chosen), picked(divisors, rows)),
            **_of_returns(picked(variance, chosen), picked(returns, chosen), width_ns),
        }

    of_steps = every.changes(returns, variance, columns=known_steps)
    of_arrivals = every.changes(arrival_ns)
    return Filled(either(either(moments.changes(sums, counts), of_arrivals), of_steps), columns)


def _instants_ns(day: InstrumentRows) -> Iterator[IntArray]:
    """When the touch or what is observed may change."""
    yield day.not_observed.ravel()
    for rows in day.bbo(TOUCH_INPUT[:1]):
        yield rows["ts_receipt_ns"].to_numpy()


def _of_book(
    sums: FloatArray, counts: IntArray, tick: Scale, lot: Scale
) -> dict[str, FloatArray | pl.Series]:
    summed = dict(zip(SUMS, sums.T, strict=True))
    counted = dict(zip(COUNTS, counts.T, strict=True))
    tick_size, lot_size = float(tick.step), float(lot.step)
    spread_ticks = _mean(summed["spread"], counted["quoted_ns"])
    return {
        "valid_seconds": counted["valid_ns"] / NS_PER_SECOND,
        "quoted_seconds": counted["quoted_ns"] / NS_PER_SECOND,
        "spread": spread_ticks * tick_size,
        "spread_ticks": spread_ticks,
        "spread_bps": _mean(summed["spread_bps"], counted["quoted_ns"]),
        "mid": _mean(summed["mid2"], counted["quoted_ns"]) / 2 * tick_size,
        "weighted_mid": _mean(summed["weighted_mid"], counted["quoted_ns"]) * tick_size,
        "bid_touch_size": _mean(summed["bid_size"], counted["bid_ns"]) * lot_size,
        "ask_touch_size": _mean(summed["ask_size"], counted["ask_ns"]) * lot_size,
        "touch_imbalance": _mean(summed["imbalance"], counted["quoted_ns"]),
        "ofi": known(
            summed["ofi_lots"] * lot_size, counted["quoted_ns"] + counted["ofi_events"] > 0
        ),
    }


def _of_messages(
    counts: IntArray, arrival_ns: IntArray, divisor_ns: IntArray
) -> dict[str, IntArray | pl.Series]:
    counted = dict(zip(COUNTS, counts.T, strict=True))
    arrivals = counted["arrivals"]
    return {
        "message_count": counted["messages"],
        "ofi_event_count": counted["ofi_events"],
        **{f"{name}_change_count": counted[f"{name}_changes"] for name in ("bid", "ask", "mid")},
        "inter_arrival_count": arrivals,
        "inter_arrival_mean_ms": _mean(counted["arrival_ns"], arrivals) / _NS_PER_MS,
        **{
            f"inter_arrival_{quantile}_ms": known(column / _NS_PER_MS, column >= 0)
            for quantile, column in zip(("p50", "p99"), arrival_ns.T, strict=True)
        },
        "inter_arrival_zero_share": _mean(counted["zero_arrivals"], arrivals),
        "receipt_granularity_ns": known(divisor_ns, divisor_ns > 0),
    }


def _of_returns(
    variance: FloatArray, returns: IntArray, width_ns: IntArray
) -> dict[str, pl.Series]:
    columns = {}
    for step_ms, squared, count in zip(RETURN_STEPS_MS, variance.T, returns.T, strict=True):
        divides = width_ns % (step_ms * _NS_PER_MS) == 0
        step = step_text(step_ms)
        columns[f"realised_variance_{step}"] = known(squared, divides & (count > 0))
        columns[f"return_count_{step}"] = known(count, divides)
    return columns


def _mean(sums: FloatArray | IntArray, weights: IntArray) -> pl.Series:
    """Sums over weights, null where these are 0."""
    return known(sums / np.maximum(weights, 1), weights > 0)
