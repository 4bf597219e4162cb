"""The real sample days as the quality layer takes them: one entry per message, plain arrays."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market_pipeline.books.scale import Scale
from market_pipeline.books.step_inference import StepInference

SAMPLE_DAYS = (
    ("BINANCE", "BTC-USDT", date(2024, 8, 8)),
    ("BINANCE", "BTC-USDT", date(2024, 8, 9)),
    ("BINANCE_DELIVERY", "BTC-USD-PERP", date(2024, 8, 8)),
    ("BINANCE_DELIVERY", "BTC-USD-PERP", date(2024, 8, 9)),
    ("BINANCE_FUTURES", "BTC-USDT-PERP", date(2024, 8, 8)),
    ("BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18)),
    ("BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 19)),
)


@dataclass(frozen=True)
class SampleDay:
    """One instrument's day: message times and ids, and its trades."""

    ts_origin_ns: np.ndarray
    ts_receipt_ns: np.ndarray
    sequence_number: np.ndarray
    trades: pl.DataFrame


def sample_root() -> Path:
    """The folder of the sample; skips the test where there is none."""
    default = Path(__file__).parents[3] / "shared" / "data" / "binance_2024"
    root = Path(os.environ.get("MARKET_PIPELINE_SAMPLE_DATA", default))
    if not root.is_dir():
        pytest.skip("the sample data is not here: set MARKET_PIPELINE_SAMPLE_DATA to its folder")
    return root


def read_table(table: str, exchange: str, symbol: str, day: date) -> pl.DataFrame:
    """A whole day of one of the sample's tables, such as `lake/trades`."""
    folder = sample_root() / table / f"exchange={exchange}" / f"symbol={symbol}" / f"dt={day}"
    return pl.read_parquet(folder / "1.snappy.parquet", hive_partitioning=False)


def sample_day(exchange: str, symbol: str, day: date) -> SampleDay:
    """The messages and trades of a day."""
    rows = read_table("lake/book_delta_v2", exchange, symbol, day)
    keys = rows.select("sequence_number", "receipt_timestamp")
    starts = keys.with_columns(new=pl.struct(pl.all()).rle_id().diff().fill_null(1) != 0)["new"]
    messages = rows.filter(starts)
    trades = read_table("lake/trades", exchange, symbol, day)
    return SampleDay(
        ts_origin_ns=messages["timestamp"].to_numpy(),
        ts_receipt_ns=messages["receipt_timestamp"].to_numpy(),
        sequence_number=messages["sequence_number"].to_numpy(),
        trades=trades.select(
            ts_origin_ns="timestamp",
            ts_receipt_ns="receipt_timestamp",
            quantity="amount",
            is_buy=pl.col("side") == "buy",
        ),
    )


def sample_books(exchange: str, symbol: str, day: date) -> tuple[pl.DataFrame, tuple[Scale, Scale]]:
    """The best bid and ask after each message as `books.bbo` has them, all valid; tick and lot."""
    reference = read_table("truth/reference_bbo", exchange, symbol, day)
    sample = sample_day(exchange, symbol, day)
    steps, scales = [], []
    for part, unit in (("price", "ticks"), ("size", "lots")):
        inference = StepInference()
        for side in ("bid", "ask"):
            inference.add(reference[f"{side}_0_{part}"].to_numpy())
        scales.append(inference.scale)
        for side in ("bid", "ask"):
            whole = (pl.col(f"{side}_0_{part}") / float(inference.scale.step)).round()
            steps.append(whole.cast(pl.Int64).alias(f"{side}_{part}_{unit}"))
    times = pl.DataFrame(
        {"sequence_number": sample.sequence_number, "ts_receipt_ns": sample.ts_receipt_ns}
    )
    books = times.join(
        reference.select("sequence_number", *steps), on="sequence_number", maintain_order="left"
    )
    valid = books.with_columns(flags=pl.lit(0, pl.UInt16), verified=pl.lit(value=True))
    return valid, (scales[0], scales[1])
