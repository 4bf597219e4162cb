"""Counts and locates the values of snapshots that are not whole ticks or lots.

A snapshot with such a value is not used by the rebuild, which only counts it. So where it left
snapshots out, this reads them once more and says whether a value was the reason, and where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.quality.findings import Finding, Measured
from market_pipeline.quality.measures.precision import MAX_OFFENDERS, loss_expected, loss_note
from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline.sources.crypto_lake import read_snapshots
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_snapshot_precision"]


class _Loss(NamedTuple):
    row: int
    level: int
    side: str
    column: str
    value: float


def measure_snapshot_precision(day: InstrumentDay) -> Measured:
    """The values of snapshots that are off the day's tick and lot, or too large to be exact.

    Nothing is added for a day published from its snapshots, of which the rebuild located them.

    Raises:
        MarketPipelineError: If the snapshots cannot be read.
    """
    record = day.record
    if record["strategy"] == "snapshots_only":
        return Measured()
    if not record["snapshots_unusable"]:
        return Measured({"snapshot_precision_losses": 0})
    steps = {"price": Decimal(record["tick"]), "size": Decimal(record["lot"])}
    count, findings = 0, list[Finding]()
    for batch in read_snapshots(day.snapshot_files):
        losses, first = _losses(batch, steps)
        count += losses
        for loss in first[: MAX_OFFENDERS - len(findings)]:
            step = steps[loss.column]
            findings.append(
                Finding(
                    check="precision",
                    place="further" if findings else "first",
                    ts_receipt_ns=int(batch.ts_receipt_ns[loss.row]),
                    sequence_number=int(batch.sequence_number[loss.row]),
                    file=batch.file.relative_to(day.raw.lake).as_posix(),
                    row=batch.first_row + loss.row,
                    column=f"{loss.side}_{loss.level}_{loss.column}",
                    value=repr(loss.value),
                    expected=loss_expected(loss.value, step),
                    note=f"{loss_note(loss.column, loss.value, step)} The whole snapshot is not "
                    "used.",
                )
            )
    return Measured(
        {
            "snapshot_precision_losses": count,
            "first_snapshot_precision_loss": _told(findings[0]) if findings else None,
        },
        findings,
    )


def _losses(batch: SnapshotBatch, steps: Mapping[str, Decimal]) -> tuple[int, list[_Loss]]:
    """How many losses a batch has, and the first of them in the order of its rows."""
    count, first = 0, list[_Loss]()
    for side in ("bid", "ask"):
        for column, step in steps.items():
            values = getattr(batch, f"{side}_{column}")
            whole = np.empty(values.shape, np.int64)
            losses = to_steps(values.ravel(), Scale.of(step), whole.ravel())
            if losses:
                count += losses
                places = np.argwhere(whole == NOT_REPRESENTABLE)[:MAX_OFFENDERS].tolist()
                first += [
                    _Loss(row, level, side, column, float(values[row, level]))
                    for row, level in places
                ]
    return count, sorted(first)[:MAX_OFFENDERS]


def _told(finding: Finding) -> str:
    return f"{finding.column} {finding.value} in {finding.file}, row {finding.row}"
