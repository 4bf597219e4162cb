"""With which book an instrument's is compared, and how far it may be from it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from market_pipeline.config.values import Amount, Share, StrictModel

__all__ = ["BookAddress", "Fidelity"]


class BookAddress(str):
    """A published book: `VENUE:SYMBOL`, or `VENUE:SYMBOL@FOLDER` of another data folder."""

    __slots__ = ()

    @property
    def instrument(self) -> str:
        """Its `VENUE:SYMBOL`."""
        return self.partition("@")[0]

    @property
    def data_dir(self) -> Path | None:
        """The data folder; None for the one of the settings in force."""
        folder = self.partition("@")[2]
        return Path(folder).expanduser() if folder else None


def _address(value: str) -> str:
    venue, colon, symbol = BookAddress(value).instrument.partition(":")
    if not (venue and colon and symbol):
        raise ValueError("expected VENUE:SYMBOL, or VENUE:SYMBOL@FOLDER of another data folder")
    return value


class Fidelity(StrictModel):
    """The golden book, and the bounds: a figure up to its bound passes, up to twice it warns."""

    golden: Annotated[str, AfterValidator(_address)] | None = Field(
        None,
        description="The published book that is right: `VENUE:SYMBOL`, of another data folder "
        "`VENUE:SYMBOL@FOLDER`; none: nothing is compared.",
    )
    mismatch_share: Share = Field(
        0.001, description="Share of compared messages at which a level may differ."
    )
    missing_share: Share = Field(
        0.001, description="Share of golden messages that may be missing, or be added."
    )
    unpaired_share: Share = Field(
        0.001, description="Share of golden valid time without a valid book of as many sides."
    )
    mid_rms_ticks: Amount = Field(0.1, description="Root mean square error of the mid.")
    mid_max_ticks: Amount = Field(10.0, description="Largest error of the mid.")
    spread_rms_ticks: Amount = Field(0.1, description="Root mean square error of the spread.")
    size_error_share: Share = Field(
        0.01, description="Summed size error of a level, as a share of the golden sizes."
    )
    exchange_shift_ms: Amount = Field(
        1.0, description="Median distance of the exchange times of the same messages."
    )
    receipt_shift_ms: Amount = Field(
        100.0, description="Median distance of the receipt clocks; beyond it is a warning, no more."
    )
