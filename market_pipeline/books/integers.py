"""Raw batches in whole ticks and lots, as the kernel takes them; what is off them is located."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.marking import LastSnapshot, MarkedSnapshots, marked_snapshots
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.books.state import DEPTH_LEVELS, Deltas, Snapshots, as_input, read_only
from market_pipeline.jit import inlined_kernel, kernel
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = [
    "OffStep",
    "OffStepCount",
    "SnapshotFeed",
    "deltas_in_steps",
    "is_ordered_side",
    "no_deltas",
    "no_snapshots",
]

_OFF_STEPS_KEPT = 10
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


@dataclass(frozen=True, slots=True)
class OffStep:
    """A value that is not a whole number of ticks or lots, and where it stands.

    `row` counts in the file, `feed_row` over all rows of the feed.
    """

    file: Path
    row: int
    value: float
    feed_row: int


@dataclass(slots=True)
class OffStepCount:
    """How many values of a column are off their step, and the first ten of them.

    `latest_rows` are the feed's rows of those in the batch met last.
    """

    losses: int = 0
    first: list[OffStep] = field(default_factory=list)
    latest_rows: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    def add(
        self, batch: DeltaBatch, feed_row: int, values: NDArray[np.float64], rows: NDArray[np.int64]
    ) -> None:
        """Counts the losses of one batch: `values` at `rows`; its first row is `feed_row`."""
        self.losses += rows.size
        self.latest_rows = rows + feed_row
        for at in rows[: _OFF_STEPS_KEPT - len(self.first)].tolist():
            step = OffStep(batch.file, batch.first_row + at, float(values[at]), feed_row + at)
            self.first.append(step)

    def before(self, feed_row: int) -> OffStepCount:
        """The count without what the batch met last holds from a row of the feed on."""
        later = int(np.count_nonzero(self.latest_rows >= feed_row))
        kept = [step for step in self.first if step.feed_row < feed_row]
        return OffStepCount(self.losses - later, kept)


def deltas_in_steps(
    batch: DeltaBatch,
    feed_row: int,
    price_scale: Scale,
    size_scale: Scale,
    off_tick: OffStepCount,
    off_lot: OffStepCount,
    price_ticks: NDArray[np.int64],
    size_lots: NDArray[np.int64],
) -> Deltas:
    """The rows of a batch, whose first is `feed_row` of the feed, in ticks and lots.

    A row whose price or size is not on the grid is marked to be refused, and counted.
    `price_ticks` and `size_lots`, int64 (n,), are written and become part of the answer.
    """
    for values, scale, steps, count in (
        (batch.price, price_scale, price_ticks, off_tick),
        (batch.size, size_scale, size_lots, off_lot),
    ):
        losses = to_steps(values, scale, steps)
        lost = np.flatnonzero(steps == NOT_REPRESENTABLE) if losses else np.empty(0, np.int64)
        count.add(batch, feed_row, values, lost)
    if off_tick.latest_rows.size:
        size_lots[off_tick.latest_rows - feed_row] = NOT_REPRESENTABLE
    return as_input(
        Deltas(
            batch.ts_origin_ns,
            batch.ts_receipt_ns,
            batch.sequence_number,
            batch.is_bid,
            price_ticks,
            size_lots,
        )
    )


def no_deltas() -> Deltas:
    """A batch without rows."""
    none = np.empty(0, np.int64)
    return as_input(Deltas(none, none, none, np.empty(0, np.bool_), none, none))


class SnapshotFeed:
    """Hands the kernel snapshots in whole ticks and lots, a batch at a time.

    Args:
        batches: In feed order.
        price_scale, size_scale: The tick and the lot.
        last: Of the snapshots before; None at the beginning of a feed.
    """

    def __init__(
        self,
        batches: Iterable[SnapshotBatch],
        price_scale: Scale,
        size_scale: Scale,
        last: LastSnapshot | None = None,
    ) -> None:
        self._batches = marked_snapshots(batches, last)
        self._price_scale = price_scale
        self._size_scale = size_scale
        self._last = last
        self._marked: MarkedSnapshots | None = None
        self.current = no_snapshots()
        self.position = 0
        self.exhausted = False

    @property
    def last(self) -> LastSnapshot | None:
        """Of those that the kernel is done with."""
        if self._marked is None or self.position == 0:
            return self._last
        return self._marked.last_before(self.position)

    def load_next(self) -> None:
        """Replaces the current batch, which the kernel is done with, by the next one."""
        self._last, self.position = self.last, 0
        self._marked = marked = next(self._batches, None)
        if marked is None:
            self.exhausted = True
            self.current = no_snapshots()
            return
        batch = marked.batch
        bid_price, bid_size = self._side(batch.bid_price, batch.bid_size)
        ask_price, ask_size = self._side(batch.ask_price, batch.ask_size)
        levels = bid_price, bid_size, ask_price, ask_size
        usable = np.empty(batch.sequence_number.size, np.bool_)
        content = np.empty(batch.sequence_number.size, np.int64)
        _look_at(*levels, usable, content)
        self.current = as_input(
            Snapshots(
                batch.ts_receipt_ns,
                batch.sequence_number,
                usable,
                marked.placeable,
                marked.epoch,
                content,
                *levels,
            )
        )

    def _side(
        self, prices: NDArray[np.float64], sizes: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        price_ticks = np.empty(prices.shape, np.int64)
        size_lots = np.empty(sizes.shape, np.int64)
        to_steps(prices.ravel(), self._price_scale, price_ticks.ravel())
        to_steps(sizes.ravel(), self._size_scale, size_lots.ravel())
        return price_ticks, size_lots


@kernel
def _look_at(bid_price, bid_size, ask_price, ask_size, usable, content):
    """Says which snapshots are a book, and gives each a number that its levels make.

    A book is on the grid, ordered without repeats or holes, filled and not crossed.

    Args:
        bid_price, bid_size, ask_price, ask_size: int64 (n, levels), ticks and lots.
        usable, content: bool and int64 (n,), written.
    """
    for k in range(usable.size):
        is_filled = bid_size[k, 0] > 0 and ask_size[k, 0] > 0
        usable[k] = (
            is_filled
            and bid_price[k, 0] < ask_price[k, 0]
            and _is_ordered(bid_price, bid_size, k, -1)
            and _is_ordered(ask_price, ask_size, k, 1)
        )
        mixed = _mixed_with(np.uint64(0), bid_price, k)
        mixed = _mixed_with(mixed, bid_size, k)
        mixed = _mixed_with(mixed, ask_price, k)
        content[k] = np.int64(_mixed_with(mixed, ask_size, k))


@inlined_kernel
def _mixed_with(mixed, column, k):
    for n in range(column.shape[1]):
        mixed = (mixed ^ (mixed >> _HALF) ^ np.uint64(column[k, n])) * _GOLDEN
    return mixed


@kernel
def _is_ordered(price_ticks, size_lots, k, worsening):
    for n in range(size_lots.shape[1]):
        size, price = size_lots[k, n], price_ticks[k, n]
        if size == NOT_REPRESENTABLE or (size > 0 and price <= 0):
            return False
        # A level after one that is not there, or no worse than the one before.
        is_after = n > 0 and size > 0
        if is_after and (
            size_lots[k, n - 1] <= 0 or worsening * (price - price_ticks[k, n - 1]) <= 0
        ):
            return False
    return True


@kernel
def _are_ordered(price_ticks, size_lots, worsening, ordered):
    for k in range(ordered.size):
        ordered[k] = _is_ordered(price_ticks, size_lots, k, worsening)


def is_ordered_side(
    price_ticks: NDArray[np.int64], size_lots: NDArray[np.int64], *, worsening: int
) -> NDArray[np.bool_]:
    """Which snapshots have one side on the grid, without holes, from its best level on.

    Args:
        price_ticks, size_lots: int64 (n, levels); a level that is not there has size 0.
        worsening: 1 if prices get worse upwards (asks), -1 if downwards (bids).
    """
    ordered = np.empty(price_ticks.shape[0], np.bool_)
    _are_ordered(read_only(price_ticks), read_only(size_lots), worsening, ordered)
    return ordered


def no_snapshots() -> Snapshots:
    """A batch without snapshots."""
    none, nothing = np.empty(0, np.int64), np.empty((0, DEPTH_LEVELS), np.int64)
    no, levels = np.empty(0, np.bool_), [nothing] * 4
    return as_input(Snapshots(none, none, no, no, none, none, *levels))
