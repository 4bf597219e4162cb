"""Settings of telemetry: whether figures of the pipeline itself are kept, and where served."""

from __future__ import annotations

from pydantic import BaseModel, Field

from market_pipeline.config.values import Integer

__all__ = ["TelemetrySettings"]


class TelemetrySettings(BaseModel):
    """The part of the settings that is about telemetry; see `Settings`."""

    metrics: bool = Field(
        default=True,
        description=(
            "Whether runs, captures and the daemon keep figures about themselves in "
            "`metrics` inside `data_dir`."
        ),
    )
    metrics_port: Integer = Field(
        default=9464,
        ge=1,
        le=65_535,
        description="The port at which `telemetry serve` has them for Prometheus, on loopback.",
    )
