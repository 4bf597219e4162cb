"""Rebuilds the instruments of a day, in parallel and apart from each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from market_pipeline.errors import MarketPipelineError, MissingDataError
from market_pipeline.instruments import Instrument
from market_pipeline.lake.layout import Warehouse
from market_pipeline.lake.staging import StagedFile, sweep_staging
from market_pipeline.settings import Settings
from market_pipeline.stages.instrument import DayOfRaw, blank_record, rebuild_instrument
from market_pipeline.stages.outputs import OUTPUTS

__all__ = ["RebuiltDay", "rebuild_day"]

_MEGABYTES_PER_INSTRUMENT = 300


@dataclass(slots=True)
class RebuiltDay:
    """What the rebuild of a day's instruments left: staged files, and one record for each.

    Attributes:
        staged: By table (`books.bbo` …), the files of the instruments that were rebuilt.
        withdrawn: Ids of those that could not be; what was published of them before is withdrawn.
        records: Rows of `books.rebuilds`, one per instrument, in the order asked for.
    """

    staged: dict[str, list[StagedFile]] = field(
        default_factory=lambda: {name: [] for name in OUTPUTS}
    )
    withdrawn: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


def rebuild_day(
    raw: DayOfRaw,
    instruments: Sequence[Instrument],
    settings: Settings,
    warehouse: Warehouse,
    progress: Callable[[str], None] = lambda _: None,
) -> RebuiltDay:
    """Rebuilds several instruments of a day in parallel threads.

    Bad or missing data of one instrument is recorded and the others go on.

    Raises:
        Exception: Whatever is not about the data (a full disk, a fault of ours), after all ended.
    """
    by_memory = settings.memory_budget_mb // _MEGABYTES_PER_INSTRUMENT
    workers = max(1, min(settings.threads, by_memory, len(instruments)))
    sweep_staging(warehouse)
    day = RebuiltDay()
    with ThreadPoolExecutor(workers, thread_name_prefix="rebuild") as pool:
        outcomes = pool.map(
            lambda instrument: _attempt(
                raw, instrument, settings, warehouse, progress, overlap=workers < settings.threads
            ),
            instruments,
        )
        for instrument, (files, record) in zip(instruments, outcomes, strict=True):
            for table, parts in files.items():
                day.staged[table] += parts
            if not files:
                day.withdrawn.append(instrument.id)
            day.records.append(record)
            said = record["failure"] or f"{record['messages']:,} messages"
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
) -> tuple[dict[str, list[StagedFile]], dict[str, Any]]:
    try:
        return rebuild_instrument(raw, instrument, settings, warehouse, progress, overlap=overlap)
    except MarketPipelineError as error:
        failed = {
            "outcome": "no_data" if isinstance(error, MissingDataError) else "quarantined",
            "failure_kind": type(error).__name__,
            "failure": str(error),
        }
        return {}, blank_record(instrument, raw.day) | failed
