from __future__ import annotations

import numpy as np

from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.rebuild_figures import rebuild_figures
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import Resync
from market_pipeline.quality.reference.feed import Row, Snapshot
from market_pipeline_tests.books.test_resumed import ONE, Feed

HOUR = 3_600 * 10**9
FIRST_MISMATCH = (
    "first_mismatch_ns",
    "first_mismatch_sequence_number",
    "first_mismatch_levels_differing",
    "first_mismatch_ours",
    "first_mismatch_theirs",
)
WORST = tuple(name.replace("first", "worst") for name in FIRST_MISMATCH)


def snapshot(hour: int, bid: int = 100, bid_size: int = 5, second_size: int = 5) -> Snapshot:
    """Received at the hour, which is also its sequence number."""
    return Snapshot(hour * HOUR, hour, [(bid, bid_size), (98, second_size)], [(101, 5), (103, 5)])


def columns_after(*snapshots: Snapshot) -> dict[str, object]:
    """What a book that only repeats itself comes to in these comparisons."""
    rows = [Row(each.ts_receipt_ns, each.sequence_number, True, 90, 1) for each in snapshots]
    feed = Feed(rows, list(snapshots), [], [], np.empty(0, np.int64))
    rebuild = Rebuild(ONE, ONE, RebuildOptions(resync=Resync.NEVER))
    for _ in rebuild.blocks(feed.deltas([]), feed.books(2)):
        pass
    return rebuild_figures(rebuild).as_record()


def test_without_a_snapshot():
    """A day of one snapshot has no figure but hours of nothing."""
    columns = columns_after(snapshot(1))

    assert {None} == {columns[name] for name in (*FIRST_MISMATCH, *WORST, "snapshot_size_error")}
    assert (None, [0] * 24) == (
        columns["max_mid_deviation_ticks"],
        columns["snapshots_compared_per_hour"],
    )


def test_snapshots_that_agree():
    """Nothing failed and nothing is worst; the hours of the comparisons are counted."""
    columns = columns_after(snapshot(1), snapshot(2), snapshot(3))

    assert {None} == {columns[name] for name in (*FIRST_MISMATCH, *WORST)}
    assert (0.0, 0.0) == (columns["max_mid_deviation_ticks"], columns["snapshot_size_error"])
    assert [0, 0, 1, 1, 0] == columns["snapshots_compared_per_hour"][:5]


def test_levels_that_differ_below_the_touch():
    """They fail a comparison as the touch does, are the worst place, and an error of size."""
    columns = columns_after(snapshot(1), snapshot(2, second_size=10))

    touch = "bid 100 x 5, ask 101 x 5"
    assert (2 * HOUR, 2, 1, touch, touch) == tuple(columns[name] for name in FIRST_MISMATCH)
    assert (2 * HOUR, 2, 1, touch, touch) == tuple(columns[name] for name in WORST)
    assert 5 / 25 == columns["snapshot_size_error"]


def test_the_first_and_the_worst():
    """Both are told with the touch on either side."""
    columns = columns_after(snapshot(1), snapshot(2, bid_size=4), snapshot(3, bid=99))
    ours = "bid 100 x 5, ask 101 x 5"

    assert (2 * HOUR, 2, 1, ours, "bid 100 x 4, ask 101 x 5") == tuple(
        columns[name] for name in FIRST_MISMATCH
    )
    assert (3 * HOUR, 3, 2, ours, "bid 99 x 5, ask 101 x 5") == tuple(
        columns[name] for name in WORST
    )
    assert 0.5 == columns["max_mid_deviation_ticks"]
    assert [0, 0, 1, 1] == columns["snapshots_mismatched_per_hour"][:4]


def test_a_side_that_is_empty():
    """Our bids may be gone; prices and sizes are in the day's own steps."""
    rows = [
        Row(HOUR, 1, True, 90, 1),
        *(Row(2 * HOUR, 2, True, price, 0) for price in (100, 98, 90)),
    ]
    feed = Feed(rows, [snapshot(1), snapshot(2)], [], [], np.empty(0, np.int64))
    rebuild = Rebuild(Scale(1, 0), Scale(1, 0), RebuildOptions(resync=Resync.NEVER))
    for _ in rebuild.blocks(feed.deltas([]), feed.books(2)):
        pass
    columns = rebuild_figures(rebuild).as_record()

    assert "no bid, ask 101 x 5" == columns["first_mismatch_ours"]
    assert 0.0 == columns["max_mid_deviation_ticks"]
