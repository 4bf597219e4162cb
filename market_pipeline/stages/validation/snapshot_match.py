"""What the rebuild found of the snapshots after the seed, for the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from market_pipeline.books.record import RebuildRecord
from market_pipeline.quality.figures.comparisons import SnapshotMatchFigures
from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.words import seconds_text
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_snapshot_match"]


def measure_snapshot_match(day: InstrumentDay) -> Measured:
    """What the snapshots of a day add to the report, those that were not compared included."""
    record = day.record
    compared, uncompared = record.snapshots_compared, record.snapshots_uncompared
    figures = SnapshotMatchFigures.taken_from(
        record,
        uncompared_share=_share(uncompared, (compared or 0) + (uncompared or 0)),
        snapshot_matching_share=_share(record.snapshot_levels_matching, record.snapshot_levels),
        ghost_share=_share(record.snapshot_levels_ghost, record.snapshot_levels_ours),
        missing_share=_share(record.snapshot_levels_missing, record.snapshot_levels),
    )
    if not compared:
        figures = replace(
            figures,
            snapshots_mismatched=None,
            snapshots_compared_per_hour=None,
            snapshots_mismatched_per_hour=None,
            snapshot_levels_differing_per_hour=None,
        )
    return Measured((figures,), [*_findings(record), *_findings_uncompared(record)])


def _share(part: int | None, whole: int | None) -> float | None:
    return part / whole if part is not None and whole else None


def _findings_uncompared(record: RebuildRecord) -> Iterator[Finding]:
    """Where snapshots were first not compared, for how long at most, and those out of place."""
    seconds, start_ns = record.longest_uncompared_seconds, record.longest_uncompared_ns
    if start_ns and seconds:
        yield Finding(
            check="snapshot_match",
            place="further",
            ts_receipt_ns=start_ns,
            end_ns=start_ns + round(seconds * NS_PER_SECOND),
            value=seconds_text(seconds),
            expected="a snapshot that is compared with the book",
            note="The longest time in which snapshots came and none was compared: "
            f"{(record.uncompared_reasons or 'the reason is not known').rstrip('.')}.",
        )
    for count, at_ns, number, note in (
        (
            record.snapshots_misplaced,
            record.first_misplaced_ns,
            record.first_misplaced_sequence_number,
            "The first snapshot that disagrees at its number and agrees at a neighbour of it: it "
            "is misplaced, and replaces nothing.",
        ),
        (
            record.snapshots_stale,
            record.first_stale_ns,
            record.first_stale_sequence_number,
            "The first snapshot that disagrees and repeats an earlier one: it is stale, and "
            "replaces nothing.",
        ),
    ):
        if count and at_ns:
            yield Finding(
                check="snapshot_match",
                place="further",
                ts_receipt_ns=at_ns,
                sequence_number=number,
                note=note,
            )


def _findings(record: RebuildRecord) -> Iterator[Finding]:
    """The first mismatch and the worst one, which is reported as the first if it is the same."""
    farthest = (
        f"the mid differs by {record.max_mid_deviation_ticks or 0.0:g} ticks, and "
        f"{_levels(record.worst_mismatch_levels_differing)} of those both know"
    )
    first = _mismatch(record, "first")
    worst = _mismatch(record, "worst")
    is_same = first is not None and worst is not None and first == replace(worst, place="first")
    if first is not None:
        also = (
            f"; it is the farthest from the book too: {farthest}"
            if is_same
            else f"; {_levels(record.first_mismatch_levels_differing)} of those both know"
        )
        yield replace(first, note=f"The first snapshot that disagrees with the book{also}.")
    if worst is not None and not is_same:
        yield replace(worst, note=f"The snapshot farthest from the book: {farthest}.")


def _mismatch(record: RebuildRecord, which: Literal["first", "worst"]) -> Finding | None:
    """When it was, and the touch on either side; None if there was none."""
    at_ns, number, ours, theirs = (
        getattr(record, f"{which}_mismatch_{part}")
        for part in ("ns", "sequence_number", "ours", "theirs")
    )
    if at_ns is None:
        return None
    return Finding(
        check="snapshot_match",
        place=which,
        ts_receipt_ns=at_ns,
        sequence_number=number,
        value=ours,
        expected=theirs,
        note="",
    )


def _levels(differing: int | None) -> str:
    return f"{differing} level{' differs' if differing == 1 else 's differ'}"
