"""The book of a day whose deltas cannot be used: every usable snapshot is a row, nothing between.

It yields the blocks that a rebuild from deltas yields, so that the same tables come out. A row is
the top of the book as it was reported, never applied to or compared with anything, and it carries
the flag SNAPSHOT_ONLY. Its numbers are whole ticks and lots; where a snapshot is off the grid, has
holes or is not ordered from its best levels on, it is no row, and counted.

Order is that of the feed. A snapshot that is later than the row before neither by its sequence
number nor by its receipt time is an older book reported late, or the same one twice; it is no row
and counted. One of the two clocks running back is no reason: a host's clock is set back, a venue
begins its ids anew.

The row before a hole that both clocks show to be longer than a silence may last carries STALE,
because what it says is in force until the next row and nobody knows how long it was true.

A stamp that those around it contradict (`books.soundness`) is that of its row alone: the row is
flagged, and no hole, and no time that a book was in force, is measured by it. A row received
outside the UTC day carries OUTSIDE_DAY.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.integers import OffStep, OffStepCount, is_ordered_side
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import RebuildOptions, Rows
from market_pipeline.books.registers import figures_of, hourly_figures_of, new_registers
from market_pipeline.books.scale import NOT_REPRESENTABLE, Scale, to_steps
from market_pipeline.books.soundness import Mark
from market_pipeline.books.state import DEPTH_LEVELS, BboRows, DepthRows, rows_behind
from market_pipeline.sources.batches import SnapshotBatch

__all__ = ["SnapshotRebuild"]

_OFF_STEPS_KEPT = 10


class _Books(NamedTuple):
    """Consecutive snapshots in whole ticks and lots, and their `Mark` bits; levels (n, levels)."""

    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    marks: NDArray[np.int64]

    @property
    def levels(self) -> tuple[NDArray[np.int64], ...]:
        """Prices and sizes of both sides."""
        return self[3:7]

    def is_marked(self, mark: Mark) -> NDArray[np.bool_]:
        """Which of them carry a mark."""
        return np.asarray((self.marks & mark) != 0)

    def where(self, chosen: NDArray[np.bool_] | slice) -> _Books:
        """Some of them."""
        return _Books._make(column[chosen] for column in self)


class SnapshotRebuild:
    """One pass over one instrument's snapshots; iterate `blocks`, then read `figures`.

    Args:
        price_scale, size_scale: The tick and the lot of that day.
        options: How often depth and keyframes come; policies about deltas mean nothing here.
        silence_ns: A time between two rows up to this is no silence.
        marks: What the stamps of all snapshots are worth, int32 (snapshots,), by
            `books.soundness.marks_of`.
    """

    def __init__(
        self,
        price_scale: Scale,
        size_scale: Scale,
        options: RebuildOptions,
        *,
        silence_ns: int,
        marks: NDArray[np.int32],
    ) -> None:
        self.price_scale = price_scale
        self.size_scale = size_scale
        self.off_tick, self.off_lot = OffStepCount(), OffStepCount()
        asked = options.for_kernel()
        self._depth_ns, self._keyframe_ns = asked.depth_interval_ns, asked.keyframe_interval_ns
        self._day_ns = asked.day_start_ns, asked.day_end_ns
        self._silence_ns = silence_ns
        self._marks = marks
        self._latest_ns = np.iinfo(np.int64).min
        self._last: tuple[int, int] | None = None
        self._figures = figures_of(new_registers())

    @property
    def figures(self) -> dict[str, int]:
        """Counters by the names of a rebuild's (`registers.REGISTERS`); those of deltas are 0.

        The seed is the first row; `snapshots_unplaced` are those that came too late, or twice.
        """
        return dict(self._figures)

    @property
    def hourly_figures(self) -> dict[str, list[int]]:
        """What a rebuild counts by hour is about snapshots compared, and none is: 24 zeros each."""
        return hourly_figures_of(new_registers())

    def blocks(self, snapshots: Iterable[SnapshotBatch]) -> Iterator[Rows]:
        """Yields the rows in order, and at last the closing keyframe; nothing if there is no row.

        Args:
            snapshots: In feed order, with the exchange's times.

        Raises:
            MarketPipelineError: Whatever the source raises.
            ValueError: The snapshots come without the exchange's times.
        """
        # What follows from the next row (depth, keyframes, silences) is known one row later.
        last: _Books | None = None
        for batch in snapshots:
            books = self._take(batch)
            if last is not None:
                books = rows_behind(_Books._make, last, books)
            if books.sequence_number.size == 0:
                continue
            last = books.where(slice(-1, None))
            if books.sequence_number.size > 1:
                rows, after = books.where(slice(None, -1)), books.where(slice(1, None))
                yield from self._rows(rows, after, final=False)
        if last is not None:
            yield from self._rows(last, last, final=True)

    def _take(self, batch: SnapshotBatch) -> _Books:
        """The snapshots of a batch that become rows, in whole ticks and lots."""
        if batch.ts_origin_ns is None:
            raise ValueError("a row of a book has the exchange's time: read the snapshots with it")
        first, levels = self._figures["snapshots"], batch.bid_price.shape[1]
        prices = np.concatenate((batch.bid_price, batch.ask_price), axis=1)
        sizes = np.concatenate((batch.bid_size, batch.ask_size), axis=1)
        ticks = _in_steps(prices, self.price_scale, self.off_tick, batch, first)
        lots = _in_steps(sizes, self.size_scale, self.off_lot, batch, first)
        books = _Books(
            batch.ts_origin_ns,
            batch.ts_receipt_ns,
            batch.sequence_number,
            ticks[:, :levels],
            lots[:, :levels],
            ticks[:, levels:],
            lots[:, levels:],
            self._marks[first : first + batch.sequence_number.size].astype(np.int64),
        )
        usable = is_ordered_side(books.bid_price_ticks, books.bid_size_lots, worsening=-1)
        usable &= is_ordered_side(books.ask_price_ticks, books.ask_size_lots, worsening=1)
        usable &= (books.bid_size_lots[:, 0] > 0) | (books.ask_size_lots[:, 0] > 0)
        in_order = self._in_order(books.ts_receipt_ns[usable], books.sequence_number[usable])
        figures = self._figures
        figures["snapshots"] += usable.size
        figures["snapshots_unusable"] += int(np.count_nonzero(~usable))
        figures["snapshots_unplaced"] += int(np.count_nonzero(~in_order))
        usable[usable] = in_order
        return books.where(usable)

    def _in_order(
        self, receipt_ns: NDArray[np.int64], sequence: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Which of some usable snapshots are later than the row before, on one clock at least."""
        kept = np.ones(receipt_ns.size, np.bool_)
        if receipt_ns.size == 0:
            return kept
        before = self._last or (int(receipt_ns[0]) - 1, int(sequence[0]) - 1)
        later = np.diff(receipt_ns, prepend=before[0]) > 0
        later |= np.diff(sequence, prepend=before[1]) > 0
        if later.all():
            self._last = int(receipt_ns[-1]), int(sequence[-1])
            return kept
        # One that is left out is not what the next one is compared with.
        for at, (time_ns, number) in enumerate(
            zip(receipt_ns.tolist(), sequence.tolist(), strict=True)
        ):
            kept[at] = time_ns > before[0] or number > before[1]
            if kept[at]:
                before = time_ns, number
        self._last = before
        return kept

    def _rows(self, books: _Books, after: _Books, *, final: bool) -> Iterator[Rows]:
        """The blocks of some rows; `after` are the next ones of each."""
        receipt, count = books.ts_receipt_ns, books.sequence_number.size
        flags = self._flags(books, after)
        first = self._figures["messages"]
        self._count(books, flags, after)
        touch = (np.ascontiguousarray(levels[:, 0]) for levels in books.levels)
        unverified = np.zeros(count, np.bool_)
        yield BboRows._make([*books[:3], *touch, flags, unverified])
        if self._depth_ns >= 0:
            due = _is_last_of_interval(receipt, after.ts_receipt_ns, self._depth_ns)
            due[-1] |= final
            chosen = books.where(due)
            levels = [np.asfortranarray(_top(column)) for column in chosen.levels]
            confirmed = [(sizes > 0).sum(axis=1).astype(np.int8) for sizes in levels[1::2]]
            message = first + np.flatnonzero(due)
            trust = flags[due], unverified[due], message
            yield DepthRows._make([*chosen[:3], *levels, *trust, *confirmed])
        if self._keyframe_ns > 0:
            due = _is_last_of_interval(receipt, after.ts_receipt_ns, self._keyframe_ns)
            for at in np.flatnonzero(due).tolist():
                yield _keyframe("keyframe", books, at, first + at + 1, int(flags[at]))
        if final:
            yield _keyframe("closing", books, count - 1, first + count, int(flags[-1]))

    def _flags(self, books: _Books, after: _Books) -> NDArray[np.uint16]:
        bid, ask = books.bid_price_ticks[:, 0], books.ask_price_ticks[:, 0]
        is_empty = (books.bid_size_lots[:, 0] == 0) | (books.ask_size_lots[:, 0] == 0)
        bad_receipt = books.is_marked(Mark.BAD_TS_RECEIPT)
        bad_origin = books.is_marked(Mark.BAD_TS_ORIGIN)
        # The receipt clock stands still where it was set back, so that no second counts twice.
        sound_ns = np.where(bad_receipt, self._latest_ns, books.ts_receipt_ns)
        time_ns = np.maximum.accumulate(np.append(self._latest_ns, sound_ns))[1:]
        self._latest_ns = int(time_ns[-1])
        is_silent = after.ts_receipt_ns > time_ns + self._silence_ns
        is_silent &= ~after.is_marked(Mark.BAD_TS_RECEIPT)
        is_silent &= (
            (after.ts_origin_ns > books.ts_origin_ns + self._silence_ns)
            | bad_origin
            | after.is_marked(Mark.BAD_TS_ORIGIN)
        )
        start_ns, end_ns = self._day_ns
        is_outside = (books.ts_receipt_ns < start_ns) | (books.ts_receipt_ns >= end_ns)
        flags = np.full(bid.size, int(BookFlag.SNAPSHOT_ONLY), np.uint16)
        for flag, holds in (
            (BookFlag.EMPTY_SIDE, is_empty),
            (BookFlag.CROSSED, ~is_empty & (bid > ask)),
            (BookFlag.LOCKED, ~is_empty & (bid == ask)),
            (BookFlag.STALE, is_silent),
            (BookFlag.BAD_TS_RECEIPT, bad_receipt),
            (BookFlag.BAD_TS_ORIGIN, bad_origin),
            (BookFlag.OUTSIDE_DAY, is_outside & ~bad_receipt),
        ):
            flags[holds] |= np.uint16(flag)
        return flags

    def _count(self, books: _Books, flags: NDArray[np.uint16], after: _Books) -> None:
        figures = self._figures
        if not figures["seeded"]:
            figures["seeded"] = 1
            figures["seed_sequence_number"] = int(books.sequence_number[0])
            figures["seed_ts_receipt_ns"] = int(books.ts_receipt_ns[0])
        figures["messages"] += flags.size
        is_timed = ~(books.is_marked(Mark.BAD_TS_RECEIPT) | after.is_marked(Mark.BAD_TS_RECEIPT))
        held_ns = np.where(is_timed, np.maximum(after.ts_receipt_ns - books.ts_receipt_ns, 0), 0)
        for name, flag in (("crossed", BookFlag.CROSSED), ("locked", BookFlag.LOCKED)):
            is_so = (flags & np.uint16(flag)) != 0
            figures[f"{name}_messages"] += int(np.count_nonzero(is_so))
            figures[f"{name}_ns"] += int(held_ns[is_so].sum())
        for name, flag in (
            ("bad_receipt_stamps", BookFlag.BAD_TS_RECEIPT),
            ("bad_origin_stamps", BookFlag.BAD_TS_ORIGIN),
            ("outside_day_messages", BookFlag.OUTSIDE_DAY),
        ):
            figures[name] += int(np.count_nonzero(flags & np.uint16(flag)))
        is_sound = ~books.is_marked(Mark.BAD_TS_RECEIPT | Mark.BAD_TS_ORIGIN)
        latency_ns = (books.ts_receipt_ns - books.ts_origin_ns)[is_sound]
        if latency_ns.size:
            figures["negative_latency_messages"] += int(np.count_nonzero(latency_ns < 0))
            figures["min_latency_ns"] = min(figures["min_latency_ns"], int(latency_ns.min()))
            figures["max_latency_ns"] = max(figures["max_latency_ns"], int(latency_ns.max()))
        for side in ("bid", "ask"):
            _, _, reach = _side(books, side, -1)
            figures[f"{side}_horizon_ticks"] = reach or figures[f"{side}_horizon_ticks"]


def _in_steps(
    values: NDArray[np.float64], scale: Scale, count: OffStepCount, of: SnapshotBatch, first: int
) -> NDArray[np.int64]:
    """Prices or sizes of a batch, whose first snapshot is number `first` of the feed, in steps.

    A value off the grid is `NOT_REPRESENTABLE`, counted, and the first ten are located.
    """
    steps = np.empty(values.shape, np.int64)
    losses = to_steps(values.ravel(), scale, steps.ravel())
    if losses:
        count.losses += losses
        lost = np.argwhere(steps == NOT_REPRESENTABLE)[: _OFF_STEPS_KEPT - len(count.first)]
        count.first += [
            OffStep(of.file, of.first_row + row, float(values[row, level]), first + row)
            for row, level in lost.tolist()
        ]
    return steps


def _is_last_of_interval(
    receipt_ns: NDArray[np.int64], next_ns: NDArray[np.int64], width_ns: int
) -> NDArray[np.bool_]:
    """Whether the next row is in another interval of the clock; with a width of 0 each row is."""
    if width_ns == 0:
        return np.ones(receipt_ns.size, np.bool_)
    return np.asarray(receipt_ns // width_ns != next_ns // width_ns)


def _top(levels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The best levels in as many columns as `books.depth` has."""
    more = DEPTH_LEVELS - levels.shape[1]
    return np.pad(levels, ((0, 0), (0, more))) if more > 0 else levels[:, :DEPTH_LEVELS]


def _side(
    books: _Books, side: str, at: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int | None]:
    """One side of a snapshot without what is not there, and its farthest price; None without."""
    prices = getattr(books, f"{side}_price_ticks")[at]
    sizes = getattr(books, f"{side}_size_lots")[at]
    there = sizes > 0
    return prices[there], sizes[there], int(prices[there][-1]) if there.any() else None


def _keyframe(
    kind: Literal["keyframe", "closing"], books: _Books, at: int, messages: int, flags: int
) -> Keyframe:
    """A snapshot as a whole book: nothing is known beyond its levels."""
    bid_prices, bid_sizes, low = _side(books, "bid", at)
    ask_prices, ask_sizes, high = _side(books, "ask", at)
    return Keyframe(
        kind=kind,
        ts_origin_ns=int(books.ts_origin_ns[at]),
        ts_receipt_ns=int(books.ts_receipt_ns[at]),
        sequence_number=int(books.sequence_number[at]),
        messages=messages,
        flags=flags,
        bid_price_ticks=bid_prices,
        bid_size_lots=bid_sizes,
        ask_price_ticks=ask_prices,
        ask_size_lots=ask_sizes,
        bid_horizon_ticks=low,
        ask_horizon_ticks=high,
    )
