"""What the rebuild found of the snapshots after the seed, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from market_pipeline.quality.checks.base import seconds_text
from market_pipeline.quality.figures.comparisons import SnapshotMatchFigures
from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_snapshot_match"]


def measure_snapshot_match(day: InstrumentDay) -> Measured:
    """What the snapshots of a day add to the report, those that were not compared included."""
    record = day.record
    figures, findings = _uncompared(record), list(_findings_uncompared(record))
    if not record["snapshots_compared"]:
        return Measured((figures,), findings)
    levels = record["snapshot_levels"]
    figures = replace(
        figures,
        snapshot_matching_share=_share(record["snapshot_levels_matching"], levels),
        max_mid_deviation_ticks=record["max_mid_deviation_ticks"],
        ghost_share=_share(record["snapshot_levels_ghost"], record["snapshot_levels_ours"]),
        missing_share=_share(record["snapshot_levels_missing"], levels),
        snapshot_size_error=record["snapshot_size_error"],
        snapshots_mismatched=record["snapshots_mismatched"],
        first_mismatch_ns=record["first_mismatch_ns"],
        snapshots_compared_per_hour=tuple(record["snapshots_compared_per_hour"]),
        snapshots_mismatched_per_hour=tuple(record["snapshots_mismatched_per_hour"]),
        snapshot_levels_differing_per_hour=tuple(record["snapshot_levels_differing_per_hour"]),
    )
    return Measured((figures,), [*_findings(record), *findings])


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _uncompared(record: Mapping[str, Any]) -> SnapshotMatchFigures:
    """How many snapshots were compared, and why others were not."""
    compared, uncompared = record["snapshots_compared"], record.get("snapshots_uncompared")
    later = (uncompared or 0) + (compared or 0)
    return SnapshotMatchFigures(
        snapshots_compared=compared,
        snapshots_uncompared=uncompared,
        uncompared_share=None if uncompared is None or not later else uncompared / later,
        uncompared_reasons=record.get("uncompared_reasons"),
        first_uncompared_ns=record.get("first_uncompared_ns") or None,
        longest_uncompared_seconds=record.get("longest_uncompared_seconds"),
        longest_uncompared_ns=record.get("longest_uncompared_ns") or None,
        snapshots_misplaced=record.get("snapshots_misplaced"),
        first_misplaced_ns=record.get("first_misplaced_ns") or None,
        snapshots_off_number=record.get("snapshots_off_number"),
        snapshots_stale=record.get("snapshots_stale"),
        first_stale_ns=record.get("first_stale_ns") or None,
    )


def _findings_uncompared(record: Mapping[str, Any]) -> Iterator[Finding]:
    """Where snapshots were first not compared, for how long at most, and those out of place."""
    seconds = record.get("longest_uncompared_seconds") or 0.0
    start_ns = record.get("longest_uncompared_ns")
    if start_ns and seconds:
        yield Finding(
            check="snapshot_match",
            place="further",
            ts_receipt_ns=start_ns,
            end_ns=start_ns + round(seconds * NS_PER_SECOND),
            value=seconds_text(seconds),
            expected="a snapshot that is compared with the book",
            note="The longest time in which snapshots came and none was compared: "
            f"{(record.get('uncompared_reasons') or 'the reason is not known').rstrip('.')}.",
        )
    for place, counted, note in (
        (
            "first_misplaced",
            "snapshots_misplaced",
            "The first snapshot that disagrees at its number and agrees at a neighbour of it: it "
            "is misplaced, and replaces nothing.",
        ),
        (
            "first_stale",
            "snapshots_stale",
            "The first snapshot that disagrees and repeats an earlier one: it is stale, and "
            "replaces nothing.",
        ),
    ):
        at_ns = record.get(f"{place}_ns")
        if record.get(counted) and at_ns:
            yield Finding(
                check="snapshot_match",
                place="further",
                ts_receipt_ns=at_ns,
                sequence_number=record.get(f"{place}_sequence_number"),
                note=note,
            )


def _findings(record: Mapping[str, Any]) -> Iterator[Finding]:
    """The first mismatch and the worst one, which is reported as the first if it is the same."""
    first, worst = (_mismatch(record, f"{which}_mismatch") for which in ("first", "worst"))
    farthest = (
        "the mid differs by "
        f"{record['max_mid_deviation_ticks'] or 0.0:g} ticks, and "
        f"{_levels(record['worst_mismatch_levels_differing'])} of those both know"
    )
    if first is not None:
        also = (
            f"; it is the farthest from the book too: {farthest}"
            if first == worst
            else (f"; {_levels(record['first_mismatch_levels_differing'])} of those both know")
        )
        yield Finding(
            check="snapshot_match",
            place="first",
            note=f"The first snapshot that disagrees with the book{also}.",
            **first,
        )
    if worst is not None and worst != first:
        yield Finding(
            check="snapshot_match",
            place="worst",
            note=f"The snapshot farthest from the book: {farthest}.",
            **worst,
        )


def _mismatch(record: Mapping[str, Any], which: str) -> dict[str, Any] | None:
    """When it was, and the touch on either side; None if there was none."""
    if record[f"{which}_ns"] is None:
        return None
    return {
        "ts_receipt_ns": record[f"{which}_ns"],
        "sequence_number": record[f"{which}_sequence_number"],
        "value": record[f"{which}_ours"],
        "expected": record[f"{which}_theirs"],
    }


def _levels(differing: int | None) -> str:
    return f"{differing} level{' differs' if differing == 1 else 's differ'}"
