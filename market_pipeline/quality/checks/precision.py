"""Whether prices and sizes are whole numbers of ticks and lots."""

from __future__ import annotations

from decimal import Decimal

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, in_force, outcome
from market_pipeline.quality.measures.precision import TOO_LARGE, is_too_large
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of

__all__ = ["PRECISION", "check_precision"]

PRECISION = Check(
    name="precision",
    sentence="Every price is a whole number of ticks and every size a whole number of lots.",
    asset="book_bbo",
    severity="WARN",
    degrades="on_error",
)


def check_precision(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Counts the values off their step, and tells when the steps became others overnight.

    A day that shows a coarser step than the configured one is fine, and reported.
    """
    if row.outcome != "rebuilt":
        return None
    prices, sizes = measured(row.price_precision_losses), measured(row.size_precision_losses)
    snapshots = row.snapshot_precision_losses
    tolerated = thresholds.precision_error_count
    faults = []
    if prices > tolerated:
        text = f"{number_of(prices, 'price')} {_refused(row, 'price', 'tick', row.tick)}"
        faults.append(Fault("ERROR", float(prices), float(tolerated), text))
    if sizes:
        text = f"{number_of(sizes, 'size')} {_refused(row, 'size', 'lot', row.lot)}"
        faults.append(Fault("WARN", float(sizes), 0.0, text))
    if snapshots:
        text = (
            f"{number_of(snapshots, 'value')} of snapshots off the tick or lot or too large to be "
            f"exact, first {row.first_snapshot_precision_loss}; these snapshots are not used"
        )
        faults.append(Fault("WARN", float(snapshots), 0.0, text))
    if row.step_change:
        faults.append(Fault("WARN", 1.0, 0.0, row.step_change))
    fine = (
        f"{number_of(prices, 'price')} off the tick {row.tick} and no size off the lot {row.lot}"
        f"{_coarser(row.tick, row.tick_seen, 'tick')}{_coarser(row.lot, row.lot_seen, 'lot')}."
    )
    return outcome(
        PRECISION,
        faults,
        figure=float(prices),
        threshold=float(tolerated),
        fine=fine,
        thresholds=in_force(thresholds, "precision_error_count"),
    )


def _coarser(step: str | None, seen: str | None, name: str) -> str:
    if step is None or seen is None or Decimal(seen) <= Decimal(step):
        return ""
    return f"; the day shows a {name} of {seen} only"


def _refused(row: ReportRow, column: str, name: str, step: str | None) -> str:
    # The row keeps the place of one offender; the findings have ten per column.
    if row.first_precision_column != column or row.first_precision_value is None:
        return f"off the {name} {step}"
    value = row.first_precision_value
    place = f"first {value!r} in {row.first_precision_file}, row {row.first_precision_row}"
    if step is not None and is_too_large(value, Decimal(step)):
        return f"off the {name} {step} or too large for it, {place}, {TOO_LARGE}"
    return f"off the {name} {step}, {place}"
