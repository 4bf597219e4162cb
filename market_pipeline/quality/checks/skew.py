"""How the receipt clock runs against the exchange's."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, in_force, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of, time_text

__all__ = ["SKEW", "check_skew"]

SKEW = Check(
    name="skew",
    sentence="Receipt times agree with the exchange's: no offset, drift or step beyond bounds.",
    asset="book_bbo",
    severity="WARN",
    degrades="never",
)


def check_skew(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Looks at the median, the negative share, the drift, the steps and the bad stamps."""
    if row.outcome != "rebuilt":
        return None
    median, share = measured(row.skew_p50_ms), measured(row.negative_latency_share)
    drift = row.clock_drift_ppm
    faults = []
    if abs(median) > thresholds.skew_warn_ms:
        text = (
            f"the median message is received {abs(median):,.3f} ms "
            f"{'before' if median < 0 else 'after'} the exchange's time"
        )
        faults.append(Fault("WARN", abs(median), thresholds.skew_warn_ms, text))
    if share > thresholds.negative_latency_warn_share:
        text = f"{share:.4%} of the messages are received before the exchange's time"
        faults.append(Fault("WARN", share, thresholds.negative_latency_warn_share, text))
    if drift is not None and abs(drift) > thresholds.drift_warn_ppm:
        text = f"the receipt clock {'loses' if drift < 0 else 'gains'} {abs(drift):,.1f} ppm"
        faults.append(Fault("WARN", abs(drift), thresholds.drift_warn_ppm, text))
    if row.clock_drift_remark:
        faults.append(Fault("WARN", 1.0, 0.0, row.clock_drift_remark))
    if row.clock_steps:
        largest = measured(row.largest_clock_step_ms)
        text = (
            f"{number_of(row.clock_steps, 'clock step')}, the first at "
            f"{time_text(row.first_clock_step_ns)}, the largest of {largest:+,.3f} ms at "
            f"{time_text(row.largest_clock_step_ns)}"
        )
        faults.append(Fault("WARN", abs(largest), thresholds.step_warn_ms, text))
    receipts, origins = row.bad_receipt_stamps or 0, row.bad_origin_stamps or 0
    if receipts or origins:
        text = (
            f"{number_of(receipts, 'receipt time')} and {number_of(origins, 'exchange time')} "
            f"contradict the messages around them, first {row.first_bad_stamp}"
        )
        faults.append(Fault("WARN", float(receipts + origins), 0.0, text))
    worst = (
        f"worst message {measured(row.worst_skew_ms):,.3f} ms at {time_text(row.worst_skew_ns)}, "
        f"median {median:,.3f} ms"
    )
    return outcome(
        SKEW,
        faults,
        figure=abs(median),
        threshold=thresholds.skew_warn_ms,
        fine=f"Receipt minus exchange time is within its bounds; {worst}.",
        worst=worst,
        thresholds=in_force(
            thresholds,
            "skew_warn_ms",
            "negative_latency_warn_share",
            "drift_warn_ppm",
            "step_warn_ms",
        ),
    )
