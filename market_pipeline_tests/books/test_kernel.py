from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import ASK, BID, empty_levels
from market_pipeline.books.state import (
    DEPTH_LEVELS,
    REGISTERS,
    BboRows,
    Deltas,
    DepthRows,
    Options,
    Repair,
    Repairs,
    Resync,
    Snapshots,
    Status,
    as_input,
    new_registers,
)
from market_pipeline.books.walk import export_side, levels_around
from market_pipeline.quality.plain_book import NaiveBook, Row, Snapshot, naive_rebuild

SECOND = 1_000_000_000
COUNTED = (
    "rows",
    "messages",
    "unknown_removals",
    "refused_rows",
    "sequence_backwards",
    "gaps",
    "crossed_messages",
    "crossed_ns",
    "locked_messages",
    "locked_ns",
    "uncrossed_levels",
    "negative_latency_messages",
    "min_latency_ns",
    "max_latency_ns",
    "snapshots",
    "snapshots_unusable",
    "snapshots_unplaced",
    "resyncs",
    "levels_learned",
    "exams",
    "exams_failed",
    "exam_levels",
    "exam_levels_matching",
    "exam_levels_missing",
    "exam_levels_ours",
    "exam_levels_ghost",
    "exam_max_mid_deviation_half_ticks",
)


def arrays_of(rows: list[Row]) -> Deltas:
    columns = Deltas(
        np.array([r.origin for r in rows], np.int64),
        np.array([r.receipt for r in rows], np.int64),
        np.array([r.sequence for r in rows], np.int64),
        np.array([r.is_bid for r in rows], np.bool_),
        np.array([r.price for r in rows], np.int64),
        np.array([r.size for r in rows], np.int64),
    )
    return as_input(columns)


def snapshot_arrays(snapshots: list[Snapshot]) -> Snapshots:
    sides = [np.zeros((len(snapshots), DEPTH_LEVELS), np.int64) for _ in range(4)]
    for k, snapshot in enumerate(snapshots):
        for at, side in ((0, snapshot.bids), (2, snapshot.asks)):
            for level, (price, size) in enumerate(side):
                sides[at][k, level], sides[at + 1][k, level] = price, size
    columns = Snapshots(
        np.array([s.receipt for s in snapshots], np.int64),
        np.array([s.sequence for s in snapshots], np.int64),
        np.array([s.usable for s in snapshots], np.bool_),
        *sides,
    )
    return as_input(columns)


class Fast:
    """Drives the kernel as the driver does, with batches, windows and outputs as small as asked."""

    def __init__(self, naive: NaiveBook, *, window: int = 64, far: int = 32, output: int = 3):
        self.registers = new_registers()
        self.levels = empty_levels(window, far)
        self.options = Options(
            depth_interval_ns=0,
            keyframe_interval_ns=0,
            resync=int(Resync[naive.resync.upper()]),
            crossed_resync_ns=naive.crossed_resync_ns,
            uncross=naive.uncross,
            snapshot_patience_ns=naive.patience_ns,
        )
        self.window = window
        self.gap_rows = np.array(naive.gap_rows, np.int64)
        self.mended_rows = np.array(naive.mended_rows, np.int64)
        self.repair_rows = Repairs(*(np.zeros(2, np.int64) for _ in range(7)))
        self.bbo = BboRows(*(np.zeros(output, np.int64) for _ in range(7)), np.zeros(output, "u2"))
        sides = [np.zeros((output, DEPTH_LEVELS), np.int64) for _ in range(4)]
        times = [np.zeros(output, np.int64) for _ in range(3)]
        self.depth = DepthRows(*times, *sides, np.zeros(output, "u2"))

    def run(self, rows: list[Row], snapshots: list[Snapshot], cuts: list[int]) -> list[tuple]:
        edges = [0, *sorted(c % (len(rows) + 1) for c in cuts), len(rows)]
        batches = [rows[a:b] for a, b in pairwise(edges)]
        waiting = [snapshots[k : k + 2] for k in range(0, len(snapshots), 2)]
        current = snapshot_arrays(waiting.pop(0) if waiting else [])
        batch = arrays_of(batches.pop(0))
        row = snap = n_bbo = n_depth = n_repairs = 0
        out: list[tuple] = []
        self.tops: list[tuple] = []
        self.repairs: list[tuple] = []
        final = not batches
        while True:
            status, row, snap, n_bbo, n_depth, n_repairs = advance(
                self.registers, self.levels, batch, row, current, snap, bool(waiting),
                self.gap_rows, self.mended_rows, final, self.options, self.bbo, n_bbo,
                self.depth, n_depth, self.repair_rows, n_repairs,
            )  # fmt: skip
            if status == Status.NEEDS_SNAPSHOTS:
                current, snap = snapshot_arrays(waiting.pop(0)), 0
            elif status == Status.NEEDS_WINDOW:
                sides = [export_side(self.levels, side) for side in (BID, ASK)]
                self.levels = levels_around(1000, *sides, self.window, 2 * DEPTH_LEVELS)
            elif status == Status.NEEDS_ROWS:
                batch, row = arrays_of(batches.pop(0)), 0
                final = not batches
            else:
                out += list(zip(*(column[:n_bbo].tolist() for column in self.bbo[1:]), strict=True))
                self.tops += [self._top(k) for k in range(n_depth)]
                self.repairs += [
                    (Repair(kind).name, *rest)
                    for kind, *rest in zip(
                        *(column[:n_repairs].tolist() for column in self.repair_rows), strict=True
                    )
                ]
                n_bbo = n_depth = n_repairs = 0
                if status == Status.DONE:
                    return out

    def _top(self, k: int) -> tuple:
        def side(prices, sizes):
            return [(p, s) for p, s in zip(prices.tolist(), sizes.tolist(), strict=True) if s]

        return (
            side(self.depth.bid_price_ticks[k], self.depth.bid_size_lots[k]),
            side(self.depth.ask_price_ticks[k], self.depth.ask_size_lots[k]),
        )

    def counts(self) -> dict[str, int]:
        figures = dict(zip(REGISTERS, self.registers.tolist(), strict=True))
        return {name: figures[name] for name in COUNTED}


prices = st.one_of(st.integers(990, 1010), st.integers(900, 1100), st.integers(1, 10**12))
sizes = st.sampled_from([0, 0, 1, 2, 3, -1])


@st.composite
def side_of_snapshot(draw, best: int, away: int):
    steps = draw(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    level, out = best, []
    for step in steps:
        out.append((level, draw(st.integers(1, 3))))
        level += away * step
    return out


@st.composite
def feeds(draw):
    """Messages of a few rows, ids that mostly rise, snapshots at, between and off those ids."""
    rows: list[Row] = []
    snapshots: list[Snapshot] = []
    receipt, sequence = SECOND, 100
    for _ in range(draw(st.integers(1, 25))):
        receipt += draw(st.sampled_from([0, 1, SECOND // 2, 3 * SECOND, 12 * SECOND]))
        sequence += draw(st.sampled_from([1, 1, 2, 7, -3]))
        for _ in range(draw(st.integers(1, 5))):
            price = draw(prices)
            origin = receipt + draw(st.integers(-3, 3))
            rows.append(Row(receipt, sequence, draw(st.booleans()), price, draw(sizes), origin))
        if draw(st.integers(0, 3)) == 0:
            best = draw(st.integers(992, 1006))
            offset = draw(st.sampled_from([0, 0, 0, 1, 5]))
            snapshots.append(
                Snapshot(
                    receipt,
                    sequence + offset,
                    draw(side_of_snapshot(best, -1)),
                    draw(side_of_snapshot(best + draw(st.integers(1, 3)), 1)),
                    usable=draw(st.integers(0, 9)) > 0,
                )
            )
    firsts = [
        k
        for k, row in enumerate(rows)
        if k == 0 or (row.sequence, row.receipt) != (rows[k - 1].sequence, rows[k - 1].receipt)
    ]
    gap_rows = [k for k in firsts if draw(st.integers(0, 20)) == 0]
    mended_rows = [k for k in firsts if draw(st.integers(0, 20)) == 0]
    return rows, snapshots, gap_rows, mended_rows


class TestAgainstTheNaiveTwin:
    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        feeds(),
        st.sampled_from(["never", "when_invalid", "always"]),
        st.booleans(),
        st.lists(st.integers(0, 200), max_size=4),
    )
    def test_equals_it_wherever_the_batches_are_cut(self, feed, resync, uncross, cuts):
        """Rows, flags, repairs, the full book and every counter equal the plain twin's."""
        rows, snapshots, gap_rows, mended_rows = feed
        naive = NaiveBook(
            resync=resync, gap_rows=gap_rows, mended_rows=mended_rows, uncross=uncross
        )
        fast = Fast(naive)
        expected = naive_rebuild(naive, rows, snapshots)
        assert fast.run(rows, snapshots, cuts) == expected
        assert fast.repairs == naive.repairs
        assert fast.counts() == {name: naive.counts.get(name, 0) for name in COUNTED}
        for side, book in ((BID, naive.bids), (ASK, naive.asks)):
            price, size = export_side(fast.levels, side)
            assert price.tolist() == sorted(book, reverse=side == BID)
            assert size.tolist() == [book[p] for p in price.tolist()]

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(feeds())
    def test_top_levels_equal_its_sorted_book_after_every_message(self, feed):
        """With interval 0, depth is written after every message and holds the twin's best 20."""
        rows, *_ = feed
        naive = NaiveBook()
        fast = Fast(naive)
        fast.run(rows, [], [])
        expected = []
        messages: dict[int, list[Row]] = {}
        last = None
        for row in rows:
            if (row.sequence, row.receipt) != last:
                messages[len(messages)] = []
                last = (row.sequence, row.receipt)
            messages[len(messages) - 1].append(row)
        for message in messages.values():
            for row in message:
                naive.apply(row)
            expected.append(naive.top(DEPTH_LEVELS))
        assert fast.tops == expected


class TestMessages:
    def test_is_not_read_before_its_last_row(self):
        """A book crossed in the middle of a message and not at its end was never crossed."""
        rows = [
            Row(1, 1, True, 100, 5),
            Row(1, 1, False, 101, 5),
            Row(2, 2, True, 102, 5),
            Row(2, 2, False, 101, 0),
            Row(2, 2, False, 103, 5),
        ]
        out = Fast(NaiveBook()).run(rows, [], [3])
        assert [row[2:6] for row in out] == [(100, 5, 101, 5), (102, 5, 103, 5)]

    def test_equal_sequence_at_another_receipt_is_another_message(self):
        """The boundary key is the sequence number and the receipt time together."""
        rows = [Row(1, 7, True, 100, 1), Row(2, 7, True, 100, 2)]
        assert len(Fast(NaiveBook()).run(rows, [], [])) == 2


class TestPrices:
    def test_levels_a_trillion_ticks_apart_are_exact(self):
        """Any price range is exact in a window of 64 ticks, and memory follows the levels."""
        far = [Row(k, k, True, 1 + k * 10**9, k) for k in range(1, 200)]
        near = [Row(1000, 1000, False, 10**12, 3)]
        fast = Fast(NaiveBook())
        fast.run(far + near, [], [])
        price, size = export_side(fast.levels, BID)
        assert price.tolist() == [1 + k * 10**9 for k in range(199, 0, -1)]
        assert size.tolist() == list(range(199, 0, -1))
