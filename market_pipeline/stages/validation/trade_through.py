"""Measures trades outside the book for the report."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from market_pipeline.quality.figures.comparisons import TradeThroughFigures
from market_pipeline.quality.findings import Finding, Measured, Place, first_and_worst
from market_pipeline.quality.measures.trade_through import (
    BOOK_COLUMNS,
    NO_ASK,
    NO_BID,
    WINDOW_NS,
    TradeThroughReport,
    find_trades_through,
)
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake_trades import locate_trades
from market_pipeline.stages.published_rows import read_rows
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_trade_through"]

_BATCH_ROWS = 1 << 17


def measure_trade_through(day: InstrumentDay) -> Measured:
    """What trades outside the book add to the report.

    Nothing without a trades file, and on a day of snapshots only, whose book between them is not
    known.

    Raises:
        MarketPipelineError: If the trades cannot be read.
    """
    trades = day.trades
    if trades is None or day.record.is_of_snapshots:
        return Measured()
    tick, _ = day.record.scales
    found = find_trades_through(
        read_rows(day.books.bbo, day.instrument, BOOK_COLUMNS, _BATCH_ROWS),
        trades,
        ts_origin_ns=day.book_messages.ts_origin_ns,
        flags=day.book_messages.flags,
        tick=tick,
        day=day.day,
    )
    worst_minute = found.worst_minute
    figures = TradeThroughFigures(
        trades_compared=found.compared,
        trades_unplaced=len(found.unplaced),
        trades_through=found.through,
        worst_trade_through_ticks=float(found.beyond_ticks[found.worst]) if found.through else None,
        first_trade_through_ns=int(trades.ts_receipt_ns[found.trade[0]]) if found.through else None,
        trade_through_per_hour=found.per_hour,
        worst_trade_through_minute_share=worst_minute.share if worst_minute else None,
        worst_trade_through_minute_ns=worst_minute.start_ns if worst_minute else None,
    )
    return Measured((figures,), list(_findings(day, trades, found, tick.step)))


def _findings(
    day: InstrumentDay, trades: Trades, found: TradeThroughReport, tick: Decimal
) -> Iterator[Finding]:
    """The first order outside the book, the worst, and further ones in order of time; and the first
    trade whose time is no time of its.
    """
    if not len(found.trade) and not len(found.unplaced):
        return
    shown = [*found.trade.tolist(), *found.unplaced[:1].tolist()]
    places = dict(zip(shown, locate_trades(day.trade_files, shown), strict=True))

    def finding(place: Place, trade: int, column: str, text: _Text) -> Finding:
        file, row = places[trade]
        return Finding(
            check="trade_through",
            place=place,
            ts_receipt_ns=int(trades.ts_receipt_ns[trade]),
            file=file.relative_to(day.raw.lake).as_posix(),
            row=row,
            column=column,
            value=text.value,
            expected=text.expected,
            note=text.note,
        )

    for each, place in first_and_worst(len(found.trade), found.worst):
        yield finding(place, int(found.trade[each]), "price", _outside(trades, found, tick, each))
    for trade in found.unplaced[:1].tolist():
        yield finding("first", trade, "timestamp", _stray(trades, trade))


class _Text(NamedTuple):
    value: str
    expected: str
    note: str


def _outside(trades: Trades, found: TradeThroughReport, tick: Decimal, each: int) -> _Text:
    """An order outside the book, in words."""
    trade = int(found.trade[each])
    bid, ask = int(found.lowest_bid_ticks[each]), int(found.highest_ask_ticks[each])
    bounds = [
        "no bid" if bid == NO_BID else f"from {bid * tick:f}, the lowest bid",
        "no ask" if ask == NO_ASK else f"to {ask * tick:f}, the highest ask",
    ]
    return _Text(
        f"{'buy' if trades.is_buy[trade] else 'sell'} at {trades.price[trade]}",
        ", ".join(bounds),
        f"The trade printed {found.beyond_ticks[each]:,.10g} ticks outside every book from "
        f"{WINDOW_NS // 1_000_000} ms before it to as long after it.",
    )


def _stray(trades: Trades, trade: int) -> _Text:
    """A trade that could not be compared, in words."""
    return _Text(
        str(int(trades.ts_origin_ns[trade])),
        "an exchange time among those of the trades around it",
        "The first trade whose exchange time contradicts those of the others; it was not compared.",
    )
