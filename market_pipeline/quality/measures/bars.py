"""Minute bars of trades, and what is wrong with them.

A bar is of one UTC minute of receipt, as a minute of `metrics.book_metrics` is. Besides bars that
are none, three things are looked for, all against what is usual in the day's own bars:

- Volume far above the usual: the median of the day, or that of the 60 bars before if it is larger,
  so that a busy hour is not a spike for coming after a quiet one.
- A price that the bars beside it do not lead to, as a log return over the square root of the
  minutes in between: a high or low beyond those of both neighbours, as a false print leaves it, or
  a hole between a bar and the one before, as a false level leaves it. A market that moves trades
  its way there and leaves neither. How far it went from the close before has such tails that
  8 robust deviations are passed on most days without a fault; the threshold is 3 times as many.
- Minutes without a trade.

A deviation is robust: the median (again of the day or of the 60 bars before) of how far high or low
went from the close before, without those that did not move, divided by 1.149. That is the median of
the farthest distance of a Brownian motion from its start in a time in which its deviation is 1.

What is usual needs 30 bars and a market that is not thin: for volumes and prices nine bars in ten
with at least 3 trades, for missing minutes with at least 10.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from market_pipeline.quality.figures.comparisons import BarFigures
from market_pipeline.quality.intervals import (
    NS_PER_HOUR,
    NS_PER_SECOND,
    FloatArray,
    IntArray,
    day_bounds_ns,
)
from market_pipeline.quality.measures.print_bars import PrintBars, in_receipt_order
from market_pipeline.sources.batches import Trades

__all__ = ["BadBar", "BarsReport", "bars_report", "trade_bars"]

_NS_PER_MINUTE = 60 * NS_PER_SECOND
_BARS_THAT_SHOW_WHAT_IS_USUAL = 30
_BARS_BEFORE = 60
_MEDIAN_FARTHEST_DISTANCE = 1.149
_SHARE_OF_THIN_BARS = 0.1
_TIMES_FOR_A_MOVE = 3
_TRADES_TO_COMPARE_BARS = 3
_TRADES_OF_EVERY_MINUTE = 10

_PRICES = ("open", "high", "low", "close")
_VOLUMES = ("volume", "buy_volume", "sell_volume")


def trade_bars(trades: Trades, day: date) -> pl.DataFrame:
    """The minute bars of a day's trades, by the UTC minute of receipt, in order.

    Args:
        trades: In any order; those of equal receipt time in the order they are in.
        day: The UTC day. Trades received more than an hour outside it are left out.

    Returns:
        One row per minute with a trade: minute_start_ns (int64), open, high, low, close, volume,
        buy_volume, sell_volume (float64; those of takers who bought and who sold), trade_count
        (int64).
    """
    start_ns, end_ns = day_bounds_ns(day)
    first_ns = start_ns - NS_PER_HOUR
    bars = PrintBars(first_ns, end_ns + NS_PER_HOUR, _NS_PER_MINUTE, np.float64)
    for row in in_receipt_order(trades):
        columns = trades.price[row], trades.quantity[row], trades.is_buy[row]
        bars.add(trades.ts_receipt_ns[row], row, row, *columns)
    traded = np.flatnonzero(bars.trade_count)
    return pl.DataFrame(
        {
            "minute_start_ns": first_ns + traded * _NS_PER_MINUTE,
            **dict(zip(_PRICES, bars.prices[traded].T, strict=True)),
            **dict(zip(_VOLUMES, bars.volumes[traded].T, strict=True)),
            "trade_count": bars.trade_count[traded],
        }
    )


@dataclass(frozen=True, slots=True)
class BadBar:
    """A minute whose bar violates at least one rule, or a run of minutes that have none.

    Attributes:
        start_ns, end_ns: From the first minute's start to the last one's end.
        column, value, expected: Of the first rule that it violates.
        notes: One sentence for each rule that it violates.
        excess: How many times its bound the figure is that is farthest beyond; infinite if the bar
            is broken, and the number of minutes of a run without any.
    """

    start_ns: int
    end_ns: int
    column: str
    value: str
    expected: str
    notes: tuple[str, ...]
    excess: float


@dataclass(frozen=True, slots=True)
class BarsReport:
    """What is wrong with a day's bars.

    Attributes:
        bad: Every bar that violates a rule, and every minute that misses its bar where that is
            unusual, in order of time; each is counted once.
    """

    figures: BarFigures
    bad: tuple[BadBar, ...]


def bars_report(bars: pl.DataFrame, *, outlier_sigmas: float, volume_factor: float) -> BarsReport:
    """Finds the bars that violate a rule.

    Args:
        bars: In order of time, in the columns of `trade_bars`.
        outlier_sigmas: A move of more robust deviations than this is a violation.
        volume_factor: A volume of more than this many times the usual one is a violation.
    """
    usual_trades = _usual_trades(bars)
    found: dict[int, list[_Violation]] = {}
    is_sound = np.ones(bars.height, np.bool_)
    for bar, violation in _broken(bars):
        found.setdefault(bar, []).append(violation)
        is_sound[bar] = False
    sound, place = bars.filter(is_sound), np.flatnonzero(is_sound)
    if usual_trades >= _TRADES_TO_COMPARE_BARS:
        for rule in (_spikes(sound, volume_factor), _outliers(sound, outlier_sigmas)):
            for bar, violation in rule:
                found.setdefault(int(place[bar]), []).append(violation)
    starts_ns = bars["minute_start_ns"].to_numpy()
    bad = [_bad_bar(int(starts_ns[bar]), violations) for bar, violations in found.items()]
    runs = _missing(starts_ns)
    unusual = usual_trades >= _TRADES_OF_EVERY_MINUTE
    if unusual:
        bad += [_missing_run(start_ns, end_ns) for start_ns, end_ns in runs.tolist()]
    missing = int((runs[:, 1] - runs[:, 0]).sum()) // _NS_PER_MINUTE
    bad.sort(key=lambda each: each.start_ns)
    figures = BarFigures(
        bars=bars.height,
        bar_violations=len(found) + (missing if unusual else 0),
        missing_bars=missing,
        first_bar_violation_ns=bad[0].start_ns if bad else None,
    )
    return BarsReport(figures, tuple(bad))


@dataclass(frozen=True, slots=True)
class _Violation:
    column: str
    value: str
    expected: str
    note: str
    excess: float


def _bad_bar(start_ns: int, violations: list[_Violation]) -> BadBar:
    first = violations[0]
    return BadBar(
        start_ns,
        start_ns + _NS_PER_MINUTE,
        first.column,
        first.value,
        first.expected,
        tuple(violation.note for violation in violations),
        max(violation.excess for violation in violations),
    )


# --- rules ------------------------------------------------------------------------------------


def _broken(bars: pl.DataFrame) -> Iterator[tuple[int, _Violation]]:
    """Bars that are none: not finite, not above zero, or with a price outside low and high."""
    values = bars.select(*_PRICES, "volume").to_numpy()
    finite = np.isfinite(values)
    opened, high, low, close = values.T[:4]
    ordered = (low <= np.minimum(opened, close)) & (np.maximum(opened, close) <= high)
    for is_kept, expected, note in (
        (finite, "a finite number", "A value is not finite."),
        (~finite | (values > 0), "a value above 0", "A value is zero or negative."),
    ):
        for bar in np.flatnonzero(~is_kept.all(axis=1)).tolist():
            column = int(np.flatnonzero(~is_kept[bar])[0])
            name, value = (*_PRICES, "volume")[column], _text(values[bar, column])
            yield bar, _Violation(name, value, expected, note, np.inf)
    for bar in np.flatnonzero(finite[:, :4].all(axis=1) & ~ordered).tolist():
        prices = ", ".join(
            f"{name} {_text(value)}" for name, value in zip(_PRICES, values[bar], strict=False)
        )
        note = "Open or close is not between low and high."
        yield bar, _Violation("open", prices, "low <= open, close <= high", note, np.inf)


def _spikes(bars: pl.DataFrame, factor: float) -> Iterator[tuple[int, _Violation]]:
    """Bars with a volume far above the usual."""
    volume = bars["volume"].to_numpy()
    usual = _usual(volume)
    if usual is None:
        return
    for bar in np.flatnonzero(volume > factor * usual).tolist():
        times = volume[bar] / usual[bar]
        yield (
            bar,
            _Violation(
                "volume",
                _text(volume[bar]),
                f"at most {factor:g} x {_text(usual[bar])}",
                f"The volume is {times:,.1f} times the usual.",
                volume[bar] / (factor * usual[bar]) if factor else np.inf,
            ),
        )


def _outliers(bars: pl.DataFrame, sigmas: float) -> Iterator[tuple[int, _Violation]]:
    """Bars with a price that the bars beside them do not lead to."""
    high, low, close = (np.log(bars[name].to_numpy()) for name in ("high", "low", "close"))
    minutes = np.diff(bars["minute_start_ns"].to_numpy()) // _NS_PER_MINUTE
    went = np.zeros(len(high))
    went[1:] = np.maximum(high[1:] - close[:-1], close[:-1] - low[1:]) / np.sqrt(minutes)
    usual = _usual(went)
    if usual is None:
        return
    sigma = usual / _MEDIAN_FARTHEST_DISTANCE
    alone = _alone(high, low, minutes) / sigma
    hole = _hole(high, low, minutes) / sigma
    moved = went / sigma
    # The way back from a false print is no fault of the bar after it.
    after_false = np.flatnonzero(alone > sigmas) + 1
    hole[after_false] = moved[after_false] = 0.0
    excess = np.maximum(np.maximum(alone, hole), moved / _TIMES_FOR_A_MOVE)
    for bar in np.flatnonzero(excess > sigmas).tolist():
        before = bars.row(max(bar - 1, 0), named=True)
        name = "high" if high[bar] - close[bar - 1] > close[bar - 1] - low[bar] else "low"
        if alone[bar] > sigmas:
            note = f"A price is {alone[bar]:,.1f} deviations beyond the bars beside it."
        elif hole[bar] > sigmas:
            note = f"All prices are {hole[bar]:,.1f} deviations or more from the bar before."
        else:
            note = f"A price is {moved[bar]:,.1f} deviations from the close before."
        yield (
            bar,
            _Violation(
                name,
                _text(bars[name][bar]),
                f"near the bar before, {_text(before['low'])} to {_text(before['high'])}",
                note,
                excess[bar] / sigmas if sigmas else np.inf,
            ),
        )


def _alone(high: FloatArray, low: FloatArray, minutes: IntArray) -> FloatArray:
    """How far each high or low is beyond those of both neighbours; 0 for the first and last bar."""
    far = np.zeros(len(high))
    above = high[1:-1] - np.maximum(high[:-2], high[2:])
    below = np.minimum(low[:-2], low[2:]) - low[1:-1]
    far[1:-1] = np.maximum(above, below) / np.sqrt(np.maximum(minutes[:-1], minutes[1:]))
    return far


def _hole(high: FloatArray, low: FloatArray, minutes: IntArray) -> FloatArray:
    """How far each bar's prices are from those of the bar before; none above 0 if they overlap."""
    far = np.zeros(len(high))
    far[1:] = np.maximum(low[1:] - high[:-1], low[:-1] - high[1:]) / np.sqrt(minutes)
    return far


def _usual(values: FloatArray) -> FloatArray | None:
    """The usual size of each value: of the day or of the 60 values before, the larger median of
    those that are not 0, and so above 0; None if there are too few to tell.
    """
    above_zero = values[values > 0]
    if len(above_zero) < _BARS_THAT_SHOW_WHAT_IS_USUAL:
        return None
    before = (
        pl.Series(np.where(values > 0, values, np.nan), nan_to_null=True)
        .rolling_median(_BARS_BEFORE, min_samples=_BARS_THAT_SHOW_WHAT_IS_USUAL)
        .shift(1, fill_value=0.0)
        .fill_null(0.0)
    )
    usual: FloatArray = np.maximum(before.to_numpy(), np.median(above_zero))
    return usual


def _usual_trades(bars: pl.DataFrame) -> float:
    """So many trades have nine bars in ten at least; 0 if there are too few bars to tell."""
    if bars.height < _BARS_THAT_SHOW_WHAT_IS_USUAL:
        return 0.0
    return float(np.quantile(bars["trade_count"].to_numpy(), _SHARE_OF_THIN_BARS))


def _missing(starts_ns: IntArray) -> IntArray:
    """The runs of minutes without a bar between the first and the last one, shape (k, 2)."""
    spans = np.column_stack((starts_ns[:-1] + _NS_PER_MINUTE, starts_ns[1:]))
    runs: IntArray = spans[spans[:, 1] > spans[:, 0]]
    return runs


def _missing_run(start_ns: int, end_ns: int) -> BadBar:
    minutes = (end_ns - start_ns) // _NS_PER_MINUTE
    note = "No trade, in a market that trades every minute."
    value = f"no trade for {minutes} minute{'' if minutes == 1 else 's'}"
    return BadBar(start_ns, end_ns, "trade_count", value, "at least 1 a minute", (note,), minutes)


def _text(value: float) -> str:
    return f"{value:.12g}"
