"""What an asset needs from outside: settings, instruments and where the warehouse is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.storage.tags import PARTITION_NAME_TAG
from pydantic import Field, PrivateAttr

from market_pipeline.config.instruments import (
    Instrument,
    listed_on,
    load_instruments,
    select_instruments,
)
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.defs.partitions import day_of
from market_pipeline.errors import SettingsError
from market_pipeline.shown import shown_logger
from market_pipeline.stages.recorded_day import RecordedDay, UnchangedDay, recorded_day
from market_pipeline.tables import with_catalogue
from market_pipeline.telemetry.metrics.recording import begin, flush, record
from market_pipeline.telemetry.metrics.table import UNCHANGED_DAYS
from market_pipeline.telemetry.traces.work import about, begin_run, end_run
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import MadeOf
from market_pipeline.warehouse.tables import Table

if TYPE_CHECKING:
    from market_pipeline.store.client import Store

__all__ = ["FORCE_TAG", "Pipeline"]

_LOG = shown_logger(__name__)

FORCE_TAG = "market_pipeline/force"
"""The tag of a run, with the value `true`, that does what `force` in its config does."""


class Pipeline(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings in force and the instruments a run is about.

    Give `resources: {pipeline: {config: {instruments: [VENUE:SYMBOL]}}}` in the run config to work
    on some instruments only; what was published of the others stays as it is.
    """

    instruments: list[str] = Field(
        default=[], description="Ids (VENUE:SYMBOL) to work on; empty for all configured ones."
    )

    force: bool = Field(
        default=False,
        description="Make also what is unchanged since it was published; as the tag "
        f"`{FORCE_TAG}: true` of the run.",
    )

    _day: date | None = PrivateAttr(default=None)

    @cached_property
    def settings(self) -> Settings:
        """Environment over `.env` over `config.yaml` over defaults."""
        return load_settings()

    @cached_property
    def store(self) -> Store | None:
        """The object store that raw days come from; None if the lake is a folder."""
        if self.settings.store_address is None:
            return None
        from market_pipeline.store.client import open_store  # noqa: PLC0415

        return open_store(self.settings)

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Have figures of the run, or of the sensors and schedules, recorded from here on."""
        run = context.run
        day = "" if run is None else run.tags.get(PARTITION_NAME_TAG, "")
        self._day = date.fromisoformat(day) if day else None
        with suppress(SettingsError):  # whoever asks for the settings will meet it, too
            begin(self.settings, "daemon" if run is None else "run")
            if run is not None:
                begin_run(self.settings, run.run_id, day, run.job_name)

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Close the connections to the store, if there are any, and write what was recorded."""
        if "store" in self.__dict__ and self.store is not None:
            self.store.close()
        flush()
        end_run()

    @cached_property
    def selected(self) -> tuple[Instrument, ...]:
        """The instruments of this run that are listed on its day; outside of a run all of them.

        Raises:
            InstrumentsError: If the file is not usable or an id is not in it.
        """
        configured = load_instruments(self.settings.instruments_file)
        selected = select_instruments(configured, self.instruments)
        return selected if self._day is None else listed_on(self._day, selected)

    def recorded(
        self, context: dg.AssetExecutionContext, tables: Sequence[Table]
    ) -> RecordedDay | None:
        """What is published of the day, so that it need not be made again; None if it must."""
        if self.force or context.run.tags.get(FORCE_TAG, "").lower() == "true":
            return None
        return recorded_day(
            self.warehouse,
            tables,
            day_of(context),
        )

    def unchanged(
        self,
        context: dg.AssetExecutionContext,
        tables: Sequence[Table],
        made_of: Mapping[str, MadeOf],
    ) -> dict[str, UnchangedDay]:
        """By id, what is published of the instruments that need not be made again; logged.

        Each of them in the process's log only: a line in that of the run takes some milliseconds,
        and a run that has nothing to do would take most of its time for them.

        Args:
            context: Of the step.
            tables: The tables that are made together.
            made_of: By id, what they would be made of now; of others nothing is made.
        """
        recorded = self.recorded(context, tables)
        unchanged: dict[str, UnchangedDay] = {}
        if recorded is None:
            return unchanged
        asked = [each for each in self.selected if each.id in made_of]
        for instrument in asked:
            found = recorded.unchanged(instrument, made_of[instrument.id])
            if found is not None:
                unchanged[instrument.id] = found
                with about(instrument=instrument.id):
                    _LOG.info("%s: not made again, %s", instrument.id, found.text)
        if unchanged:
            context.log.info(f"{len(unchanged):,} of {len(asked):,} instruments: not made again")
        record(UNCHANGED_DAYS, len(unchanged), table=tables[0].sql_name)
        return unchanged

    @cached_property
    def warehouse(self) -> Warehouse:
        """The folders of the data directory, made if need be."""
        return with_catalogue(self.settings.data_dir, self.settings.lock_timeout_seconds)
