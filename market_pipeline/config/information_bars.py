"""`bars:` of the instruments file: which bars of equal activity an instrument has."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from market_pipeline.config.steps import Amounts, Counts
from market_pipeline.config.values import StrictModel

__all__ = ["BarKind", "InformationBars"]

BarKind = Literal[
    "tick",
    "volume",
    "value",
    "tick_imbalance",
    "volume_imbalance",
    "value_imbalance",
    "tick_runs",
    "volume_runs",
    "value_runs",
]
"""What bars of equal activity count, and how: the fields of `InformationBars`."""


class InformationBars(StrictModel):
    """Bars that close when so much was traded, at any number of steps of each kind."""

    tick: Counts = Field((1_000,), description="Trades of each tick bar.")
    volume: Amounts = Field((), description="Size of each volume bar, in base units or contracts.")
    value: Amounts = Field((), description="Price times size of each value bar.")
    tick_imbalance: Counts = Field(
        (), description="Trades of one side beyond those of the other that close a bar."
    )
    volume_imbalance: Amounts = Field(
        (), description="Size of one side beyond that of the other that closes a bar."
    )
    value_imbalance: Amounts = Field(
        (), description="Price times size of one side beyond that of the other that closes a bar."
    )
    tick_runs: Counts = Field(
        (), description="Trades of one side, with none of the other between, of each bar."
    )
    volume_runs: Amounts = Field(
        (), description="Size of one side, with none of the other between, of each bar."
    )
    value_runs: Amounts = Field(
        (), description="Price times size of one side, with none of the other between, of each bar."
    )
