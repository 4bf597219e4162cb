"""Measures trades outside the book for the report."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from decimal import Decimal
from itertools import accumulate

from market_pipeline.books.scale import Scale
from market_pipeline.quality.findings import MAX_PLACES, Finding, Measured, Place
from market_pipeline.quality.trade_through import (
    BOOK_COLUMNS,
    WINDOW_NS,
    TradeThroughReport,
    find_trades_through,
)
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake import TRADES, open_shard
from market_pipeline.stages.judged import RebuiltDayOf
from market_pipeline.stages.rows import read_rows

__all__ = ["measure_trade_through"]

_BATCH_ROWS = 1 << 17


def measure_trade_through(day: RebuiltDayOf) -> Measured:
    """What trades outside the book add to the report.

    Nothing without a trades file, and on a day of snapshots only, whose book between them is not
    known.

    Raises:
        MarketPipelineError: If the trades cannot be read.
    """
    trades = day.trades
    if trades is None or day.record["strategy"] == "snapshots_only":
        return Measured()
    tick = Decimal(day.record["tick"])
    found = find_trades_through(
        read_rows(day.books.bbo, day.instrument, BOOK_COLUMNS, _BATCH_ROWS),
        trades,
        tick=Scale.of(tick),
        day=day.day,
    )
    worst_minute = found.worst_minute
    any_through = len(found.trade) > 0
    return Measured(
        columns={
            "trades_compared": found.compared,
            "trades_through": len(found.trade),
            "worst_trade_through_ticks": (float(found.beyond_ticks.max()) if any_through else None),
            "first_trade_through_ns": (
                int(trades.ts_receipt_ns[found.trade[0]]) if any_through else None
            ),
            "trade_through_per_hour": found.per_hour,
            "worst_trade_through_minute_share": worst_minute.share if worst_minute else None,
            "worst_trade_through_minute_ns": worst_minute.start_ns if worst_minute else None,
        },
        findings=list(_findings(day, trades, found, tick)),
    )


def _findings(
    day: RebuiltDayOf, trades: Trades, found: TradeThroughReport, tick: Decimal
) -> Iterator[Finding]:
    """The first order outside the book, the worst, and further ones in order of time."""
    if not len(found.trade):
        return
    worst = int(found.beyond_ticks.argmax())
    further = (each for each in range(1, len(found.trade)) if each != worst)
    first_rows = [0]
    for file in day.trade_files:
        parquet, _ = open_shard(file, TRADES)
        with parquet:
            first_rows.append(parquet.metadata.num_rows)
    first_rows = list(accumulate(first_rows))

    def finding(place: Place, each: int) -> Finding:
        trade = int(found.trade[each])
        shard = bisect_right(first_rows, trade) - 1
        bid, ask = (
            format(int(touch[each]) * tick, "f")
            for touch in (found.lowest_bid_ticks, found.highest_ask_ticks)
        )
        return Finding(
            check="trade_through",
            place=place,
            ts_receipt_ns=int(trades.ts_receipt_ns[trade]),
            file=day.trade_files[shard].relative_to(day.raw.lake).as_posix(),
            row=trade - first_rows[shard],
            column="price",
            value=f"{'buy' if trades.is_buy[trade] else 'sell'} at {trades.price[trade]}",
            expected=f"from {bid}, the lowest bid, to {ask}, the highest ask",
            note=(
                f"The trade printed {found.beyond_ticks[each]:,.10g} ticks outside every book from "
                f"{WINDOW_NS // 1_000_000} ms before it to as long after it."
            ),
        )

    yield finding("first", 0)
    if worst:
        yield finding("worst", worst)
    for each, _ in zip(further, range(MAX_PLACES), strict=False):
        yield finding("further", each)
