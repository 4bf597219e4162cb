from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import ASK, BID, empty_levels
from market_pipeline.books.state import (
    DEPTH_LEVELS,
    HOURLY,
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
    figures_of,
    hourly_figures_of,
    new_registers,
)
from market_pipeline.books.walk import export_side, levels_around
from market_pipeline.quality.plain_book import PlainBook, plain_rebuild
from market_pipeline.quality.plain_feed import Row, Snapshot, messages_of

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
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
    "exam_size_lots",
    "exam_size_error_lots",
    *(name for name in REGISTERS if name.startswith(("exam_first_failed_", "exam_worst_"))),
)


def arrays_of(rows: list[Row]) -> Deltas:
    columns = Deltas(
        np.array([r.ts_origin_ns for r in rows], np.int64),
        np.array([r.ts_receipt_ns for r in rows], np.int64),
        np.array([r.sequence_number for r in rows], np.int64),
        np.array([r.is_bid for r in rows], np.bool_),
        np.array([r.price_ticks for r in rows], np.int64),
        np.array([r.size_lots for r in rows], np.int64),
    )
    return as_input(columns)


def snapshot_arrays(snapshots: list[Snapshot]) -> Snapshots:
    sides = [np.zeros((len(snapshots), DEPTH_LEVELS), np.int64) for _ in range(4)]
    for k, snapshot in enumerate(snapshots):
        for at, side in ((0, snapshot.bids), (2, snapshot.asks)):
            for level, (price, size) in enumerate(side):
                sides[at][k, level], sides[at + 1][k, level] = price, size
    columns = Snapshots(
        np.array([s.ts_receipt_ns for s in snapshots], np.int64),
        np.array([s.sequence_number for s in snapshots], np.int64),
        np.array([s.usable for s in snapshots], np.bool_),
        *sides,
    )
    return as_input(columns)


class Fast:
    """Drives the kernel as the driver does, with batches, windows and outputs as small as asked."""

    def __init__(
        self,
        naive: PlainBook,
        gap_rows: Sequence[int] = (),
        mended_rows: Sequence[int] = (),
        *,
        window: int = 64,
        far: int = 32,
        output: int = 3,
    ):
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
        self.gap_rows = np.array(gap_rows, np.int64)
        self.mended_rows = np.array(mended_rows, np.int64)
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
                out += list(zip(*(column[:n_bbo].tolist() for column in self.bbo), strict=True))
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
        figures = figures_of(self.registers)
        return {name: figures[name] for name in COUNTED}


def key_of(row: Row) -> tuple[int, int]:
    return row.sequence_number, row.ts_receipt_ns


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
        receipt += draw(st.sampled_from([0, 1, SECOND // 2, 3 * SECOND, 12 * SECOND, 5 * HOUR]))
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
    firsts = [k for k, row in enumerate(rows) if k == 0 or key_of(row) != key_of(rows[k - 1])]
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
        naive = PlainBook(resync=resync, uncross=uncross)
        fast = Fast(naive, gap_rows, mended_rows)
        expected = list(plain_rebuild(naive, messages_of(rows, gap_rows, mended_rows), snapshots))
        assert fast.run(rows, snapshots, cuts) == expected
        assert fast.repairs == naive.repairs
        assert fast.counts() == {name: naive.counts.get(name, 0) for name in COUNTED}
        nothing = [0] * 24
        assert hourly_figures_of(fast.registers) == {
            name: naive.hourly.get(name, nothing) for name in HOURLY
        }
        for side, book in ((BID, naive.bids), (ASK, naive.asks)):
            price, size = export_side(fast.levels, side)
            assert price.tolist() == sorted(book.sizes, reverse=side == BID)
            assert size.tolist() == [book.sizes[p] for p in price.tolist()]

    @settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
    @given(feeds())
    def test_top_levels_equal_its_sorted_book_after_every_message(self, feed):
        """With interval 0, depth is written after every message and holds the twin's best 20."""
        rows, *_ = feed
        naive = PlainBook()
        fast = Fast(naive)
        fast.run(rows, [], [])
        rebuilt = plain_rebuild(naive, messages_of(rows), [])
        assert fast.tops == [naive.top(DEPTH_LEVELS) for _ in rebuilt]


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
        out = Fast(PlainBook()).run(rows, [], [3])
        assert [row[3:7] for row in out] == [(100, 5, 101, 5), (102, 5, 103, 5)]

    def test_equal_sequence_at_another_receipt_is_another_message(self):
        """The boundary key is the sequence number and the receipt time together."""
        rows = [Row(1, 7, True, 100, 1), Row(2, 7, True, 100, 2)]
        assert len(Fast(PlainBook()).run(rows, [], [])) == 2


class TestPrices:
    def test_levels_a_trillion_ticks_apart_are_exact(self):
        """Any price range is exact in a window of 64 ticks, and memory follows the levels."""
        far = [Row(k, k, True, 1 + k * 10**9, k) for k in range(1, 200)]
        near = [Row(1000, 1000, False, 10**12, 3)]
        fast = Fast(PlainBook())
        fast.run(far + near, [], [])
        price, size = export_side(fast.levels, BID)
        assert price.tolist() == [1 + k * 10**9 for k in range(199, 0, -1)]
        assert size.tolist() == list(range(199, 0, -1))


def seeded_with(size: int) -> Snapshot:
    """A snapshot of three levels a side, all of one size."""
    return Snapshot(
        SECOND, 1, [(100 - n, size) for n in range(3)], [(101 + n, size) for n in range(3)]
    )


class TestExams:
    def test_sums_of_sizes_pass_64_bits(self):
        """Ten exams of the largest sizes there are, one level gone, add up exactly."""
        largest = 2**62 - 512
        naive = PlainBook(resync="never")
        rows = [Row(SECOND, 1, True, 5, 1)]
        rows += [Row(SECOND * n, n, True, 98, 0) for n in range(2, 12)]
        snapshots = [seeded_with(largest)]
        snapshots += [
            replace(snapshots[0], ts_receipt_ns=SECOND * n, sequence_number=n) for n in range(2, 12)
        ]
        fast = Fast(naive)
        fast.run(rows, snapshots, [])
        counts = fast.counts()

        assert (10, 0) == (counts["exams"], counts["exams_failed"])
        assert counts["exam_size_lots"] == 10 * 6 * largest
        assert counts["exam_size_error_lots"] == 10 * largest

    def test_tells_the_first_failed_and_the_worst(self):
        """The worst is that with the mid farthest off, then that with the most levels differing."""
        seed = seeded_with(5)
        deeper = replace(
            seed, ts_receipt_ns=2 * HOUR, sequence_number=2, bids=[(100, 5), (99, 4), (98, 5)]
        )
        first = replace(
            seed, ts_receipt_ns=3 * HOUR, sequence_number=3, bids=[(100, 4), (99, 5), (98, 5)]
        )
        worst = replace(
            seed, ts_receipt_ns=3 * HOUR + 1, sequence_number=4, bids=[(99, 5), (98, 5)]
        )
        later = replace(worst, ts_receipt_ns=4 * HOUR, sequence_number=5)
        snapshots = [seed, deeper, first, worst, later]
        rows = [Row(each.ts_receipt_ns, each.sequence_number, True, 1, 1) for each in snapshots]
        fast = Fast(PlainBook(resync="never"))
        fast.run(rows, snapshots, [])
        counts, by_hour = fast.counts(), hourly_figures_of(fast.registers)

        assert (4, 3) == (counts["exams"], counts["exams_failed"])
        assert (3, 3 * HOUR, 1) == tuple(
            counts[f"exam_first_failed_{name}"]
            for name in ("sequence_number", "ts_receipt_ns", "levels_differing")
        )
        assert (5, 4) == (
            counts["exam_first_failed_our_bid_lots"],
            counts["exam_first_failed_their_bid_lots"],
        )
        assert (4, 3 * HOUR + 1, 1, 1) == (
            counts["exam_worst_sequence_number"],
            counts["exam_worst_ts_receipt_ns"],
            counts["exam_worst_levels_differing"],
            counts["exam_max_mid_deviation_half_ticks"],
        )
        assert (100, 99) == (
            counts["exam_worst_our_bid_ticks"],
            counts["exam_worst_their_bid_ticks"],
        )
        assert [1, 2, 1] == by_hour["exams_per_hour"][2:5]
        assert [0, 2, 1] == by_hour["exams_failed_per_hour"][2:5]
        assert [1, 2, 1] == by_hour["exam_levels_differing_per_hour"][2:5]
