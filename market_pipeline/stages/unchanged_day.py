"""Whether a run of a day would only find what is published of it, found without a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date

import polars as pl

from market_pipeline.books.tables import REBUILDS
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.metrics.contract_states import CONTRACT_STATES
from market_pipeline.quality.fidelity.report import FIDELITY_REPORT
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.sources.crypto_lake import RAW_TABLES
from market_pipeline.sources.crypto_lake_contracts import OPTIONAL_TABLES
from market_pipeline.stages.fidelity.day import COMPARED, fidelity_made_of
from market_pipeline.stages.metrics.contract_states import states_made_of
from market_pipeline.stages.provenance import (
    BARRED,
    BOOKS,
    EVENTED,
    INFORMED,
    METRICS,
    PROFILED,
    TRADED,
    VALIDATED,
    bars_made_of,
    books_made_of,
    events_made_of,
    information_bars_made_of,
    made_of_each,
    metrics_made_of,
    profiles_made_of,
    trades_made_of,
)
from market_pipeline.stages.raw.day import raw_day
from market_pipeline.stages.raw.days import MANIFEST_OF, OPTIONAL_MANIFEST_OF
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.recorded_day import recorded_day
from market_pipeline.stages.validation.lookups import Lookups, report_made_of
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import MadeOf, rows_sha256_of_each
from market_pipeline.warehouse.manifest import MANIFESTS, OPTIONAL_MANIFESTS
from market_pipeline.warehouse.tables import Table

__all__ = ["is_unchanged_day"]


def is_unchanged_day(
    day: date, instruments: Sequence[Instrument], settings: Settings, warehouse: Warehouse
) -> bool:
    """Whether each stage would find every instrument's day as it is published.

    The raw files of a lake in a folder are registered and hashed as a run does, and each stage is
    asked as it asks itself, so that what a run would make, or try again, is never called unchanged.

    Raises:
        Exception: Whatever a run would record, or fail with.
    """
    tables = (*MANIFESTS, *PROFILED, *BOOKS, *TRADED, *EVENTED, *VALIDATED, *METRICS, *BARRED)
    tables += (*INFORMED, *COMPARED, *OPTIONAL_MANIFESTS)
    tables += tuple(each.table for each in CONTRACT_STATES.values())
    recorded = recorded_day(warehouse, tables, day)
    if not _is_registered(day, instruments, settings, recorded.rows):
        return False
    stages = _stages(day, instruments, settings, warehouse, recorded.rows)
    return all(
        replace(recorded, tables=made_together).unchanged(instrument, made_of[instrument.id])
        for made_together, made_of in stages
        for instrument in instruments
        if instrument.id in made_of and (made_together is not EVENTED or instrument.market_events)
    )


def _is_registered(
    day: date,
    instruments: Sequence[Instrument],
    settings: Settings,
    published: Mapping[str, pl.DataFrame],
) -> bool:
    """Whether the raw files are, byte for byte, those that are registered."""
    tables = {**MANIFEST_OF, **OPTIONAL_MANIFEST_OF}
    for raw in (*RAW_TABLES, *OPTIONAL_TABLES):
        table = tables[raw.name]
        now = table.frame(raw_day(None, settings, raw, instruments, day).rows)
        ours, theirs = (
            rows_sha256_of_each(table, rows) for rows in (now, published[table.sql_name])
        )
        if any(ours.get(each.id) != theirs.get(each.id) for each in instruments):
            return False
    return True


def _stages(
    day: date,
    instruments: Sequence[Instrument],
    settings: Settings,
    warehouse: Warehouse,
    published: Mapping[str, pl.DataFrame],
) -> Iterator[tuple[Sequence[Table], Mapping[str, MadeOf]]]:
    """The tables that each stage makes, and by id what it would make them of now.

    Who has no raw file of an optional table is left out there: nothing is made of it.
    """
    lake = settings.lake_path
    deltas, snapshots, trades = (
        RawObjects(lake, published[MANIFEST_OF[raw.name].sql_name]) for raw in RAW_TABLES
    )
    raw = RegisteredDay(
        day=day,
        lake=lake,
        deltas=deltas,
        snapshots=snapshots,
        trades=trades,
        profiles=published[PROFILES.sql_name],
    )
    yield PROFILED, made_of_each(day, instruments, lambda each: profiles_made_of(raw, each))
    yield (
        BOOKS,
        made_of_each(day, instruments, lambda each: books_made_of(raw, each, settings, warehouse)),
    )
    rebuilds = published[REBUILDS.sql_name]
    yield TRADED, trades_made_of(day, instruments, rebuilds, trades, warehouse)
    yield INFORMED, information_bars_made_of(day, instruments, rebuilds, warehouse)
    yield EVENTED, events_made_of(raw, instruments, rebuilds, warehouse)
    lookups = Lookups(raw, warehouse)
    yield VALIDATED, report_made_of(lookups, instruments, rebuilds, settings)
    reports = published[VALIDATION_REPORT.sql_name]
    widths = settings.metrics_seconds
    yield METRICS, metrics_made_of(day, instruments, reports, trades, warehouse, widths)
    widths = settings.bar_seconds
    yield BARRED, bars_made_of(day, instruments, reports, trades, warehouse, widths)
    compared = published[FIDELITY_REPORT.sql_name]
    yield COMPARED, fidelity_made_of(day, instruments, compared, warehouse)
    for state in CONTRACT_STATES.values():
        optional = RawObjects(lake, published[state.manifest.sql_name])
        made_of = states_made_of(state, day, instruments, optional)
        yield (state.table,), {name: each for name, each in made_of.items() if each.inputs}
