"""What the storage tests publish, also from other processes, which import this module."""

from __future__ import annotations

import faulthandler
import itertools
from collections.abc import Iterable
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa

from market_pipeline.warehouse.catalogue import refresh
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.publish import publish
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.staging import StagedFile, StagedWriter
from market_pipeline.warehouse.tables import Column, Table
from market_pipeline.warehouse.working import replace_rows

PERP = "BINANCE_FUTURES:BTC-USDT-PERP"
SPOT = "BINANCE:BTC-USDT"
DAY = date(2024, 8, 8)
NEXT_DAY = date(2024, 8, 9)

_ID = (
    Column("exchange", "VARCHAR", "Venue."),
    Column("symbol", "VARCHAR", "Symbol at the venue."),
    Column("dt", "DATE", "UTC day."),
)
BBO = Table(
    schema="books",
    name="bbo",
    description="Best bid and ask; it's one row per message.",
    columns=(
        *_ID,
        Column("run", "BIGINT", "Which run wrote the row."),
        Column("bid_price", "DOUBLE", "Best bid."),
        Column("flags", "USMALLINT", "Bits."),
        Column("levels", "BIGINT[]", "Prices in ticks."),
    ),
    storage="delta",
)
REPORT = Table(
    schema="quality",
    name="validation_report",
    description="One row per instrument and day.",
    columns=(*_ID, Column("run", "BIGINT", "Which run wrote the row.")),
    storage="duckdb",
)
TABLES = (BBO, REPORT)


def rows_of(run: int) -> int:
    """How many rows a whole partition of that run has."""
    return 500 + run % 7


def batch(instrument: str, day: date, run: int, rows: int | None = None) -> pa.Table:
    """One instrument's rows of `BBO`, all telling which run wrote them."""
    count = rows_of(run) if rows is None else rows
    exchange, symbol = instrument.split(":")
    return pa.table(
        {
            "exchange": pa.array([exchange] * count, pa.string()),
            "symbol": pa.array([symbol] * count, pa.string()),
            "dt": pa.array([day] * count, pa.date32()),
            "run": pa.array([run] * count, pa.int64()),
            "bid_price": pa.array([run + row / 2 for row in range(count)], pa.float64()),
            "flags": pa.array([65_535 - row % 3 for row in range(count)], pa.uint16()),
            "levels": pa.array([[row, run] for row in range(count)], pa.list_(pa.int64())),
        }
    )


def stage(
    warehouse: Warehouse, instrument: str, run: int, day: date = DAY, rows: int | None = None
) -> StagedFile:
    """Stage one instrument's rows of `BBO`."""
    with StagedWriter(warehouse, BBO, instrument) as writer:
        writer.write(batch(instrument, day, run, rows))
    return writer.staged


def report(instruments: Iterable[str], run: int, day: date = DAY) -> pl.DataFrame:
    """Rows of `REPORT`."""
    parts = [instrument.split(":") for instrument in instruments]
    return pl.DataFrame(
        {
            "exchange": [exchange for exchange, _ in parts],
            "symbol": [symbol for _, symbol in parts],
            "dt": [day] * len(parts),
            "run": [run] * len(parts),
        },
        schema={"exchange": pl.String, "symbol": pl.String, "dt": pl.Date, "run": pl.Int64},
    )


def publish_run(warehouse: Warehouse, run: int) -> None:
    """Everything a run does at its end: the big table, the small one, the catalogue."""
    publish(warehouse, BBO, DAY, [stage(warehouse, name, run) for name in (PERP, SPOT)])
    replace_rows(warehouse, REPORT, DAY, None, report((PERP, SPOT), run))
    refresh(warehouse, TABLES)


def publish_until_killed(data_dir: Path, first_run: int, started: Connection) -> None:
    """Publish run after run of the same day; never returns."""
    faulthandler.enable()  # else a crash in native code is an end without a word
    started.send(True)
    for run in itertools.count(first_run):
        publish_run(Warehouse(data_dir), run)


def publish_some(data_dir: Path, instrument: str, runs: range) -> None:
    """Publish one instrument of the same day a few times, then end."""
    warehouse = Warehouse(data_dir)
    for run in runs:
        publish(warehouse, BBO, DAY, [stage(warehouse, instrument, run)])
        replace_rows(warehouse, REPORT, DAY, [instrument], report([instrument], run))
        refresh(warehouse, TABLES)


def hold_for_writing(database: Path, told: Connection) -> None:
    """Open a DuckDB file for writing, as a plain shell does, until told None.

    Until then run what is told as SQL, and answer with the error, or with nothing.
    """
    connection = duckdb.connect(str(database))
    told.send("")
    while (statement := told.recv()) is not None:
        try:
            connection.execute(statement)
            told.send("")
        except duckdb.Error as error:
            told.send(str(error))
    connection.close()


def runs(warehouse: Warehouse, **where) -> dict[tuple[str, str], int]:
    """Which run each published partition is of; fails if one is not whole."""
    frame = scan(warehouse, BBO, **where).collect()
    found = {}
    for (exchange, dt), part in frame.group_by("exchange", "dt"):
        (run,) = part["run"].unique()
        assert rows_of(run) == part.height
        found[exchange, str(dt)] = run
    return found
