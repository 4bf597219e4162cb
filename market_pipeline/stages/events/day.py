"""Writes the event stream of the instruments of a day that ask for it, in staged files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from market_pipeline.books.event_rows import KINDS
from market_pipeline.books.record import RebuildRecord
from market_pipeline.books.tables import MARKET_EVENTS
from market_pipeline.config.instruments import Instrument
from market_pipeline.stages.events.stream import day_events
from market_pipeline.stages.metrics.measured import make_each
from market_pipeline.stages.published_rows import records_of
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.rebuild.replay import PublishedDay
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.staging import StagedFile, StagedWriter

__all__ = ["EventsDay", "events_day"]


@dataclass(frozen=True, slots=True)
class EventsDay:
    """The event streams of a day's instruments.

    Attributes:
        staged: Their files of `books.market_events`, one for each instrument that asks for it and
            was rebuilt from deltas.
        withdrawn: Ids of the others; what was published of them before is withdrawn.
        counts: By id, how many rows there are of each kind.
        without: By id, why an instrument that asks for it has no file.
    """

    staged: list[StagedFile] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    without: dict[str, str] = field(default_factory=dict)


def events_day(
    raw: RegisteredDay,
    instruments: Sequence[Instrument],
    rebuilds: pl.DataFrame,
    warehouse: Warehouse,
    warn: Callable[[str], None] = lambda _: None,
) -> EventsDay:
    """The rows of `books.market_events` of a day, whose books are published.

    Whatever goes wrong with one instrument, the others have theirs.

    Args:
        raw: The day's registered files.
        instruments: Of which those that ask for it are made.
        rebuilds: The day's rows of `books.rebuilds`.
        warehouse: Where the books are published, and where to stage.
        warn: Called with the instrument that has no events though it asks for them, and why.

    Raises:
        Exception: What is the machine's (`errors.is_of_machine`).
    """

    def record_of(instrument: Instrument) -> RebuildRecord | str | None:
        record = next(iter(records_of(rebuilds, instrument, RebuildRecord)), None)
        if not instrument.market_events or record is None or record.outcome != "rebuilt":
            return None
        if record.is_of_snapshots:
            return "It was published from its snapshots, so there are no messages."
        return record

    def staged(instrument: Instrument, record: RebuildRecord) -> tuple[StagedFile, dict[str, int]]:
        published = PublishedDay(
            warehouse, record, lambda table: raw.objects_of(table).files_if_any(instrument)[0]
        )
        tick, lot = record.scales
        scales = {"tick": format(tick.step, "f"), "lot": format(lot.step, "f")}
        counts = np.zeros(len(KINDS), np.int64)
        with StagedWriter(warehouse, MARKET_EVENTS, instrument.id, metadata=scales) as writer:
            for batch in day_events(published, folder=warehouse.staging_dir):
                writer.write(batch.rows)
                kinds = batch.rows.column("kind").indices.to_numpy()
                counts += np.bincount(kinds, minlength=len(KINDS))
        return writer.staged, dict(zip(KINDS, counts.tolist(), strict=True))

    found = make_each(raw.day, instruments, record_of, staged, "market events", warn)
    return EventsDay(
        [file for file, _ in found.made.values()],
        [each.id for each in instruments if each.id not in found.made],
        {name: counts for name, (_, counts) in found.made.items()},
        found.without,
    )
