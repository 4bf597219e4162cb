"""Rebuilds the instruments of a day, in parallel and apart from each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate

from market_pipeline import __version__
from market_pipeline.books.record import Outcome, RebuildRecord
from market_pipeline.books.tables import BOOK_FILES, REBUILDS
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import (
    LakeFileError,
    MarketPipelineError,
    MissingDataError,
    error_text,
    is_of_machine,
)
from market_pipeline.memory import give_back_memory
from market_pipeline.shown import shown_logger
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.stages.provenance import books_made_of, made_of_each
from market_pipeline.stages.published_rows import records_of
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild.instrument import blank_record, rebuild_instrument
from market_pipeline.stages.rebuild.quarantine import BadFile, bad_files, keep_copy
from market_pipeline.stages.recorded_day import RecordedDay, UnchangedDay
from market_pipeline.telemetry.traces.work import about, failed, working
from market_pipeline.threads import Workers
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import MadeOf
from market_pipeline.warehouse.staging import StagedFile, sweep_staging

__all__ = ["RebuiltDay", "rebuild_day"]

_BYTES_PER_INSTRUMENT = 300_000_000
"""What an instrument takes beside its messages and trades: batches under way, tables, the book …"""
_BYTES_PER_MESSAGE = {DELTAS.name: 30, SNAPSHOTS.name: 30, TRADES.name: 15}
"""… and what the look for its gaps takes for each, which sees the times of the whole day at once.
Measured with 25 million messages of deltas: 14, or 30 where a stamp in five is bad; 10 for a trade.
"""
_LOG = shown_logger(__name__)

_Attempt = tuple[dict[str, list[StagedFile]], RebuildRecord, list[BadFile]]
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
        unchanged: By id, those that are not rebuilt, because they would come out as published;
            their files and records are the published ones.
    """

    staged: dict[str, list[StagedFile]] = field(
        default_factory=lambda: {table.sql_name: [] for table in BOOK_FILES}
    )
    withdrawn: list[str] = field(default_factory=list)
    records: list[RebuildRecord] = field(default_factory=list)
    set_aside: dict[str, list[BadFile]] = field(default_factory=dict)
    made_of: dict[str, MadeOf] = field(default_factory=dict)
    unchanged: dict[str, UnchangedDay] = field(default_factory=dict)

    def add(
        self, instrument: Instrument, files: dict[str, list[StagedFile]], record: RebuildRecord
    ) -> str:
        """Adds an instrument's files and record; returns what became of it, for a person."""
        for table, parts in files.items():
            self.staged[table] += parts
        if not files:
            self.withdrawn.append(instrument.id)
        self.records.append(record)
        if instrument.id in self.unchanged:
            return f"not rebuilt, {self.unchanged[instrument.id].text}"
        return record.failure or f"{record.messages:,} messages"


def rebuild_day(
    raw: RegisteredDay,
    instruments: Sequence[Instrument],
    settings: Settings,
    warehouse: Warehouse,
    progress: Callable[[str], None] = lambda _: None,
    *,
    published: Warehouse | None = None,
    recorded: RecordedDay | None = None,
) -> RebuiltDay:
    """Rebuilds instruments of a day in parallel; what one fails at is recorded, the others go on.

    Args:
        raw: The day's registered raw objects.
        instruments: Whose days.
        settings: How often depth and checkpoints come, and what may be used of the machine.
        warehouse: Where to stage, and to keep copies of raw files that cannot be used.
        progress: Called with a line for each instrument.
        published: Given for a dry run only: where the day before is published; nothing is copied.
        recorded: What is published of the day; None rebuilds what is unchanged too.

    Raises:
        Exception: What is the machine's (`errors.is_of_machine`), after the others were stopped.
        PublishError: A raw file that cannot be used could not be copied.
    """
    give_back_memory()
    workers = _workers(raw, instruments, settings)
    sweep_staging(warehouse)
    day = RebuiltDay(
        made_of=made_of_each(
            raw.day,
            instruments,
            lambda each: books_made_of(raw, each, settings, published or warehouse),
        )
    )

    def outcome(instrument: Instrument) -> _Attempt:
        unchanged = recorded and recorded.unchanged(instrument, day.made_of[instrument.id])
        if unchanged:
            day.unchanged[instrument.id] = unchanged
            (record,) = records_of(unchanged.rows[REBUILDS.sql_name], instrument, RebuildRecord)
            return dict(unchanged.files), record, []
        return _attempt(
            raw,
            instrument,
            settings,
            warehouse,
            day.made_of[instrument.id],
            progress,
            overlap=workers < settings.threads,
            published=published,
        )

    with Workers(workers, "rebuild") as pool:
        outcomes = pool.map(outcome, instruments)
        for instrument, (files, record, set_aside) in zip(instruments, outcomes, strict=True):
            day.set_aside[instrument.id] = set_aside
            with about(instrument=instrument.id):
                progress(f"{instrument.id}: {day.add(instrument, files, record)}")
    return day


def _workers(raw: RegisteredDay, instruments: Sequence[Instrument], settings: Settings) -> int:
    """How many instruments are rebuilt at once: the largest of them fit the memory together."""
    needed = [
        _BYTES_PER_INSTRUMENT
        + sum(
            _BYTES_PER_MESSAGE[profile.raw_table] * (profile.messages or 0)
            for profile in raw.profiles_of(instrument).values()
        )
        for instrument in instruments
    ]
    together = accumulate(sorted(needed, reverse=True)[: settings.threads])
    return max(1, sum(each <= settings.memory_budget_mb * 1_000_000 for each in together))


def _attempt(
    raw: RegisteredDay,
    instrument: Instrument,
    settings: Settings,
    warehouse: Warehouse,
    made_of: MadeOf,
    progress: Callable[[str], None],
    *,
    overlap: bool,
    published: Warehouse | None,
) -> _Attempt:
    with working("instrument", instrument=instrument.id):
        files: dict[str, list[StagedFile]] = {}
        failure: Exception | None = None
        try:
            files, record = rebuild_instrument(
                raw,
                instrument,
                settings,
                warehouse,
                made_of,
                progress,
                overlap=overlap,
                published=published,
            )
            # A value that fits no column must not show when the rows of all are written.
            REBUILDS.frame([record.as_record()])
        except Exception as error:
            if is_of_machine(error):
                raise
            files, failure = {}, error
            record = _failed(raw, instrument, error)
        set_aside = _set_aside(raw, instrument, failure, record)
        if published is None:
            for bad in set_aside:
                try:
                    copy = f"A copy of {bad.below_lake} is kept as {keep_copy(warehouse, bad)}."
                except (
                    LakeFileError
                ) as error:  # it changed meanwhile, and is to be registered again
                    copy = f"No copy of {bad.below_lake} is kept: {error}"
                if failure is None:
                    progress(f"{instrument.id}: {copy}")
                else:
                    record = replace(record, failure=f"{record.failure} {copy}")
        return files, record, set_aside


def _failed(raw: RegisteredDay, instrument: Instrument, error: Exception) -> RebuildRecord:
    """The record of an instrument that could not be rebuilt, whatever kept it from that."""
    failed(error)
    if isinstance(error, MarketPipelineError):
        failure = str(error)
    else:
        _LOG.error("%s %s could not be rebuilt", instrument.id, raw.day, exc_info=error)
        failure = (
            f"The rebuild failed on the day's data: {error_text(error)}. See the log of the run, "
            "and report it with the raw files of the day."
        )
    outcome: Outcome = "no_data" if isinstance(error, MissingDataError) else "quarantined"
    try:
        blank = blank_record(instrument, raw, outcome)
    except Exception:
        _LOG.exception("%s %s: its profiles", instrument.id, raw.day)
        blank = RebuildRecord(
            exchange=instrument.venue,
            symbol=instrument.symbol,
            dt=raw.day,
            outcome=outcome,
            strategy="none",
            code_version=__version__,
        )
    return replace(blank, failure_kind=type(error).__name__, failure=failure)


def _set_aside(
    raw: RegisteredDay, instrument: Instrument, failure: Exception | None, record: RebuildRecord
) -> list[BadFile]:
    """The raw files that cannot be used; none where looking for them fails too."""
    ours = failure if isinstance(failure, MarketPipelineError) else None
    try:
        return bad_files(raw, instrument, ours, strategy=record.strategy)
    except Exception as error:
        if is_of_machine(error):
            raise
        _LOG.exception("%s %s: the files that cannot be used", instrument.id, raw.day)
        return []
