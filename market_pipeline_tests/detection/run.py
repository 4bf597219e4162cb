"""A day run through every stage without Dagster, and what was published of it, read back."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import polars as pl

from market_pipeline.books.flags import INVALIDATING
from market_pipeline.config.instruments import Instrument
from market_pipeline.config.settings import Settings
from market_pipeline.errors import MarketPipelineError
from market_pipeline.tables import TABLES
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline.warehouse.read import scan
from market_pipeline_tests import published_day
from market_pipeline_tests.detection.truth import LEVELS
from market_pipeline_tests.detection.validating import Validated, validate

__all__ = ["BboTable", "DepthTable", "Outcome", "Spans", "run_day"]

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spans:
    """The invalidating intervals of a day, int64 (intervals,) each."""

    start_ns: IntArray
    end_ns: IntArray
    first_message: IntArray
    messages: IntArray

    def cover(self, ts_receipt_ns: IntArray, position: IntArray | None = None) -> BoolArray:
        """Whether rows lie inside, by their time or by their position in `books.bbo`."""
        begun = np.searchsorted(np.sort(self.start_ns), ts_receipt_ns, side="right")
        over = np.searchsorted(np.sort(self.end_ns), ts_receipt_ns, side="right")
        inside: BoolArray = begun > over
        if position is not None:
            first = np.searchsorted(np.sort(self.first_message), position, side="right")
            ends = np.sort(self.first_message + self.messages)
            inside |= first > np.searchsorted(ends, position, side="right")
        return inside


@dataclass(frozen=True)
class BboTable:
    """The rows of `books.bbo` of an instrument's day in their order."""

    sequence_number: IntArray
    ts_receipt_ns: IntArray
    valid: BoolArray
    verified: BoolArray | None
    touch: FloatArray


@dataclass(frozen=True)
class DepthTable:
    """The rows of `books.depth`; `compared` tells the levels that are said to be confirmed."""

    sequence_number: IntArray
    ts_receipt_ns: IntArray
    valid: BoolArray
    verified: BoolArray | None
    top: FloatArray
    compared: BoolArray


@dataclass(frozen=True)
class Outcome:
    """What a run left.

    Attributes:
        validated: By symbol; empty if the run ended with an error.
        crashed: The error that ended the run; None without one.
        bbo, depth, spans: What was published of the instrument before that.
    """

    validated: dict[str, Validated]
    crashed: str | None
    bbo: BboTable
    depth: DepthTable
    spans: Spans


def run_day(
    lake: Path,
    data_dir: Path,
    instruments: Sequence[Instrument],
    day: date,
    *,
    depth_interval_ms: int | None = None,
) -> Outcome:
    """Runs a day of some instruments; the tables are those of the first of them.

    An error of a stage is an outcome, not an error of this function.
    """
    more: dict[str, Any] = {}
    if depth_interval_ms is not None:
        more["depth_interval_ms"] = depth_interval_ms
    validated: dict[str, Validated] = {}
    crashed = None
    try:
        # A quarter of a case's time, and nothing that a row depends on.
        with patch.object(published_day, "refresh_catalogue"):
            validated = validate(lake, data_dir, instruments, day, **more)
    except Exception as error:
        crashed = _where(error)
    warehouse = Warehouse(Settings(data_dir=data_dir, lake_uri=str(lake)).data_dir)
    return Outcome(
        validated,
        crashed,
        _bbo(_read(warehouse, "book_bbo", instruments[0], day)),
        _depth(_read(warehouse, "book_depth", instruments[0], day)),
        _spans(_read(warehouse, "book_intervals", instruments[0], day)),
    )


def _where(error: Exception) -> str:
    """An error with the function of the package that it came through last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{'market_pipeline'}/" in frame.filename]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].name}" if ours else "?"
    return f"{type(error).__name__} in {place}: {str(error).splitlines()[0] if str(error) else ''}"


def _read(warehouse: Warehouse, name: str, instrument: Instrument, day: date) -> pl.DataFrame:
    table = TABLES[name]
    try:
        rows = scan(warehouse, table, day).collect()
    except (MarketPipelineError, OSError, pl.exceptions.PolarsError):
        # Nothing was ever published: the run ended before.
        return table.empty()
    return rows.filter(
        (pl.col("exchange") == instrument.venue) & (pl.col("symbol") == instrument.symbol)
    )


def _stamps(rows: pl.DataFrame) -> tuple[IntArray, IntArray, BoolArray, BoolArray | None]:
    verified = rows["verified"].fill_null(value=False).to_numpy() if "verified" in rows else None
    return (
        rows["sequence_number"].to_numpy(),
        rows["ts_receipt_ns"].to_numpy(),
        (rows["flags"].to_numpy().astype(np.int64) & int(INVALIDATING)) == 0,
        verified,
    )


def _bbo(rows: pl.DataFrame) -> BboTable:
    names = ("bid_price", "bid_size", "ask_price", "ask_size")
    return BboTable(*_stamps(rows), _floats(rows, names))


def _floats(rows: pl.DataFrame, names: Sequence[str]) -> FloatArray:
    columns = [rows[name].cast(pl.Float64).fill_null(float("nan")).to_numpy() for name in names]
    return np.stack(columns, axis=1)


def _depth(rows: pl.DataFrame) -> DepthTable:
    top = np.full((rows.height, 2, LEVELS, 2), np.nan)
    for part, unit, at in (("price", "ticks", 0), ("size", "lots", 1)):
        steps = _floats(
            rows,
            [f"{side}_{k}_{part}_{unit}" for side in ("bid", "ask") for k in range(LEVELS)],
        )
        scale = _floats(rows, (f"{part}_multiplier", f"{part}_divisor"))
        top[..., at] = (steps * scale[:, :1] / scale[:, 1:]).reshape(rows.height, 2, LEVELS)
    compared = np.ones((rows.height, 2, LEVELS), np.bool_)
    for at, side in enumerate(("bid", "ask")):
        name = f"{side}_levels_confirmed"
        if name in rows.columns:
            confirmed = rows[name].fill_null(0).to_numpy()
            compared[:, at] = np.arange(LEVELS)[None, :] < confirmed[:, None]
    return DepthTable(*_stamps(rows), top, compared)


def _spans(rows: pl.DataFrame) -> Spans:
    names = ("start_ns", "end_ns", "first_message", "messages")
    counted = rows.filter(pl.col("invalidates")).select(pl.col(names).fill_null(0))
    return Spans(*(counted[name].to_numpy() for name in names))
