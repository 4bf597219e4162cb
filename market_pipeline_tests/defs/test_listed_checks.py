from __future__ import annotations

from pathlib import Path

import dagster as dg

from market_pipeline.quality.row import VALIDATION_REPORT
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.working import replace_rows
from market_pipeline_tests.defs.conftest import START
from market_pipeline_tests.quality.factory import a_failed_row


def test_missing_before_its_listing_was_known(folder: Path, instruments, on_disk):
    """A check of a day fails no more for an instrument that the file says was not listed then."""
    from market_pipeline.defs.quality.checks import quality_checks
    from market_pipeline.defs.resources import Pipeline

    warehouse = Warehouse(folder / "data")
    warehouse.prepare()
    rows = [
        a_failed_row(exchange=each.venue, symbol=each.symbol, dt=START, condition="missing")
        for each in instruments
    ]
    frame = VALIDATION_REPORT.frame(row.as_record() for row in rows)
    replace_rows(warehouse, VALIDATION_REPORT, START, [each.id for each in instruments], frame)
    found = dg.AssetMaterialization(VALIDATION_REPORT.name, partition=START.isoformat())
    on_disk.report_runless_asset_event(found)
    file = folder / "instruments.yaml"
    file.write_text(file.read_text() + "  listed: 2024-07-02\n")
    job = dg.define_asset_job("check", dg.AssetSelection.checks(quality_checks))
    definitions = dg.Definitions(
        asset_checks=[quality_checks], resources={"pipeline": Pipeline()}, jobs=[job]
    )
    run = definitions.resolve_job_def("check").execute_in_process(
        instance=on_disk, tags={"dagster/partition": START.isoformat()}
    )
    (fresh,) = run.get_asset_check_evaluations()

    assert [instruments[0].id] == [
        each["instrument"] for each in fresh.metadata["outcomes"].value["failed"]
    ]
