from __future__ import annotations

from dataclasses import replace

from market_pipeline.books.registers import hourly_figures_of
from market_pipeline.quality.reference.book import PlainBook
from market_pipeline.quality.reference.feed import Row, Snapshot
from market_pipeline_tests.books.feeds import HOUR, SECOND
from market_pipeline_tests.books.test_kernel import Fast


def seeded_with(size: int) -> Snapshot:
    """A snapshot of three levels a side, all of one size."""
    return Snapshot(
        SECOND, 1, [(100 - n, size) for n in range(3)], [(101 + n, size) for n in range(3)]
    )


class TestSnapshotMatch:
    def test_sums_of_sizes_pass_64_bits(self):
        """Ten snapshots of the largest sizes there are, one level gone in each, add up exactly."""
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

        assert (10, 10) == (counts["snapshots_compared"], counts["snapshots_mismatched"])
        assert counts["snapshot_size_lots"] == 10 * 6 * largest
        assert counts["snapshot_size_error_lots"] == 10 * largest

    def test_reports_the_first_and_the_worst(self):
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

        assert (4, 4) == (counts["snapshots_compared"], counts["snapshots_mismatched"])
        # A level that differs below the touch fails a comparison, too.
        assert (2, 2 * HOUR, 1) == tuple(
            counts[f"first_mismatch_{name}"]
            for name in ("sequence_number", "ts_receipt_ns", "levels_differing")
        )
        assert (5, 5) == (
            counts["first_mismatch_our_bid_lots"],
            counts["first_mismatch_their_bid_lots"],
        )
        assert (4, 3 * HOUR + 1, 1, 1) == (
            counts["worst_mismatch_sequence_number"],
            counts["worst_mismatch_ts_receipt_ns"],
            counts["worst_mismatch_levels_differing"],
            counts["snapshot_max_mid_deviation_half_ticks"],
        )
        assert (100, 99) == (
            counts["worst_mismatch_our_bid_ticks"],
            counts["worst_mismatch_their_bid_ticks"],
        )
        assert [1, 2, 1] == by_hour["snapshots_compared_per_hour"][2:5]
        assert [1, 2, 1] == by_hour["snapshots_mismatched_per_hour"][2:5]
        assert [1, 2, 1] == by_hour["snapshot_levels_differing_per_hour"][2:5]
