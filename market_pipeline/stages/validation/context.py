"""All there is of one instrument's rebuilt day when it is validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import DTypeLike

from market_pipeline.books.boundaries import FirstRows
from market_pipeline.books.record import RebuildRecord
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import LakeFileError
from market_pipeline.mapped import mapped
from market_pipeline.quality.report import Messages
from market_pipeline.sources.batches import Trades
from market_pipeline.sources.crypto_lake_trades import read_trades
from market_pipeline.stages.published_rows import count_rows, read_rows
from market_pipeline.stages.raw.message_index import day_messages
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild.seed import closing_book
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.warehouse.layout import Warehouse, make_private_folder
from market_pipeline.warehouse.read import DayRows

__all__ = ["InstrumentDay", "PublishedBooks"]

_MESSAGES: Mapping[str, DTypeLike] = {
    "ts_origin_ns": np.int64,
    "ts_receipt_ns": np.int64,
    "sequence_number": np.int64,
    "flags": np.uint16,
}
_BATCH_ROWS = 1 << 17


@dataclass(frozen=True, slots=True)
class PublishedBooks:
    """A day's published rows of all instruments, of the tables of the same names in `books`."""

    rebuilds: pl.DataFrame
    bbo: DayRows
    depth: DayRows
    intervals: DayRows


@dataclass(frozen=True)
class InstrumentDay:
    """One instrument's rebuilt day: its raw files, what was published of it, and its record.

    Attributes:
        lookups: What is looked up elsewhere.
        record: Its row of `books.rebuilds`.
        books: The published rows; those of one instrument are read with `published_rows.read_rows`.
    """

    instrument: Instrument
    lookups: Lookups
    record: RebuildRecord
    books: PublishedBooks
    settings: Settings

    @property
    def raw(self) -> RegisteredDay:
        """The day's registered raw objects."""
        return self.lookups.raw

    @property
    def warehouse(self) -> Warehouse:
        """Where the day before is published."""
        return self.lookups.warehouse

    @property
    def day(self) -> date:
        """The UTC day."""
        return self.raw.day

    @cached_property
    def delta_files(self) -> list[Path]:
        """The raw delta shards in order; empty without any.

        A day that is published from its snapshots has none either where nobody can say which they
        are: it was made without them.
        """
        try:
            return self.raw.deltas.files_if_any(self.instrument)[0]
        except LakeFileError:
            if self.record.is_of_snapshots:
                return []
            raise

    @property
    def messages(self) -> FirstRows:
        """The messages of the raw deltas.

        Raises:
            MarketPipelineError: If they cannot be read.
        """
        files, sha256 = self.raw.deltas.files_if_any(self.instrument)
        return day_messages(self.warehouse, self.instrument, self.day, files, sha256)

    @cached_property
    def book_messages(self) -> Messages:
        """The messages of the published book; there may be none.

        Raises:
            OSError: If they cannot be written down.
        """
        make_private_folder(self.warehouse.staging_dir)
        parts = (
            [rows[name].to_numpy() for name in _MESSAGES]
            for rows in read_rows(self.books.bbo, self.instrument, list(_MESSAGES), _BATCH_ROWS)
        )
        count = count_rows(self.books.bbo, self.instrument)
        return Messages(*mapped(parts, list(_MESSAGES.values()), count, self.warehouse.staging_dir))

    @cached_property
    def close_before(self) -> dict[str, Any] | None:
        """The row of `books.checkpoints` that the day before ended with, if any.

        Raises:
            CheckpointError, OSError: As `closing_book`.
        """
        return closing_book(self.warehouse, self.instrument.id, self.day - timedelta(days=1))

    @cached_property
    def snapshot_files(self) -> list[Path]:
        """The raw snapshot shards in order; empty without any."""
        return self.raw.snapshots.files_if_any(self.instrument)[0]

    @cached_property
    def trade_files(self) -> list[Path]:
        """The raw trade shards in order; empty without any."""
        return self.raw.trades.files_if_any(self.instrument)[0]

    @cached_property
    def trades(self) -> Trades | None:
        """The trades; None if there is no trades file.

        Raises:
            MarketPipelineError: If they cannot be read.
        """
        files = self.trade_files
        return read_trades(files, self.warehouse.staging_dir) if files else None
