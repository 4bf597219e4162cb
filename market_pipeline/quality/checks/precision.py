"""Whether prices and sizes are whole numbers of ticks and lots."""

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
)
from market_pipeline.quality.row import ReportRow

__all__ = ["PRECISION", "check_precision"]

PRECISION = Check(
    name="precision",
    sentence="Every price is a whole number of ticks and every size a whole number of lots.",
    asset="book_bbo",
    severity="WARN",
    degrades="on_error",
)


def check_precision(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Counts the values off their step."""
    if row.outcome != "rebuilt":
        return None
    prices, sizes = measured(row.price_precision_losses), measured(row.size_precision_losses)
    tolerated = thresholds.precision_error_count
    faults = []
    if prices > tolerated:
        text = (
            f"{number_of(prices, 'price')} off the tick {row.tick}{_first_precision(row, 'price')}"
        )
        faults.append(Fault("ERROR", float(prices), float(tolerated), text))
    if sizes:
        text = f"{number_of(sizes, 'size')} off the lot {row.lot}{_first_precision(row, 'size')}"
        faults.append(Fault("WARN", float(sizes), 0.0, text))
    fine = (
        f"{number_of(prices, 'price')} off the tick {row.tick} and no size off the lot {row.lot}."
    )
    return outcome(
        PRECISION,
        faults,
        figure=float(prices),
        threshold=float(tolerated),
        fine=fine,
        thresholds=in_force(thresholds, "precision_error_count"),
    )


def _first_precision(row: ReportRow, column: str) -> str:
    # The row keeps the place of one offender; the report's metadata has ten per column.
    if row.first_precision_column != column:
        return ""
    value, file = row.first_precision_value, row.first_precision_file
    return f", first {value!r} in {file}, row {row.first_precision_row}"
