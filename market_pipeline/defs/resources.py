"""What an asset needs from outside: settings, instruments and where the warehouse is."""

from __future__ import annotations

from functools import cached_property

import dagster as dg
from pydantic import Field

from market_pipeline.instruments import Instrument, load_instruments, select_instruments
from market_pipeline.lake.layout import Warehouse
from market_pipeline.settings import Settings, load_settings
from market_pipeline.tables import with_catalogue

__all__ = ["Pipeline"]


class Pipeline(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The settings in force and the instruments a run is about.

    Give `resources: {pipeline: {config: {instruments: [VENUE:SYMBOL]}}}` in the run config to work
    on some instruments only; what was published of the others stays as it is.
    """

    instruments: list[str] = Field(
        default=[], description="Ids (VENUE:SYMBOL) to work on; empty for all configured ones."
    )

    @cached_property
    def settings(self) -> Settings:
        """Environment over `.env` over `config.yaml` over defaults."""
        return load_settings()

    @cached_property
    def selected(self) -> tuple[Instrument, ...]:
        """The instruments of this run.

        Raises:
            InstrumentsError: If the file is not usable or an id is not in it.
        """
        configured = load_instruments(self.settings.instruments_file)
        return select_instruments(configured, self.instruments)

    @cached_property
    def warehouse(self) -> Warehouse:
        """The folders of the data directory, made if need be."""
        return with_catalogue(self.settings.data_dir)
