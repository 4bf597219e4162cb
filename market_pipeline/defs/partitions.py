"""The partitions: one per UTC day from the configured start to yesterday, green if it has data."""

from __future__ import annotations

from datetime import date

import dagster as dg
from dagster._core.definitions.metadata import RawMetadataMapping
from dagster._core.definitions.source_asset import SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION

from market_pipeline.config.settings import load_settings
from market_pipeline.defs.step_times import step_metadata

__all__ = ["DAILY", "day_of", "green_if", "newest_green"]

DAILY = dg.DailyPartitionsDefinition(start_date=load_settings().start_date.isoformat())


def day_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> date:
    """The UTC day that a run is about."""
    return date.fromisoformat(context.partition_key)


def green_if(
    has_data: bool, context: dg.AssetExecutionContext, asset: str, metadata: RawMetadataMapping
) -> RawMetadataMapping:
    """Tells of an output, and gives the metadata that makes its day green only if there is data.

    Without data the output is published and read downstream all the same, because its rows say why
    there is none, but the partition stays as it was: missing, unless an earlier run had data. What
    is reported is then an observation, which the UI shows among the events of the asset.

    Args:
        has_data: Whether the run found, or made, data of any instrument.
        context: Of the step.
        asset: The asset of the output.
        metadata: What to tell of it.
    """
    metadata = {**metadata, **step_metadata()}
    if has_data:
        # As metadata of the output the event log would hold it twice, in the output's event too.
        context.add_asset_metadata(metadata, asset_key=asset)
        return {}
    day = context.partition_key
    reason = f"{asset}: no instrument of this run has data of {day}; it is not materialized."
    context.log.warning(reason)
    context.log_event(
        dg.AssetObservation(asset, description=reason, partition=day, metadata=metadata)
    )
    # An optional output that is not given would do too, but then no step after it runs, and nobody
    # writes the verdict. This is how Dagster itself keeps an output from being recorded.
    return {SYSTEM_METADATA_KEY_SOURCE_ASSET_OBSERVATION: True}


def newest_green(
    context: dg.AssetCheckExecutionContext, asset: dg.AssetKey
) -> dg.EventLogRecord | None:
    """The newest event by which this run or an earlier one found data of the day; None without."""
    of_day = dg.AssetRecordsFilter(asset_key=asset, asset_partitions=[context.partition_key])
    return next(iter(context.instance.fetch_materializations(of_day, limit=1).records), None)
