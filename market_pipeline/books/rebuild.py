"""The streaming driver: batches of raw rows in, blocks of book rows out, bounded memory.

It turns prices and sizes into ticks and lots, feeds the kernel, gives it what it asks for, and
yields what it wrote. One code path serves an array in a notebook and a day of a hundred million
rows; where the batches are cut changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import ASK, BASE, BID, empty_levels
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.books.state import (
    DEPTH_LEVELS,
    REGISTERS,
    BboRows,
    Deltas,
    DepthRows,
    Options,
    Resync,
    Snapshots,
    Status,
    new_registers,
)
from market_pipeline.books.walk import best_ask, best_bid, centred, export_side
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = ["Keyframe", "OffStep", "Rebuild", "RebuildOptions"]

_BBO_ROWS = 1 << 17
_DEPTH_ROWS = 1 << 13
_OFF_STEP_KEPT = 10
_SNAPSHOT_PATIENCE_NS = 10_000_000_000


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """How a day is rebuilt.

    Attributes:
        depth_interval_ms: Depth after the last message of each interval; 0 after every message.
        keyframe_seconds: A full-depth keyframe at most this often; 0 for none but the closing one.
        resync: When a later snapshot replaces the book inside its window.
        crossed_resync_seconds: A book crossed for longer than this is invalid.
    """

    depth_interval_ms: int = 100
    keyframe_seconds: int = 300
    resync: Resync = Resync.WHEN_INVALID
    crossed_resync_seconds: float = 2.0

    def for_kernel(self) -> Options:
        """The same in the kernel's units."""
        return Options(
            depth_interval_ns=self.depth_interval_ms * 1_000_000,
            keyframe_interval_ns=self.keyframe_seconds * 1_000_000_000,
            resync=int(self.resync),
            crossed_resync_ns=int(self.crossed_resync_seconds * 1e9),
            snapshot_patience_ns=_SNAPSHOT_PATIENCE_NS,
        )


@dataclass(frozen=True, slots=True)
class OffStep:
    """A value that is not a whole number of ticks or lots, and where it stands."""

    file: Path
    row: int
    value: float


@dataclass(slots=True)
class OffStepCount:
    """How many values of a column are off their step, and the first ten of them."""

    losses: int = 0
    first: list[OffStep] = field(default_factory=list)

    def add(
        self, batch: DeltaBatch, values: NDArray[np.float64], steps: NDArray[np.int64], losses: int
    ) -> None:
        """Counts the losses of one batch."""
        self.losses += losses
        if losses and len(self.first) < _OFF_STEP_KEPT:
            places = np.flatnonzero(steps == NOT_REPRESENTABLE)
            for at in places[: _OFF_STEP_KEPT - len(self.first)].tolist():
                self.first.append(OffStep(batch.file, batch.first_row + at, float(values[at])))


@dataclass(frozen=True, slots=True)
class Keyframe:
    """The full book after a message: enough to go on from, or to look at.

    Attributes:
        kind: "keyframe", or "closing" for the state after the last message.
        ts_origin_ns, ts_receipt_ns, sequence_number: Of the last message applied.
        messages: Messages applied so far in this rebuild.
        bid_price_ticks, bid_size_lots, ask_price_ticks, ask_size_lots: int64, best first.
        bid_horizon_ticks, ask_horizon_ticks: The farthest level a snapshot confirmed; None before.
    """

    kind: Literal["keyframe", "closing"]
    ts_origin_ns: int
    ts_receipt_ns: int
    sequence_number: int
    messages: int
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    bid_horizon_ticks: int | None
    ask_horizon_ticks: int | None


class Rebuild:
    """One pass over one instrument's day; iterate `blocks`, then read `figures`.

    Args:
        price_scale, size_scale: The tick and the lot of that day.
        options: What to emit and when to resync.
        gap_ends_ns: int64, ascending receipt times of the first messages after lost ones; the book
            carries the GAP flag from there to the next snapshot that confirms or replaces it.
    """

    def __init__(
        self,
        price_scale: Scale,
        size_scale: Scale,
        options: RebuildOptions | None = None,
        *,
        gap_ends_ns: NDArray[np.int64] | None = None,
    ) -> None:
        self.price_scale = price_scale
        self.size_scale = size_scale
        self.off_tick = OffStepCount()
        self.off_lot = OffStepCount()
        self._options = (options or RebuildOptions()).for_kernel()
        self._gap_ends_ns = np.empty(0, np.int64) if gap_ends_ns is None else gap_ends_ns
        self._levels = empty_levels()
        self._registers = new_registers()
        self._bbo = BboRows._make([*_columns(_BBO_ROWS, 7), np.empty(_BBO_ROWS, np.uint16)])
        times = _columns(_DEPTH_ROWS, 3)
        sides = [np.empty((_DEPTH_ROWS, DEPTH_LEVELS), np.int64) for _ in range(4)]
        self._depth = DepthRows._make([*times, *sides, np.empty(_DEPTH_ROWS, np.uint16)])

    @property
    def figures(self) -> dict[str, int]:
        """The kernel's state and counters by name (`kernel.REGISTERS`)."""
        return dict(zip(REGISTERS, self._registers.tolist(), strict=True))

    def blocks(
        self, deltas: Iterable[DeltaBatch], snapshots: Iterable[SnapshotBatch] = ()
    ) -> Iterator[BboRows | DepthRows | Keyframe]:
        """Rebuilds the book and yields its rows in order, at last the closing keyframe.

        Args:
            deltas: Batches of delta rows in feed order.
            snapshots: Batches of snapshots in feed order; the first usable one seeds the book.

        Raises:
            MarketPipelineError: Whatever the sources raise; nothing more is yielded then.
        """
        feed = _SnapshotFeed(snapshots, self.price_scale, self.size_scale)
        bbo_row = depth_row = 0
        pending = iter(deltas)
        batch: Deltas | None = _no_deltas()
        row = 0
        while True:
            final = batch is None
            status, row, feed.position, bbo_row, depth_row = advance(
                self._registers,
                self._levels,
                batch if batch is not None else _no_deltas(),
                row,
                feed.current,
                feed.position,
                not feed.exhausted,
                self._gap_ends_ns,
                final,
                self._options,
                self._bbo,
                bbo_row,
                self._depth,
                depth_row,
            )
            if status == Status.NEEDS_SNAPSHOTS:
                feed.load_next()
            elif status == Status.NEEDS_WINDOW:
                self._move_window(feed.current.bid_size_lots.shape[1])
            else:
                # The rows up to here are handed out in order before anything else happens.
                if status in (Status.OUTPUT_FULL, Status.DONE, Status.KEYFRAME_DUE):
                    yield from self._drain(bbo_row, depth_row)
                    bbo_row = depth_row = 0
                if status == Status.KEYFRAME_DUE:
                    yield self._keyframe("keyframe")
                elif status == Status.NEEDS_ROWS:
                    raw = next(pending, None)
                    batch = self._to_integers(raw) if raw is not None else None
                    row = 0
                elif status == Status.DONE:
                    yield self._keyframe("closing")
                    return

    def _drain(self, bbo_rows: int, depth_rows: int) -> Iterator[BboRows | DepthRows]:
        # Copied, because Arrow reads arrays in place and the kernel writes these ones again.
        if bbo_rows:
            yield BboRows._make(column[:bbo_rows].copy() for column in self._bbo)
        if depth_rows:
            yield DepthRows._make(column[:depth_rows].copy() for column in self._depth)

    def _to_integers(self, batch: DeltaBatch) -> Deltas:
        rows = batch.sequence_number.size
        price_ticks = np.empty(rows, np.int64)
        size_lots = np.empty(rows, np.int64)
        off_tick = to_steps(batch.price, self.price_scale, price_ticks)
        off_lot = to_steps(batch.size, self.size_scale, size_lots)
        self.off_tick.add(batch, batch.price, price_ticks, off_tick)
        self.off_lot.add(batch, batch.size, size_lots, off_lot)
        if off_tick:
            size_lots[price_ticks == NOT_REPRESENTABLE] = NOT_REPRESENTABLE
        # A second array type would compile the kernel a second time, so all are made alike.
        return Deltas(
            np.ascontiguousarray(batch.ts_origin_ns, np.int64).view(),
            np.ascontiguousarray(batch.ts_receipt_ns, np.int64).view(),
            np.ascontiguousarray(batch.sequence_number, np.int64).view(),
            np.ascontiguousarray(batch.is_bid, np.bool_).view(),
            price_ticks,
            size_lots,
        )

    def _move_window(self, more: int) -> None:
        bid, bid_size = best_bid(self._levels)
        ask, ask_size = best_ask(self._levels)
        known = [price for price, size in ((bid, bid_size), (ask, ask_size)) if size > 0]
        stay = int(self._levels.meta[BASE]) + self._levels.sizes.shape[1] // 2
        centre = sum(known) // len(known) if known else stay
        self._levels = centred(self._levels, int(centre), max(more, 1))
        self._registers[REGISTERS.index("last_move_message")] = self.figures["messages"]

    def _keyframe(self, kind: Literal["keyframe", "closing"]) -> Keyframe:
        figures = self.figures
        bid_prices, bid_sizes = export_side(self._levels, BID)
        ask_prices, ask_sizes = export_side(self._levels, ASK)
        seeded = bool(figures["seeded"])
        return Keyframe(
            kind=kind,
            ts_origin_ns=figures["open_ts_origin_ns"],
            ts_receipt_ns=figures["open_ts_receipt_ns"],
            sequence_number=figures["last_sequence_number"],
            messages=figures["messages"],
            bid_price_ticks=bid_prices,
            bid_size_lots=bid_sizes,
            ask_price_ticks=ask_prices,
            ask_size_lots=ask_sizes,
            bid_horizon_ticks=figures["bid_horizon_ticks"] if seeded else None,
            ask_horizon_ticks=figures["ask_horizon_ticks"] if seeded else None,
        )


class _SnapshotFeed:
    """Hands the kernel snapshots in whole ticks and lots, a batch at a time."""

    def __init__(
        self, batches: Iterable[SnapshotBatch], price_scale: Scale, size_scale: Scale
    ) -> None:
        self._batches = iter(batches)
        self._price_scale = price_scale
        self._size_scale = size_scale
        self.current = _no_snapshots()
        self.position = 0
        self.exhausted = False

    def load_next(self) -> None:
        """Replaces the current batch, which the kernel is done with, by the next one."""
        self.position = 0
        batch = next(self._batches, None)
        if batch is None:
            self.exhausted = True
            self.current = _no_snapshots()
            return
        bid_price, bid_size = self._side(batch.bid_price, batch.bid_size)
        ask_price, ask_size = self._side(batch.ask_price, batch.ask_size)
        self.current = Snapshots(
            np.ascontiguousarray(batch.ts_receipt_ns, np.int64),
            np.ascontiguousarray(batch.sequence_number, np.int64),
            _is_a_book(bid_price, bid_size, ask_price, ask_size),
            bid_price,
            bid_size,
            ask_price,
            ask_size,
        )

    def _side(
        self, prices: NDArray[np.float64], sizes: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        price_ticks = np.empty(prices.shape, np.int64)
        size_lots = np.empty(sizes.shape, np.int64)
        to_steps(prices.ravel(), self._price_scale, price_ticks.ravel())
        to_steps(sizes.ravel(), self._size_scale, size_lots.ravel())
        return price_ticks, size_lots


def _is_a_book(
    bid_price: NDArray[np.int64],
    bid_size: NDArray[np.int64],
    ask_price: NDArray[np.int64],
    ask_size: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which snapshots are on the grid, ordered without repeats or holes, filled and not crossed."""
    usable = (bid_size[:, 0] > 0) & (ask_size[:, 0] > 0) & (bid_price[:, 0] < ask_price[:, 0])
    for price, size, worsening in ((bid_price, bid_size, -1), (ask_price, ask_size, 1)):
        usable &= (size != NOT_REPRESENTABLE).all(axis=1)
        usable &= ((size <= 0) | (price > 0)).all(axis=1)
        usable &= ((size[:, 1:] <= 0) | (size[:, :-1] > 0)).all(axis=1)
        worse = worsening * (price[:, 1:] - price[:, :-1]) > 0
        usable &= (worse | (size[:, 1:] <= 0)).all(axis=1)
    return usable


def _columns(rows: int, count: int) -> list[NDArray[np.int64]]:
    return [np.empty(rows, np.int64) for _ in range(count)]


def _no_deltas() -> Deltas:
    none = np.empty(0, np.int64)
    return Deltas(none, none, none, np.empty(0, np.bool_), none, none)


def _no_snapshots() -> Snapshots:
    none, nothing = np.empty(0, np.int64), np.empty((0, DEPTH_LEVELS), np.int64)
    return Snapshots(none, none, np.empty(0, np.bool_), nothing, nothing, nothing, nothing)
