"""The streaming driver: batches of raw rows in, blocks of book rows out, bounded memory.

It turns prices and sizes into ticks and lots, feeds the kernel, gives it what it asks for, and
yields what it wrote. One code path serves an array in a notebook and a day of a hundred million
rows; where the batches are cut, and whether the rebuild was stopped and resumed, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.cursor import new_cursor
from market_pipeline.books.integers import OffStepCount, SnapshotFeed, deltas_in_steps, no_deltas
from market_pipeline.books.kernel import advance
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.levels import ASK, BID, WINDOW, Levels, base_ticks, empty_levels
from market_pipeline.books.lookback import Lookback
from market_pipeline.books.marking import PART_ROWS, LastSnapshot, marked_deltas
from market_pipeline.books.messages import LASTING_FLAGS, lasting_flags
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.scale import Scale
from market_pipeline.books.soundness import LastSound, Soundness
from market_pipeline.books.state import (
    HISTORY_ROWS,
    BboRows,
    Deltas,
    DepthRows,
    Evidence,
    Feed,
    History,
    Marks,
    Options,
    Outputs,
    Repairs,
    Resync,
    Status,
    as_input,
    int64_columns,
    new_history,
    room_for_bbo,
    room_for_depth,
)
from market_pipeline.books.walk import levels_around, sides_of
from market_pipeline.config.instruments import Policies
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = ["Block", "Pause", "Rebuild", "RebuildOptions", "Rows"]

_Int64s = NDArray[np.int64]
_BBO_ROWS = 1 << 16
_DEPTH_ROWS = 1 << 13
_REPAIR_ROWS = 1 << 10
_EVIDENCE_ROWS = 1 << 13
# So many keyframes, or half of the room for rows, are handed out at once: of a quiet day a handful
# of rows lie between two keyframes, and handing out these took more than half of its time.
_KEYFRAMES = 16
_SNAPSHOT_PATIENCE_NS = 10_000_000_000
_NEVER_NS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """How a day is rebuilt.

    Attributes:
        depth_interval_ms: Depth after the last message of each interval; 0 after every message;
            None for no depth.
        keyframe_seconds: A full-depth keyframe at most this often; 0 for none but the closing one.
        resync: When a later snapshot replaces the book inside its window.
        crossed_resync_seconds: A book crossed for longer than this is invalid; None: never.
        uncross: Whether the levels that a message crossed are removed from the side that it did
            not move; the book stays crossed, and flagged, where it moved both or neither.
        ids_prove: Whether the source's ids link each message to the one before.
        day: The UTC day; messages received outside it carry OUTSIDE_DAY. None: any time will do.
    """

    depth_interval_ms: int | None = 100
    keyframe_seconds: int = 300
    resync: Resync = Resync.WHEN_INVALID
    crossed_resync_seconds: float | None = None
    uncross: bool = False
    ids_prove: bool = False
    day: date | None = None

    @classmethod
    def of(
        cls,
        policies: Policies,
        depth_interval_ms: int | None,
        keyframe_seconds: int,
        *,
        ids_prove: bool = False,
        day: date | None = None,
    ) -> Self:
        """The options that an instrument's policies, its source and its day ask for."""
        is_resynced = policies.crossed == "resync"
        return cls(
            depth_interval_ms=depth_interval_ms,
            keyframe_seconds=keyframe_seconds,
            resync=Resync[policies.resync.upper()],
            crossed_resync_seconds=policies.crossed_resync_seconds if is_resynced else None,
            uncross=policies.crossed == "uncross",
            ids_prove=ids_prove,
            day=day,
        )

    def for_kernel(self) -> Options:
        """The same in the kernel's units."""
        start_ns, end_ns = -_NEVER_NS, _NEVER_NS
        if self.day is not None:
            midnight = datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
            start_ns = int(midnight.timestamp()) * 1_000_000_000
            end_ns = start_ns + 86_400_000_000_000
        interval_ms, crossed_seconds = self.depth_interval_ms, self.crossed_resync_seconds
        return Options(
            depth_interval_ns=-1 if interval_ms is None else interval_ms * 1_000_000,
            keyframe_interval_ns=self.keyframe_seconds * 1_000_000_000,
            resync=int(self.resync),
            crossed_resync_ns=_NEVER_NS if crossed_seconds is None else int(crossed_seconds * 1e9),
            uncross=self.uncross,
            snapshot_patience_ns=_SNAPSHOT_PATIENCE_NS,
            day_start_ns=start_ns,
            day_end_ns=end_ns,
            ids_prove=self.ids_prove,
        )


@dataclass(frozen=True, slots=True)
class Pause:
    """The rebuild stands between two messages: its `state` may be taken.

    `last` is whether nothing comes after it.
    """

    last: bool = False


Rows = BboRows | DepthRows | Repairs | Keyframe
"""What becomes of a rebuild."""

Block = Rows | Pause
"""What a rebuild yields."""


class Rebuild:
    """One pass over one instrument's day; iterate `blocks`, then read `figures`.

    Args:
        price_scale, size_scale: The tick and the lot of that day.
        options: What to emit and when to repair the book.
        gap_rows: int64, ascending, counted over all rows of the feed: the first rows of messages
            before which others are suspected to be lost. The book carries the GAP flag from there
            to the next snapshot that confirms or replaces it. What a source can prove comes with
            its batches.
        start: The state to resume from; the feeds then begin where it was taken.
    """

    def __init__(
        self,
        price_scale: Scale,
        size_scale: Scale,
        options: RebuildOptions | None = None,
        *,
        gap_rows: NDArray[np.int64] | None = None,
        start: RebuildState | None = None,
    ) -> None:
        self.price_scale = price_scale
        self.size_scale = size_scale
        self._asked = options or RebuildOptions()
        self._options = self._asked.for_kernel()
        self._gap_rows, self._recovered_rows = int64_columns(0, 2)
        self.off_tick, self.off_lot = OffStepCount(), OffStepCount()
        self._levels = empty_levels()
        self._registers = reg.new_registers()
        self._history = new_history()
        self._last_snapshot: LastSnapshot | None = None
        self._lookback = Lookback(ids_prove=self._asked.ids_prove)
        self._marks = as_input(Marks._make(int64_columns(0, 2)))
        if start is not None:
            self._go_on_from(start)
        self._delivered_rows = self.figures["rows"]
        if gap_rows is not None:
            self.suspect_gaps(gap_rows)
        self._cursor = new_cursor()
        self._outputs = Outputs(
            room_for_bbo(_BBO_ROWS),
            room_for_depth(0 if self._options.depth_interval_ns < 0 else _DEPTH_ROWS),
            Repairs._make(int64_columns(_REPAIR_ROWS, 7)),
            Evidence._make(int64_columns(_EVIDENCE_ROWS, 6)),
        )
        self._keyframes = 0
        self._batch: Deltas | None = no_deltas()
        self._open((), ())
        self._price_ticks, self._size_lots = int64_columns(PART_ROWS, 2)

    @property
    def figures(self) -> dict[str, int]:
        """The kernel's state and counters by name (`registers.REGISTERS`)."""
        return reg.figures_of(self._registers)

    @property
    def hourly_figures(self) -> dict[str, list[int]]:
        """What is counted by UTC hour, by name (`registers.HOURLY`): 24 entries each."""
        return reg.hourly_figures_of(self._registers)

    def suspect_gaps(self, gap_rows: NDArray[np.int64]) -> None:
        """Takes further `gap_rows`; those among the rows that were taken already have no effect."""
        later = gap_rows[gap_rows >= self._delivered_rows]
        self._gap_rows = np.union1d(self._gap_rows, later)

    def state(self) -> RebuildState:
        """The state to resume from; only where a `Pause` was yielded."""
        sides = sides_of(self._levels)
        # What the batch under way holds beyond the rows applied is counted when it is met again.
        rows = self.figures["rows"]
        return RebuildState(
            self._registers.copy(),
            *sides[BID],
            *sides[ASK],
            self.off_tick.before(rows),
            self.off_lot.before(rows),
            History._make(column.copy() for column in self._history),
            self._feed.last,
            self._lookback.state(),
        )

    def blocks(
        self, deltas: Iterable[DeltaBatch], snapshots: Iterable[SnapshotBatch] = ()
    ) -> Iterator[Block]:
        """Rebuilds the book and yields its rows in order, at last the closing keyframe.

        Rows and keyframes come once there is evidence about them (`books.lookback`); repairs come
        before the rows they show in.

        Args:
            deltas: Batches of delta rows in feed order.
            snapshots: Batches of snapshots in feed order; the first usable one seeds the book.

        Raises:
            MarketPipelineError: Whatever the sources raise; nothing more is yielded then.
        """
        self._open(deltas, snapshots)
        while True:
            status = self._advance()
            if self._provide(status):
                continue
            if status == Status.KEYFRAME_DUE:
                self._lookback.keep(self._keyframe("keyframe"))
                self._keyframes += 1
                if self._is_worth_a_block():
                    yield from self._written()
                    yield Pause()
            elif status == Status.OUTPUT_FULL:
                yield from self._written()
            else:
                self._lookback.keep(self._keyframe("closing"))
                yield from self._written(last=True)
                yield Pause(last=True)
                return

    def _open(self, deltas: Iterable[DeltaBatch], snapshots: Iterable[SnapshotBatch]) -> None:
        scales = self.price_scale, self.size_scale
        self._feed = SnapshotFeed(snapshots, *scales, self._last_snapshot)
        self._pending = marked_deltas(deltas, Soundness(self._last_sound()))

    def _provide(self, status: int) -> bool:
        """Gives the kernel the input, or the room in the book, that it stopped for, if it did."""
        if status == Status.NEEDS_SNAPSHOTS:
            self._feed.load_next()
            self._make_room(self._feed.current.bid_size_lots.shape[1])
        elif status == Status.NEEDS_WINDOW:
            self._move_window(self._history.bid_size_lots.shape[1] + HISTORY_ROWS)
        elif status == Status.NEEDS_ROWS:
            self._batch = no_deltas()  # or the last one would be held while the next is decoded
            marked = next(self._pending, None)
            self._batch = self._take(*marked) if marked is not None else None
            self._cursor[at.ROW] = 0
        else:
            return False
        return True

    def _advance(self) -> int:
        """Lets the kernel go on; why it stopped."""
        status: int = advance(*self._arguments())
        self._feed.position = int(self._cursor[at.SNAPSHOT])
        return status

    def _arguments(self) -> tuple[_Int64s, Levels, History, Feed, _Int64s, Options, Outputs]:
        """What the kernel is given; without a batch it reads to the end."""
        batch, feed = self._batch, self._feed
        self._cursor[at.SNAPSHOT] = feed.position
        read = (batch if batch is not None else no_deltas(), self._marks, feed.current)
        lost = self._gap_rows, self._recovered_rows
        inputs = Feed(*read, *lost, final=batch is None, more_snapshots=not feed.exhausted)
        state = self._registers, self._levels, self._history
        return *state, inputs, self._cursor, self._options, self._outputs

    def _is_worth_a_block(self) -> bool:
        rows, depth_rows = self._outputs.bbo.flags.size, self._outputs.depth.flags.size
        written, depth_written = self._cursor[at.BBO_ROW : at.DEPTH_ROW + 1].tolist()
        is_full = 2 * written >= rows or 2 * depth_written >= depth_rows > 0
        return is_full or self._keyframes >= _KEYFRAMES

    def _written(self, *, last: bool = False) -> Iterator[Block]:
        """Hands out what was written and can leave, and makes room."""
        bbo_rows, depth_rows, repair_rows, evidence_rows = self._cursor[at.BBO_ROW :].tolist()
        # Copied, because Arrow reads arrays in place and the kernel writes these ones again.
        repairs = Repairs._make(column[:repair_rows].copy() for column in self._outputs.repairs)
        bbo = BboRows._make(column[:bbo_rows] for column in self._outputs.bbo)
        depth = DepthRows._make(column[:depth_rows] for column in self._outputs.depth)
        evidence = Evidence._make(column[:evidence_rows] for column in self._outputs.evidence)
        self._cursor[at.BBO_ROW :] = self._keyframes = 0
        if repairs.kind.size:
            yield repairs
        yield from self._lookback.take(bbo, depth, evidence, last=last)

    def _last_sound(self) -> LastSound | None:
        figures = self.figures
        if figures["messages"] == 0:
            return None
        times_ns = figures["last_ts_receipt_ns"], figures["last_ts_origin_ns"]
        is_known = figures["messages"] > figures["leading_bad"]
        return LastSound(figures["last_sequence_number"], times_ns if is_known else None)

    def _make_room(self, levels: int) -> None:
        """Lets the history hold a snapshot of so many levels a side."""
        more = levels - self._history.bid_price_ticks.shape[1]
        if more > 0:
            wider = [np.pad(each, ((0, 0), (0, more))) for each in self._history[-6:]]
            self._history = History._make([*self._history[:-6], *wider])

    def _take(
        self, batch: DeltaBatch, marked: NDArray[np.int64], bits: NDArray[np.int64]
    ) -> Deltas:
        first, rows = self._delivered_rows, batch.sequence_number.size
        self._delivered_rows += rows
        if batch.gap_rows.size:
            self._gap_rows = np.union1d(self._gap_rows, batch.gap_rows + first)
        if batch.recovered_rows.size:
            self._recovered_rows = np.union1d(self._recovered_rows, batch.recovered_rows + first)
        # Counted as the kernel counts the rows that it is done with.
        self._marks = as_input(Marks(marked + first, bits))
        self._cursor[at.MARK] = 0
        scales, off = (self.price_scale, self.size_scale), (self.off_tick, self.off_lot)
        steps = self._price_ticks[:rows], self._size_lots[:rows]
        return deltas_in_steps(batch, first, *scales, *off, *steps)

    def _move_window(self, more: int) -> None:
        sides = sides_of(self._levels)
        known = [int(prices[0]) for prices, _ in sides if prices.size]
        stay = int(base_ticks(self._levels.meta) + self._levels.meta[WINDOW] // 2)
        centre = sum(known) // len(known) if known else stay
        window = int(self._levels.meta[WINDOW])
        self._levels = levels_around(centre, sides[BID], sides[ASK], window, max(more, 1))
        self._registers[reg.LAST_MOVE] = self._registers[reg.MESSAGES]

    def _go_on_from(self, start: RebuildState) -> None:
        self._registers = start.registers.copy()
        self._registers[[reg.GAPS_PASSED, reg.RECOVERED_PASSED]] = 0
        self.off_tick = start.off_tick.before(start.rows)
        self.off_lot = start.off_lot.before(start.rows)
        if start.history is not None:
            self._history = History._make(column.copy() for column in start.history)
        self._last_snapshot = start.last_snapshot
        self._lookback = Lookback(ids_prove=self._asked.ids_prove, start=start.lookback)
        bids = start.bid_price_ticks, start.bid_size_lots
        asks = start.ask_price_ticks, start.ask_size_lots
        known = [int(prices[0]) for prices, _ in (bids, asks) if prices.size]
        if known:
            self._levels = levels_around(sum(known) // len(known), bids, asks)

    def _keyframe(self, kind: Literal["keyframe", "closing"]) -> Keyframe:
        registers: list[int] = self._registers.tolist()
        seeded = bool(registers[reg.SEEDED])
        bids, asks = sides_of(self._levels)
        return Keyframe(
            kind=kind,
            ts_origin_ns=registers[reg.OPEN_ORIGIN],
            ts_receipt_ns=registers[reg.OPEN_RECEIPT],
            sequence_number=registers[reg.BOOK_SEQUENCE],
            messages=registers[reg.MESSAGES],
            flags=registers[reg.LAST_FLAGS] & ~LASTING_FLAGS | int(lasting_flags(self._registers)),
            bid_price_ticks=bids[0],
            bid_size_lots=bids[1],
            ask_price_ticks=asks[0],
            ask_size_lots=asks[1],
            bid_horizon_ticks=registers[reg.BID_HORIZON] if seeded else None,
            ask_horizon_ticks=registers[reg.ASK_HORIZON] if seeded else None,
        )
