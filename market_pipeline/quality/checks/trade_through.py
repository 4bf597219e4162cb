"""Whether trades print inside the book as it stood around them."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, in_force, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of, share_text, time_text

__all__ = ["TRADE_THROUGH", "check_trade_through"]

TRADE_THROUGH = Check(
    name="trade_through",
    sentence="Trades print at prices that the book showed around them.",
    asset="book_bbo",
    severity="WARN",
    degrades="never",
)


def check_trade_through(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Holds the share of orders outside the book against its bounds, of the day and of its worst
    minute; not asked if none could be compared for want of a book.
    """
    compared, unplaced = row.trades_compared or 0, row.trades_unplaced or 0
    if not compared and not unplaced:
        return None
    through, bound = measured(row.trades_through), thresholds.trade_through_warn_share
    share = through / compared if compared else 0.0
    faults = []
    if share > bound:
        text = (
            f"{number_of(through, 'order')} of {compared:,} ({share_text(share)}) print "
            f"outside the book, first at {time_text(row.first_trade_through_ns)}"
        )
        faults.append(Fault("WARN", share, bound, text))
    of_minute = row.worst_trade_through_minute_share
    minute_bound = thresholds.trade_through_minute_warn_share
    if of_minute is not None and of_minute > minute_bound:
        text = (
            f"{share_text(of_minute)} of the orders print outside the book in the minute of "
            f"{time_text(row.worst_trade_through_minute_ns)}"
        )
        faults.append(Fault("WARN", of_minute, minute_bound, text))
    worst = None
    if faults:
        worst = f"the farthest is {measured(row.worst_trade_through_ticks):,.10g} ticks out"
    if unplaced:
        text = (
            f"{number_of(unplaced, 'trade')} could not be compared, because the exchange time "
            "contradicts those of the other trades"
        )
        faults.append(Fault("WARN", float(unplaced), 0.0, text))
    return outcome(
        TRADE_THROUGH,
        faults,
        figure=share,
        threshold=bound,
        fine=f"{share_text(share)} of {compared:,} orders print outside the book.",
        worst=worst,
        thresholds=in_force(
            thresholds, "trade_through_warn_share", "trade_through_minute_warn_share"
        ),
        per_hour=row.trade_through_per_hour,
    )
