"""The real captures of the sample data, and a rebuild of them message by message."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, DepthRows, Repair, Repairs, Resync
from market_pipeline.books.step_inference import StepInference
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch
from market_pipeline.sources.binance_capture import Market


@dataclass(frozen=True)
class CaptureSet:
    """Captures of one instrument that continue each other."""

    name: str
    market: Market
    symbol: str
    venue: str
    our_symbol: str
    days: tuple[str, ...]

    def files(self, root: Path) -> list[Path]:
        stem = self.symbol.lower()
        folder = root / "captures" / self.market
        return [folder / f"{stem}_{day.replace('-', '')}.gz" for day in self.days]

    def truth(self, root: Path) -> dict:
        return json.loads((root / "truth" / "truth.json").read_text(encoding="utf-8"))[self.name]

    def truth_table(self, root: Path, table: str) -> pl.DataFrame:
        folder = root / "truth" / table / f"exchange={self.venue}" / f"symbol={self.our_symbol}"
        files = [folder / f"dt={day}" / "1.snappy.parquet" for day in self.days]
        return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files])


SETS = (
    CaptureSet(
        "usdm_BTCUSDT_20240808",
        "usdm",
        "BTCUSDT",
        "BINANCE_FUTURES",
        "BTC-USDT-PERP",
        ("2024-08-08",),
    ),
    CaptureSet(
        "usdm_ETHUSDT_20240718_19",
        "usdm",
        "ETHUSDT",
        "BINANCE_FUTURES",
        "ETH-USDT-PERP",
        ("2024-07-18", "2024-07-19"),
    ),
    CaptureSet(
        "cm_BTCUSD_PERP_20240808_09",
        "coinm",
        "BTCUSD_PERP",
        "BINANCE_DELIVERY",
        "BTC-USD-PERP",
        ("2024-08-08", "2024-08-09"),
    ),
    CaptureSet(
        "spot_BTCUSDT_20240808_09",
        "spot",
        "BTCUSDT",
        "BINANCE",
        "BTC-USDT",
        ("2024-08-08", "2024-08-09"),
    ),
)


def steps_of(deltas: Iterable[DeltaBatch], snapshots: Iterable[SnapshotBatch]) -> list[Scale]:
    """The tick and the lot that all values are whole multiples of."""
    prices, sizes = StepInference(), StepInference()
    for batch in deltas:
        prices.add(batch.price)
        sizes.add(batch.size)
    for snapshot in snapshots:
        for side in (snapshot.bid_price, snapshot.ask_price):
            prices.add(side.ravel())
        for side in (snapshot.bid_size, snapshot.ask_size):
            sizes.add(side.ravel())
    return [each.scale for each in (prices, sizes) if each.scale is not None]


def joined(deltas: Sequence[DeltaBatch]) -> DeltaBatch:
    """All rows as one batch."""
    names = ("ts_origin_ns", "ts_receipt_ns", "sequence_number", "is_bid", "price", "size")
    columns = {name: np.concatenate([getattr(each, name) for each in deltas]) for name in names}
    firsts = np.cumsum([0, *(each.price.size for each in deltas[:-1])])
    for name in ("gap_rows", "recovered_rows"):
        rows = [getattr(each, name) + first for each, first in zip(deltas, firsts, strict=True)]
        columns[name] = np.concatenate(rows)
    return replace(deltas[0], **columns)


def until(batch: DeltaBatch, sequence_number: int) -> DeltaBatch:
    """The rows of all messages up to one, that included."""
    rows = int(np.searchsorted(batch.sequence_number, sequence_number, side="right"))
    names = ("ts_origin_ns", "ts_receipt_ns", "sequence_number", "is_bid", "price", "size")
    columns = {name: getattr(batch, name)[:rows] for name in names}
    for name in ("gap_rows", "recovered_rows"):
        listed = getattr(batch, name)
        columns[name] = listed[listed < rows]
    return replace(batch, **columns)


@dataclass(frozen=True)
class Rebuilt:
    """Per message: (n,) sequence numbers and flags, (n, columns) top 20; and what else there is.

    `repairs` are (kind, message that shows it) without the seed; `closing` is the last book.
    """

    sequence_number: np.ndarray
    flags: np.ndarray
    top: np.ndarray
    repairs: list[tuple[Repair, int]]
    gaps: int
    closing: Keyframe


def rebuilt(
    deltas: Iterable[DeltaBatch],
    snapshots: Iterable[SnapshotBatch],
    steps: Sequence[Scale],
    *,
    levels: int = 20,
    resync: Resync = Resync.WHEN_INVALID,
) -> Rebuilt:
    """Rebuilds and gathers the top levels of every message; 0 levels for the best bid and ask."""
    interval_ms = 0 if levels else None
    options = RebuildOptions(
        depth_interval_ms=interval_ms, keyframe_seconds=0, resync=resync, ids_prove=True
    )
    rebuild = Rebuild(*steps, options)
    kind = DepthRows if levels else BboRows
    repairs: list[tuple[Repair, int]] = []
    blocks, closing = [], None
    for block in rebuild.blocks(deltas, snapshots):
        if isinstance(block, kind):
            blocks.append(block)
        elif isinstance(block, Repairs):
            repairs += zip(map(Repair, block.kind), block.message.tolist(), strict=True)
        elif isinstance(block, Keyframe):
            closing = block
    assert closing is not None
    columns = [np.concatenate(each) for each in zip(*blocks, strict=True)]
    _, _, sequence, *sides, flags = columns[:8]
    top = np.concatenate([side.reshape(len(side), -1)[:, : levels or 1] for side in sides], axis=1)
    repairs = [each for each in repairs if each[0] is not Repair.SEED]
    return Rebuilt(sequence, flags, top, repairs, rebuild.figures["gaps"], closing)
