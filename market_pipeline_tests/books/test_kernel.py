from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_pipeline.books import cursor as at
from market_pipeline.books.boundaries import message_starts
from market_pipeline.books.cursor import new_cursor
from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import ASK, BID, empty_levels
from market_pipeline.books.marking import marked_snapshots
from market_pipeline.books.registers import (
    HOURLY,
    REGISTERS,
    figures_of,
    hourly_figures_of,
    new_registers,
)
from market_pipeline.books.soundness import marks_of
from market_pipeline.books.state import (
    DEPTH_LEVELS,
    HISTORY_ROWS,
    BboRows,
    Deltas,
    DepthRows,
    Evidence,
    Feed,
    Marks,
    Options,
    Outputs,
    Proof,
    Repair,
    Repairs,
    Resync,
    Snapshots,
    Status,
    as_input,
    new_history,
)
from market_pipeline.books.walk import levels_around, sides_of
from market_pipeline.quality.reference.book import PlainBook, plain_rebuild
from market_pipeline.quality.reference.feed import (
    Row,
    Snapshot,
    mark_messages,
    mark_snapshots,
    messages_of,
)
from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline_tests.books.feeds import SECOND, feeds

COUNTED = REGISTERS[REGISTERS.index("rows") :]
NOT_COUNTED = {
    "snapshot_size_lots_carry",
    "snapshot_size_error_lots_carry",
    # Where there was no message with sound stamps, the registers hold what is beyond any time.
    "min_latency_ns",
    "max_latency_ns",
}


def counted(figures: dict[str, int]) -> dict[str, int]:
    """All counters, 0 where nothing was counted."""
    latencies = {}
    if figures.get("messages", 0):
        latencies = {
            name: figures[name]
            for name in ("min_latency_ns", "max_latency_ns")
            if abs(figures.get(name, 2**63)) < 2**62
        }
    return latencies | {name: figures.get(name, 0) for name in COUNTED if name not in NOT_COUNTED}


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


def marks_in(rows: list[Row]) -> tuple[np.ndarray, np.ndarray]:
    """First rows of all marked messages of a feed, and their bits, as the driver takes them."""
    deltas = arrays_of(rows)
    starts = np.empty(len(rows), np.int64)
    starts = starts[: message_starts(deltas.sequence_number, deltas.ts_receipt_ns, starts)]
    bits = marks_of(
        deltas.ts_origin_ns[starts], deltas.ts_receipt_ns[starts], deltas.sequence_number[starts]
    )
    return starts[bits != 0], bits[bits != 0].astype(np.int64)


def snapshot_arrays(snapshots: list[Snapshot]) -> Snapshots:
    """All of a feed, marked as the driver has them marked."""
    depth = max([DEPTH_LEVELS, *(len(side) for s in snapshots for side in (s.bids, s.asks))])
    sides = [np.zeros((len(snapshots), depth), np.int64) for _ in range(4)]
    for k, snapshot in enumerate(snapshots):
        for n, side in ((0, snapshot.bids), (2, snapshot.asks)):
            for level, (price, size) in enumerate(side):
                sides[n][k, level], sides[n + 1][k, level] = price, size
    contents: dict[str, int] = {}
    batch = SnapshotBatch(
        Path("book"),
        0,
        np.array([s.ts_receipt_ns for s in snapshots], np.int64),
        np.array([s.sequence_number for s in snapshots], np.int64),
        *[np.empty((len(snapshots), 0))] * 4,
    )
    (marked,) = marked_snapshots([batch], None) if snapshots else (None,)
    columns = Snapshots(
        marked.batch.ts_receipt_ns if marked else batch.ts_receipt_ns,
        batch.sequence_number,
        np.array([s.usable for s in snapshots], np.bool_),
        marked.placeable if marked else np.empty(0, np.bool_),
        marked.epoch if marked else batch.sequence_number,
        np.array(
            [contents.setdefault(str((s.bids, s.asks)), len(contents)) for s in snapshots], np.int64
        ),
        *sides,
    )
    return as_input(columns)


class Fast:
    """Drives the kernel as the driver does, with batches, windows and outputs as small as asked."""

    def __init__(
        self,
        naive: PlainBook,
        gap_rows: Sequence[int] = (),
        recovered_rows: Sequence[int] = (),
        *,
        window: int = 64,
        far: int = 32,
        output: int = 3,
    ):
        self.registers = new_registers()
        self.levels = empty_levels(window, far)
        self.history = new_history()
        day_start_ns, day_end_ns = naive.day_ns or (-(2**63) + 1, 2**63 - 1)
        self.options = Options(
            depth_interval_ns=0,
            keyframe_interval_ns=0,
            resync=int(Resync[naive.resync.upper()]),
            crossed_resync_ns=naive.crossed_resync_ns,
            uncross=naive.uncross,
            snapshot_patience_ns=naive.patience_ns,
            day_start_ns=day_start_ns,
            day_end_ns=day_end_ns,
            ids_prove=naive.ids_prove,
        )
        self.window = window
        self.gap_rows = np.array(gap_rows, np.int64)
        self.recovered_rows = np.array(recovered_rows, np.int64)
        self.repair_rows = Repairs(*(np.zeros(2, np.int64) for _ in range(7)))
        self.evidence_rows = Evidence(*(np.zeros(9, np.int64) for _ in range(6)))
        self.bbo = BboRows(
            *(np.zeros(output, np.int64) for _ in range(7)),
            np.zeros(output, "u2"),
            np.zeros(output, np.bool_),
        )
        sides = [np.zeros((output, DEPTH_LEVELS), np.int64) for _ in range(4)]
        times = [np.zeros(output, np.int64) for _ in range(3)]
        self.depth = DepthRows(
            *times,
            *sides,
            np.zeros(output, "u2"),
            np.zeros(output, np.bool_),
            np.zeros(output, np.int64),
            np.zeros(output, np.int8),
            np.zeros(output, np.int8),
        )

    def run(self, rows: list[Row], snapshots: list[Snapshot], cuts: list[int]) -> list[tuple]:
        edges = [0, *sorted(c % (len(rows) + 1) for c in cuts), len(rows)]
        batches = [(a, rows[a:b]) for a, b in pairwise(edges)]
        arrays = snapshot_arrays(snapshots)
        waiting = [
            as_input(Snapshots(*(column[k : k + 2] for column in arrays)))
            for k in range(0, len(snapshots), 2)
        ]
        marked, bits = marks_in(rows)

        def taken(first: int, batch: list[Row]) -> tuple[Deltas, Marks]:
            here = (marked >= first) & (marked < first + len(batch))
            return arrays_of(batch), as_input(Marks(marked[here], bits[here]))

        depth = arrays.bid_price_ticks.shape[1]
        self.history = new_history(depth)
        current = as_input(Snapshots(*(column[:0] for column in arrays)))
        batch, marks = taken(*batches.pop(0))
        cursor = new_cursor()
        outputs = Outputs(self.bbo, self.depth, self.repair_rows, self.evidence_rows)
        out: list[tuple] = []
        self.tops: list[tuple] = []
        self.confirmed: list[tuple] = []
        self.repairs: list[tuple] = []
        self.evidence: list[tuple] = []
        final = not batches
        while True:
            feed = Feed(
                batch, marks, current, self.gap_rows, self.recovered_rows, final, bool(waiting)
            )
            status = advance(
                self.registers, self.levels, self.history, feed, cursor, self.options, outputs
            )
            if status == Status.NEEDS_SNAPSHOTS:
                current, cursor[at.SNAPSHOT] = waiting.pop(0), 0
            elif status == Status.NEEDS_WINDOW:
                sides = sides_of(self.levels)
                self.levels = levels_around(1000, *sides, self.window, depth + HISTORY_ROWS)
            elif status == Status.NEEDS_ROWS:
                batch, marks = taken(*batches.pop(0))
                cursor[[at.ROW, at.MARK]] = 0
                final = not batches
            else:
                n_bbo, n_depth, n_repairs, n_proofs = cursor[at.BBO_ROW :].tolist()
                cursor[at.BBO_ROW :] = 0
                out += list(zip(*(column[:n_bbo].tolist() for column in self.bbo[:8]), strict=True))
                self.tops += [self._top(k) for k in range(n_depth)]
                self.confirmed += zip(
                    self.depth.bid_levels_confirmed[:n_depth].tolist(),
                    self.depth.ask_levels_confirmed[:n_depth].tolist(),
                    strict=True,
                )
                self.repairs += told(Repair, self.repair_rows, n_repairs)
                self.evidence += told(Proof, self.evidence_rows, n_proofs)
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
        return counted(figures_of(self.registers))


def told(kinds: type[Repair | Proof], columns: Repairs | Evidence, count: int) -> list[tuple]:
    """Rows of repairs or evidence with the names of their kinds."""
    return [
        (kinds(kind).name, *rest)
        for kind, *rest in zip(*(column[:count].tolist() for column in columns), strict=True)
    ]


class Plain:
    """The plain rebuild of a feed, with what it says after each message."""

    def __init__(
        self,
        book: PlainBook,
        rows: list[Row],
        snapshots: Sequence[Snapshot] = (),
        gap_rows: Sequence[int] = (),
        recovered_rows: Sequence[int] = (),
    ):
        messages = list(messages_of(rows, gap_rows, recovered_rows))
        mark_messages(messages)
        self.book, self.rows, self.tops, self.confirmed = book, [], [], []
        for row in plain_rebuild(book, messages, mark_snapshots(snapshots)):
            self.rows.append(tuple(row))
            self.tops.append(book.top(DEPTH_LEVELS))
            self.confirmed.append(book.confirmed(DEPTH_LEVELS))


def assert_alike(fast: Fast, out: list[tuple], plain: Plain) -> None:
    """Rows, levels, repairs, evidence, counters and the book that is left are the same."""
    book = plain.book
    assert out == plain.rows
    assert fast.tops == plain.tops
    assert fast.confirmed == plain.confirmed
    assert fast.repairs == book.repairs
    assert fast.evidence == [tuple(piece) for piece in book.evidence]
    assert fast.counts() == counted(book.counts)
    nothing = [0] * 24
    assert hourly_figures_of(fast.registers) == {
        name: book.hourly.get(name, nothing) for name in HOURLY
    }
    for side, levels in ((BID, book.bids), (ASK, book.asks)):
        price, size = sides_of(fast.levels)[side]
        assert price.tolist() == sorted(levels.sizes, reverse=side == BID)
        assert size.tolist() == [levels.sizes[p] for p in price.tolist()]


policies = st.builds(
    PlainBook,
    resync=st.sampled_from(["never", "when_invalid", "when_invalid", "always"]),
    uncross=st.booleans(),
    ids_prove=st.booleans(),
    day_ns=st.sampled_from([None, (0, 86_400 * SECOND)]),
)


class TestAgainstTheNaiveTwin:
    @pytest.mark.slow
    # A feed takes longer to draw than to rebuild in three ways.
    @settings(max_examples=150, suppress_health_check=list(HealthCheck))
    @given(
        st.one_of(feeds(), feeds(60, calm=True)),
        st.lists(
            st.tuples(policies, st.lists(st.integers(0, 200), max_size=4), st.integers(1, 5)),
            min_size=3,
            max_size=3,
        ),
    )
    def test_equals_it_wherever_the_batches_are_cut(self, feed, ways):
        """Rows, flags, evidence, the full book and every counter equal the plain twin's."""
        rows, snapshots, gap_rows, recovered_rows = feed
        for naive, cuts, output in ways:
            fast = Fast(naive, gap_rows, recovered_rows, output=output)
            out = fast.run(rows, snapshots, cuts)
            assert_alike(fast, out, Plain(naive, rows, snapshots, gap_rows, recovered_rows))


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
        price, size = sides_of(fast.levels)[BID]
        assert price.tolist() == [1 + k * 10**9 for k in range(199, 0, -1)]
        assert size.tolist() == list(range(199, 0, -1))
