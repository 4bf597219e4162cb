from __future__ import annotations

import hashlib
import json
from bisect import insort
from datetime import date
from decimal import Decimal
from itertools import groupby
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from market_pipeline.books.integers import OffStep
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, DepthRows, Resync
from market_pipeline.books.step_inference import StepInference
from market_pipeline.config.instruments import Policies
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, day_shards, read_deltas
from market_pipeline.sources.crypto_lake_snapshots import read_snapshots
from market_pipeline_tests.naive.canonical import canonical_book
from market_pipeline_tests.quality.sample import SAMPLE_DAYS

TICK, LOT = Scale.of(Decimal("0.1")), Scale.of(Decimal("0.001"))


def batch_of(rows: list[tuple[int, bool, float, float]], first_row: int = 0) -> DeltaBatch:
    """Rows of (sequence, is_bid, price, size), a second of receipt time per sequence number."""
    sequence = np.array([row[0] for row in rows], np.int64)
    return DeltaBatch(
        file=Path("deltas"),
        first_row=first_row,
        ts_origin_ns=sequence * 10**9,
        ts_receipt_ns=sequence * 10**9 + 5,
        sequence_number=sequence,
        is_bid=np.array([row[1] for row in rows], np.bool_),
        price=np.array([row[2] for row in rows]),
        size=np.array([row[3] for row in rows]),
    )


def collected(rebuild: Rebuild, deltas, snapshots=()) -> tuple[pl.DataFrame, list[DepthRows], list]:
    """All BBO rows as a frame, the depth blocks and the keyframes."""
    bbo, depth, keyframes = [], [], []
    for block in rebuild.blocks(deltas, snapshots):
        if isinstance(block, BboRows):
            bbo.append(pl.DataFrame(dict(zip(block._fields, block, strict=True))))
        elif isinstance(block, DepthRows):
            depth.append(block)
        elif isinstance(block, Keyframe):
            keyframes.append(block)
    return pl.concat(bbo), depth, keyframes


class TestOptions:
    @pytest.mark.parametrize(
        ("policies", "resync", "crossed_resync_seconds", "uncross"),
        [
            ({}, Resync.WHEN_INVALID, None, False),
            ({"resync": "never", "crossed": "uncross"}, Resync.NEVER, None, True),
            ({"resync": "always", "crossed": "resync"}, Resync.ALWAYS, 2.0, False),
            ({"crossed_resync_seconds": 3.0}, Resync.WHEN_INVALID, None, False),
        ],
    )
    def test_of_policies(self, policies, resync, crossed_resync_seconds, uncross):
        """Each policy has its option, and the seconds only count where they are asked for."""
        options = RebuildOptions.of(Policies(**policies), depth_interval_ms=7, keyframe_seconds=9)
        assert RebuildOptions(7, 9, resync, crossed_resync_seconds, uncross) == options

    def test_of_a_day(self):
        """The day's bounds, and whether ids prove, come from the source and not from policies."""
        options = RebuildOptions.of(Policies(), 7, 9, ids_prove=True, day=date(2024, 8, 8))
        kernel = options.for_kernel()
        assert kernel.ids_prove
        assert (1_723_075_200, 1_723_161_600) == (
            kernel.day_start_ns // 10**9,
            kernel.day_end_ns // 10**9,
        )


class TestRebuild:
    def test_a_value_off_the_grid_is_refused_located_and_flagged_until_a_snapshot(self):
        """The row is not applied; later rows carry PRECISION_LOSS until a snapshot is loaded."""
        rows = [(1, True, 99.9, 1.0), (1, False, 100.1, 1.0), (2, True, 100.03, 2.0)]
        snapshot = SnapshotBatch(
            file=Path("book"),
            first_row=0,
            ts_receipt_ns=np.array([10**9, 3 * 10**9], np.int64),
            sequence_number=np.array([1, 3], np.int64),
            bid_price=np.array([[99.9], [99.9]]),
            bid_size=np.array([[1.0], [1.0]]),
            ask_price=np.array([[100.1], [100.1]]),
            ask_size=np.array([[1.0], [1.0]]),
        )
        batches = [batch_of(rows, 40), batch_of([(3, True, 99.8, 1.0), (4, True, 99.7, 1.0)], 43)]
        rebuild = Rebuild(TICK, LOT)
        bbo, _, _ = collected(rebuild, batches, [snapshot])
        assert bbo["bid_price_ticks"].to_list() == [999, 999, 999, 999]
        assert bbo["flags"].to_list() == [1, 64, 64, 0]
        assert rebuild.off_tick.first == [OffStep(Path("deltas"), 42, 100.03, 2)]
        assert (rebuild.off_tick.losses, rebuild.off_lot.losses) == (1, 0)

    def test_a_crossed_snapshot_does_not_seed(self):
        """A snapshot that is no book is counted and passed over; the next one seeds."""
        crossed_then_good = SnapshotBatch(
            file=Path("book"),
            first_row=0,
            ts_receipt_ns=np.array([10**9, 2 * 10**9], np.int64),
            sequence_number=np.array([1, 2], np.int64),
            bid_price=np.array([[100.2], [99.9]]),
            bid_size=np.array([[1.0], [1.0]]),
            ask_price=np.array([[100.1], [100.1]]),
            ask_size=np.array([[1.0], [1.0]]),
        )
        rebuild = Rebuild(TICK, LOT)
        deltas = [batch_of([(k, True, 99.5, 1.0) for k in (1, 2, 3)])]
        bbo, _, _ = collected(rebuild, deltas, [crossed_then_good])
        assert bbo["flags"].to_list() == [257, 257, 0]
        assert rebuild.figures["snapshots_unusable"] == 1
        assert rebuild.figures["seed_sequence_number"] == 2

    def test_depth_is_the_last_message_of_each_interval(self):
        """Of ten messages a second apart, an interval of five seconds keeps three."""
        rows = [(k, True, 90.0 + k / 10, 1.0) for k in range(1, 11)]
        rebuild = Rebuild(TICK, LOT, RebuildOptions(depth_interval_ms=5000))
        _, depth, _ = collected(rebuild, [batch_of(rows)])
        assert depth[0].sequence_number.tolist() == [4, 9, 10]
        assert depth[0].bid_price_ticks[0, :4].tolist() == [904, 903, 902, 901]

    def test_keyframes_come_at_their_interval_and_at_the_end(self):
        """A keyframe is the full book after the last message of its interval; the end has one."""
        rows = [(k, True, 90.0 + k / 10, 1.0) for k in range(1, 11)]
        rebuild = Rebuild(TICK, LOT, RebuildOptions(keyframe_seconds=5))
        bbo, _, frames = collected(rebuild, [batch_of(rows)])
        assert [(f.kind, f.sequence_number, f.bid_price_ticks.size) for f in frames] == [
            ("keyframe", 4, 4),
            ("keyframe", 9, 9),
            ("closing", 10, 10),
        ]
        assert bbo["sequence_number"].to_list() == list(range(1, 11))


def _day(root: Path, exchange: str, symbol: str, day: date):
    deltas = day_shards(root / "lake", DELTAS, exchange, symbol, day)
    snapshots = day_shards(root / "lake", SNAPSHOTS, exchange, symbol, day)
    prices, sizes = StepInference(), StepInference()
    for batch in read_deltas(deltas):
        prices.add(batch.price)
        sizes.add(batch.size)
    assert prices.scale is not None and sizes.scale is not None
    return deltas, snapshots, prices.scale, sizes.scale


@pytest.mark.parametrize(("exchange", "symbol", "day"), SAMPLE_DAYS)
class TestOnRealDays:
    def test_best_bid_and_ask_equal_the_independent_book(self, sample_data, exchange, symbol, day):
        """Seeded from the first `book` row, every later message is equal in price and size."""
        deltas, snapshots, tick, lot = _day(sample_data, exchange, symbol, day)
        rebuild = Rebuild(tick, lot)
        bbo, _, _ = collected(rebuild, read_deltas(deltas), read_snapshots(snapshots))
        ours = bbo.filter(pl.col("flags") & 1 == 0).select(
            "sequence_number",
            *(
                pl.Series(f"{side}_0_{part}", scale.to_floats(bbo[column].to_numpy())).filter(
                    bbo["flags"] & 1 == 0
                )
                for side in ("bid", "ask")
                for part, scale, column in (
                    ("price", tick, f"{side}_price_ticks"),
                    ("size", lot, f"{side}_size_lots"),
                )
            ),
        )
        path = f"exchange={exchange}/symbol={symbol}/dt={day}/1.snappy.parquet"
        truth = pl.read_parquet(
            sample_data / "truth" / "reference_bbo" / path, hive_partitioning=False
        ).select(ours.columns)
        seeded = truth.filter(pl.col("sequence_number") > rebuild.figures["seed_sequence_number"])
        assert ours.equals(seeded)

    def test_every_later_snapshot_agrees_within_the_known_depth(
        self, sample_data, exchange, symbol, day
    ):
        """No ghost, no missing and no differing level in any of the thousands of comparisons."""
        deltas, snapshots, tick, lot = _day(sample_data, exchange, symbol, day)
        rebuild = Rebuild(tick, lot)
        collected(rebuild, read_deltas(deltas), read_snapshots(snapshots))
        figures = rebuild.figures
        assert figures["snapshots_compared"] == figures["snapshots"] - 1 > 1000
        assert figures["snapshot_levels_matching"] == figures["snapshot_levels"] > 0
        assert (figures["snapshot_levels_ghost"], figures["snapshots_mismatched"]) == (0, 0)


class TestFullDepth:
    @pytest.mark.parametrize(
        ("exchange", "symbol", "day", "name"),
        [
            ("BINANCE", "BTC-USDT", date(2024, 8, 8), "spot_BTCUSDT_20240808_09"),
            ("BINANCE_DELIVERY", "BTC-USD-PERP", date(2024, 8, 8), "cm_BTCUSD_PERP_20240808_09"),
            ("BINANCE_FUTURES", "BTC-USDT-PERP", date(2024, 8, 8), "usdm_BTCUSDT_20240808"),
            ("BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18), "usdm_ETHUSDT_20240718_19"),
        ],
    )
    def test_seeded_with_the_rest_snapshot_the_full_book_hash_is_the_truth(
        self, sample_data, exchange, symbol, day, name
    ):
        """The canonical full book at the file's end has the SHA-256 of the independent book."""
        truth = json.loads((sample_data / "truth" / "truth.json").read_text())[name]["rebuild"]
        deltas, _, tick, lot = _day(sample_data, exchange, symbol, day)
        path = f"exchange={exchange}/symbol={symbol}/dt={day}/1.snappy.parquet"
        rest = pl.read_parquet(
            sample_data / "truth" / "rest_snapshot" / path, hive_partitioning=False
        )
        rebuild = Rebuild(tick, lot)
        _, _, frames = collected(rebuild, read_deltas(deltas), [_snapshot_of(rest)])
        closing: Keyframe = frames[-1]
        digest = hashlib.sha256(canonical_book(closing, tick, lot).encode()).hexdigest()
        assert digest == truth["end_of_file"][0]["sha256_full"]

    @pytest.mark.parametrize(
        ("exchange", "symbol", "day"),
        [
            ("BINANCE", "BTC-USDT", date(2024, 8, 8)),
            ("BINANCE_DELIVERY", "BTC-USD-PERP", date(2024, 8, 8)),
            ("BINANCE_FUTURES", "BTC-USDT-PERP", date(2024, 8, 8)),
            ("BINANCE_FUTURES", "ETH-USDT-PERP", date(2024, 7, 18)),
        ],
    )
    def test_seeded_with_the_rest_snapshot_the_top_20_is_right_on_every_message(
        self, sample_data, exchange, symbol, day
    ):
        """Prices and sizes of the 20 best levels a side equal a plain sorted book's each time."""
        deltas, _, tick, lot = _day(sample_data, exchange, symbol, day)
        path = f"exchange={exchange}/symbol={symbol}/dt={day}/1.snappy.parquet"
        rest = pl.read_parquet(
            sample_data / "truth" / "rest_snapshot" / path, hive_partitioning=False
        )
        rebuild = Rebuild(tick, lot, RebuildOptions(depth_interval_ms=0))
        _, depth, _ = collected(rebuild, read_deltas(deltas), [_snapshot_of(rest)])
        seed = rest["sequence_number"][0]
        ours = [
            (int(block.sequence_number[k]), _levels_of(block, k, tick, lot))
            for block in depth
            for k in np.flatnonzero(block.sequence_number > seed).tolist()
        ]

        assert ours == list(_plain_top_20(rest, deltas))


class _Side:
    """A side of a plain book: a sorted list of keys, and the sizes by price as they were read."""

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: list[float] = []
        self._sizes: dict[float, float] = {}

    def set(self, price: float, size: float) -> None:
        if size and price not in self._sizes:
            insort(self._keys, self._sign * price)
        elif not size and price in self._sizes:
            del self._sizes[price]
            self._keys.remove(self._sign * price)
        if size:
            self._sizes[price] = size

    def top(self) -> list[tuple[float, float]]:
        best = (self._sign * key for key in self._keys[:20])
        return [(price, self._sizes[price]) for price in best]


def _plain_top_20(rest: pl.DataFrame, deltas: list[Path]):
    """(sequence number, bids, asks) after every message that the snapshot does not hold."""
    bids, asks = _Side(-1), _Side(1)
    columns = ["sequence_number", "receipt_timestamp", "side_is_bid", "price", "size"]
    rows = pl.read_parquet(deltas, hive_partitioning=False).select(columns)
    later = rows.filter(pl.col("sequence_number") > rest["sequence_number"][0])
    for *_, is_bid, price, size in rest.select(columns).iter_rows():
        (bids if is_bid else asks).set(price, size)
    for (sequence, _), message in groupby(later.iter_rows(), key=lambda row: row[:2]):
        for *_, is_bid, price, size in message:
            (bids if is_bid else asks).set(price, size)
        yield sequence, (bids.top(), asks.top())


def _levels_of(block: DepthRows, k: int, tick: Scale, lot: Scale):
    return tuple(
        [
            (price, size)
            for price, size in zip(
                tick.to_floats(prices[k]).tolist(), lot.to_floats(sizes[k]).tolist(), strict=True
            )
            if size
        ]
        for prices, sizes in (
            (block.bid_price_ticks, block.bid_size_lots),
            (block.ask_price_ticks, block.ask_size_lots),
        )
    )


def _snapshot_of(rest: pl.DataFrame) -> SnapshotBatch:
    sides = [rest.filter(pl.col("side_is_bid") == is_bid) for is_bid in (True, False)]
    columns = [side[part].to_numpy().reshape(1, -1) for side in sides for part in ("price", "size")]
    return SnapshotBatch(
        Path("rest"),
        0,
        rest["receipt_timestamp"][:1].to_numpy(),
        rest["sequence_number"][:1].to_numpy(),
        *columns,
    )
