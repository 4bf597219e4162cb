from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import date
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_pipeline.books import rebuild as driver
from market_pipeline.books.integers import OffStep
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.levels import Levels, empty_levels
from market_pipeline.books.rebuild import Pause, Rebuild, RebuildOptions
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import BboRows, DepthRows, Repairs, Resync
from market_pipeline.books.walk import levels_around
from market_pipeline.quality.reference.feed import Row, Snapshot
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch
from market_pipeline_tests.books.feeds import feeds

ONE = Scale(1, 0)
FIRST_FILE_ROW = 40
OFF_THE_GRID = 0.5
# Where the window lies, and how much of which list is done, is no part of the book.
OWN_TO_A_RUN = {"last_move_message", "gaps_passed", "recovered_passed"}


@pytest.fixture(autouse=True, scope="module")
def each_keyframe():
    """A pause after each keyframe, where a quiet day has one after several."""
    with mock.patch.object(driver, "_KEYFRAMES", 1):
        yield


@dataclass
class Feed:
    """Rows and snapshots of a feed as a source hands them out."""

    rows: list[Row]
    snapshots: list[Snapshot]
    proven: list[int]
    recovered: list[int]
    suspected: np.ndarray

    def deltas(self, cuts: Iterable[int], skip: int = 0) -> Iterator[DeltaBatch]:
        """Batches that end at the cuts, without the first `skip` rows."""
        rows = len(self.rows) - skip
        edges = sorted({skip, len(self.rows), *(skip + cut % (rows + 1) for cut in cuts)})
        for start, end in pairwise(edges):
            part = self.rows[start:end]
            yield DeltaBatch(
                Path("deltas"),
                FIRST_FILE_ROW + start,
                np.array([row.ts_origin_ns for row in part], np.int64),
                np.array([row.ts_receipt_ns for row in part], np.int64),
                np.array([row.sequence_number for row in part], np.int64),
                np.array([row.is_bid for row in part], np.bool_),
                np.array([price_of(row) for row in part]),
                np.array([size_of(row.size_lots, start + k) for k, row in enumerate(part)]),
                np.array([k - start for k in self.proven if start <= k < end], np.int64),
                np.array([k - start for k in self.recovered if start <= k < end], np.int64),
            )

    def books(self, together: int, skip: int = 0) -> Iterator[SnapshotBatch]:
        """Batches of `together` snapshots, without the first `skip`."""
        for start in range(skip, len(self.snapshots), together):
            part = self.snapshots[start : start + together]
            sides = np.zeros((4, len(part), 6))
            for k, snapshot in enumerate(part):
                for at, side in ((0, snapshot.bids), (2, snapshot.asks)):
                    for level, (price, size) in enumerate(side):
                        sides[at, k, level] = price
                        sides[at + 1, k, level] = size if snapshot.usable else OFF_THE_GRID
            yield SnapshotBatch(
                Path("book"),
                start,
                np.array([snapshot.ts_receipt_ns for snapshot in part], np.int64),
                np.array([snapshot.sequence_number for snapshot in part], np.int64),
                *sides,
            )


def price_of(row: Row) -> float:
    """Every fourth refused row is off the tick, the others are off the lot."""
    return row.price_ticks + OFF_THE_GRID * (row.size_lots < 0 and row.price_ticks % 4 == 0)


def size_of(size: int, number: int) -> float:
    """A refused size is told from another by its row."""
    return size if size >= 0 else number + OFF_THE_GRID


@dataclass
class Told:
    """What a rebuild yielded, blocks of a kind joined: columns by name."""

    bbo: list[BboRows] = field(default_factory=list)
    depth: list[DepthRows] = field(default_factory=list)
    repairs: list[Repairs] = field(default_factory=list)
    keyframes: list[Keyframe] = field(default_factory=list)

    def add(self, block) -> None:
        kinds = {BboRows: self.bbo, DepthRows: self.depth, Repairs: self.repairs}
        kinds.get(type(block), self.keyframes).append(block)

    def rows(self) -> dict[str, list]:
        joined = {
            f"{name} {column}": np.concatenate(
                [getattr(block, column) for block in blocks] or [np.empty(0)]
            ).tolist()
            for name, kind, blocks in (
                ("bbo", BboRows, self.bbo),
                ("depth", DepthRows, self.depth),
                ("repairs", Repairs, self.repairs),
            )
            for column in kind._fields
        }
        return joined | {"keyframes": [plain(frame) for frame in self.keyframes]}


def plain(frame: Keyframe) -> dict[str, object]:
    values = {each.name: getattr(frame, each.name) for each in fields(frame)}
    return {n: v.tolist() if isinstance(v, np.ndarray) else v for n, v in values.items()}


def counts(rebuild: Rebuild) -> dict[str, object]:
    """All a rebuild counted, and the values it refused."""
    figures = {name: n for name, n in rebuild.figures.items() if name not in OWN_TO_A_RUN}
    off = {"off_tick": rebuild.off_tick, "off_lot": rebuild.off_lot}
    lost = {name: (count.losses, count.first) for name, count in off.items()}
    return figures | rebuild.hourly_figures | lost


@dataclass
class Run:
    """A rebuild that has ended, with the state at each pause and what came after it."""

    rebuild: Rebuild
    told: Told
    stops: list[tuple[RebuildState, Told]]


def run(
    feed: Feed, options: RebuildOptions, cuts=(), together=2, start=None, *, stopping=True
) -> Run:
    """Rebuilds a feed, or what follows a state of it; `stopping` takes each state on the way."""
    rebuild = Rebuild(ONE, ONE, options, gap_rows=feed.suspected, start=start)
    skip = (start.rows, start.snapshots) if start else (0, 0)
    told, stops = Told(), []
    for block in rebuild.blocks(feed.deltas(cuts, skip[0]), feed.books(together, skip[1])):
        if isinstance(block, Pause):
            if stopping:
                stops.append((rebuild.state(), Told()))
            continue
        for each in (told, *(after for _, after in stops)):
            each.add(block)
    return Run(rebuild, told, stops)


@st.composite
def split_gaps(draw) -> Feed:
    """A feed whose gaps are partly suspected beforehand and partly proven by its batches."""
    rows, snapshots, gap_rows, recovered = draw(feeds())
    proven = [row for row in gap_rows if draw(st.booleans())]
    suspected = [row for row in gap_rows if row not in proven or draw(st.booleans())]
    return Feed(rows, snapshots, proven, recovered, np.array(suspected, np.int64))


options = st.builds(
    RebuildOptions,
    depth_interval_ms=st.sampled_from([None, 0, 1000]),
    keyframe_seconds=st.sampled_from([1, 5]),
    resync=st.sampled_from(Resync),
    crossed_resync_seconds=st.sampled_from([None, 2.0]),
    uncross=st.booleans(),
    ids_prove=st.booleans(),
    day=st.sampled_from([None, date(1970, 1, 1)]),
)
cuts = st.lists(st.integers(0, 200), max_size=4)


def around(centre: int, bids, asks, window_ticks: int = 64, more: int = 1) -> Levels:
    return levels_around(centre, bids, asks, window_ticks, more)


@pytest.fixture(scope="module", autouse=True)
def narrow_windows():
    """Windows of 64 ticks, so that they are moved, and lie elsewhere after a resume."""
    narrow = {"empty_levels": lambda: empty_levels(64, 32), "levels_around": around}
    with mock.patch.multiple(driver, **narrow):
        yield


@pytest.mark.slow
class TestGoingOn:
    @settings(max_examples=100)
    @given(split_gaps(), options, cuts, cuts, st.integers(1, 3))
    def test_from_any_pause_is_straight_through(self, feed, options, cuts, other, together):
        """Rows, depth, repairs, keyframes, figures and refused values are those of one run."""
        whole = run(feed, options, cuts)
        for state, rest in whole.stops[:-1]:
            resumed = run(feed, options, other, together, state)
            assert resumed.told.rows() == rest.rows()
            assert counts(resumed.rebuild) == counts(whole.rebuild)

    @settings(max_examples=30)
    @given(split_gaps(), options, cuts)
    def test_stopped_at_every_keyframe(self, feed, options, cuts):
        """A rebuild that gets no farther than the next keyframe each time ends alike."""
        whole = run(feed, options)
        stopped, rest = run(feed, options, cuts), whole.told
        for _, after in whole.stops[:-1]:
            stopped, rest = run(feed, options, cuts, start=stopped.stops[0][0]), after
        assert stopped.told.rows() == rest.rows()
        assert counts(stopped.rebuild) == counts(whole.rebuild)

    @settings(max_examples=30)
    @given(split_gaps(), options)
    def test_of_a_finished_rebuild_only_the_end_is_told(self, feed, options):
        """The state after the last message has nothing left but the same closing keyframe."""
        whole = run(feed, options)
        again = run(feed, options, start=whole.stops[-1][0])
        assert again.told.rows() == run_of_nothing(whole.told.keyframes[-1])
        assert counts(again.rebuild) == counts(whole.rebuild)


def run_of_nothing(closing: Keyframe) -> dict[str, object]:
    told = Told()
    told.add(closing)
    return told.rows()


@pytest.mark.slow
class TestBatches:
    @settings(max_examples=100)
    @given(split_gaps(), options, cuts, st.integers(1, 3))
    def test_where_they_are_cut_changes_nothing(self, feed, options, cuts, together):
        """Batches of any size give the rows of one batch, also if no state is taken on the way."""
        whole, cut = run(feed, options), run(feed, options, cuts, together, stopping=False)
        assert cut.told.rows() == whole.told.rows()
        assert counts(cut.rebuild) == counts(whole.rebuild)

    def test_one_row_each(self):
        """Also batches of a single row, with a message over three of them."""
        rows = [Row(1, 1, True, 100, 5), Row(1, 1, False, 102, 5), Row(1, 1, True, 101, 5)]
        feed = Feed([*rows, Row(2, 2, True, 101, 0)], [], [], [], np.empty(0, np.int64))
        told = run(feed, RebuildOptions(), range(4)).told.rows()
        assert (told["bbo bid_price_ticks"], told["bbo ask_price_ticks"]) == ([101, 100], [102] * 2)


class TestState:
    def test_counts_what_is_off_the_grid_only_up_to_it(self):
        """A refused value behind the keyframe is in the same batch, and is not counted twice."""
        rows = [Row(k * 10**9, k, True, 100, -1) for k in range(1, 5)]
        feed = Feed(rows, [], [], [], np.empty(0, np.int64))
        options = RebuildOptions(keyframe_seconds=2)
        whole = run(feed, options)
        at_first, _ = whole.stops[0]
        assert (at_first.rows, at_first.off_tick.losses) == (1, 1)
        off_tick = run(feed, options, start=at_first).rebuild.off_tick
        assert off_tick.first == [
            OffStep(Path("deltas"), FIRST_FILE_ROW + row, 100.5, row) for row in range(4)
        ]

    def test_a_close_that_was_never_seeded_seeds_nothing(self):
        """A book begun cold has no horizon, so no other day may begin with it."""
        feed = Feed([Row(1, 1, True, 100, 5)], [], [], [], np.empty(0, np.int64))
        with pytest.raises(ValueError, match="never seeded"):
            RebuildState.after_close(run(feed, RebuildOptions()).told.keyframes[-1])
