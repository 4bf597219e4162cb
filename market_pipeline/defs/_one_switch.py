"""What the IO managers of a run share: its warehouse, and what it has published and not shown yet.

A run shows all that it published in one refresh of the catalogue at its end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import TemporaryFile

import duckdb
import polars as pl

from market_pipeline.config.settings import load_settings
from market_pipeline.defs.telemetry import timed
from market_pipeline.tables import refresh_catalogue, run_alive, with_catalogue
from market_pipeline.telemetry.metrics.recording import flush
from market_pipeline.telemetry.metrics.table import CATALOGUE_DURATION
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import LINEAGE, LineageRow, PartName, record_lineage
from market_pipeline.warehouse.tables import Table
from market_pipeline.warehouse.working_file import writing

__all__ = ["Transaction", "of_run", "one_switch", "recording", "show", "unrecorded"]


@dataclass(frozen=True, slots=True)
class Transaction:
    """One that replaces rows of days, and what their tables then have of each."""

    connection: duckdb.DuckDBPyConnection
    days: dict[tuple[date, Table], pl.DataFrame]


_runs: Counter[Path] = Counter()
_warehouses: dict[Path, Warehouse] = {}
_unshown: set[Path] = set()
unrecorded: defaultdict[Path, dict[PartName, LineageRow | None]] = defaultdict(dict)
"""What was published as files and is recorded with the next small table, or as the run ends.

To open and close the working database costs as much as to write to it. What a kill leaves
unrecorded is made again, as what is recorded is not what is there.
"""


@contextmanager
def one_switch(warehouse: Warehouse) -> Iterator[None]:
    """Show what this process publishes meanwhile in one refresh at the end, also of a failure."""
    with ExitStack() as alive:
        with suppress(OSError):  # the first step will meet it, too, and fail with it
            alive.enter_context(run_alive(warehouse))
        _runs[warehouse.data_dir] += 1
        try:
            yield
        finally:
            _runs[warehouse.data_dir] -= 1
            _warehouses.pop(warehouse.data_dir, None)
            # The first manager that ends shows what the other one published, too.
            if warehouse.data_dir in _unshown:
                _unshown.discard(warehouse.data_dir)
                _refresh(warehouse)
            flush()


@contextmanager
def recording(warehouse: Warehouse) -> Iterator[Transaction]:
    """`writing` of small tables, which at its end also records what waits for that."""
    before = dict(unrecorded[warehouse.data_dir])
    days: dict[tuple[date, Table], pl.DataFrame] = {}
    try:
        with writing(warehouse, [LINEAGE], days) as connection:
            yield Transaction(connection, days)
            # None where a run in another thread has recorded it meanwhile.
            rows = unrecorded.pop(warehouse.data_dir, None)
            if rows:
                record_lineage(connection, rows)
    except BaseException:
        unrecorded[warehouse.data_dir] = before
        raise


def show(warehouse: Warehouse) -> None:
    """Show what was published at the end of the run; at once where none is under way."""
    if _runs[warehouse.data_dir]:
        _unshown.add(warehouse.data_dir)
    else:
        _refresh(warehouse)


def _refresh(warehouse: Warehouse) -> None:
    if unrecorded[warehouse.data_dir]:
        with recording(warehouse):
            pass
    with timed(CATALOGUE_DURATION):
        refresh_catalogue(warehouse)


def of_run(data_dir: str) -> Warehouse:
    """The warehouse in a folder, made if need be; a run reads the settings for it once.

    Raises:
        OSError: The folder of the catalogue may not be written to.
    """
    folder = Path(data_dir)
    warehouse = _warehouses.get(folder)
    if warehouse is None:
        warehouse = with_catalogue(folder, load_settings().lock_timeout_seconds)
        # Where no catalogue can be made, readers would have the old one, and nobody an error: it is
        # made after the last step.
        TemporaryFile(dir=warehouse.warehouse_dir).close()
        if _runs[folder]:
            _warehouses[folder] = warehouse
    return warehouse
