"""A day published with every table, by the stages alone and without Dagster."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

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

_RAW = {"raw_book_deltas": DELTAS, "raw_book_snapshots": SNAPSHOTS, "raw_trades": TRADES}
_OPTIONAL = {"raw_funding": FUNDING, "raw_open_interest": OPEN_INTEREST}
_BIG = ("book_bbo", "book_depth", "book_checkpoints", "book_intervals")


def publish_day(
    settings: Settings, instruments: Sequence[Instrument], day: date, store: Store | None = None
) -> list[ValidatedDay]:
    """Every stage of a day, and all that they publish; the verdicts as they were given.

    With a store the raw days are fetched from it.
    """
    warehouse, lake = Warehouse(settings.data_dir), settings.lake_path
    warehouse.prepare()
    small = {
        name: TABLES[name].frame(raw_day(store, settings, raw, instruments, day).rows)
        for name, raw in _RAW.items()
    }
    objects = [RawObjects(lake, frame) for frame in small.values()]
    for name, raw in _OPTIONAL.items():
        small[name] = TABLES[name].frame(raw_day(store, settings, raw, instruments, day).rows)
    for name, state in CONTRACT_STATES.items():
        of = RawObjects(lake, small[state.manifest.name])
        states = states_day(state, day, instruments, of, warehouse, lake)
        publish(warehouse, TABLES[name], day, states.staged, withdrawn=states.withdrawn)
    small["raw_profiles"] = TABLES["raw_profiles"].frame(
        profile_day(RegisteredDay(day, lake, *objects), instruments, warehouse)
    )
    looked_through = RegisteredDay(day, lake, *objects, small["raw_profiles"])
    rebuilt = rebuild_day(looked_through, instruments, settings, warehouse)
    for name in _BIG:
        table = TABLES[name]
        publish(warehouse, table, day, rebuilt.staged[table.sql_name], withdrawn=rebuilt.withdrawn)
    bbo, depth, _, intervals = (day_rows(warehouse, TABLES[name], day) for name in _BIG)
    small["book_rebuilds"] = TABLES["book_rebuilds"].frame(
        each.as_record() for each in rebuilt.records
    )
    traded = trades_day(
        *(day, instruments, small["book_rebuilds"], bbo, intervals, looked_through.trades),
        warehouse,
    )
    publish(warehouse, TABLES["trades"], day, traded.staged, withdrawn=traded.withdrawn)
    informed = information_bars_day(
        *(day, instruments, small["book_rebuilds"], day_rows(warehouse, TABLES["trades"], day)),
        warehouse,
    )
    publish(
        *(warehouse, TABLES["information_bars"], day, informed.files), withdrawn=informed.withdrawn
    )
    told = events_day(looked_through, instruments, small["book_rebuilds"], warehouse)
    publish(warehouse, TABLES["market_events"], day, told.staged, withdrawn=told.withdrawn)
    validated = report_day(
        Lookups(looked_through, warehouse),
        instruments,
        PublishedBooks(small["book_rebuilds"], bbo, depth, intervals),
        settings,
        as_of_ns=2**62,
    )
    small["validation_report"] = TABLES["validation_report"].frame(each.row for each in validated)
    small["quality_findings"] = TABLES["quality_findings"].frame(
        row for each in validated for row in each.finding_rows
    )
    metrics = metrics_day(
        *(day, instruments, small["validation_report"], bbo, depth),
        day_rows(warehouse, TABLES["trades"], day),
        *(looked_through.trades, warehouse, settings.metrics_seconds),
    )
    publish(warehouse, TABLES["book_metrics"], day, metrics.files, withdrawn=metrics.withdrawn)
    small["daily_metrics"] = metrics.daily
    bars = bars_day(
        day,
        instruments,
        small["validation_report"],
        bbo,
        looked_through.trades,
        warehouse,
        settings.bar_seconds,
    )
    publish(warehouse, TABLES["bars"], day, bars.files, withdrawn=bars.withdrawn)
    ids = [instrument.id for instrument in instruments]
    with writing(warehouse) as connection:
        for name, frame in small.items():
            replace_rows_within(connection, TABLES[name], day, ids, frame)
    refresh_catalogue(warehouse)
    return validated
