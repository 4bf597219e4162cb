"""Rebuilds the instruments of a day, in parallel and apart from each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from market_pipeline.books.tables import REBUILDS
from market_pipeline.errors import MarketPipelineError, MissingDataError
from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.lake.lineage import MadeOf
from market_pipeline.lake.staging import StagedFile, sweep_staging
from market_pipeline.settings import Settings
from market_pipeline.stages.instrument import DayOfRaw, blank_record, rebuild_instrument
from market_pipeline.stages.lineage import Kept, RecordedDay, books_made_of
from market_pipeline.stages.outputs import OUTPUTS
from market_pipeline.stages.quarantine import BadFile, bad_files, keep_copy

__all__ = ["RebuiltDay", "rebuild_day"]

_MEGABYTES_PER_INSTRUMENT = 300

_Outcome = tuple[dict[str, list[StagedFile]], dict[str, Any], list[BadFile]]
"""An instrument's files by table, its record, and the raw files that cannot be used."""


@dataclass(slots=True)
class RebuiltDay:
    """What the rebuild of a day's instruments left: staged files, and one record for each.

    Attributes:
        staged: By table (`books.bbo` …), the files of the instruments that were rebuilt.
        withdrawn: Ids of those that could not be; what was published of them before is withdrawn.
        records: Rows of `books.rebuilds`, one per instrument, in the order asked for.
        set_aside: By instrument id, the raw files that cannot be used.
        made_of: By instrument id, what all of it follows from.
        kept: By id, those that are not rebuilt, because they would come out as published; files and
            records of theirs are the published ones.
    """

    staged: dict[str, list[StagedFile]] = field(
        default_factory=lambda: {name: [] for name in OUTPUTS}
    )
    withdrawn: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    set_aside: dict[str, list[BadFile]] = field(default_factory=dict)
    made_of: dict[str, MadeOf] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)


def rebuild_day(
    raw: DayOfRaw,
    instruments: Sequence[Instrument],
    settings: Settings,
    warehouse: Warehouse,
    progress: Callable[[str], None] = lambda _: None,
    *,
    published: Warehouse | None = None,
    recorded: RecordedDay | None = None,
) -> RebuiltDay:
    """Rebuilds several instruments of a day in parallel threads.

    Bad or missing data of one instrument is recorded and the others go on. A copy of a raw file
    that cannot be used is kept in quarantine.

    Args:
        raw: The day's registered raw objects.
        instruments: Whose days.
        settings: How often depth and checkpoints come, and what may be used of the machine.
        warehouse: Where to stage, and to keep copies.
        progress: Is told of each instrument.
        published: Given for a look only: where the day before is published. Files are staged in
            `warehouse`, and nothing is copied.
        recorded: What is published of the day, to keep what need not be made again; None rebuilds
            every instrument.

    Raises:
        Exception: Whatever is not about the data (a full disk, a fault of ours), after all ended.
    """
    by_memory = settings.memory_budget_mb // _MEGABYTES_PER_INSTRUMENT
    workers = max(1, min(settings.threads, by_memory, len(instruments)))
    sweep_staging(warehouse)
    day = RebuiltDay(
        made_of={
            each.id: books_made_of(raw, each, settings, published or warehouse)
            for each in instruments
        }
    )

    def outcome(instrument: Instrument) -> _Outcome:
        kept = recorded and recorded.kept(instrument, day.made_of[instrument.id])
        if kept:
            day.kept[instrument.id] = kept
            return dict(kept.files), kept.rows[REBUILDS.sql_name].row(0, named=True), []
        return _attempt(
            raw,
            instrument,
            settings,
            warehouse,
            progress,
            overlap=workers < settings.threads,
            published=published,
        )

    with ThreadPoolExecutor(workers, thread_name_prefix="rebuild") as pool:
        for instrument, (files, record, set_aside) in zip(
            instruments, pool.map(outcome, instruments), strict=True
        ):
            day.set_aside[instrument.id] = set_aside
            for table, parts in files.items():
                day.staged[table] += parts
            if not files:
                day.withdrawn.append(instrument.id)
            day.records.append(record)
            said = record["failure"] or f"{record['messages']:,} messages"
            if instrument.id in day.kept:
                said = f"not rebuilt, {day.kept[instrument.id].said}"
            progress(f"{instrument.id}: {said}")
    return day


def _attempt(
    raw: DayOfRaw,
    instrument: Instrument,
    settings: Settings,
    warehouse: Warehouse,
    progress: Callable[[str], None],
    *,
    overlap: bool,
    published: Warehouse | None,
) -> _Outcome:
    files: dict[str, list[StagedFile]] = {}
    failure: MarketPipelineError | None = None
    try:
        files, record = rebuild_instrument(
            raw, instrument, settings, warehouse, progress, overlap=overlap, published=published
        )
    except MarketPipelineError as error:
        failure = error
        record = blank_record(instrument, raw) | {
            "outcome": "no_data" if isinstance(error, MissingDataError) else "quarantined",
            "failure_kind": type(error).__name__,
            "failure": str(error),
        }
    set_aside = bad_files(raw, instrument, failure, strategy=record["strategy"])
    if published is None:
        for bad in set_aside:
            copy = f"A copy of {bad.below_lake} is kept as {keep_copy(warehouse, bad)}."
            if failure is None:
                progress(f"{instrument.id}: {copy}")
            else:
                record["failure"] += f" {copy}"
    return files, record, set_aside
