"""Whether trades print inside the book as it stood just before them."""

from __future__ import annotations

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    in_force,
    measured,
    number_of,
    outcome,
    share_text,
    time_text,
)
from market_pipeline.quality.row import ReportRow

__all__ = ["TRADE_THROUGH", "check_trade_through"]

TRADE_THROUGH = Check(
    name="trade_through",
    sentence="Trades print at prices that the book showed just before them.",
    asset="book_bbo",
    severity="WARN",
    degrades="never",
)


def check_trade_through(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Holds the share of trades outside the book against its bound; not asked without trades."""
    if not row.trades_compared:
        return None
    through, bound = measured(row.trades_through), thresholds.trade_through_warn_share
    share = through / row.trades_compared
    faults = []
    if share > bound:
        text = (
            f"{number_of(through, 'trade')} of {row.trades_compared:,} ({share_text(share)}) print "
            f"outside the book, first at {time_text(row.first_trade_through_ns)}"
        )
        faults.append(Fault("WARN", share, bound, text))
    return outcome(
        TRADE_THROUGH,
        faults,
        figure=share,
        threshold=bound,
        fine=f"{share_text(share)} of {row.trades_compared:,} trades print outside the book.",
        thresholds=in_force(thresholds, "trade_through_warn_share"),
        per_hour=row.trade_through_per_hour,
    )
