from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.from_snapshots import SnapshotRebuild
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, DepthRows
from market_pipeline.sources.batches import SnapshotBatch

SECOND = 10**9
LEVELS = 3
FLAGS = BboRows._fields.index("flags")
ONLY, CROSSED, LOCKED, STALE, EMPTY, BAD_RECEIPT, BAD_ORIGIN, OUTSIDE = (
    int(flag)
    for flag in (
        BookFlag.SNAPSHOT_ONLY,
        BookFlag.CROSSED,
        BookFlag.LOCKED,
        BookFlag.STALE,
        BookFlag.EMPTY_SIDE,
        BookFlag.BAD_TS_RECEIPT,
        BookFlag.BAD_TS_ORIGIN,
        BookFlag.OUTSIDE_DAY,
    )
)
Side = tuple[tuple[float, float], ...]
"""Prices and sizes, best first; a level of size 0 is not there."""


@dataclass(frozen=True)
class Snapshot:
    """A snapshot in tenths: tick 0.1, lot 0.1, times in ns."""

    receipt: int
    sequence: int
    bids: Side = ((100.0, 1.0),)
    asks: Side = ((100.5, 2.0),)
    latency: int = 1_000
    marks: int = 0

    @property
    def origin(self) -> int:
        return self.receipt - self.latency


def batch(snapshots: list[Snapshot], first_row: int = 0) -> SnapshotBatch:
    def side(name: str, part: int) -> np.ndarray:
        padded = [[*getattr(s, name), *[(0.0, 0.0)] * LEVELS][:LEVELS] for s in snapshots]
        return np.array([[level[part] for level in levels] for levels in padded]).reshape(
            -1, LEVELS
        )

    return SnapshotBatch(
        file=Path("book"),
        first_row=first_row,
        ts_receipt_ns=np.array([s.receipt for s in snapshots], np.int64),
        sequence_number=np.array([s.sequence for s in snapshots], np.int64),
        bid_price=side("bids", 0),
        bid_size=side("bids", 1),
        ask_price=side("asks", 0),
        ask_size=side("asks", 1),
        ts_origin_ns=np.array([s.origin for s in snapshots], np.int64),
    )


def rebuilt(
    snapshots: list[Snapshot],
    cuts: tuple[int, ...] = (),
    *,
    depth_interval_ms: int | None = 0,
    keyframe_seconds: int = 0,
    silence_ns: int = 10 * SECOND,
    day: date | None = None,
):
    """The rebuild, and its rows as plain values: touches with flags, depths, keyframes."""
    rebuild = SnapshotRebuild(
        Scale.of(Decimal("0.1")),
        Scale.of(Decimal("0.1")),
        RebuildOptions(
            depth_interval_ms=depth_interval_ms, keyframe_seconds=keyframe_seconds, day=day
        ),
        silence_ns=silence_ns,
        marks=np.array([each.marks for each in snapshots], np.int64),
    )
    borders = [0, *sorted(cut % (len(snapshots) + 1) for cut in cuts), len(snapshots)]
    batches = [batch(snapshots[a:b], a) for a, b in pairwise(borders)]
    bbo: list[tuple] = []
    depth: list[tuple] = []
    frames: list[Keyframe] = []
    for block in rebuild.blocks(batches):
        if isinstance(block, Keyframe):
            frames.append(block)
        elif isinstance(block, DepthRows):
            depth += zip(*(column.tolist() for column in block), strict=True)
        else:
            assert isinstance(block, BboRows)
            bbo += zip(*(column.tolist() for column in block), strict=True)
    return rebuild, bbo, depth, frames


def naive(snapshots: list[Snapshot], silence_ns: int) -> tuple[list[tuple], int, int]:
    """The rows one after the other, how many are no book, and how many come too late."""

    def levels(side: Side) -> list[tuple[int, int]] | None:
        there = [k for k, (_, size) in enumerate(side) if size]
        if there != list(range(len(there))):
            return None
        steps = [(price * 10, size * 10) for price, size in side if size]
        if any(abs(v - round(v)) > 1e-6 for pair in steps for v in pair):
            return None
        return [(round(price), round(size)) for price, size in steps]

    kept: list[tuple[Snapshot, list, list]] = []
    unusable = late = 0
    for each in snapshots:
        bids, asks = levels(each.bids), levels(each.asks)
        if (
            bids is None
            or asks is None
            or not bids + asks
            or any(a[0] <= b[0] for a, b in pairwise(bids))
            or any(a[0] >= b[0] for a, b in pairwise(asks))
        ):
            unusable += 1
        elif kept and not (
            each.receipt > kept[-1][0].receipt or each.sequence > kept[-1][0].sequence
        ):
            late += 1
        else:
            kept.append((each, bids, asks))
    rows = []
    clock = None
    for k, (each, bids, asks) in enumerate(kept):
        flags = ONLY | each.marks
        if not each.marks & BAD_RECEIPT:
            clock = max(each.receipt, each.receipt if clock is None else clock)
        if not (bids and asks):
            flags |= EMPTY
        elif bids[0][0] >= asks[0][0]:
            flags |= CROSSED if bids[0][0] > asks[0][0] else LOCKED
        if k + 1 < len(kept):
            after = kept[k + 1][0]
            is_long = clock is None or after.receipt - clock > silence_ns
            bad_origins = (each.marks | after.marks) & BAD_ORIGIN
            if (
                is_long
                and not after.marks & BAD_RECEIPT
                and (bad_origins or after.origin - each.origin > silence_ns)
            ):
                flags |= STALE
        bid, ask = (bids or [(0, 0)])[0], (asks or [(0, 0)])[0]
        rows.append((each.origin, each.receipt, each.sequence, *bid, *ask, flags))
    return rows, unusable, late


CLOCK_STEPS = st.sampled_from([0, 1, SECOND, 11 * SECOND, -SECOND, -12 * SECOND])
ID_STEPS = st.sampled_from([0, 1, 7, -1, -9])
SIZES = st.sampled_from([0.0, 1.0, 1.0, 1.0, 1.0, 2.05])
IS_REVERSED = st.sampled_from([False, False, True])
BEST_BIDS = st.sampled_from([100.0, 100.2, 100.4, 100.25])
LATENCIES = st.sampled_from([0, 1_000, -5 * SECOND])
MARKS = st.sampled_from([0, 0, 0, 0, BAD_RECEIPT, BAD_ORIGIN])


@st.composite
def days(draw):
    """Snapshots with clocks and ids that step back, holes, values off the grid, crossed touches."""
    snapshots = []
    receipt, sequence = 1_000 * SECOND, 500
    for _ in range(draw(st.integers(0, 14))):
        receipt += draw(CLOCK_STEPS)
        sequence += draw(ID_STEPS)

        def side(best: float, step: float) -> Side:
            count = draw(st.integers(0, LEVELS))
            levels = [(round(best + step * k, 3), draw(SIZES)) for k in range(count)]
            return tuple(levels[::-1] if draw(IS_REVERSED) else levels)

        bids, asks = side(draw(BEST_BIDS), -0.1), side(100.2, 0.1)
        snapshots.append(Snapshot(receipt, sequence, bids, asks, draw(LATENCIES), draw(MARKS)))
    return snapshots


class TestAgainstANaiveTwin:
    @settings(max_examples=300)
    @given(days(), st.lists(st.integers(0, 14), max_size=4))
    def test_rows_and_counts(self, snapshots, cuts):
        """Rows, flags and what is left out equal the twin's, wherever the feed is cut."""
        expected, unusable, late = naive(snapshots, 10 * SECOND)
        rebuild, bbo, depth, _ = rebuilt(snapshots, tuple(cuts))
        figures = rebuild.figures

        # A side that is empty has a size of 0, and any price.
        assert expected == [
            (*row[:3], *(row[3:5] if row[4] else (0, 0)), *(row[5:7] if row[6] else (0, 0)), row[7])
            for row in bbo
        ]
        assert (len(snapshots), unusable, late, len(expected)) == tuple(
            figures[name]
            for name in ("snapshots", "snapshots_unusable", "snapshots_unplaced", "messages")
        )
        assert len(expected) == len(depth)

    @settings(max_examples=150)
    @given(days(), st.lists(st.integers(0, 14), max_size=4))
    def test_depth_and_keyframes_by_interval(self, snapshots, cuts):
        """Depth and keyframes are those of the last row before the clock leaves each interval."""
        rows, _, _ = naive(snapshots, 10 * SECOND)
        _, _, depth, frames = rebuilt(
            snapshots, tuple(cuts), depth_interval_ms=5_000, keyframe_seconds=10
        )

        def last(width: int) -> list[int]:
            after = [row[1] // width for row in rows[1:]]
            return [k for k, at in enumerate(after) if rows[k][1] // width != at]

        ends = len(rows) - 1
        assert [rows[k][1:3] for k in sorted({*last(5 * SECOND), ends} - {-1})] == [
            row[1:3] for row in depth
        ]
        assert [("keyframe", k + 1) for k in last(10 * SECOND)] + [
            ("closing", len(rows)) for _ in rows[:1]
        ] == [(frame.kind, frame.messages) for frame in frames]


class TestRows:
    def test_a_snapshot_is_a_row(self):
        """Times, number, touch and levels are those of the snapshot, in ticks and lots."""
        one = Snapshot(SECOND, 7, ((100.0, 1.5), (99.8, 2.0)), ((100.5, 0.1),))
        _, bbo, depth, (closing,) = rebuilt([one])

        assert [(SECOND - 1_000, SECOND, 7, 1000, 15, 1005, 1, ONLY, False)] == bbo
        assert [1000, 998, 0] == depth[0][3][:3]
        assert [15, 20, 0] == depth[0][4][:3]
        assert (False, 0, 2, 1) == depth[0][-4:]
        assert ("closing", 1, ONLY, [1000, 998], [1005], 998, 1005) == (
            closing.kind,
            closing.messages,
            closing.flags,
            closing.bid_price_ticks.tolist(),
            closing.ask_price_ticks.tolist(),
            closing.bid_horizon_ticks,
            closing.ask_horizon_ticks,
        )

    def test_nothing_becomes_nothing(self):
        """Without a usable snapshot there is no row and no closing book."""
        nothing = Snapshot(SECOND, 7, (), ())
        rebuild, bbo, depth, frames = rebuilt([nothing, nothing])

        assert ([], [], []) == (bbo, depth, frames)
        assert (2, 0) == (rebuild.figures["snapshots_unusable"], rebuild.figures["seeded"])

    def test_an_empty_side(self):
        """A snapshot with one side is a row, flagged, and its book reaches nowhere there."""
        _, bbo, _, (closing,) = rebuilt([Snapshot(SECOND, 7, asks=())])

        assert [ONLY | EMPTY] == [row[FLAGS] for row in bbo]
        assert (1000, None) == (closing.bid_horizon_ticks, closing.ask_horizon_ticks)

    def test_values_off_the_grid_are_located(self):
        """A snapshot with a value off the grid is no row; file, row and value are kept."""
        off = Snapshot(2 * SECOND, 8, bids=((100.05, 1.0),), asks=((100.5, 0.25),))
        rebuild, bbo, _, _ = rebuilt([Snapshot(SECOND, 7), off, Snapshot(3 * SECOND, 9)], (1,))

        assert [7, 9] == [row[2] for row in bbo]
        assert [(1, 1, 100.05)] == [
            (rebuild.off_tick.losses, step.row, step.value) for step in rebuild.off_tick.first
        ]
        assert [(1, 1, 0.25)] == [
            (rebuild.off_lot.losses, step.row, step.value) for step in rebuild.off_lot.first
        ]

    @pytest.mark.parametrize(
        ("times", "numbers", "kept"),
        [
            ([1, 3, 2, 4], [1, 3, 2, 4], [1, 3, 4]),
            ([1, 2, 2, 3], [1, 2, 2, 3], [1, 2, 3]),
            ([10, 11, 5, 6], [1, 2, 3, 4], [1, 2, 3, 4]),
            ([1, 2, 3, 4], [10, 11, 1, 2], [10, 11, 1, 2]),
        ],
        ids=["swapped", "told twice", "clock set back", "ids begun anew"],
    )
    def test_order(self, times, numbers, kept):
        """Only what is later by neither number nor time than the row before is left out."""
        snapshots = [
            Snapshot(time * SECOND, number) for time, number in zip(times, numbers, strict=True)
        ]
        rebuild, bbo, _, _ = rebuilt(snapshots)

        assert kept == [row[2] for row in bbo]
        assert 4 - len(kept) == rebuild.figures["snapshots_unplaced"]

    @pytest.mark.parametrize(
        ("later", "latency", "stale"), [(10, 0, 0), (11, 0, STALE), (11, 2 * SECOND, 0)]
    )
    def test_a_silence(self, later, latency, stale):
        """The row before a hole is stale if both clocks show it to be too long."""
        second = Snapshot((1 + later) * SECOND, 8, latency=latency)
        _, bbo, _, _ = rebuilt([Snapshot(SECOND, 7, latency=0), second])

        assert [ONLY | stale, ONLY] == [row[FLAGS] for row in bbo]

    @pytest.mark.parametrize("stamp", [0, 900 * SECOND])
    def test_a_bad_stamp(self, stamp):
        """It is flagged, hides no hole behind it, makes none, and counts as no latency."""
        bad = Snapshot(stamp, 8, marks=BAD_RECEIPT)
        rebuild, bbo, _, _ = rebuilt(
            [Snapshot(SECOND, 7), bad, Snapshot(3 * SECOND, 9), Snapshot(20 * SECOND, 10)]
        )

        assert [ONLY, ONLY | BAD_RECEIPT, ONLY | STALE, ONLY] == [row[FLAGS] for row in bbo]
        assert (1, 1_000, 1_000) == tuple(
            rebuild.figures[name]
            for name in ("bad_receipt_stamps", "min_latency_ns", "max_latency_ns")
        )

    def test_outside_the_day(self):
        """A row received before the UTC day or after it is flagged and counted; none inside is."""
        midnight = 19_943 * 86_400 * SECOND
        times = [midnight - 1, midnight, midnight + 86_400 * SECOND - 1, midnight + 86_400 * SECOND]
        snapshots = [Snapshot(time, number) for number, time in enumerate(times)]
        rebuild, bbo, _, _ = rebuilt(snapshots, silence_ns=10**15, day=date(2024, 8, 8))

        assert [ONLY | OUTSIDE, ONLY, ONLY, ONLY | OUTSIDE] == [row[FLAGS] for row in bbo]
        assert 2 == rebuild.figures["outside_day_messages"]

    def test_figures(self):
        """Crossed and locked time, latencies and the seed are counted as by the rebuild."""
        snapshots = [
            Snapshot(1 * SECOND, 7),
            Snapshot(2 * SECOND, 8, bids=((100.6, 1.0),)),
            Snapshot(4 * SECOND, 9, bids=((100.5, 1.0),), latency=-5),
            Snapshot(7 * SECOND, 10, latency=9_000),
        ]
        rebuild, _, _, _ = rebuilt(snapshots)

        assert {
            "crossed_messages": 1,
            "crossed_ns": 2 * SECOND,
            "locked_messages": 1,
            "locked_ns": 3 * SECOND,
            "negative_latency_messages": 1,
            "min_latency_ns": -5,
            "max_latency_ns": 9_000,
            "seeded": 1,
            "seed_sequence_number": 7,
            "seed_ts_receipt_ns": SECOND,
            "bid_horizon_ticks": 1000,
            "ask_horizon_ticks": 1005,
            "snapshots_compared": 0,
            "rows": 0,
        }.items() <= rebuild.figures.items()

    def test_the_exchanges_times_are_needed(self):
        """Snapshots that were read without the exchange's times are refused."""
        bare = batch([Snapshot(SECOND, 7)])
        bare = SnapshotBatch(**{n: getattr(bare, n) for n in bare.__slots__ if n != "ts_origin_ns"})
        rebuild = SnapshotRebuild(
            Scale.of(Decimal("0.1")),
            Scale.of(Decimal("0.1")),
            RebuildOptions(),
            silence_ns=1,
            marks=np.zeros(1, np.int64),
        )

        with pytest.raises(ValueError, match="the exchange's time"):
            list(rebuild.blocks([bare]))
