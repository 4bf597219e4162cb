"""A day's rows of a big table before they are published, as the stages are given them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import polars as pl

from market_pipeline.warehouse.read import DayRows
from market_pipeline.warehouse.staging import StagedFile
from market_pipeline.warehouse.tables import Table


def staged_rows(table: Table, files: Sequence[StagedFile]) -> DayRows:
    """The rows of staged files, which lie by instrument."""
    parts = groupby(files, key=lambda file: file.instrument)
    return DayRows(table, {name: [file.path for file in own] for name, own in parts})


@dataclass(frozen=True)
class FrameRows:
    """Rows of any instruments, with exchange and symbol, that lie in no file."""

    frame: pl.DataFrame

    def of(self, instrument: str, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows of an instrument."""
        venue, _, symbol = instrument.partition(":")
        rows = self.frame.lazy().filter(exchange=venue, symbol=symbol)
        return rows if columns is None else rows.select(columns)
