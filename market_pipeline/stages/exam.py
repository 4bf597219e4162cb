"""Tells the report what the rebuild saw in its exams: the snapshots after the seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.stages.judged import RebuiltDayOf

__all__ = ["measure_exam"]


def measure_exam(day: RebuiltDayOf) -> Measured:
    """What the exams of a day add to the report; nothing if there was none."""
    record = day.record
    if not record["exams"]:
        return Measured()
    levels = record["exam_levels"]
    by_hour = ("exams_per_hour", "exams_failed_per_hour", "exam_levels_differing_per_hour")
    columns = {
        "missing_share": record["exam_levels_missing"] / levels if levels else None,
        "exam_size_error": record["exam_size_error"],
        "exams_failed": record["exams_failed"],
        "first_failed_exam_ns": record["exam_first_failed_ns"],
        **{name: tuple(record[name]) for name in by_hour},
    }
    return Measured(columns, list(_findings(record)))


def _findings(record: Mapping[str, Any]) -> Iterator[Finding]:
    if record["exam_first_failed_ns"] is not None:
        yield Finding(
            check="exam",
            place="first",
            note="The first snapshot that disagrees with the book at the touch; "
            f"{_levels(record['exam_first_failed_levels_differing'])} of those both know.",
            **_exam(record, "exam_first_failed"),
        )
    if record["exam_worst_ns"] is not None:
        yield Finding(
            check="exam",
            place="worst",
            note="The snapshot farthest from the book: "
            f"the mid differs by {record['max_mid_deviation_ticks']:g} ticks, and "
            f"{_levels(record['exam_worst_levels_differing'])} of those both know.",
            **_exam(record, "exam_worst"),
        )


def _exam(record: Mapping[str, Any], which: str) -> dict[str, Any]:
    """When it was, and the touch on either side."""
    return {
        "ts_receipt_ns": record[f"{which}_ns"],
        "sequence_number": record[f"{which}_sequence_number"],
        "value": record[f"{which}_ours"],
        "expected": record[f"{which}_theirs"],
    }


def _levels(differing: int) -> str:
    return f"{differing} level{' differs' if differing == 1 else 's differ'}"
