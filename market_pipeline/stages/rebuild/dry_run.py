"""What a rebuild of a day would repair and set aside, without publishing anything."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from market_pipeline.books.evidence import CAUSES, UNVERIFIED, Action
from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.tables import INTERVALS
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable
from market_pipeline.stages.raw.convert import register_local_day
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.stages.rebuild.day import RebuiltDay, rebuild_day
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan_files

__all__ = ["LISTED", "PlannedDay", "dry_run", "registered_day"]

LISTED = 50
"""So many repairs of an instrument and day are listed; the others are counted."""

_REPAIRS = [action.name.lower() for action in Action if action is not Action.NONE]
_COLUMNS = ["start_ns", "end_ns", "cause", "action", "messages", "evidence"]
# Neither changes a repair, and a look need not write what nobody reads.
_SELDOM = {"depth_interval_ms": 86_400_000, "checkpoint_seconds": 86_400}


@dataclass(frozen=True, slots=True)
class PlannedDay:
    """What would become of one instrument's day.

    Attributes:
        record: What its row of `books.rebuilds` would be.
        repairs: The first intervals, by start, that end with a repair or are open at the day's end:
            start_ns, end_ns, cause, action, messages, evidence.
        counts: How many there are of each cause and action, those listed included.
        set_aside: Raw files below the lake that would be copied to quarantine, each with the error.
    """

    record: RebuildRecord
    repairs: list[dict[str, Any]]
    counts: dict[tuple[str, str], int]
    set_aside: list[tuple[str, str]]

    @property
    def left_out(self) -> int:
        """How many repairs are not listed."""
        return sum(self.counts.values()) - len(self.repairs)

    @property
    def is_plain(self) -> bool:
        """Whether the day is rebuilt from its deltas with no repair but its seed."""
        actions = {action for _, action in self.counts}
        record = self.record
        from_deltas = record.outcome == "rebuilt" and not record.is_of_snapshots
        return from_deltas and actions <= {"seed"} and not self.set_aside

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        record = self.record
        names = ("outcome", "failure_kind", "failure", "strategy", "strategy_reason", "messages")
        return {
            "day": record.dt.isoformat(),
            "instrument": record.instrument_id,
            **{name: getattr(record, name) for name in names},
            "policies": json.loads(record.policies or "null"),
            "repairs": self.repairs,
            "repairs_left_out": self.left_out,
            "counts": [
                {"cause": cause, "action": action, "intervals": count}
                for (cause, action), count in self.counts.items()
            ],
            "set_aside": [{"file": file, "reason": reason} for file, reason in self.set_aside],
        }


def dry_run(
    day: date,
    instruments: Sequence[Instrument],
    settings: Settings,
    progress: Callable[[str], None] = lambda _: None,
) -> list[PlannedDay]:
    """Rebuilds a day for a look, in a temporary folder; nothing of the data folder changes.

    The folder is where the system keeps temporary files (`TMPDIR`); it takes the size of the day's
    `books.bbo` and is gone afterwards. What is published of the day before is read, where the
    policy `seed` asks for it.

    Args:
        day: The UTC day.
        instruments: Whose days.
        settings: Where raw files and published tables lie, and what may be used of the machine.
        progress: Called with a line for each instrument.
    """
    with TemporaryDirectory(prefix="market-pipeline-dry-run-") as folder:
        rebuilt = rebuild_day(
            registered_day(day, instruments, settings, Path(folder)),
            instruments,
            settings.model_copy(update=_SELDOM),
            Warehouse(Path(folder)),
            progress,
            published=Warehouse(settings.data_dir),
        )
        return [
            _planned(rebuilt, instrument, record)
            for instrument, record in zip(instruments, rebuilt.records, strict=True)
        ]


def registered_day(
    day: date, instruments: Sequence[Instrument], settings: Settings, scratch: Path
) -> RegisteredDay:
    """The raw objects as they are now, whatever was registered before, and what they look like.

    Args:
        day, instruments: Whose days.
        settings: Where they lie.
        scratch: A folder for what converters make for this look.
    """
    lake = settings.lake_path

    def objects(asset: str, raw: RawTable) -> RawObjects:
        table = TABLES[asset]
        rows = [
            row
            for each in instruments
            for row in register_local_day(settings, raw, each, day, scratch=scratch)
        ]
        return RawObjects(lake, table.frame(rows))

    raw = RegisteredDay(
        day=day,
        lake=lake,
        deltas=objects("raw_book_deltas", DELTAS),
        snapshots=objects("raw_book_snapshots", SNAPSHOTS),
        trades=objects("raw_trades", TRADES),
    )
    profiles = TABLES["raw_profiles"].frame(profile_day(raw, instruments))
    return replace(raw, profiles=profiles)


def _planned(rebuilt: RebuiltDay, instrument: Instrument, record: RebuildRecord) -> PlannedDay:
    staged = rebuilt.staged[INTERVALS.sql_name]
    files = [file.path for file in staged if file.instrument == instrument.id]
    repairs = scan_files(INTERVALS, files).filter(
        pl.col("action").is_in(_REPAIRS), pl.col("cause") != CAUSES[UNVERIFIED]
    )
    counted = repairs.group_by("cause", "action").len().sort("cause", "action").collect()
    first = repairs.select(_COLUMNS).sort("start_ns", maintain_order=True).head(LISTED).collect()
    return PlannedDay(
        record,
        first.to_dicts(),
        {(cause, action): count for cause, action, count in counted.iter_rows()},
        [(bad.below_lake.as_posix(), str(bad.error)) for bad in rebuilt.set_aside[instrument.id]],
    )
