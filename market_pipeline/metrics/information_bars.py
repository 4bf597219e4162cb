"""Bars of equal activity: each closes when so many trades, so much size or so much value is in it.

The definitions are those of NautilusTrader's bars of the same names, in whole lots. Trades come by
exchange time, of those by id, and of those as they stand in the files, which is the order of the
clock bars' first and last trades.

- A tick bar has a number of trades.
- A volume bar has a size: a trade that passes it is split, and its rest begins the next bar.
- A value bar has a sum of price times size: the trade that reaches it is split at the whole number
  of lots that comes nearest to it, halves up, but one at least. So its value is within half a
  lot's of the step, or within a whole lot's where one lot is worth more than was missing.
- An imbalance bar of each of them closes when takers of one side have traded so much more than
  those of the other since it began.
- A runs bar has so much of takers of one side with none of the other between. A run that the other
  side ends before is in no bar. What is left of a trade that was split begins the next run.

The bars of a day begin with its first trade, and the last one stays incomplete: no bar has trades
of two days, so that a day can be made alone. What is left out of clock bars is left out of these.

A bar is known once all its trades and those of the bars before it are received, as they decide
where it begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import DTypeLike

from market_pipeline.books.scale import Scale
from market_pipeline.books.state import read_only
from market_pipeline.config.information_bars import BarKind, InformationBars
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import DomainError
from market_pipeline.jit import kernel
from market_pipeline.mapped import ColumnArray, mapped
from market_pipeline.metrics.bars import MOST_LOTS, too_many_lots
from market_pipeline.metrics.tables import INFORMATION_BARS
from market_pipeline.quality.intervals import (
    NS_PER_SECOND,
    BoolArray,
    IntArray,
    chunks,
    day_bounds_ns,
)

__all__ = ["TRADE_COLUMNS", "BarTrades", "Step", "bar_trades", "information_bars", "steps_of"]

TRADE_COLUMNS = (
    *("ts_origin_ns", "ts_receipt_ns", "id", "price_ticks", "size_lots", "is_buy", "is_market"),
)
"""The columns that are read of `books.trades`."""

_TYPES: tuple[DTypeLike, ...] = (*[np.int64] * 5, np.bool_)

_TRADES_AT_ONCE = 1 << 20
_ROWS_AT_ONCE = 1 << 15
_MOST_BARS = 1 << 24
_MOST_STEPS = 1 << 61  # doubled to round; an imbalance may be twice its step away from it

_TICK, _VOLUME, _VALUE = range(3)
_TOTAL, _IMBALANCE, _RUNS = range(3)
_RULES: Final[Mapping[BarKind, tuple[int, int]]] = {
    "tick": (_TICK, _TOTAL),
    "volume": (_VOLUME, _TOTAL),
    "value": (_VALUE, _TOTAL),
    "tick_imbalance": (_TICK, _IMBALANCE),
    "volume_imbalance": (_VOLUME, _IMBALANCE),
    "value_imbalance": (_VALUE, _IMBALANCE),
    "tick_runs": (_TICK, _RUNS),
    "volume_runs": (_VOLUME, _RUNS),
    "value_runs": (_VALUE, _RUNS),
}
"""Of each kind of bar what is counted, and how."""

_FIRST_NS, _LAST_NS, _KNOWN_NS, _OPEN, _HIGH, _LOW, _CLOSE = range(7)
_LOTS, _BUY_LOTS, _TRADES, _FIRST_ID, _LAST_ID, _GOES_ON, _WIDTH = range(7, 14)
_INTEGERS = (
    *("first_ns", "last_ns", "known_ns", "open_ticks", "high_ticks", "low_ticks", "close_ticks"),
    *("volume_lots", "buy_volume_lots", "trade_count", "first_id", "last_id"),
)
_PRICES = ("open", "high", "low", "close")

_AT, _LEFT, _FILLED, _LATEST_NS, _REGISTERS = range(5)


@dataclass(frozen=True, slots=True)
class Step:
    """What one series of bars is cut by.

    Attributes:
        kind: What is counted, and how.
        size: How much of it closes a bar, as configured.
        whole: The same in trades, lots, or ticks times lots (rounded up).
    """

    kind: BarKind
    size: Decimal
    whole: int


class BarTrades(NamedTuple):
    """The trades of one instrument's day that are in bars, in their order; shape (trades,) each.

    Attributes:
        ts_origin_ns, ts_receipt_ns, id, price_ticks, size_lots: int64, the last two above 0.
        is_buy: bool.
    """

    ts_origin_ns: IntArray
    ts_receipt_ns: IntArray
    id: IntArray
    price_ticks: IntArray
    size_lots: IntArray
    is_buy: BoolArray


def steps_of(bars: InformationBars, price_scale: Scale, size_scale: Scale) -> tuple[Step, ...]:
    """The configured steps in whole units of a day, by kind, each ascending.

    Raises:
        DomainError: A volume is no whole number of that day's lots, or a step is too large to be
            counted.
    """
    units = {_TICK: (), _VOLUME: (size_scale,), _VALUE: (price_scale, size_scale)}
    found = []
    for kind, (counted, _) in _RULES.items():
        for size in map(Decimal, getattr(bars, kind)):
            numerator, denominator = size.as_integer_ratio()
            for scale in units[counted]:
                numerator *= 10**scale.decimals
                denominator *= scale.coefficient
            whole, rest = divmod(numerator, denominator)
            if counted == _VOLUME and rest:
                raise _unusable(kind, size, f"a multiple of the day's lot {size_scale.step:f}")
            found.append(Step(kind, size, whole + (rest > 0)))
    for step in found:
        is_imbalance = _RULES[step.kind][1] == _IMBALANCE
        if step.whole > (_MOST_STEPS // 2 if is_imbalance else _MOST_STEPS):
            raise _unusable(step.kind, step.size, "fewer of the day's ticks and lots")
    return tuple(found)


def _unusable(kind: str, size: Decimal, expected: str) -> DomainError:
    return DomainError(
        f"Bars of this {kind} cannot be made",
        next_step="Change the instrument's `bars` in the instruments file.",
        column=f"bars.{kind}",
        expected=expected,
        found=f"{size:f}",
    )


def bar_trades(
    rows: Iterable[pl.DataFrame], day: date, most: int, folder: Path | None = None
) -> BarTrades:
    """The trades of a day that are in bars, by exchange time, id and place in the files.

    Left out are those off the tick or the lot, of another UTC day by the exchange's clock, and
    those that were no trades of the market.

    Args:
        rows: Their `TRADE_COLUMNS` in file order, cut anywhere.
        day: The UTC day.
        most: No more rows there are.
        folder: Where the file lies from which they are mapped, see `mapped`.

    Raises:
        OSError: They cannot be written down.
    """
    start_ns, end_ns = day_bounds_ns(day)
    kept = (
        pl.col("ts_origin_ns").is_between(start_ns, end_ns, closed="left")
        & (pl.col("price_ticks") > 0)
        & (pl.col("size_lots") > 0)
        & pl.col("is_market").fill_null(value=True)
    )
    names = TRADE_COLUMNS[:-1]
    parts = ([part[name].to_numpy() for name in names] for part in (b.filter(kept) for b in rows))
    trades = BarTrades(*mapped(parts, _TYPES, most, folder))
    if _is_ordered(trades):
        return trades
    places = _market_order(trades, start_ns, end_ns)
    return BarTrades(*mapped(([c[at] for c in trades] for at in places), _TYPES, most, folder))


def information_bars(
    trades: BarTrades,
    steps: Sequence[Step],
    *,
    instrument: Instrument,
    day: date,
    price_scale: Scale,
    size_scale: Scale,
) -> Iterator[pl.DataFrame]:
    """The rows of `metrics.information_bars` of a day, some at a time, one step after the other.

    Args:
        trades: As `bar_trades` gives them.
        steps: Of these scales, see `steps_of`.
        instrument, day: What the rows are of.
        price_scale, size_scale: The tick and the lot of that day.

    Raises:
        DomainError: A step makes more bars than trades may be in a day, or more is traded than
            whole lots can count.
    """
    total_lots = float(trades.size_lots.sum(dtype=np.float64))
    if total_lots > MOST_LOTS:
        raise too_many_lots(total_lots)
    for step in steps:
        number = 0
        for integers, value, is_complete in _bars(trades, step):
            number += len(value)
            if number > _MOST_BARS:
                raise _unusable(step.kind, step.size, f"at most {_MOST_BARS} bars a day")
            yield (
                _rows(integers, value, price_scale, size_scale)
                .with_columns(
                    pl.lit(instrument.venue).alias("exchange"),
                    pl.lit(instrument.symbol).alias("symbol"),
                    pl.lit(day).alias("dt"),
                    pl.lit(step.kind).alias("kind"),
                    pl.lit(float(step.size)).alias("step"),
                    pl.int_range(number - len(value), number, dtype=pl.Int64).alias("bar_number"),
                    pl.Series("is_complete", is_complete),
                )
                .select(column.name for column in INFORMATION_BARS.columns)
            )


def _bars(trades: BarTrades, step: Step) -> Iterator[tuple[IntArray, ColumnArray, BoolArray]]:
    """Bars, their sums of ticks times lots, and which of them are complete."""
    # The last one is open, and goes on as the first when the others are taken out.
    bars, value = np.zeros((_ROWS_AT_ONCE, _WIDTH), np.int64), np.zeros(_ROWS_AT_ONCE)
    registers = np.zeros(_REGISTERS, np.int64)
    for start in range(0, len(trades.id), _TRADES_AT_ONCE):
        part = BarTrades._make(read_only(c[start : start + _TRADES_AT_ONCE]) for c in trades)
        registers[_AT], done, is_full = 0, 0, True
        while is_full:
            done, is_full = _fill(
                part.ts_origin_ns,
                part.ts_receipt_ns,
                part.id,
                part.price_ticks,
                part.size_lots,
                part.is_buy,
                *_RULES[step.kind],
                step.whole,
                registers,
                bars,
                value,
                done,
            )
            if is_full:
                yield bars.copy(), value.copy(), np.ones(done, np.bool_)
                bars[:], value[:], done = 0, 0.0, 0
        if done:
            yield bars[:done].copy(), value[:done].copy(), np.ones(done, np.bool_)
            bars[0], value[0] = bars[done], value[done]
            bars[1:], value[1:] = 0, 0.0
    if bars[0, _TRADES]:
        yield bars[:1], value[:1], np.zeros(1, np.bool_)


def _is_ordered(trades: BarTrades) -> bool:
    for part in chunks(len(trades.id)):
        later = np.diff(trades.ts_origin_ns[part])
        if (later < 0).any() or ((later == 0) & (np.diff(trades.id[part]) < 0)).any():
            return False
    return True


def _market_order(trades: BarTrades, start_ns: int, end_ns: int) -> Iterator[IntArray]:
    """Their places by exchange time, id and place, those of some seconds of the day at a time.

    An index of all would take more memory than a part of each column.
    """
    ts_ns, ids = trades.ts_origin_ns, trades.id
    number = (end_ns - start_ns) // NS_PER_SECOND
    before = np.zeros(number + 1, np.int64)
    for start in range(0, len(ids), _TRADES_AT_ONCE):
        seconds = (ts_ns[start : start + _TRADES_AT_ONCE] - start_ns) // NS_PER_SECOND
        before[1:] += np.bincount(seconds, minlength=number)
    before = np.cumsum(before)
    second = 0
    while second < number:
        upto = int(np.searchsorted(before, before[second] + _TRADES_AT_ONCE, side="right")) - 1
        upto = max(upto, second + 1)
        from_ns, to_ns = (start_ns + each * NS_PER_SECOND for each in (second, upto))
        places = np.flatnonzero((ts_ns >= from_ns) & (ts_ns < to_ns))
        yield places[np.lexsort((ids[places], ts_ns[places]))]
        second = upto


@kernel
def _fill(
    time_ns,
    receipt_ns,
    number,
    ticks,
    lots,
    is_buy,
    counted,
    rule,
    step,
    registers,
    bars,
    value,
    bar,
):
    """Puts trades into bars; returns the open bar, and whether the room is full before the end."""
    while registers[_AT] < time_ns.size:
        i = registers[_AT]
        goes_on = registers[_LEFT] > 0
        left = registers[_LEFT] if goes_on else lots[i]
        side = 1 if rule == _TOTAL or is_buy[i] else -1
        toward = side * registers[_FILLED]
        if rule == _RUNS and toward < 0:
            bars[bar], value[bar] = 0, 0.0
            toward = registers[_FILLED] = 0
        missing = step - toward
        if counted == _TICK:
            part, filled = left, np.int64(1)
        elif counted == _VOLUME:
            part = min(left, missing)
            filled = part
        elif left >= (missing + ticks[i] - 1) // ticks[i]:
            part = max((2 * missing + ticks[i]) // (2 * ticks[i]), np.int64(1))
            filled = missing
        else:
            part = left
            filled = part * ticks[i]
        row = bars[bar]
        registers[_LATEST_NS] = max(registers[_LATEST_NS], receipt_ns[i])
        if row[_TRADES] == 0:
            row[_FIRST_NS], row[_FIRST_ID], row[_GOES_ON] = time_ns[i], number[i], goes_on
            row[_OPEN] = row[_HIGH] = row[_LOW] = ticks[i]
        row[_LAST_NS], row[_LAST_ID], row[_CLOSE] = time_ns[i], number[i], ticks[i]
        row[_KNOWN_NS] = registers[_LATEST_NS]
        row[_HIGH], row[_LOW] = max(row[_HIGH], ticks[i]), min(row[_LOW], ticks[i])
        row[_LOTS] += part
        row[_BUY_LOTS] += part if is_buy[i] else 0
        row[_TRADES] += 1
        value[bar] += np.float64(ticks[i]) * np.float64(part)
        registers[_LEFT] = left - part
        registers[_AT] += part == left
        registers[_FILLED] += side * filled
        if filled == missing:
            registers[_FILLED] = 0
            bar += 1
            if bar == value.size:
                return bar, True
    return bar, False


def _rows(
    integers: IntArray, value: ColumnArray, price_scale: Scale, size_scale: Scale
) -> pl.DataFrame:
    """All but the key of the rows."""
    prices = zip(_PRICES, (_OPEN, _HIGH, _LOW, _CLOSE), strict=True)
    coefficient = price_scale.coefficient * size_scale.coefficient
    decimals = price_scale.decimals + size_scale.decimals
    mean_ticks = value / integers[:, _LOTS]
    return pl.DataFrame(
        {
            **{name: integers[:, at] for at, name in enumerate(_INTEGERS)},
            **{name: price_scale.to_floats(integers[:, at]) for name, at in prices},
            "volume": size_scale.to_floats(integers[:, _LOTS]),
            "buy_volume": size_scale.to_floats(integers[:, _BUY_LOTS]),
            "quote_volume": value * coefficient / 10.0**decimals,
            "vwap": mean_ticks * price_scale.coefficient / 10.0**price_scale.decimals,
            "goes_on": integers[:, _GOES_ON] > 0,
        }
    )
