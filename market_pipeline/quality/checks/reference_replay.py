"""Whether a plain second implementation makes the same book."""

from __future__ import annotations

from market_pipeline.config.instruments import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, number_of, outcome
from market_pipeline.quality.row import ReportRow

__all__ = ["TWIN", "check_twin"]

TWIN = Check(
    name="twin",
    sentence="In sampled minutes a plain second implementation makes exactly the published book.",
    asset="book_bbo",
    severity="ERROR",
    degrades="always",
    withholds_metrics=True,
)


def check_twin(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Fails on any message that differs; not asked where no minute was sampled."""
    if row.twin_messages is None or row.twin_differing_messages is None:
        return None
    differing = row.twin_differing_messages
    faults = []
    if differing:
        text = (
            f"{number_of(differing, 'message')} of {row.twin_messages:,} "
            f"differ{'s' if differing == 1 else ''} from the plain rebuild, first "
            f"{row.twin_first_difference}"
        )
        faults.append(Fault("ERROR", float(differing), 0.0, text))
    fine = (
        f"{number_of(row.twin_messages, 'message')} of {row.twin_minutes} sampled minutes are "
        "equal in the plain rebuild."
    )
    return outcome(TWIN, faults, figure=float(differing), threshold=0.0, fine=fine)
