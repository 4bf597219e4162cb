"""A day published with every table, by the stages alone and without Dagster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import polars as pl

from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.metrics.contract_states import CONTRACT_STATES
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES
from market_pipeline.sources.crypto_lake_contracts import FUNDING, OPEN_INTEREST
from market_pipeline.stages.events.day import events_day
from market_pipeline.stages.metrics.bars import bars_day
from market_pipeline.stages.metrics.book_metrics import metrics_day
from market_pipeline.stages.metrics.contract_states import states_day
from market_pipeline.stages.metrics.information_bars import information_bars_day
from market_pipeline.stages.metrics.trades import trades_day
from market_pipeline.stages.raw.day import raw_day
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.stages.raw.profile import profile_day
from market_pipeline.stages.rebuild.day import rebuild_day
from market_pipeline.stages.validation.context import PublishedBooks
from market_pipeline.stages.validation.day import ValidatedDay, report_day
from market_pipeline.stages.validation.lookups import Lookups
from market_pipeline.store.client import Store
from market_pipeline.tables import TABLES, refresh_catalogue
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import day_rows
from market_pipeline.warehouse.working import replace_rows_within
from market_pipeline.warehouse.working_file import writing
from market_pipeline_tests.catalogues import drawn_catalogue

_RAW = {"raw_book_deltas": DELTAS, "raw_book_snapshots": SNAPSHOTS, "raw_trades": TRADES}
_OPTIONAL = {"raw_funding": FUNDING, "raw_open_interest": OPEN_INTEREST}
MINUTES = {"metrics_seconds": (60,), "bar_seconds": (60, 3_600)}
"""Settings that leave out the rows of every second, which take longer than all else of a day."""

_BIG = ("book_bbo", "book_depth", "book_checkpoints", "book_intervals")


@dataclass(frozen=True, slots=True)
class _Judged:
    """A day up to its verdicts: what the stages after them read, and the small tables so far."""

    registered: RegisteredDay
    books: PublishedBooks
    verdicts: list[ValidatedDay]
    small: dict[str, pl.DataFrame]


def publish_verdicts(
    settings: Settings, instruments: Sequence[Instrument], day: date, store: Store | None = None
) -> list[ValidatedDay]:
    """The stages of a day up to its verdicts, and what they publish but for the catalogue.

    With a store the raw days are fetched from it.
    """
    warehouse = Warehouse(settings.data_dir)
    judged = _judged(settings, instruments, day, warehouse, store)
    _record(warehouse, instruments, day, judged.small)
    return judged.verdicts


def publish_day(
    settings: Settings, instruments: Sequence[Instrument], day: date, store: Store | None = None
) -> list[ValidatedDay]:
    """Every stage of a day, and all that they publish; the verdicts as they were given.

    With a store the raw days are fetched from it.
    """
    warehouse, lake = drawn_catalogue(settings.data_dir), settings.lake_path
    judged = _judged(settings, instruments, day, warehouse, store)
    small, books, raw_trades = judged.small, judged.books, judged.registered.trades
    for name, raw in _OPTIONAL.items():
        small[name] = TABLES[name].frame(raw_day(store, settings, raw, instruments, day).rows)
    for name, state in CONTRACT_STATES.items():
        of = RawObjects(lake, small[state.manifest.name])
        states = states_day(state, day, instruments, of, warehouse, lake)
        publish(warehouse, TABLES[name], day, states.staged, withdrawn=states.withdrawn)
    traded = trades_day(
        day, instruments, books.rebuilds, books.bbo, books.intervals, raw_trades, warehouse
    )
    publish(warehouse, TABLES["trades"], day, traded.staged, withdrawn=traded.withdrawn)
    trades = day_rows(warehouse, TABLES["trades"], day)
    informed = information_bars_day(day, instruments, books.rebuilds, trades, warehouse)
    publish(
        *(warehouse, TABLES["information_bars"], day, informed.files), withdrawn=informed.withdrawn
    )
    told = events_day(judged.registered, instruments, books.rebuilds, warehouse)
    publish(warehouse, TABLES["market_events"], day, told.staged, withdrawn=told.withdrawn)
    reports = small["validation_report"]
    metrics = metrics_day(
        *(day, instruments, reports, books.bbo, books.depth, trades, raw_trades, warehouse),
        settings.metrics_seconds,
    )
    publish(warehouse, TABLES["book_metrics"], day, metrics.files, withdrawn=metrics.withdrawn)
    small["daily_metrics"] = metrics.daily
    bars = bars_day(
        day, instruments, reports, books.bbo, raw_trades, warehouse, settings.bar_seconds
    )
    publish(warehouse, TABLES["bars"], day, bars.files, withdrawn=bars.withdrawn)
    _record(warehouse, instruments, day, small)
    refresh_catalogue(warehouse)
    return judged.verdicts


def _judged(
    settings: Settings,
    instruments: Sequence[Instrument],
    day: date,
    warehouse: Warehouse,
    store: Store | None,
) -> _Judged:
    warehouse.prepare()
    small = {
        name: TABLES[name].frame(raw_day(store, settings, raw, instruments, day).rows)
        for name, raw in _RAW.items()
    }
    objects = [RawObjects(settings.lake_path, frame) for frame in small.values()]
    small["raw_profiles"] = TABLES["raw_profiles"].frame(
        profile_day(RegisteredDay(day, settings.lake_path, *objects), instruments, warehouse)
    )
    registered = RegisteredDay(day, settings.lake_path, *objects, small["raw_profiles"])
    rebuilt = rebuild_day(registered, instruments, settings, warehouse)
    for name in _BIG:
        table = TABLES[name]
        publish(warehouse, table, day, rebuilt.staged[table.sql_name], withdrawn=rebuilt.withdrawn)
    bbo, depth, _, intervals = (day_rows(warehouse, TABLES[name], day) for name in _BIG)
    small["book_rebuilds"] = TABLES["book_rebuilds"].frame(
        each.as_record() for each in rebuilt.records
    )
    books = PublishedBooks(small["book_rebuilds"], bbo, depth, intervals)
    verdicts = report_day(
        Lookups(registered, warehouse), instruments, books, settings, as_of_ns=2**62
    )
    small["validation_report"] = TABLES["validation_report"].frame(each.row for each in verdicts)
    small["quality_findings"] = TABLES["quality_findings"].frame(
        row for each in verdicts for row in each.finding_rows
    )
    return _Judged(registered, books, verdicts, small)


def _record(
    warehouse: Warehouse,
    instruments: Sequence[Instrument],
    day: date,
    small: Mapping[str, pl.DataFrame],
) -> None:
    """Puts the rows of small tables into the working database."""
    ids = [instrument.id for instrument in instruments]
    with writing(warehouse) as connection:
        for name, frame in small.items():
            replace_rows_within(connection, TABLES[name], day, ids, frame)
