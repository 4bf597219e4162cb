"""Every table and view users can query, by the name of the asset that publishes it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.tables import (
    BBO,
    BOOK_TRADES,
    CHECKPOINTS,
    DEPTH,
    INTERVALS,
    MARKET_EVENTS,
    REBUILDS,
    TAKER_ORDERS,
)
from market_pipeline.errors import PublishError, WarehouseBusyError
from market_pipeline.metrics.contract_states import BOOK_FUNDING, BOOK_OPEN_INTEREST
from market_pipeline.metrics.tables import BARS, BOOK_METRICS, DAILY_METRICS, INFORMATION_BARS
from market_pipeline.quality.coverage import COVERAGE
from market_pipeline.quality.fidelity.report import FIDELITY_METRICS, FIDELITY_REPORT
from market_pipeline.quality.findings import FINDINGS
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.warehouse.catalogue import connect, is_current, refresh
from market_pipeline.warehouse.layout import DEFAULT_WAIT_SECONDS, Warehouse, make_private_folder
from market_pipeline.warehouse.lineage import LINEAGE
from market_pipeline.warehouse.locks import locking
from market_pipeline.warehouse.manifest import (
    MANIFEST,
    RAW_BOOK_DELTAS,
    RAW_BOOK_SNAPSHOTS,
    RAW_FUNDING,
    RAW_OPEN_INTEREST,
    RAW_TRADES,
)
from market_pipeline.warehouse.tables import Macro, Table, View

__all__ = [
    "MACROS",
    "RECORDS",
    "TABLES",
    "VIEWS",
    "open_catalogue",
    "refresh_catalogue",
    "run_alive",
    "with_catalogue",
]

TABLES: dict[str, Table] = {
    "raw_book_deltas": RAW_BOOK_DELTAS,
    "raw_book_snapshots": RAW_BOOK_SNAPSHOTS,
    "raw_trades": RAW_TRADES,
    "raw_funding": RAW_FUNDING,
    "raw_open_interest": RAW_OPEN_INTEREST,
    "raw_profiles": PROFILES,
    "book_bbo": BBO,
    "book_depth": DEPTH,
    "book_checkpoints": CHECKPOINTS,
    "book_intervals": INTERVALS,
    "book_rebuilds": REBUILDS,
    "trades": BOOK_TRADES,
    "market_events": MARKET_EVENTS,
    "funding": BOOK_FUNDING,
    "open_interest": BOOK_OPEN_INTEREST,
    "validation_report": VALIDATION_REPORT,
    "quality_findings": FINDINGS,
    "fidelity_report": FIDELITY_REPORT,
    "fidelity_metrics": FIDELITY_METRICS,
    "book_metrics": BOOK_METRICS,
    "daily_metrics": DAILY_METRICS,
    "bars": BARS,
    "information_bars": INFORMATION_BARS,
}
"""The table behind each asset."""

RECORDS = (LINEAGE,)
"""Tables that are written beside those of the assets, in the same publish."""

VIEWS: tuple[View, ...] = (MANIFEST, COVERAGE, TAKER_ORDERS)
"""Further views of the catalogue."""

_IDS = (
    "CASE WHEN typeof(instruments) = 'VARCHAR' THEN [instruments::VARCHAR] "
    "ELSE instruments::VARCHAR[] END"
)


def _loader(name: str, table: Table, parameter: str, condition: str) -> Macro:
    """The rows of instruments and days as `notebook.published` gives them, with one more choice."""
    # As a join of two columns it leaves out the files of other instruments unread.
    own = (
        "(exchange, symbol) IN (SELECT (split_part(id, ':', 1), substr(id, strpos(id, ':') + 1)) "
        f"FROM (SELECT unnest({_IDS}) AS id))"
    )
    days = "dt BETWEEN first_day::DATE AND coalesce(last_day, first_day)::DATE"
    return Macro(
        name,
        f"Rows of {table.sql_name}: instruments as VENUE:SYMBOL or a list of them, first and last "
        f"day, both included; {parameter}.",
        f"instruments, first_day, last_day := NULL, {parameter}",
        f"SELECT * FROM {table.sql_name} WHERE {days} AND {own} AND {condition}",
    )


def _with_contract(name: str, loader: Macro, choice: str, instant_ns: str) -> Macro:
    """The rows of a loader, and beside each what was known of its contract at that instant."""

    def in_force(table: Table) -> str:
        # Of rows received at one time the last counts; of the day before, what holds over midnight.
        return (
            f"(SELECT * FROM {table.sql_name} "
            "WHERE dt BETWEEN first_day::DATE - 1 AND coalesce(last_day, first_day)::DATE "
            'QUALIFY "row" = max("row") OVER (PARTITION BY exchange, symbol, ts_receipt_ns))'
        )

    def joined(table: Table, alias: str) -> str:
        keys = " AND ".join(f"rows.{key} = {alias}.{key}" for key in ("exchange", "symbol"))
        return (
            f"ASOF LEFT JOIN {in_force(table)} AS {alias} "
            f"ON {keys} AND rows.instant_ns > {alias}.ts_receipt_ns"
        )

    given = f"instruments, first_day, last_day := last_day, {choice} := {choice}"
    return Macro(
        name,
        f"Rows of {loader.name}, with the funding and the open interest received last before "
        f"{'each' if loader.name == 'load_trades' else 'the end of each'}.",
        loader.parameters,
        "SELECT rows.* EXCLUDE (instant_ns), funding.rate AS funding_rate, funding.mark_price, "
        "funding.index_price, funding.next_funding_ns, "
        "rows.instant_ns - funding.ts_receipt_ns AS funding_age_ns, interest.open_interest, "
        "rows.instant_ns - interest.ts_receipt_ns AS open_interest_age_ns "
        f"FROM (SELECT *, {instant_ns} AS instant_ns FROM {loader.name}({given}) AS loaded) "
        "AS rows "
        f"{joined(BOOK_FUNDING, 'funding')} {joined(BOOK_OPEN_INTEREST, 'interest')}",
    )


_VALID = f"(NOT valid_only OR flags & {int(INVALIDATING)} = 0)"
_LOAD_BBO, _LOAD_DEPTH, _LOAD_TRADES = (
    _loader(name, table, "valid_only := true", _VALID)
    for name, table in (
        ("load_bbo", BBO),
        ("load_depth", DEPTH),
        ("load_trades", BOOK_TRADES),
    )
)
_LOAD_BARS = _loader(
    "load_bars",
    BARS,
    "width_seconds := NULL",
    "(width_seconds IS NULL OR bars.width_seconds = width_seconds)",
)
_LOAD_METRICS = _loader(
    "load_metrics",
    BOOK_METRICS,
    "interval_seconds := NULL",
    "(interval_seconds IS NULL OR book_metrics.interval_seconds = interval_seconds)",
)
MACROS: tuple[Macro, ...] = (
    *(_LOAD_BBO, _LOAD_DEPTH, _LOAD_TRADES, _LOAD_BARS, _LOAD_METRICS),
    _with_contract("trades_with_contract", _LOAD_TRADES, "valid_only", "ts_receipt_ns"),
    _with_contract(
        *("bars_with_contract", _LOAD_BARS, "width_seconds"),
        "epoch_ns(bar_start) + loaded.width_seconds::BIGINT * 1000000000",
    ),
)
"""The loaders of Python as table macros of the catalogue, and trades and bars with the funding."""

_EVERY = (*TABLES.values(), *RECORDS)
_RUNS = "runs"
_READER_WAIT_SECONDS = 2.0
_MAY_ONLY_READ = {errno.EACCES, errno.EPERM, errno.EROFS}


def refresh_catalogue(warehouse: Warehouse) -> None:
    """Swaps in a catalogue of what is published now."""
    refresh(warehouse, _EVERY, VIEWS, MACROS)


@contextmanager
def run_alive(warehouse: Warehouse) -> Iterator[None]:
    """Says that a run is publishing, which will refresh the catalogue at its end.

    Until then readers leave it as it is, so that they see all tables as of one time. Any number of
    runs may be alive at once, and one that is killed is alive no more.
    """
    path = warehouse.lock_file(_RUNS)
    make_private_folder(path.parent)
    with locking(path, name=_RUNS, shared=True):
        yield


def with_catalogue(data_dir: Path, wait_seconds: float = DEFAULT_WAIT_SECONDS) -> Warehouse:
    """The warehouse in a folder, made if need be, with a catalogue to open (empty at first)."""
    warehouse = Warehouse(data_dir, wait_seconds)
    warehouse.prepare()
    if not warehouse.catalogue.exists():
        refresh_catalogue(warehouse)
    return warehouse


def open_catalogue(data_dir: Path) -> duckdb.DuckDBPyConnection:
    """A read-only connection to what is published, whatever somebody did to the catalogue.

    One that somebody wrote into, damaged or has open for writing is built anew first, which leaves
    that somebody with the old file. So is one that a killed run left behind what it published.

    Raises:
        WarehouseBusyError: Somebody opened the new one for writing, too, or keeps a lock.
        PublishError: The new one cannot be opened, or this user may not make one.
    """
    warehouse = with_catalogue(data_dir)
    try:
        connection = connect(data_dir)
    except (PublishError, WarehouseBusyError) as spoilt:
        try:
            refresh_catalogue(warehouse)
        except OSError as error:  # a folder that this user may only read
            raise spoilt from error
        return connect(data_dir)
    if is_current(connection, warehouse, _EVERY, VIEWS, MACROS) or not _catch_up(warehouse):
        return connection
    connection.close()
    return connect(data_dir)


def _catch_up(warehouse: Warehouse) -> bool:
    """Refresh a catalogue that is behind; False where a run will do it, or this user may not."""
    try:
        with locking(warehouse.lock_file(_RUNS), name=_RUNS, timeout_seconds=0):
            refresh_catalogue(replace(warehouse, wait_seconds=_READER_WAIT_SECONDS))
    except WarehouseBusyError:
        return False
    except OSError as error:
        if error.errno not in _MAY_ONLY_READ:
            raise
        return False
    return True
