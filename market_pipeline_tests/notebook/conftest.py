"""Simulated days, published by the stages: one with faults, one missing, a quiet one, the next, and
one that is quarantined.

The next one begins with the closing book of the quiet day.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from shutil import rmtree

import polars as pl
import pytest

from market_pipeline.config.information_bars import InformationBars
from market_pipeline.config.instruments import Instrument, Policies
from market_pipeline.config.settings import Settings
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, RawTable, day_folder
from market_pipeline.sources.simulated import Fault, FaultKind, SimulatedInstrument, simulate
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests.published_day import publish_day

FAULTY, MISSING, QUIET, NEXT, QUARANTINED = (date(2025, 3, day) for day in (3, 4, 5, 6, 7))
SYMBOL = "BTC-USDT-PERP"


@dataclass(frozen=True)
class Market:
    """A lake and what is published of it; `uncrossed` is published with the policy uncross."""

    instrument: Instrument
    lake: Path
    data_dir: Path
    uncrossed: Path

    def raw(self, table: RawTable, day: date = FAULTY) -> Path:
        """The folder of a raw table's day."""
        return day_folder(self.lake, table, self.instrument.venue, self.instrument.symbol, day)

    @property
    def deltas(self) -> Path:
        """The delta shards of the faulty day."""
        return self.raw(DELTAS)

    @property
    def snapshots(self) -> Path:
        """Its snapshots."""
        return self.raw(SNAPSHOTS)

    @property
    def trades(self) -> Path:
        """Its trades."""
        return self.raw(TRADES)

    def published(self, asset: str, day: date = FAULTY) -> pl.DataFrame:
        """The published rows of a big table's day."""
        return scan(Warehouse(self.data_dir), TABLES[asset], day).collect()


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Market:
    root = tmp_path_factory.mktemp("notebook")
    simulated = SimulatedInstrument(
        symbol=SYMBOL,
        tick=Decimal("0.1"),
        lot=Decimal("0.001"),
        start_price=Decimal("60000.0"),
        seed=7,
    )
    faults = [
        Fault(
            kind=FaultKind.SILENCE_GAP, symbol=SYMBOL, day=FAULTY, at_s=9 * 3600, duration_s=7200
        ),
        Fault(
            kind=FaultKind.OFF_TICK_PRICE, symbol=SYMBOL, day=FAULTY, at_s=50_000, duration_s=7200
        ),
        Fault(
            kind=FaultKind.CROSSED_MINUTE, symbol=SYMBOL, day=FAULTY, at_s=70_000, duration_s=1200
        ),
        Fault(kind=FaultKind.MISSING_DAY, symbol=SYMBOL, day=MISSING),
        Fault(kind=FaultKind.BAD_VALUE, symbol=SYMBOL, day=QUARANTINED, at_s=0, duration_s=7200),
    ]
    lake, data_dir = root / "data" / "lake", root / "data"
    simulate(
        lake, [simulated], FAULTY, QUARANTINED, faults=faults, messages_per_day=4_000, shards=11
    )
    # Nor can its books be made of snapshots.
    rmtree(day_folder(lake, SNAPSHOTS, simulated.venue, SYMBOL, QUARANTINED))
    instrument = simulated.as_instrument().model_copy(
        update={"market_events": True, "bars": InformationBars(tick=(50, 1_000))}
    )
    carried_on = instrument.model_copy(update={"policies": Policies(seed="previous_close")})
    with pytest.MonkeyPatch.context() as changed:
        changed.chdir(root)
        # So few checkpoints that many messages and snapshots lie between two of them.
        few = {"lake_uri": str(lake), "checkpoint_seconds": 14_400}
        # Without the 86,400 rows of every second, which take seconds wherever they are compared.
        few |= {"metrics_seconds": (60, 300), "bar_seconds": (60, 300, 3_600, 86_400)}
        settings = Settings(data_dir=data_dir, **few)
        for day in (FAULTY, MISSING, QUIET, QUARANTINED):
            publish_day(settings, (instrument,), day)
        publish_day(settings, (carried_on,), NEXT)
        uncross = instrument.model_copy(update={"policies": Policies(crossed="uncross")})
        elsewhere = Settings(data_dir=root / "uncrossed", **few)
        publish_day(elsewhere, (uncross,), FAULTY)
    return Market(instrument, lake, data_dir, root / "uncrossed")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder without settings."""
    for name in list(os.environ):
        if name.upper().startswith("PIPELINE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path
