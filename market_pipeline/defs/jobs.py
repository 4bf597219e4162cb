"""The one job: every stage of a day, from the raw files to the metrics."""

from __future__ import annotations

import dagster as dg

__all__ = ["DAILY_JOB"]

DAILY_JOB = dg.define_asset_job(
    "daily_books",
    selection=dg.AssetSelection.all(),
    description="Register, rebuild, validate and measure one UTC day of every instrument.",
)
