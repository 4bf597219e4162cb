"""Finds the raw file and row of the messages and snapshots that findings are about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from market_pipeline.quality.findings import Finding
from market_pipeline.quality.intervals import IntArray
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, RawTable, open_shard
from market_pipeline.stages.validation.context import InstrumentDay

__all__ = ["with_places"]

_BATCH_ROWS = 1 << 19
_KEY, _RECEIPT = "sequence_number", "receipt_timestamp"
_ABOUT_SNAPSHOTS = {"snapshot_match", "day_boundary"}

_Rows = dict[int, dict[int, tuple[Path, int]]]
"""By sequence number and receipt time: the file and the zero-based row where both first stand."""


def with_places(findings: list[Finding], day: InstrumentDay) -> list[Finding]:
    """The findings with file and row, where they have a time and a sequence number and no place.

    A finding of `snapshot_match` or `day_boundary` is about a snapshot, every other one about a
    message, of which the first row is named; on a day that was published from snapshots these are
    the messages. Of several with its sequence number that of its receipt time is taken, else the
    first; the place stays null where none has it, as with a message of the day before.

    Each table that is asked for is read once: two columns of those row groups whose statistics do
    not rule all wanted numbers out, some rows at a time.

    Raises:
        MarketPipelineError: If a raw file changed since it was registered, or cannot be read.
    """
    placed = list(findings)
    messages = SNAPSHOTS if day.record.is_of_snapshots else DELTAS
    for table in (DELTAS, SNAPSHOTS):
        wanted = {
            index: finding.sequence_number
            for index, finding in enumerate(findings)
            if finding.sequence_number is not None and _is_about(finding, table, messages)
        }
        if not wanted:
            continue
        files = day.delta_files if table == DELTAS else day.snapshot_files
        rows = _first_rows(files, table, wanted.values())
        for index, number in wanted.items():
            by_time = rows.get(number)
            if by_time is None:
                continue
            finding = findings[index]
            file, row = by_time.get(finding.ts_receipt_ns or 0, next(iter(by_time.values())))
            name = file.relative_to(day.raw.lake).as_posix()
            placed[index] = replace(finding, file=name, row=row)
    return placed


def _is_about(finding: Finding, table: RawTable, messages: RawTable) -> bool:
    """Whether a finding without a place is about a row of a table."""
    if finding.file is not None or finding.ts_receipt_ns is None:
        return False
    return table == (SNAPSHOTS if finding.check in _ABOUT_SNAPSHOTS else messages)


def _first_rows(files: Sequence[Path], table: RawTable, wanted: Iterable[int]) -> _Rows:
    """Where the wanted sequence numbers first stand in a table, for each of their receipt times."""
    numbers = np.array(sorted(set(wanted)), dtype=np.int64)
    found: _Rows = {}
    for file in files:
        parquet, names = open_shard(file, table)
        columns = [names[_KEY], names[_RECEIPT]]
        with parquet:
            row = 0
            for group in range(parquet.metadata.num_row_groups):
                if not _may_hold(parquet, group, names[_KEY], numbers):
                    row += parquet.metadata.row_group(group).num_rows
                    continue
                for batch in parquet.iter_batches(_BATCH_ROWS, [group], columns):
                    keys, times = (batch.column(name).to_numpy() for name in columns)
                    # The least number that is not below the key, or the largest of all.
                    near = numbers[np.searchsorted(numbers[:-1], keys)]
                    for at in np.flatnonzero(near == keys).tolist():
                        by_time = found.setdefault(int(keys[at]), {})
                        by_time.setdefault(int(times[at]), (file, row + at))
                    row += batch.num_rows
    return found


def _may_hold(parquet: pq.ParquetFile, group: int, column: str, numbers: IntArray) -> bool:
    """Whether a row group may hold one of the numbers; one without statistics may."""
    position = parquet.schema_arrow.names.index(column)
    chunk = parquet.metadata.row_group(group).column(position)
    if not (chunk.is_stats_set and chunk.statistics.has_min_max):
        return True
    least, most = chunk.statistics.min, chunk.statistics.max
    return bool(np.any((numbers >= least) & (numbers <= most)))
