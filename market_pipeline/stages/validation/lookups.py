"""What validation looks up in the small tables, beside what was published of the day itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property

import polars as pl

from market_pipeline.quality.profile import PROFILES
from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.stages.raw.objects import RegisteredDay
from market_pipeline.stages.raw.same_bytes import RegisteredFile, registered
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.locks import DEFAULT_WAIT_SECONDS
from market_pipeline.warehouse.working import read_day

__all__ = ["Lookups"]


@dataclass(frozen=True)
class Lookups:
    """Reads each thing once, when the first of a day's instruments asks: all see one state of it.

    To open the working database takes longer than to read these rows of it.

    Raises:
        WarehouseBusyError: From each property; another process kept the working database.
    """

    raw: RegisteredDay
    warehouse: Warehouse
    timeout_seconds: float = DEFAULT_WAIT_SECONDS

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
        return registered(self.raw, self.warehouse, timeout_seconds=self.timeout_seconds)

    @cached_property
    def _before(self) -> Mapping[str, pl.DataFrame]:
        before = self.raw.day - timedelta(days=1)
        tables = PROFILES, VALIDATION_REPORT
        return read_day(self.warehouse, tables, before, timeout_seconds=self.timeout_seconds)
