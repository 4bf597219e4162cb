"""What validation looks up in the small tables, and all that a day's verdict follows from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, cached_property

import polars as pl

from market_pipeline.books.tables import BOOK_FILES, CHECKPOINTS, REBUILDS
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.quality.checks.identity import check_identity
from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import VALIDATION_REPORT, ReportRow
from market_pipeline.stages.provenance import (
    made_of_each,
    published_inputs,
    raw_inputs,
    rows_inputs,
    validation_options,
)
from market_pipeline.stages.published_rows import records_of
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.raw.same_bytes import RegisteredFile, registered, same_bytes
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import Input, MadeOf
from market_pipeline.warehouse.working import read_day

__all__ = ["Lookups", "failed_identity", "report_made_of"]


@dataclass(frozen=True)
class Lookups:
    """Reads each thing once, when the first of a day's instruments asks: all see one state of it.

    To open the working database takes longer than to read these rows of it.

    Raises:
        WarehouseBusyError: From each property; another process kept the working database.
    """

    raw: RegisteredDay
    warehouse: Warehouse

    @cached_property
    def profiles_before(self) -> pl.DataFrame:
        """The rows of `lake.profiles` of the day before."""
        return self._before[PROFILES.sql_name]

    @cached_property
    def reports_before(self) -> pl.DataFrame:
        """The rows of `quality.validation_report` of the day before."""
        return self._before[VALIDATION_REPORT.sql_name]

    @cached_property
    def registered(self) -> Mapping[str, Sequence[RegisteredFile]]:
        """By SHA-256 of the day's raw files, all the files that were ever registered with it."""
        return registered(self.raw, self.warehouse)

    @cached_property
    def _before(self) -> Mapping[str, pl.DataFrame]:
        before = self.raw.day - timedelta(days=1)
        tables = PROFILES, VALIDATION_REPORT
        return read_day(self.warehouse, tables, before)


def failed_identity(reports: pl.DataFrame, instrument: Instrument) -> bool:
    """Whether a published day was found to be made of foreign files, by its row of the report."""
    found = [
        check_identity(row, instrument.thresholds)
        for row in records_of(reports, instrument, ReportRow)
    ]
    return any(each and not each.passed and each.severity == "ERROR" for each in found)


def report_made_of(
    lookups: Lookups,
    instruments: Sequence[Instrument],
    rebuilds: pl.DataFrame,
    settings: Settings,
) -> dict[str, MadeOf]:
    """By id, what the verdict and the findings of a day follow from.

    A day without a book follows from the time too, by `vendor_lag_hours`; it is always made again
    (`RecordedDay.unchanged`).
    """
    raw, warehouse = lookups.raw, lookups.warehouse
    before = raw.day - timedelta(days=1)
    published = [published_inputs(warehouse, table, raw.day) for table in BOOK_FILES]
    published.append(published_inputs(warehouse, CHECKPOINTS, before))
    profiles = rows_inputs(PROFILES, raw.day, raw.profiles)
    books = rows_inputs(REBUILDS, raw.day, rebuilds)

    @cache
    def profiles_before() -> dict[str, tuple[Input, ...]]:
        return rows_inputs(PROFILES, before, lookups.profiles_before)

    def made_of(instrument: Instrument) -> MadeOf:
        inputs = [*raw_inputs(raw, instrument)]
        for rows in (profiles, profiles_before(), books):
            inputs += rows.get(instrument.id, ())
        for table in published:
            inputs += table.get(instrument.id, ())
        parameters = {
            **validation_options(instrument),
            "reference_minutes": settings.reference_minutes,
            "vendor_lag_hours": settings.vendor_lag_hours,
            "remarks": [each.remarks(instrument) for _, each in raw.tables],
            "same_bytes": [str(pair) for pair in same_bytes(raw, instrument, lookups.registered)],
            "foreign_before": failed_identity(lookups.reports_before, instrument),
        }
        return MadeOf(tuple(inputs), parameters)

    return made_of_each(raw.day, instruments, made_of)
