"""Every table and view users can query, by the name of the asset that publishes it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import duckdb

from market_pipeline.audit.record import record
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
from market_pipeline.macros import MACROS
from market_pipeline.metrics.checkpoint_depth import CHECKPOINT_DEPTH
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
from market_pipeline.warehouse.tables import Table, View

__all__ = [
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

VIEWS: tuple[View, ...] = (MANIFEST, COVERAGE, TAKER_ORDERS, CHECKPOINT_DEPTH)
"""Further views of the catalogue."""

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
        AuditError: The access could not be recorded, and `PIPELINE_AUDIT` requires it.
    """
    warehouse = with_catalogue(data_dir)
    record(warehouse.data_dir, "read", {"table": "every table", "by": "SQL"})
    try:
        connection = connect(data_dir)
    except (PublishError, WarehouseBusyError) as spoilt:
        try:
            refresh_catalogue(warehouse)
        except OSError as error:  # a folder that this user may only read
            raise spoilt from error
        return connect(data_dir)
    try:
        if is_current(connection, warehouse, _EVERY, VIEWS, MACROS) or not _catch_up(warehouse):
            return connection
    except PermissionError:  # of a group that reads what is published, and nothing beside it
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
