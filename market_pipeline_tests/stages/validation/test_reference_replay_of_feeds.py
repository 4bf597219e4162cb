from __future__ import annotations

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from market_pipeline.config.instruments import GapRule, Instrument, Policies
from market_pipeline.quality.reference.feed import Row, Snapshot
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, TRADES, day_folder
from market_pipeline.stages.validation.context import InstrumentDay
from market_pipeline.stages.validation.reference_replay import measure_reference_replay
from market_pipeline.warehouse.layout import Warehouse
from market_pipeline_tests.books.feeds import feeds
from market_pipeline_tests.sources.raw_files import shard, snapshots, trades
from market_pipeline_tests.stages.validation.replay_days import published

pytestmark = pytest.mark.slow

DAY_ZERO = date(1970, 1, 1)
SMALL = Instrument(
    venue="BINANCE",
    symbol="BTC-USDT",
    source="crypto_lake",
    tick="1",
    lot="1",
    gap_rule=GapRule(silence_floor_seconds=1.0),
)
OFF_THE_GRID = 0.5


def figures(day: InstrumentDay) -> tuple[int, int, int]:
    found = measure_reference_replay(day).columns
    return tuple(found[f"reference_{n}"] for n in ("minutes", "messages", "differing_messages"))


def write(lake: Path, rows: list[Row], books: list[Snapshot]) -> None:
    """A day of the lake; a refused row is off the lot, an unusable snapshot has such a size."""
    table = pa.table(
        {
            "timestamp": [row.ts_origin_ns for row in rows],
            "receipt_timestamp": [row.ts_receipt_ns for row in rows],
            "sequence_number": [row.sequence_number for row in rows],
            "side_is_bid": [row.is_bid for row in rows],
            "price": [float(row.price_ticks) for row in rows],
            "size": [float(row.size_lots) if row.size_lots >= 0 else OFF_THE_GRID for row in rows],
        }
    )
    shard(day_folder(lake, DELTAS, SMALL.venue, SMALL.symbol, DAY_ZERO), 1, table, row_group_size=7)
    if books:
        levels: dict[str, list[float | None]] = {}
        for side in ("bid", "ask"):
            for level in range(20):
                there = [
                    getattr(book, f"{side}s")[level]
                    if level < len(getattr(book, f"{side}s"))
                    else None
                    for book in books
                ]
                levels[f"{side}_{level}_price"] = [p and float(p[0]) for p in there]
                levels[f"{side}_{level}_size"] = [
                    p and (float(p[1]) if book.usable else OFF_THE_GRID)
                    for p, book in zip(there, books, strict=True)
                ]
        received = [book.ts_receipt_ns for book in books]
        shard(
            day_folder(lake, SNAPSHOTS, SMALL.venue, SMALL.symbol, DAY_ZERO),
            1,
            snapshots(
                len(books),
                timestamp=received,
                receipt_timestamp=received,
                sequence_number=[book.sequence_number for book in books],
                **{name: pa.array(values, pa.float64()) for name, values in levels.items()},
            ),
        )
    end = max(4, max(row.ts_receipt_ns for row in rows) // 10**9 + 2)
    times = [second * 10**9 // 2 for second in range(2 * (end // 2 * 2))]
    shard(
        day_folder(lake, TRADES, SMALL.venue, SMALL.symbol, DAY_ZERO),
        1,
        trades(len(times), timestamp=times, receipt_timestamp=times),
    )


@example_settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(feeds(), feeds(60, calm=True)),
    st.sampled_from(["never", "when_invalid", "always"]),
    st.sampled_from(["flag", "uncross", "resync"]),
    st.integers(1, 7),
)
def test_any_small_day(feed, resync, crossed, seconds):
    """From every keyframe that can be begun with, and from the start, no message differs."""
    rows, books, *_ = feed
    of = SMALL.model_copy(update={"policies": Policies(resync=resync, crossed=crossed)})
    with TemporaryDirectory() as name:
        root = Path(name)
        write(root / "lake", rows, books)
        warehouse = Warehouse(root / "data")
        warehouse.prepare()
        day = published(
            root,
            root / "lake",
            warehouse,
            of,
            DAY_ZERO,
            checkpoint_seconds=seconds,
            depth_interval_ms=0,
            reference_minutes=5,
        )
        measured = measure_reference_replay(day)

    assert (0, None) == (
        measured.columns["reference_differing_messages"],
        measured.columns["reference_first_difference"],
    )


def test_a_snapshot_that_was_given_up(folder: Path, lake: Path, warehouse: Warehouse):
    """One whose number did not come for long is not met after a keyframe, when it does come."""
    # The number jumps past the stray one's with the first message after the keyframe at 60 s.
    numbers = [100 + k + 100 * (k >= 20) for k in range(1, 60)]
    rows = [
        Row(3 * k * 10**9, number, k % 2 == 0, 1000 + k % 2, 1 + k, 0)
        for k, number in enumerate(numbers, start=1)
    ]
    levels = [(1000, 3), (990, 1)], [(1001, 3), (1010, 1)]
    seed, stray = Snapshot(3 * 10**9, 101, *levels), Snapshot(6 * 10**9, 130, *levels)
    write(lake, rows, [seed, stray])
    of = SMALL.model_copy(update={"policies": Policies(resync="always")})
    day = published(
        folder, lake, warehouse, of, DAY_ZERO, checkpoint_seconds=20, reference_minutes=20
    )

    assert (1, 0) == (day.record.snapshots_unplaced, day.record.resyncs)
    assert (9, 0) == (figures(day)[0], figures(day)[2])
