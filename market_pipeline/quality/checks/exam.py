"""Whether later snapshots agree with the rebuilt book."""

from __future__ import annotations

from collections.abc import Iterator

from market_pipeline.instruments import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    Severity,
    in_force,
    measured,
    number_of,
    outcome,
    seconds_text,
    share_text,
    time_text,
)
from market_pipeline.quality.row import ReportRow

__all__ = ["EXAM", "check_exam"]

EXAM = Check(
    name="exam",
    sentence="Every later snapshot agrees with the rebuilt book, level by level.",
    asset="book_bbo",
    severity="WARN",
    degrades="on_error",
)


def check_exam(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Looks at the touch, all levels, the mid and the time to a right book; not asked of a day
    without an exam.
    """
    if row.outcome != "rebuilt" or not row.exam_snapshots:
        return None
    faults = sorted(_faults(row, thresholds), key=lambda fault: fault.severity != "ERROR")
    matching = row.exam_matching_share
    levels = "" if matching is None else f", and in {share_text(matching)} of the levels both know"
    failed, compared = measured(row.exams_failed), number_of(row.exam_snapshots, "snapshot")
    agree = f"All but {failed:,} of {compared}" if failed else f"All {compared}"
    return outcome(
        EXAM,
        faults,
        figure=failed / row.exam_snapshots,
        threshold=thresholds.exam_warn_share,
        fine=f"{agree} agree with the book at the touch{levels}.",
        worst=f"the mid is off by {measured(row.max_mid_deviation_ticks):g} ticks at most",
        thresholds=in_force(
            thresholds,
            "exam_warn_share",
            "exam_error_share",
            "exam_level_warn_share",
            "exam_level_error_share",
            "exam_mid_error_ticks",
            "exam_reconverge_error_seconds",
        ),
        per_hour=row.exams_failed_per_hour,
    )


def _faults(row: ReportRow, thresholds: Thresholds) -> Iterator[Fault]:
    exams, failed = measured(row.exam_snapshots), measured(row.exams_failed)
    share = failed / exams
    if share > thresholds.exam_warn_share:
        severity, bound = _graver(share, thresholds.exam_warn_share, thresholds.exam_error_share)
        text = (
            f"{failed:,} of {number_of(exams, 'snapshot')} ({share_text(share)}) disagree with the "
            f"book at the touch, first at {time_text(row.first_failed_exam_ns)}"
        )
        yield Fault(severity, share, bound, text)
    # Ghosts are no levels of the snapshots, so they have a share of their own: of ours.
    differing = 0.0 if row.exam_matching_share is None else 1 - row.exam_matching_share
    worst_share = max(differing, row.ghost_share or 0.0)
    if worst_share > thresholds.exam_level_warn_share:
        severity, bound = _graver(
            worst_share, thresholds.exam_level_warn_share, thresholds.exam_level_error_share
        )
        text = (
            f"{share_text(differing)} of the snapshots' levels differ ("
            f"{share_text(row.missing_share or 0.0)} are missing), and "
            f"{share_text(row.ghost_share or 0.0)} of ours are ghosts"
        )
        yield Fault(severity, worst_share, bound, text)
    deviation, farthest = row.max_mid_deviation_ticks or 0.0, thresholds.exam_mid_error_ticks
    if deviation > farthest:
        text = f"the mid is off by more than {farthest:g} ticks"
        yield Fault("ERROR", deviation, farthest, text)
    seconds = row.longest_reconvergence_seconds or 0.0
    longest = thresholds.exam_reconverge_error_seconds
    if seconds > longest:
        text = f"after an exam the book stays wrong for {seconds_text(seconds)}"
        yield Fault("ERROR", seconds, longest, text)


def _graver(share: float, warn_share: float, error_share: float) -> tuple[Severity, float]:
    """The severity of a share that is at least a warning, and the bound it is past."""
    return ("ERROR", error_share) if share > error_share else ("WARN", warn_share)
