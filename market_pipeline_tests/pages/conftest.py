"""A published day of three instruments: a good one, one with faults, one whose files are none."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from market_pipeline import connect
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings, load_settings
from market_pipeline.pages.reading import PageDay, read_instrument_day
from market_pipeline.quality.row import ReportRow
from market_pipeline.sources.simulated import Fault, FaultKind, simulate
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.sources.simulated.days import DAY, instrument
from market_pipeline_tests.ui.conftest import programs

__all__ = ["programs"]

GOOD, FAULTY, BROKEN = (
    instrument(symbol, seed=seed) for seed, symbol in enumerate(("GOOD-USD", "FAULTY", "BROKEN"))
)


@dataclass(frozen=True)
class PublishedDay:
    """Where a day is published, and of which instruments."""

    settings: Settings
    instruments: tuple[Instrument, ...]


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> PublishedDay:
    """The day, through every stage."""
    root = tmp_path_factory.mktemp("pages")
    simulated = [GOOD, FAULTY, BROKEN]
    faults = [
        Fault(
            kind=FaultKind.SILENCE_GAP,
            symbol=FAULTY.symbol,
            day=DAY,
            at_s=36_000.0,
            duration_s=3_600.0,
        )
    ]
    small = {"messages_per_day": 4_000, "snapshot_interval_s": 10.0}
    simulate(root / "lake", simulated, DAY, DAY, faults=faults, **small)
    for file in (root / "lake").rglob(f"symbol={BROKEN.symbol}/**/*.parquet"):
        file.write_bytes(b"no Parquet")
    settings = load_settings(
        data_dir=root / "data",
        lake_uri=str(root / "lake"),
        instruments_file=root / "instruments.yaml",
        **MINUTES,
    )
    instruments = tuple(each.as_instrument() for each in simulated)
    publish_day(settings, instruments, DAY)
    return PublishedDay(settings, instruments)


@pytest.fixture(scope="session")
def days(published: PublishedDay) -> list[PageDay]:
    """What is told of the three instruments, in the order of the page."""
    configured = {each.id: each for each in published.instruments}
    with connect(published.settings.data_dir) as connection:
        rows = connection.execute(
            "SELECT * FROM quality.validation_report ORDER BY exchange, symbol"
        ).pl()
        return [
            read_instrument_day(
                connection,
                Warehouse(published.settings.data_dir),
                row,
                configured[row.instrument_id],
            )
            for row in map(ReportRow.from_record, rows.to_dicts())
        ]
