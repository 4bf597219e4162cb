"""Whether the raw files could be read at all."""

from __future__ import annotations

from market_pipeline.config.thresholds import Thresholds
from market_pipeline.quality.checks.base import Check, CheckOutcome, Fault, outcome
from market_pipeline.quality.row import ReportRow
from market_pipeline.quality.words import measured

__all__ = ["SCHEMA", "check_schema"]

SCHEMA = Check(
    name="schema",
    sentence="Every raw file can be read and has exactly the columns and types of its table.",
    asset="raw_book_deltas",
    severity="ERROR",
    degrades="always",
)


_UNUSABLE_FILE_KINDS = frozenset({"LakeFileError", "SchemaError"})


def check_schema(row: ReportRow, thresholds: Thresholds) -> CheckOutcome | None:
    """Fails with the error of the first such file; not asked where there was no file."""
    unreadable = row.unreadable_tables or 0
    set_aside = row.failure_kind in _UNUSABLE_FILE_KINDS
    if row.outcome != "rebuilt" and not set_aside and not unreadable:
        return None
    faults = []
    if unreadable:
        faults.append(Fault("ERROR", float(unreadable), 0.0, measured(row.first_unreadable_table)))
    elif set_aside:
        faults.append(Fault("ERROR", 1.0, 0.0, measured(row.failure)))
    fine = "Every raw file was read with the columns and types of its table."
    return outcome(SCHEMA, faults, figure=0.0, threshold=0.0, fine=fine)
