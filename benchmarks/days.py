"""The days that both our kernel and lakeapi are run on: the synthetic one and a real capture."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.generator import synthetic_deltas
from benchmarks.lake_files import LOTS_PER_UNIT, TICKS_PER_UNIT
from benchmarks.workspace import ROOT
from market_pipeline.books.scale import Scale, to_steps
from market_pipeline.books.state import Deltas
from market_pipeline.sources.crypto_lake import DELTAS, day_shards, read_deltas

__all__ = ["DayArrays", "real_day", "synthetic_day"]

_REAL = ("BINANCE_FUTURES", "BTC-USDT-PERP", date(2024, 8, 8))
_REAL_TICKS_PER_UNIT, _REAL_LOTS_PER_UNIT = 10, 1_000


@dataclass(frozen=True, slots=True)
class DayArrays:
    """The same rows as integers for us and as floats for lakeapi.

    Attributes:
        name: What the figures call it.
        deltas: The rows in ticks and lots.
        price, size: The rows as the file has them.
        ticks_per_unit, lots_per_unit: What turns one into the other.
        bar: How many times as fast as lakeapi we should be.
    """

    name: str
    deltas: Deltas
    price: NDArray[np.float64]
    size: NDArray[np.float64]
    ticks_per_unit: int
    lots_per_unit: int
    bar: float


def synthetic_day(rows: int) -> DayArrays:
    """The synthetic day."""
    deltas = synthetic_deltas(rows)
    price, size = deltas.price_ticks / TICKS_PER_UNIT, deltas.size_lots / LOTS_PER_UNIT
    return DayArrays("synthetic day", deltas, price, size, TICKS_PER_UNIT, LOTS_PER_UNIT, bar=100.0)


def real_day() -> DayArrays:
    """Five minutes and three quarters of a real perpetual.

    Raises:
        FileNotFoundError: If the sample data is not here.
    """
    default = ROOT.parent / "shared" / "data" / "binance_2024"
    root = Path(os.environ.get("MARKET_PIPELINE_SAMPLE_DATA", default))
    files = day_shards(root / "lake", DELTAS, *_REAL)
    if not files:
        raise FileNotFoundError(
            "the sample data is not here: set MARKET_PIPELINE_SAMPLE_DATA to its folder"
        )
    batches = list(read_deltas(files))

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(batch, name) for batch in batches])

    price, size = column("price"), column("size")
    deltas = Deltas(
        column("ts_origin_ns"),
        column("ts_receipt_ns"),
        column("sequence_number"),
        column("is_bid"),
        _steps(price, _REAL_TICKS_PER_UNIT),
        _steps(size, _REAL_LOTS_PER_UNIT),
    )
    return DayArrays(
        "real capture", deltas, price, size, _REAL_TICKS_PER_UNIT, _REAL_LOTS_PER_UNIT, bar=40.0
    )


def _steps(values: NDArray[np.float64], per_unit: int) -> NDArray[np.int64]:
    steps = np.empty(values.size, np.int64)
    losses = to_steps(values, Scale.of(Decimal(1) / per_unit), steps)
    if losses:
        raise RuntimeError(f"{losses} values of the real capture are not on the grid")
    return steps
