"""Bars of a day at several widths: prints on the exchange's clock, the book beside them.

A print is of the bar that its exchange time is in, as the exchange's own klines have it. The first
print of a bar is the one of the earliest exchange time, of those the one of the lowest id, and of
those the first in the file. Left out of all bars, and counted, are prints of another UTC day by
that clock, those that the venue marks as none of the market's, and of the others those whose price
or size is no whole number of ticks or lots.

Mid and spread are those of the books that were in force for some valid time of the bar's interval
on the receipt clock (see `metrics.time_weighted`): a book from before it carries over into it.

Bars of the smallest width are made of the rows, and those of each further width of the ones before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import pairwise

import numpy as np
import polars as pl

from market_pipeline.books.scale import Scale, to_steps
from market_pipeline.books.state import read_only
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import DomainError
from market_pipeline.mapped import ColumnArray
from market_pipeline.metrics._quote_kernel import HELD, add_quotes
from market_pipeline.metrics.book_batches import with_book_in_force, with_sound_times
from market_pipeline.metrics.tables import BARS
from market_pipeline.metrics.time_weighted import Grid, pieces
from market_pipeline.quality.intervals import (
    NS_PER_SECOND,
    BoolArray,
    FloatArray,
    IntArray,
    day_bounds_ns,
)
from market_pipeline.quality.measures.print_bars import PrintBars, in_receipt_order
from market_pipeline.sources.batches import OUTSIDE_MARKET, Trades
from market_pipeline.warehouse.runs import RowRuns

__all__ = ["MOST_LOTS", "QUOTE_COLUMNS", "day_bars", "too_many_lots"]

QUOTE_COLUMNS = ("ts_receipt_ns", "flags", "bid_price_ticks", "ask_price_ticks")
"""The columns that are read of `books.bbo`."""

MOST_LOTS = 2.0**62
"""No more may be traded in a day: its volume would be no 64-bit integer."""

_PRICES = ("open", "high", "low", "close")

_Bars = Mapping[str, ColumnArray]
"""Bars of one width in whole steps, an array of each column; `mid2` is in half ticks."""

_COUNTS = ("late_count", "off_step_count", "outside_market_count", "other_day_count")
_VOLUMES = ("volume", "buy_volume")
_LOTS = tuple(f"{name}_lots" for name in _VOLUMES)
_TICKS = tuple(f"{name}_ticks" for name in _PRICES)
_MID2 = tuple(f"mid2_{name}" for name in _PRICES)
_MID = tuple(f"mid_{name}" for name in _PRICES)
_SPREAD = tuple(f"spread_{name}" for name in _PRICES)
_SPREAD_TICKS = tuple(f"{name}_ticks" for name in _SPREAD)

_SUMS = (*_LOTS, "value", "trade_count", *_COUNTS, "valid_ns", "quoted_ns")
_OF_FIRST, _OF_HIGHEST, _OF_LOWEST, _OF_LAST = (
    {
        "trade_count": (_TICKS[at], *ids),
        "quoted_ns": (_MID2[at], _SPREAD_TICKS[at]),
    }
    for at, ids in enumerate((("first_id",), (), (), ("last_id",)))
)
"""What is of a bar's first, highest, lowest and last, by what is above 0 where there is one."""

_OF_RUNS = [column.name for column in BARS.columns if column.type in {"BIGINT", "DOUBLE"}]

_LEAST, _MOST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


def day_bars(
    bbo: Iterable[pl.DataFrame],
    trades: Trades | None,
    *,
    instrument: Instrument,
    day: date,
    price_scale: Scale,
    size_scale: Scale,
    not_observed: IntArray,
    bar_seconds: Sequence[int],
) -> Iterator[RowRuns]:
    """The bars of one instrument's day, rows of `metrics.bars`, of one width after the other.

    Args:
        bbo: One row per message in order, `QUOTE_COLUMNS`, cut anywhere.
        trades: With their ids, in any order; None if there was no trades file.
        instrument, day: What the rows are of.
        price_scale, size_scale: The tick and the lot of that day.
        not_observed: Gaps and quiet holes, see `GapReport.not_observed`; shape (k, 2).
        bar_seconds: The widths, ascending; each divides the next, and the last one the day.

    Raises:
        DomainError: More is traded than whole lots can count.
    """
    grid = Grid.between(*day_bounds_ns(day), bar_seconds[0] * NS_PER_SECOND)
    bars: _Bars = {
        **_trade_bars(trades, grid, price_scale, size_scale),
        **_quote_bars(bbo, grid, not_observed),
    }
    constants: dict[str, str | int | date] = {
        "exchange": instrument.venue,
        "symbol": instrument.symbol,
        "dt": day,
    }
    runs, numbers = [], []
    for narrow, wide in pairwise((bar_seconds[0], *bar_seconds)):
        bars = bars if wide == narrow else _wider(bars, wide // narrow)
        first = np.flatnonzero(_changes(bars))
        runs.append({name: column[first] for name, column in bars.items()})
        numbers.append(np.diff(first, append=len(bars["valid_ns"])))
    # All widths at once: a query for each took five times as long where little happens.
    sizes = [len(each) for each in numbers]
    rows = _rows(
        {name: np.concatenate([each[name] for each in runs]) for name in bars},
        np.repeat(bar_seconds, sizes),
        price_scale,
        size_scale,
        has_file=trades is not None,
    ).select(_OF_RUNS)
    for wide, number, end in zip(bar_seconds, numbers, np.cumsum(sizes).tolist(), strict=True):
        yield RowRuns(
            {**constants, "width_seconds": wide},
            "bar_start",
            int(grid.starts_ns[0]) // 1_000,
            wide * 1_000_000,
            rows[end - len(number) : end],
            number,
        )


def _changes(bars: _Bars) -> BoolArray:
    """Where a bar is not the one before it, but for its start; the first one always."""
    changed = np.zeros(len(bars["valid_ns"]), np.bool_)
    changed[:1] = True
    for column in bars.values():
        changed[1:] |= column[1:] != column[:-1]
    return changed


def _trade_bars(
    trades: Trades | None, grid: Grid, price_scale: Scale, size_scale: Scale
) -> dict[str, ColumnArray]:
    start_ns, end_ns = int(grid.starts_ns[0]), int(grid.starts_ns[-1])
    prints = PrintBars(start_ns, end_ns, (end_ns - start_ns) // grid.number, np.int64)
    off_step, outside_market, other_day = np.zeros((3, grid.number), np.int64)
    if trades is not None:
        left_out = off_step, outside_market
        _add_trades(prints, left_out, trades, grid, price_scale, size_scale)
    other_day[0] += prints.outside[0]
    other_day[-1] += prints.outside[1]
    return {
        **dict(zip(_TICKS, prints.prices.T, strict=True)),
        "volume_lots": prints.volumes[:, 0],
        "buy_volume_lots": prints.volumes[:, 1],
        "value": prints.value,
        "trade_count": prints.trade_count,
        "first_id": prints.first_number,
        "last_id": prints.last_number,
        "late_count": prints.late_count,
        "off_step_count": off_step,
        "outside_market_count": outside_market,
        "other_day_count": other_day,
    }


def _add_trades(
    prints: PrintBars,
    left_out: tuple[IntArray, IntArray],
    trades: Trades,
    grid: Grid,
    price_scale: Scale,
    size_scale: Scale,
) -> None:
    if trades.id is None:
        raise ValueError("the trades come without their ids")
    off_step, outside_market = left_out
    total_lots = 0.0
    for row in in_receipt_order(trades):
        part, time_ns = row, trades.ts_origin_ns[row]
        if trades.mark is not None:
            is_outside = (trades.mark[part] == OUTSIDE_MARKET) & grid.hold(time_ns)
            outside_market += grid.count(time_ns[is_outside])
            part, time_ns = part[~is_outside], time_ns[~is_outside]
        ticks = _steps(trades.price[part], price_scale)
        lots = _steps(trades.quantity[part], size_scale)
        is_off = ((ticks <= 0) | (lots <= 0)) & grid.hold(time_ns)
        off_step += grid.count(time_ns[is_off])
        part, time_ns, ticks, lots = (each[~is_off] for each in (part, time_ns, ticks, lots))
        total_lots += float(lots.sum(dtype=np.float64))
        if total_lots > MOST_LOTS:
            raise too_many_lots(total_lots)
        prints.add(time_ns, trades.id[part], part, ticks, lots, trades.is_buy[part])


def too_many_lots(total_lots: float) -> DomainError:
    """The error that says so."""
    return DomainError(
        "More is traded in a day than whole lots can count",
        next_step="Report the trades to the vendor, or configure a larger lot.",
        column="amount",
        expected=f"at most {MOST_LOTS:.3g} lots",
        found=f"{total_lots:.3g} and more",
    )


def _steps(values: FloatArray, scale: Scale) -> IntArray:
    """Values as whole steps; one that is none is below 0."""
    steps = np.empty(values.size, np.int64)
    to_steps(values, scale, steps)
    return steps


def _quote_bars(
    bbo: Iterable[pl.DataFrame], grid: Grid, not_observed: IntArray
) -> dict[str, ColumnArray]:
    quotes, held = np.zeros((grid.number, 2, 4), np.int64), np.zeros((grid.number, 2), np.int64)
    for rows, _ in with_book_in_force(with_sound_times(bbo)):
        parts = pieces(
            rows["ts_receipt_ns"].to_numpy(), rows["flags"].to_numpy(), grid, not_observed
        )
        bid, ask = rows["bid_price_ticks"], rows["ask_price_ticks"]
        has_both = (bid.is_not_null() & ask.is_not_null()).to_numpy()
        ticks = (each.fill_null(0).to_numpy() for each in (bid, ask))
        add_quotes(quotes, held, *map(read_only, (*parts, has_both, *ticks)))
    return {
        **dict(zip((*_MID2, *_SPREAD_TICKS), quotes.reshape(-1, 8).T, strict=True)),
        **dict(zip(HELD, held.T, strict=True)),
    }


def _wider(bars: _Bars, number: int) -> _Bars:
    """So many bars after the other made one; 0 where there was no trade, or no book."""
    cut = {name: column.reshape(-1, number) for name, column in bars.items()}
    wide: dict[str, ColumnArray] = {name: cut[name].sum(axis=1) for name in _SUMS}
    for count in ("trade_count", "quoted_ns"):
        is_there = cut[count] > 0
        row, is_any = np.arange(len(is_there)), is_there.any(axis=1)
        first, last = is_there.argmax(axis=1), number - 1 - is_there[:, ::-1].argmax(axis=1)
        wide |= {name: cut[name][row, first] for name in _OF_FIRST[count]}
        wide |= {name: cut[name][row, last] for name in _OF_LAST[count]}
        for name in _OF_HIGHEST[count]:
            wide[name] = np.where(is_any, np.where(is_there, cut[name], _LEAST).max(axis=1), 0)
        for name in _OF_LOWEST[count]:
            wide[name] = np.where(is_any, np.where(is_there, cut[name], _MOST).min(axis=1), 0)
    return wide


def _rows(
    bars: _Bars, width_seconds: IntArray, price_scale: Scale, size_scale: Scale, *, has_file: bool
) -> pl.DataFrame:
    """All but the key of the rows."""
    whole = (*_TICKS, *_LOTS, "trade_count", "first_id", "last_id", *_COUNTS, *_SPREAD_TICKS)
    coefficient = price_scale.coefficient * size_scale.coefficient
    mean_ticks = bars["value"] / np.maximum(bars["volume_lots"], 1)
    rows = pl.DataFrame(
        {
            **{name: bars[name] for name in (*whole, "quoted_ns")},
            **_floats(_PRICES, _TICKS, bars, price_scale),
            **_floats(_VOLUMES, _LOTS, bars, size_scale),
            "quote_volume": bars["value"]
            * coefficient
            / 10.0 ** (price_scale.decimals + size_scale.decimals),
            "vwap": mean_ticks * price_scale.coefficient / 10.0**price_scale.decimals,
            **{name: each / 2 for name, each in _floats(_MID, _MID2, bars, price_scale).items()},
            **_floats(_SPREAD, _SPREAD_TICKS, bars, price_scale),
            "valid_share": bars["valid_ns"] / (width_seconds * NS_PER_SECOND),
        }
    )
    of_file = (*_LOTS, *_VOLUMES, "quote_volume", "trade_count", *_COUNTS)
    of_trades = (*_TICKS, *_PRICES, "vwap", "first_id", "last_id")
    of_book = (*_MID, *_SPREAD, *_SPREAD_TICKS)
    return rows.with_columns(
        pl.when(pl.lit(has_file)).then(pl.col(*of_file)),
        pl.when(pl.col("trade_count") > 0).then(pl.col(*of_trades)),
        pl.when(pl.col("quoted_ns") > 0).then(pl.col(*of_book)),
    )


def _floats(
    names: Sequence[str], steps: Sequence[str], bars: _Bars, scale: Scale
) -> dict[str, FloatArray]:
    """Columns of whole steps by the names of their values."""
    return {name: scale.to_floats(bars[of]) for name, of in zip(names, steps, strict=True)}
