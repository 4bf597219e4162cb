"""Counts and locates the values that are not whole ticks or lots.

Those of deltas were located by the rebuild. A snapshot with such a value is not used by it and only
counted: where it left snapshots out, this reads them once more and says whether a value was the
reason, and where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.quality.figures.book import PrecisionFigures
from market_pipeline.quality.figures.comparisons import SnapshotPrecisionFigures
from market_pipeline.quality.findings import Finding, Measured, with_first
from market_pipeline.quality.located import precision_places
from market_pipeline.quality.measures.precision import (
    MAX_OFFENDERS,
    PrecisionLoss,
    PrecisionReport,
    loss_expected,
    loss_note,
)
from market_pipeline.quality.words import measured
from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["measure_precision", "measure_snapshot_precision"]


class _Loss(NamedTuple):
    row: int
    level: int
    side: str
    column: str
    value: float


def measure_precision(day: InstrumentDay) -> Measured:
    """The values that the rebuild refused, prices before sizes."""
    record = day.record
    tick, lot = record.scales
    located = (
        (record.price_loss_files, record.price_loss_rows, record.price_loss_values),
        (record.size_loss_files, record.size_loss_rows, record.size_loss_values),
    )
    of_prices, of_sizes = (tuple(map(PrecisionLoss, *map(measured, each))) for each in located)
    prices = PrecisionReport("price", tick.step, measured(record.price_losses), of_prices)
    sizes = PrecisionReport("size", lot.step, measured(record.size_losses), of_sizes)
    first = next((report for report in (prices, sizes) if report.losses), None)
    figures = PrecisionFigures(
        price_precision_losses=prices.losses,
        size_precision_losses=sizes.losses,
        first_precision_file=first.first[0].file if first else None,
        first_precision_row=first.first[0].row if first else None,
        first_precision_column=first.column if first else None,
        first_precision_value=first.first[0].value if first else None,
    )
    return Measured((figures,), list(precision_places((prices, sizes))))


def measure_snapshot_precision(day: InstrumentDay) -> Measured:
    """The values of snapshots that are off the day's tick and lot, or too large to be exact.

    Nothing is added for a day published from its snapshots, of which the rebuild located them.

    Raises:
        MarketPipelineError: If the snapshots cannot be read.
    """
    record = day.record
    if record.is_of_snapshots:
        return Measured()
    if not record.snapshots_unusable:
        return Measured((SnapshotPrecisionFigures(snapshot_precision_losses=0),))
    steps = dict(zip(("price", "size"), record.scales, strict=True))
    count, findings = 0, list[Finding]()
    for batch in read_snapshots(day.snapshot_files):
        losses, first = _losses(batch, steps)
        count += losses
        for loss in first[: MAX_OFFENDERS - len(findings)]:
            step = steps[loss.column].step
            findings.append(
                Finding(
                    check="precision",
                    place="further",
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
    figures = SnapshotPrecisionFigures(
        snapshot_precision_losses=count,
        first_snapshot_precision_loss=_place(findings[0]) if findings else None,
    )
    return Measured((figures,), with_first(findings))


def _losses(batch: SnapshotBatch, steps: Mapping[str, Scale]) -> tuple[int, list[_Loss]]:
    """How many losses a batch has, and the first of them in the order of its rows."""
    count, first = 0, list[_Loss]()
    for side in ("bid", "ask"):
        for column, scale in steps.items():
            values = getattr(batch, f"{side}_{column}")
            whole = np.empty(values.shape, np.int64)
            losses = to_steps(values.ravel(), scale, whole.ravel())
            if losses:
                count += losses
                places = np.argwhere(whole == NOT_REPRESENTABLE)[:MAX_OFFENDERS].tolist()
                first += [
                    _Loss(row, level, side, column, float(values[row, level]))
                    for row, level in places
                ]
    return count, sorted(first)[:MAX_OFFENDERS]


def _place(finding: Finding) -> str:
    return f"{finding.column} {finding.value} in {finding.file}, row {finding.row}"
