"""The thresholds of the checks: what fails a day, and never what its book is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from market_pipeline.config.values import Amount, Count, Share, StrictModel

__all__ = ["Thresholds"]


class Thresholds(StrictModel):
    """When a figure of a day becomes a warning or an error; every check shows those in force."""

    edge_tolerance_seconds: Amount = Field(
        60.0, description="Seconds that may be missing at the start and at the end of the UTC day."
    )
    coverage_warn_share: Share = Field(
        0.995, description="A smaller share of the expected time that messages cover is a warning."
    )
    gap_warn_seconds: Amount = Field(
        0.0, description="More seconds of gaps than this in a day are a warning."
    )
    gap_error_share: Share = Field(
        0.01, description="A larger share of the expected time lost to gaps is an error."
    )
    negative_latency_warn_share: Share = Field(
        0.001,
        description="A larger share of messages received before their exchange time is a warning.",
    )
    skew_warn_ms: Amount = Field(
        1000.0, description="A median of receipt minus exchange time farther from 0 is a warning."
    )
    drift_warn_ppm: Amount = Field(
        50.0, description="A clock drift farther from 0 (parts per million) is a warning."
    )
    step_warn_ms: Amount = Field(
        1.0, description="A step of the clock larger than this many milliseconds is a warning."
    )
    precision_error_count: Count = Field(
        0, description="More prices off the tick than this in a day are an error."
    )
    identity_price_factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        1.5,
        description="Prices more times apart than this, overnight or between tables, are an error.",
    )
    crossed_warn_seconds: Amount = Field(
        0.0, description="More seconds of a crossed book than this in a day are a warning."
    )
    crossed_error_seconds: Amount = Field(
        60.0, description="More seconds of a crossed book than this in a day are an error."
    )
    ordering_error_share: Share = Field(
        0.001, description="A larger share of messages out of order or double is an error."
    )
    snapshot_mismatch_warn_share: Share = Field(
        0.0, description="A larger share of mismatches is a warning."
    )
    snapshot_mismatch_error_share: Share = Field(
        0.002, description="A larger share of mismatches is an error."
    )
    snapshot_level_warn_share: Share = Field(
        0.0, description="A larger share of levels that differ in snapshots is a warning."
    )
    snapshot_level_error_share: Share = Field(
        0.002, description="A larger share of levels that differ in snapshots is an error."
    )
    snapshot_mid_error_ticks: Amount = Field(
        10_000.0,
        description="A mid that is off by more ticks than this from a snapshot's is an error.",
    )
    snapshot_reconverge_error_seconds: Amount = Field(
        60.0,
        description="A book that stays wrong for longer than this after a mismatch is an error.",
    )
    snapshot_uncompared_warn_share: Share = Field(
        0.01, description="A larger share of later snapshots that are not compared is a warning."
    )
    snapshot_uncompared_error_share: Share = Field(
        0.5, description="A larger share of later snapshots that are not compared is an error."
    )
    snapshot_uncompared_error_seconds: Amount = Field(
        60.0, description="Snapshots for longer than this without one compared are an error."
    )
    snapshot_unconfirmed_warn_share: Share = Field(
        0.01, description="A larger share of valid time with an unconfirmed touch is a warning."
    )
    day_boundary_warn_share: Share = Field(
        0.0, description="A larger share of levels that differ across midnight is a warning."
    )
    trade_through_warn_share: Share = Field(
        0.03, description="A larger share of trades outside the book is a warning."
    )
    trade_through_minute_warn_share: Share = Field(
        0.2, description="A larger share of trades outside the book in one minute is a warning."
    )
    bar_outlier_sigmas: Amount = Field(
        8.0, description="A bar's return farther out than this many deviations is a violation."
    )
    bar_volume_factor: Amount = Field(
        20.0, description="A bar's volume above this many times the usual is a violation."
    )
