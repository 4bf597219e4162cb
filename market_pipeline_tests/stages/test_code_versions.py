from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from market_pipeline.config.settings import load_settings
from market_pipeline.metrics.contract_states import CONTRACT_STATES
from market_pipeline.sources.simulated import simulate
from market_pipeline.stages.provenance import (
    BARRED,
    BOOKS,
    EVENTED,
    INFORMED,
    METRICS,
    PROFILED,
    TRADED,
    VALIDATED,
)
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.lineage import code_version
from market_pipeline.warehouse.read import scan
from market_pipeline.warehouse.working import read_rows
from market_pipeline_tests.published_day import MINUTES, publish_day
from market_pipeline_tests.sources.simulated.days import DAY, NEXT_DAY, instrument

pytestmark = pytest.mark.slow

STATES = tuple(state.table for state in CONTRACT_STATES.values())
SNAPSHOT = Path(__file__).parent / "snapshots" / "code_versions.yaml"
# What follows from the package's version or from the Parquet writer, and not from our code.
NOT_OURS = ("code_version", "input_sha256", "output_sha256", "bytes_in_flight")


def digest(rows: pl.DataFrame) -> str:
    """A hash of rows; floats to nine digits, because the last bits differ between processors."""

    def plain(value: Any) -> Any:
        if isinstance(value, float):
            return f"{value:.9g}"
        if isinstance(value, list | tuple):
            return [plain(each) for each in value]
        return value

    ours = rows.select(name for name in rows.columns if name not in NOT_OURS)
    lines = (json.dumps([plain(value) for value in row], default=str) for row in ours.iter_rows())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """By table and version of its code, a digest of the rows of two simulated days."""
    root = tmp_path_factory.mktemp("versions")
    market = instrument()
    simulate(root / "lake", [market], DAY, NEXT_DAY, messages_per_day=2_000)
    settings = load_settings(data_dir=root / "data", lake_uri=str(root / "lake"), **MINUTES)
    for day in (DAY, NEXT_DAY):
        asking = market.as_instrument().model_copy(update={"market_events": True})
        publish_day(settings, [asking], day)
    warehouse = Warehouse(settings.data_dir)
    return {
        f"{table.name}: {code_version(table)}": digest(
            scan(warehouse, table).collect()
            if table.storage == "delta"
            else read_rows(warehouse, table)
        )
        for stage in (
            PROFILED,
            BOOKS,
            TRADED,
            EVENTED,
            VALIDATED,
            METRICS,
            BARRED,
            INFORMED,
            STATES,
        )
        for table in stage
    }


def test_rows_are_those_of_their_version(found: dict[str, str]):
    """A version of the code makes the rows it always made: who changes them raises the version."""
    if os.environ.get("UPDATE_SNAPSHOTS"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(yaml.safe_dump(found), encoding="utf-8")

    assert yaml.safe_load(SNAPSHOT.read_text(encoding="utf-8")) == found, (
        "The rows of simulated days came out otherwise. If published days are to be made again, "
        "raise CODE_VERSIONS in market_pipeline/warehouse/lineage.py for the schemas concerned; "
        f"then renew the snapshot: UPDATE_SNAPSHOTS=1 python -m pytest {Path(__file__).name}"
    )
