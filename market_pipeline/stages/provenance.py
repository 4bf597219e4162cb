"""What a day's outputs are made of: the inputs, parameters and code of each instrument's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from uuid import uuid4

import polars as pl

from market_pipeline.books.tables import (
    BBO,
    BOOK_FILES,
    BOOK_TRADES,
    CHECKPOINTS,
    DEPTH,
    INTERVALS,
    MARKET_EVENTS,
    REBUILDS,
)
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.config.values import JsonValue
from market_pipeline.errors import error_text, is_of_machine
from market_pipeline.metrics.tables import BARS, BOOK_METRICS, DAILY_METRICS, INFORMATION_BARS
from market_pipeline.quality.findings import FINDINGS
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.quality.strategy import choose_strategy
from market_pipeline.shown import shown_logger
from market_pipeline.stages.raw.days import MANIFEST_OF
from market_pipeline.stages.raw.objects import RawObjects, RegisteredDay
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import (
    Input,
    MadeOf,
    files_sha256,
    rows_sha256_of_each,
)
from market_pipeline.warehouse.manifest import RAW_TRADES
from market_pipeline.warehouse.read import staged_as_published
from market_pipeline.warehouse.tables import Table

__all__ = [
    "BARRED",
    "BOOKS",
    "EVENTED",
    "INFORMED",
    "METRICS",
    "PROFILED",
    "TRADED",
    "VALIDATED",
    "bars_made_of",
    "books_made_of",
    "events_made_of",
    "information_bars_made_of",
    "made_of_each",
    "metrics_made_of",
    "profiles_made_of",
    "published_inputs",
    "raw_inputs",
    "rows_inputs",
    "trades_made_of",
    "validation_options",
]

PROFILED: tuple[Table, ...] = (PROFILES,)
BOOKS: tuple[Table, ...] = (*BOOK_FILES, REBUILDS)
TRADED: tuple[Table, ...] = (BOOK_TRADES,)
EVENTED: tuple[Table, ...] = (MARKET_EVENTS,)
VALIDATED: tuple[Table, ...] = (VALIDATION_REPORT, FINDINGS)
METRICS: tuple[Table, ...] = (BOOK_METRICS, DAILY_METRICS)
BARRED: tuple[Table, ...] = (BARS,)
INFORMED: tuple[Table, ...] = (INFORMATION_BARS,)
"""The tables that are made together: an instrument's day of all is unchanged, or made again."""

_LOG = shown_logger(__name__)


def made_of_each(
    day: date, instruments: Sequence[Instrument], made_of: Callable[[Instrument], MadeOf]
) -> dict[str, MadeOf]:
    """By id, what each instrument's day follows from.

    Where that raises, it follows from nothing known: it is made, now and the next time too, and
    what keeps it from being made is for its stage to record.

    Raises:
        Exception: What is the machine's (`errors.is_of_machine`).
    """
    found = {}
    for instrument in instruments:
        try:
            found[instrument.id] = made_of(instrument)
        except Exception as error:
            if is_of_machine(error):
                raise
            _LOG.exception("%s %s: what it is made of is not known", instrument.id, day)
            # Equal to no other, so that nothing is unchanged or resumed by it.
            reason = {"not_known": error_text(error), "attempt": uuid4().hex}
            found[instrument.id] = MadeOf((), reason)
    return found


def profiles_made_of(raw: RegisteredDay, instrument: Instrument) -> MadeOf:
    """What an instrument's rows of `lake.profiles` follow from."""
    edge = instrument.thresholds.edge_tolerance_seconds
    return MadeOf(raw_inputs(raw, instrument), {"edge_tolerance_seconds": edge})


def books_made_of(
    raw: RegisteredDay, instrument: Instrument, settings: Settings, warehouse: Warehouse
) -> MadeOf:
    """What an instrument's rebuilt books follow from."""
    inputs = raw_inputs(raw, instrument)
    if instrument.policies.seed != "first_snapshot":
        before = raw.day - timedelta(days=1)
        inputs += published_inputs(warehouse, CHECKPOINTS, before).get(instrument.id, ())
    profiles = raw.profiles_of(instrument)
    strategy = choose_strategy([*profiles.values()])
    parameters: dict[str, JsonValue] = {
        "strategy": strategy.name,
        "source": instrument.source,
        "tick": str(instrument.tick),
        "lot": str(instrument.lot),
        "policies": instrument.policies.model_dump(mode="json"),
        "gap_rule": instrument.gap_rule.model_dump(mode="json"),
        "depth_interval_ms": settings.depth_interval_ms,
        "checkpoint_seconds": settings.checkpoint_seconds,
    }
    profile = profiles.get(strategy.table.name)
    if profile is not None and "infer" in (instrument.tick, instrument.lot):
        parameters["seen"] = [profile.tick_seen, profile.lot_seen]
    return MadeOf(inputs, parameters)


def trades_made_of(
    day: date,
    instruments: Sequence[Instrument],
    rebuilds: pl.DataFrame,
    trades: RawObjects,
    warehouse: Warehouse,
) -> dict[str, MadeOf]:
    """By id, what the rows of `books.trades` of a day follow from."""
    published = [published_inputs(warehouse, table, day) for table in (BBO, INTERVALS)]
    published.append(rows_inputs(REBUILDS, day, rebuilds))

    def made_of(instrument: Instrument) -> MadeOf:
        inputs = trades.made_from(RAW_TRADES, instrument, day)
        for table in published:
            inputs += table.get(instrument.id, ())
        return MadeOf(tuple(inputs), {})

    return made_of_each(day, instruments, made_of)


def events_made_of(
    raw: RegisteredDay,
    instruments: Sequence[Instrument],
    rebuilds: pl.DataFrame,
    warehouse: Warehouse,
) -> dict[str, MadeOf]:
    """By id, what the rows of `books.market_events` of a day follow from."""
    published = [published_inputs(warehouse, table, raw.day) for table in (BBO, CHECKPOINTS)]
    published.append(rows_inputs(REBUILDS, raw.day, rebuilds))

    def made_of(instrument: Instrument) -> MadeOf:
        inputs = raw_inputs(raw, instrument)
        for table in published:
            inputs += table.get(instrument.id, ())
        return MadeOf(inputs, {})

    return made_of_each(raw.day, instruments, made_of)


def metrics_made_of(
    day: date,
    instruments: Sequence[Instrument],
    reports: pl.DataFrame,
    trades: RawObjects,
    warehouse: Warehouse,
    metrics_seconds: Sequence[int],
) -> dict[str, MadeOf]:
    """By id, what the metrics of a day follow from."""
    widths: dict[str, JsonValue] = {"metrics_seconds": [*metrics_seconds]}
    made_of = BBO, DEPTH, BOOK_TRADES
    return _measured_made_of(day, instruments, reports, trades, warehouse, made_of, widths)


def bars_made_of(
    day: date,
    instruments: Sequence[Instrument],
    reports: pl.DataFrame,
    trades: RawObjects,
    warehouse: Warehouse,
    bar_seconds: Sequence[int],
) -> dict[str, MadeOf]:
    """By id, what the bars of a day follow from."""
    widths: dict[str, JsonValue] = {"bar_seconds": [*bar_seconds]}
    return _measured_made_of(day, instruments, reports, trades, warehouse, (BBO,), widths)


def information_bars_made_of(
    day: date, instruments: Sequence[Instrument], rebuilds: pl.DataFrame, warehouse: Warehouse
) -> dict[str, MadeOf]:
    """By id, what the bars of equal activity of a day follow from."""
    trades = published_inputs(warehouse, BOOK_TRADES, day)
    books = rows_inputs(REBUILDS, day, rebuilds)

    def made_of(instrument: Instrument) -> MadeOf:
        inputs = trades.get(instrument.id, ()) + books.get(instrument.id, ())
        asked = instrument.bars.model_dump(mode="json")
        return MadeOf(inputs, {"bars": {kind: steps for kind, steps in asked.items() if steps}})

    return made_of_each(day, instruments, made_of)


def _measured_made_of(
    day: date,
    instruments: Sequence[Instrument],
    reports: pl.DataFrame,
    trades: RawObjects,
    warehouse: Warehouse,
    tables: Sequence[Table],
    settings: Mapping[str, JsonValue],
) -> dict[str, MadeOf]:
    published = [published_inputs(warehouse, table, day) for table in tables]
    published.append(rows_inputs(VALIDATION_REPORT, day, reports))

    def made_of(instrument: Instrument) -> MadeOf:
        inputs = trades.made_from(RAW_TRADES, instrument, day)
        for table in published:
            inputs += table.get(instrument.id, ())
        return MadeOf(tuple(inputs), {**validation_options(instrument), **settings})

    return made_of_each(day, instruments, made_of)


def validation_options(instrument: Instrument) -> dict[str, JsonValue]:
    """The options of an instrument that decide what its published books are found to be."""
    return {
        "source": instrument.source,
        "tick": str(instrument.tick),
        "lot": str(instrument.lot),
        "policies": instrument.policies.model_dump(mode="json"),
        "gap_rule": instrument.gap_rule.model_dump(mode="json"),
        "thresholds": instrument.thresholds.model_dump(mode="json"),
        "listed": str(instrument.listed),
        "delisted": str(instrument.delisted),
    }


def raw_inputs(raw: RegisteredDay, instrument: Instrument) -> tuple[Input, ...]:
    """The registered raw objects of an instrument, as inputs."""
    return tuple(
        made
        for table, objects in raw.tables
        for made in objects.made_from(MANIFEST_OF[table.name], instrument, raw.day)
    )


def published_inputs(warehouse: Warehouse, table: Table, day: date) -> dict[str, tuple[Input, ...]]:
    """By instrument, what is published of a big table's day, as an input."""
    return {
        instrument: (Input(table.sql_name, day, None, files_sha256(each.sha256 for each in files)),)
        for instrument, files in staged_as_published(warehouse, table, day).items()
    }


def rows_inputs(table: Table, day: date, rows: pl.DataFrame) -> dict[str, tuple[Input, ...]]:
    """By instrument, the rows of a small table's day, as an input."""
    hashes = rows_sha256_of_each(table, rows)
    return {each: (Input(table.sql_name, day, None, found),) for each, found in hashes.items()}
