"""The raw files that one instrument's day is rebuilt from, and what is known of them beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Self

from market_pipeline.books.boundaries import FirstRows
from market_pipeline.books.scale import Scale
from market_pipeline.config.instruments import Instrument
from market_pipeline.quality.measures.tick_inference import choose_scales
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, open_shard
from market_pipeline.sources.crypto_lake_trades import read_trade_times
from market_pipeline.stages.raw.message_index import day_messages, read_messages
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild.gap_scan import SuspectedGaps, snapshot_touches, suspect_gaps
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["RawFiles"]


@dataclass(frozen=True)
class RawFiles:
    """The raw files of one instrument and day.

    Attributes:
        instrument, day: Whose.
        table: What the book is rebuilt from: the deltas, or the snapshots.
        deltas, snapshots, trades: The files in order; no deltas where these cannot be used.
        sha256: Of all these files in order.
        price_scale, size_scale: The tick and the lot.
        warehouse: Where what is known of them beforehand is kept.
    """

    instrument: Instrument
    day: date
    table: RawTable
    deltas: list[Path]
    snapshots: list[Path]
    trades: list[Path]
    sha256: list[str]
    price_scale: Scale
    size_scale: Scale
    warehouse: Warehouse

    @classmethod
    def open(
        cls, raw: RegisteredDay, instrument: Instrument, table: RawTable, warehouse: Warehouse
    ) -> Self:
        """The registered files, of which those of `table` must be there.

        Raises:
            MarketPipelineError: They are not, or are not as they were registered.
        """
        sha256: list[str] = []

        def files_of(each: RawTable) -> list[Path]:
            objects = raw.objects_of(each)
            of_table = objects.files_of if each is table else objects.files_if_any
            files, hashes = of_table(instrument)
            sha256.extend(hashes)
            return files

        deltas = files_of(DELTAS) if table is DELTAS else []
        snapshots, trades = files_of(SNAPSHOTS), files_of(TRADES)
        # Read only where a gap is suspected, but a file that is none sets the day aside at once.
        for file in trades:
            open_shard(file, TRADES)[0].close()
        scales = choose_scales(instrument, raw.profiles_of(instrument).get(table.name))
        return cls(
            instrument, raw.day, table, deltas, snapshots, trades, sha256, *scales, warehouse
        )

    @property
    def scale_texts(self) -> dict[str, str]:
        """The tick and the lot as text, by these names."""
        return {
            "tick": format(self.price_scale.step, "f"),
            "lot": format(self.size_scale.step, "f"),
        }

    def messages(self) -> FirstRows:
        """Where each message begins; of deltas as the profile found it, if that is still there.

        Mapped for as long as they are held, so nobody is to keep them for the whole rebuild.
        """
        if self.table is not DELTAS:
            return read_messages(self.snapshots, self.warehouse, self.table)
        hashes = self.sha256[: len(self.deltas)]
        return day_messages(self.warehouse, self.instrument, self.day, self.deltas, hashes)

    @cached_property
    def gaps(self) -> SuspectedGaps:
        """The suspected gaps; there must be a message."""
        beside = self.snapshots if self.table is DELTAS else []
        return suspect_gaps(
            self.messages(),
            read_trade_times(self.trades, self.warehouse.staging_dir),
            self.day,
            self.instrument.gap_rule,
            (lambda: snapshot_touches(beside)) if beside else None,
        )
