"""The partitions: one per UTC day from the configured start to yesterday."""

from __future__ import annotations

from datetime import date

import dagster as dg

from market_pipeline.settings import load_settings

__all__ = ["DAILY", "day_of"]

DAILY = dg.DailyPartitionsDefinition(start_date=load_settings().start_date.isoformat())


def day_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> date:
    """The UTC day that a run is about."""
    return date.fromisoformat(context.partition_key)
