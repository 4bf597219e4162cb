"""Looks through the raw tables of a day, before anything is rebuilt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import (
    MarketPipelineError,
    MissingDataError,
    StoreError,
    error_text,
    is_of_machine,
)
from market_pipeline.memory import give_back_memory
from market_pipeline.quality.intervals import NS_PER_SECOND
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.raw_scan import RawTableScan
from market_pipeline.shown import shown_logger
from market_pipeline.sources.crypto_lake import (
    DELTAS,
    RawTable,
    count_rows,
    day_folder,
    day_shards,
    read_raw,
)
from market_pipeline.stages.raw.message_index import forget_messages, keep_messages
from market_pipeline.stages.raw.objects import NOT_ALL_FETCHED, RegisteredDay
from market_pipeline.stages.raw.register import no_file
from market_pipeline.telemetry.traces.work import working
from market_pipeline.warehouse.layout import Warehouse

__all__ = ["profile_day", "profile_shards"]

_BLANK = dict.fromkeys(column.name for column in PROFILES.columns)
_Profile = Mapping[str, Any]
_LOG = shown_logger(__name__)


def profile_day(
    raw: RegisteredDay, instruments: Sequence[Instrument], warehouse: Warehouse | None = None
) -> list[dict[str, Any]]:
    """The rows of `lake.profiles` of a day, three for each instrument.

    Args:
        raw: The registered raw objects.
        instruments: Whose.
        warehouse: Where the messages are kept for later stages (`message_index`); None keeps none.

    Raises:
        Exception: What is the machine's (`errors.is_of_machine`).
    """
    give_back_memory()
    rows = []
    for instrument in instruments:
        with working("instrument", instrument=instrument.id):
            for table, objects in raw.tables:
                files = partial(objects.files_of, instrument)
                rows.append(_profile(raw.lake, table, instrument, raw.day, files, warehouse))
    return rows


def profile_shards(
    lake: Path, table: RawTable, instrument: Instrument, day: date
) -> dict[str, Any]:
    """A row of `lake.profiles`, from the shards that lie in the lake, registered or not."""
    return _profile(lake, table, instrument, day, partial(_shards, lake, table, instrument, day))


def _shards(
    lake: Path, table: RawTable, instrument: Instrument, day: date
) -> tuple[list[Path], list[str]]:
    found = day_shards(lake, table, instrument.venue, instrument.symbol, day)
    if not found:
        folder = day_folder(lake, table, instrument.venue, instrument.symbol, day)
        raise no_file(f"There is no {table.name} file", instrument, day, folder)
    return found, []


def _profile(
    lake: Path,
    table: RawTable,
    instrument: Instrument,
    day: date,
    files_and_sha256: Callable[[], tuple[list[Path], list[str]]],
    warehouse: Warehouse | None = None,
) -> dict[str, Any]:
    identity = _BLANK | {
        "exchange": instrument.venue,
        "symbol": instrument.symbol,
        "dt": day,
        "raw_table": table.name,
    }
    tolerance_ns = round(instrument.thresholds.edge_tolerance_seconds * NS_PER_SECOND)
    try:
        files, sha256 = files_and_sha256()
        if warehouse is None or table is not DELTAS:
            scan = RawTableScan(lake, table, day, tolerance_ns)
            _scan(files, scan, table)
        else:
            rows = count_rows(files, table)
            with keep_messages(warehouse, instrument, day, sha256, rows) as index:
                scan = RawTableScan(lake, table, day, tolerance_ns, index.add)
                _scan(files, scan, table)
            if not scan.is_timed:
                forget_messages(warehouse, [instrument], day)
        row = identity | {"status": "usable"} | scan.figures()
        # A value that fits no column must not show when the rows of all are written.
        PROFILES.arrow([row])
    except MarketPipelineError as error:
        if is_of_machine(error):
            raise
        missing = isinstance(error, MissingDataError)
        not_fetched = missing and error.problem == NOT_ALL_FETCHED
        return identity | {
            "status": "missing" if missing else "unusable",
            "failure_kind": (StoreError if not_fetched else type(error)).__name__,
            "failure": error.found if not_fetched else str(error),
        }
    except Exception as error:
        if is_of_machine(error):
            raise
        _LOG.exception("%s %s: %s could not be looked through", instrument.id, day, table.name)
        return identity | {
            "status": "unusable",
            "failure_kind": type(error).__name__,
            "failure": f"The {table.name} files could not be looked through: {error_text(error)}. "
            "See the log of the run.",
        }
    return row


def _scan(files: Sequence[Path], scan: RawTableScan, table: RawTable) -> None:
    for batch in read_raw(files, table, list(table.columns), scan.batch_rows):
        scan.add(batch)
        del batch  # or it would be held while the next one is decoded
