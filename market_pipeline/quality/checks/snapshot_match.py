"""Whether later snapshots agree with the rebuilt book."""

from __future__ import annotations

from collections.abc import Iterator

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import (
    Check,
    CheckOutcome,
    Fault,
    graded,
    in_force,
    outcome,
)
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured, number_of, seconds_text, share_text, time_text

__all__ = ["SNAPSHOT_MATCH", "check_snapshot_match"]

SNAPSHOT_MATCH = Check(
    name="snapshot_match",
    sentence="Every later snapshot is compared with the rebuilt book, and agrees level by level.",
    asset="book_bbo",
    severity="WARN",
    degrades="on_error",
)


def check_snapshot_match(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Looks at the snapshots that disagree, at all levels, the mid and the time to a right book,
    and at those compared with nothing; not asked of a day that is published from its snapshots.
    """
    if row.outcome != "rebuilt" or row.strategy == "snapshots_only":
        return None
    compared, uncompared = row.snapshots_compared or 0, row.snapshots_uncompared
    if not compared and uncompared is None:
        return None
    faults = list(_uncompared(row, thresholds))
    faults += _unconfirmed(row, thresholds)
    if compared:
        faults += _faults(row, thresholds)
    faults.sort(key=lambda fault: fault.severity != "ERROR")
    failed = measured(row.snapshots_mismatched) if compared else 0
    return outcome(
        SNAPSHOT_MATCH,
        faults,
        figure=failed / compared if compared else 0.0,
        threshold=thresholds.snapshot_mismatch_warn_share,
        fine=_fine(row, compared, failed),
        worst=f"the mid is off by {measured(row.max_mid_deviation_ticks):g} ticks at most"
        if compared
        else None,
        thresholds=in_force(
            thresholds,
            "snapshot_mismatch_warn_share",
            "snapshot_mismatch_error_share",
            "snapshot_level_warn_share",
            "snapshot_level_error_share",
            "snapshot_mid_error_ticks",
            "snapshot_reconverge_error_seconds",
            "snapshot_uncompared_warn_share",
            "snapshot_uncompared_error_share",
            "snapshot_uncompared_error_seconds",
            "snapshot_unconfirmed_warn_share",
        ),
        per_hour=row.snapshots_mismatched_per_hour,
    )


def _fine(row: ReportRow, compared: int, failed: int) -> str:
    if not compared and not row.snapshots_uncompared:
        return "No snapshot came after the first, so the book could not be compared with any."
    matching = row.snapshot_matching_share
    levels = "" if matching is None else f", in {share_text(matching)} of the levels both know"
    of = number_of(compared, "snapshot")
    agree = f"All but {failed:,} of {of}" if failed else f"All {of}"
    return f"{agree} agree with the book{levels}."


def _uncompared(row: ReportRow, thresholds: Thresholds) -> Iterator[Fault]:
    """Snapshots that are there and show nothing: the book was right as far as anybody looked."""
    count, compared = row.snapshots_uncompared or 0, row.snapshots_compared or 0
    share, bound = row.uncompared_share or 0.0, thresholds.snapshot_uncompared_warn_share
    seconds = row.longest_uncompared_seconds or 0.0
    longest = thresholds.snapshot_uncompared_error_seconds
    why = f" ({row.uncompared_reasons.rstrip('.')})" if row.uncompared_reasons else ""
    first = f", first at {time_text(row.first_uncompared_ns)}" if row.first_uncompared_ns else ""
    if count and not compared:
        text = f"none of {number_of(count, 'snapshot')} was compared with the book{first}{why}"
        yield Fault("ERROR", 1.0, 0.0, text)
    elif share > bound:
        text = (
            f"{count:,} of {number_of(count + compared, 'snapshot')} ({share_text(share)}) "
            f"were not compared with the book{first}{why}"
        )
        yield graded(share, bound, thresholds.snapshot_uncompared_error_share, text)
    if seconds > longest and count:
        text = (
            f"for {seconds_text(seconds)} from {time_text(row.longest_uncompared_ns)} snapshots "
            "came and none was compared"
        )
        yield Fault("ERROR", seconds, longest, text)
    for odd, at_ns, what in (
        (
            row.snapshots_misplaced,
            row.first_misplaced_ns,
            ("belongs", "belong", "to a neighbouring message"),
        ),
        (row.snapshots_off_number, None, ("has", "have", "a number that no message has")),
        (row.snapshots_stale, row.first_stale_ns, ("repeats", "repeat", "an earlier book")),
    ):
        whole = count + compared
        if odd and whole and odd / whole > thresholds.snapshot_mismatch_warn_share:
            place = f", first at {time_text(at_ns)}" if at_ns else ""
            one, several, rest = what
            verb = one if odd == 1 else several
            text = f"{number_of(odd, 'snapshot')} {verb} {rest}{place}"
            yield Fault("WARN", odd / whole, thresholds.snapshot_mismatch_warn_share, text)


def _unconfirmed(row: ReportRow, thresholds: Thresholds) -> Iterator[Fault]:
    """A touch that no snapshot reached: a better level may be there that no message reported."""
    seconds, valid_seconds = row.unconfirmed_seconds or 0.0, row.valid_seconds or 0.0
    bound = thresholds.snapshot_unconfirmed_warn_share
    if seconds > bound * valid_seconds:
        share = seconds / valid_seconds
        text = (
            f"for {seconds_text(seconds)} ({share_text(share)} of the valid time) the touch lies "
            "beyond the levels that any snapshot confirmed"
        )
        yield Fault("WARN", share, bound, text)


def _faults(row: ReportRow, thresholds: Thresholds) -> Iterator[Fault]:
    compared, failed = measured(row.snapshots_compared), measured(row.snapshots_mismatched)
    share = failed / compared
    bound = thresholds.snapshot_mismatch_warn_share
    if share > bound:
        text = (
            f"{failed:,} of {number_of(compared, 'snapshot')} ({share_text(share)}) "
            f"disagree with the book, first at {time_text(row.first_mismatch_ns)}"
        )
        yield graded(share, bound, thresholds.snapshot_mismatch_error_share, text)
    # Ghosts are no levels of the snapshots, so they have a share of their own: of ours.
    differing = 0.0 if row.snapshot_matching_share is None else 1 - row.snapshot_matching_share
    worst_share = max(differing, row.ghost_share or 0.0)
    bound = thresholds.snapshot_level_warn_share
    if worst_share > bound:
        text = (
            f"{share_text(differing)} of the snapshots' levels differ ("
            f"{share_text(row.missing_share or 0.0)} are missing), and "
            f"{share_text(row.ghost_share or 0.0)} of ours are ghosts"
        )
        yield graded(worst_share, bound, thresholds.snapshot_level_error_share, text)
    deviation, farthest = row.max_mid_deviation_ticks or 0.0, thresholds.snapshot_mid_error_ticks
    if deviation > farthest:
        text = f"the mid is off by more than {farthest:g} ticks"
        yield Fault("ERROR", deviation, farthest, text)
    seconds = row.longest_reconvergence_seconds or 0.0
    longest = thresholds.snapshot_reconverge_error_seconds
    if seconds > longest:
        text = f"after a mismatch the book stays wrong for {seconds_text(seconds)}"
        yield Fault("ERROR", seconds, longest, text)
