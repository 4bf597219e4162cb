"""Days whose books and golden books are both there and were not compared as they are now.

A run compares what is published when it runs. A golden book of another data folder may come, or be
made again, later: then nobody would run the day again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from market_pipeline.books.tables import BBO
from market_pipeline.config.instruments import Instrument
from market_pipeline.errors import InstrumentsError
from market_pipeline.quality.fidelity.report import FIDELITY_REPORT
from market_pipeline.stages.fidelity.day import COMPARED_BOOKS, golden_of, warehouse_of
from market_pipeline.tables import open_catalogue
from market_pipeline.warehouse.delta import files_now
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import LINEAGE, files_sha256
from market_pipeline.warehouse.tables import Table

__all__ = ["Uncompared", "UncomparedDay", "uncompared_days"]


@dataclass(frozen=True, slots=True)
class UncomparedDay:
    """A day to compare.

    Attributes:
        day: The UTC day.
        instruments: Ids of those to compare.
        fingerprint: Of the golden books that they are to be compared with.
    """

    day: date
    instruments: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Uncompared:
    """The days to compare, the earliest first, and the golden books that cannot be looked at."""

    days: list[UncomparedDay]
    failures: list[str]


def uncompared_days(
    instruments: Sequence[Instrument], warehouse: Warehouse, first: date
) -> Uncompared:
    """The days on which an instrument and its golden book are published, and were not compared.

    They are to be compared if the golden book is another than the one that the last comparison read
    (or there was none). A comparison by other bounds, or of another own book, is made by the run
    that publishes it.

    Args:
        instruments: Those configured; a day on which one is not listed is not compared.
        warehouse: Where their books are published.
        first: The first day that counts.
    """
    pairs = [(each, address) for each in instruments if (address := golden_of(each))]
    if not pairs:
        return Uncompared([], [])
    read = _golden_read(warehouse)
    days: dict[date, dict[str, list[str]]] = {}
    failures = []
    for instrument, address in pairs:
        try:
            golden = warehouse_of(address, warehouse)
        except InstrumentsError as error:
            failures.append(str(error))
            continue
        own = _parts(warehouse, BBO, instrument.id)
        tables = [_parts(golden, table, address.instrument) for table in COMPARED_BOOKS]
        for day in sorted(own.keys() & tables[0].keys()):
            now = [table[day] for table in tables if day in table]
            is_run = day >= first and instrument.is_listed_on(day)
            if is_run and read.get((instrument.id, day)) != now:
                days.setdefault(day, {})[instrument.id] = now
    return Uncompared(
        [
            UncomparedDay(
                day,
                tuple(concerned),
                hashlib.sha256(json.dumps(concerned, sort_keys=True).encode()).hexdigest()[:16],
            )
            for day, concerned in sorted(days.items())
        ],
        failures,
    )


def _parts(warehouse: Warehouse, table: Table, instrument: str) -> Mapping[date, str]:
    """By day, the hash of what is published of an instrument."""
    files = files_now(warehouse, table, None, {instrument})
    return {
        day: files_sha256(file.path.rpartition("-")[2].partition(".")[0] for file in of_day)
        for day, of_day in groupby(files, key=lambda file: file.day)
    }


def _golden_read(warehouse: Warehouse) -> Mapping[tuple[str, date], list[str]]:
    """By instrument and day, the hashes of the golden book that was read for what is published."""
    with closing(open_catalogue(warehouse.data_dir)) as connection:
        rows = connection.execute(
            f"SELECT exchange || ':' || symbol, dt, parameters FROM {LINEAGE.sql_name} "
            "WHERE output_table = $1",
            [FIDELITY_REPORT.sql_name],
        ).fetchall()
    return {
        (instrument, day): json.loads(parameters).get("golden_sha256")
        for instrument, day, parameters in rows
    }
