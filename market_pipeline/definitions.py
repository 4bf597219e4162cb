"""The Dagster definitions: assets, checks, the job, and what starts it."""

from __future__ import annotations

import os

from market_pipeline.machine import (
    give_memory_back,
    no_garbage_collected,
    panic_without_backtrace,
)

with no_garbage_collected():
    import dagster as dg

    from market_pipeline.audit.record import acting_as, record_settings
    from market_pipeline.config.env_copies import note_copies
    from market_pipeline.config.settings import load_settings
    from market_pipeline.defs.alerts import ALERT_SENSORS
    from market_pipeline.defs.books.assets import ASSETS as BOOKS
    from market_pipeline.defs.io_managers import DuckDBLakeIOManager, SmallTablesIOManager
    from market_pipeline.defs.jobs import DAILY_JOB
    from market_pipeline.defs.metrics.assets import ASSETS as METRICS
    from market_pipeline.defs.metrics.contract_states import ASSETS as CONTRACTS
    from market_pipeline.defs.metrics.information_bars import ASSETS as INFORMATION_BARS
    from market_pipeline.defs.quality.assets import ASSETS as QUALITY
    from market_pipeline.defs.quality.checks import CHECKS
    from market_pipeline.defs.quality.fidelity import ASSETS as FIDELITY
    from market_pipeline.defs.raw.assets import ASSETS as LAKE
    from market_pipeline.defs.resources import Pipeline
    from market_pipeline.defs.schedules import DAILY_SCHEDULE
    from market_pipeline.defs.sensors import SENSORS
    from market_pipeline.doctor.folders import written_to
    from market_pipeline.scrub.exits import scrub_exits
    from market_pipeline.security.disks import require_encrypted
    from market_pipeline.telemetry.logs.process_log import DAGSTER, begin
    from market_pipeline.warehouse.layout import PRIVATE_UMASK, Warehouse

__all__ = ["defs"]

# Runs and code servers begin here, and write the event log and Dagster's own files.
os.umask(PRIVATE_UMASK)
scrub_exits()
panic_without_backtrace()
give_memory_back()

acting_as("dagster")
note_copies()
_settings = load_settings()
if _settings.require_encrypted_disk:
    require_encrypted(written_to(_settings.data_dir))
record_settings(_settings)
begin(_settings, DAGSTER)
_warehouse = Warehouse(_settings.data_dir)

defs = dg.Definitions(
    assets=[*LAKE, *BOOKS, *QUALITY, *FIDELITY, *METRICS, *INFORMATION_BARS, *CONTRACTS],
    asset_checks=CHECKS,
    jobs=[DAILY_JOB],
    schedules=[DAILY_SCHEDULE],
    sensors=[*SENSORS, *ALERT_SENSORS],
    resources={
        "pipeline": Pipeline(),
        "lake_tables": DuckDBLakeIOManager(data_dir=str(_warehouse.data_dir)),
        "small_tables": SmallTablesIOManager(
            data_dir=str(_warehouse.data_dir), database=str(_warehouse.working_database)
        ),
    },
    # Measured with eight steps: 2.7 CPU seconds in one process and 21 in spawned ones.
    executor=dg.in_process_executor,
)
