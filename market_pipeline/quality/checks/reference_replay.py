"""Whether a plain second implementation makes the same book."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import number_of

__all__ = ["REFERENCE_REPLAY", "check_reference_replay"]

REFERENCE_REPLAY = Check(
    name="reference_replay",
    sentence="In sampled minutes a plain second implementation makes exactly the published book.",
    asset="book_bbo",
    severity="ERROR",
    degrades="always",
    withholds_metrics=True,
)


def check_reference_replay(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Fails on any message that differs; not asked where no minute was sampled."""
    if row.reference_messages is None or row.reference_differing_messages is None:
        return None
    differing = row.reference_differing_messages
    faults = []
    if differing:
        text = (
            f"{number_of(differing, 'message')} of {row.reference_messages:,} "
            f"differ{'s' if differing == 1 else ''} from the reference replay, first "
            f"{row.reference_first_difference}"
        )
        faults.append(Fault("ERROR", float(differing), 0.0, text))
    fine = (
        f"{number_of(row.reference_messages, 'message')} of {row.reference_minutes} sampled "
        "minutes are equal in the reference replay."
    )
    return outcome(REFERENCE_REPLAY, faults, figure=float(differing), threshold=0.0, fine=fine)
