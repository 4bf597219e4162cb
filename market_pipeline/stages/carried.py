"""Carries a closing book into the next day, up to the first snapshot that can examine it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.keyframe import Keyframe, RebuildState
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.scale import Scale, to_steps
from market_pipeline.books.state import DepthRows, Resync
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = ["Carried", "LevelDifference", "carry_over"]

_MAX_ROWS = 1_000_000
_MAX_NS = 600 * 10**9
_TOP = 20


@dataclass(frozen=True, slots=True)
class LevelDifference:
    """A price at which the carried book and the snapshot hold different sizes; 0 is no level.

    `rank` is its place among the snapshot's levels, 0 the best; None if the snapshot has none.
    """

    side: str
    price_ticks: int
    our_lots: int
    their_lots: int
    rank: int | None


@dataclass(frozen=True, slots=True)
class Carried:
    """How the carried book did.

    Attributes:
        first_ts_receipt_ns, first_sequence_number: Of the next day's first message.
        file, row: Where that one begins.
        figures: The counters of the rebuild that carried it: `exams` is 0 or 1.
        snapshot: The snapshot that examined it, a batch of one; None if none could be placed.
        differences: Where they differ in the best 20 levels of either, best first, bids first. In
            a feed whose numbers run back the book may have passed the snapshot's number twice; then
            it is the first time that is looked at, and not every difference need be found.
    """

    first_ts_receipt_ns: int
    first_sequence_number: int
    file: Path
    row: int
    figures: Mapping[str, int]
    snapshot: SnapshotBatch | None
    differences: list[LevelDifference]

    @property
    def levels(self) -> int:
        """How many levels were compared: the snapshot's, and ours that it does not have."""
        return self.figures["exam_levels"] + self.figures["exam_levels_ghost"]

    @property
    def levels_differing(self) -> int:
        """How many of them differ."""
        return self.levels - self.figures["exam_levels_matching"]


def carry_over(
    close: Keyframe,
    deltas: Iterable[DeltaBatch],
    snapshots: Iterable[SnapshotBatch],
    price_scale: Scale,
    size_scale: Scale,
) -> Carried:
    """Applies the next day's first messages to a closing book, which then sits one exam.

    No snapshot is looked for beyond a million delta rows or ten minutes of receipt time.

    Args:
        close: A valid closing book.
        deltas, snapshots: The next day's, in feed order; there must be a delta row.
        price_scale, size_scale: The steps of `close`.

    Raises:
        MarketPipelineError: Whatever reading the batches raises.
        ValueError: There is no delta row.
    """
    options = RebuildOptions(depth_interval_ms=0, keyframe_seconds=0, resync=Resync.NEVER)
    start = RebuildState.after_close(close)
    feed = _Feed(Rebuild(price_scale, size_scale, options, start=start))
    examined: DepthRows | None = None
    for block in feed.rebuild.blocks(feed.deltas(deltas), feed.snapshots(snapshots)):
        if isinstance(block, DepthRows) and examined is None:
            examined = _row_of(block, feed.examiner)
    snapshot, first = feed.examiner, feed.first
    if first is None:
        raise ValueError("a day without a delta row has nothing to carry a book into")
    differences = []
    if snapshot is not None:
        is_untouched = first.sequence_number[0] > snapshot.sequence_number[0]
        ours = close if is_untouched or examined is None else examined
        differences = list(_differences(close, ours, snapshot, price_scale, size_scale))
    return Carried(
        int(first.ts_receipt_ns[0]),
        int(first.sequence_number[0]),
        first.file,
        first.first_row,
        feed.rebuild.figures,
        snapshot,
        differences,
    )


class _Feed:
    """Hands a rebuild one snapshot at a time, and no more rows once one has examined the book."""

    def __init__(self, rebuild: Rebuild) -> None:
        self.rebuild = rebuild
        self.first: DeltaBatch | None = None
        self._latest: SnapshotBatch | None = None
        self._over = False

    @property
    def examiner(self) -> SnapshotBatch | None:
        """The snapshot that examined the book, which is the last one handed out."""
        return self._latest if self.rebuild.figures["exams"] else None

    def deltas(self, batches: Iterable[DeltaBatch]) -> Iterator[DeltaBatch]:
        for batch in batches:
            self.first = self.first or batch
            yield batch
            # A message may go on in the next batch, so nothing may be examined after the last one.
            if self._over:
                return

    def snapshots(self, batches: Iterable[SnapshotBatch]) -> Iterator[SnapshotBatch]:
        for batch in batches:
            for at in range(batch.sequence_number.size):
                figures = self.rebuild.figures
                is_late = self.first is None or (
                    batch.ts_receipt_ns[at] - self.first.ts_receipt_ns[0] > _MAX_NS
                )
                if figures["exams"] or figures["rows"] >= _MAX_ROWS or is_late:
                    self._over = True
                    return
                self._latest = _one(batch, at)
                yield self._latest
        self._over = True


def _one(batch: SnapshotBatch, at: int) -> SnapshotBatch:
    arrays: dict[str, Any] = {
        each.name: getattr(batch, each.name)[at : at + 1]
        for each in fields(batch)
        if isinstance(getattr(batch, each.name), np.ndarray)
    }
    return replace(batch, first_row=batch.first_row + at, **arrays)


def _row_of(depth: DepthRows, snapshot: SnapshotBatch | None) -> DepthRows | None:
    """The top levels after the message that a snapshot stands at, as arrays of one row."""
    if snapshot is None:
        return None
    number = snapshot.sequence_number[0]
    after = np.append(depth.sequence_number[1:], np.iinfo(np.int64).max)
    # It is met before the first greater number; numbers that run back may bring its own once more.
    found = np.flatnonzero((depth.sequence_number == number) & (after > number))
    return DepthRows._make(column[found[:1]] for column in depth) if found.size else None


def _differences(
    close: Keyframe,
    ours: Keyframe | DepthRows,
    theirs: SnapshotBatch,
    price_scale: Scale,
    size_scale: Scale,
) -> Iterator[LevelDifference]:
    for side, worse in (("bid", -1), ("ask", 1)):
        known = _levels(
            np.atleast_2d(getattr(ours, f"{side}_price_ticks"))[0, :_TOP],
            np.atleast_2d(getattr(ours, f"{side}_size_lots"))[0, :_TOP],
        )
        told = _levels(
            _steps(getattr(theirs, f"{side}_price")[0], price_scale),
            _steps(getattr(theirs, f"{side}_size")[0], size_scale),
        )
        ranks = {price: rank for rank, price in enumerate(told)}
        reach = min(worse * max(told, key=lambda price: worse * price), _horizon(close, side))
        for price in sorted(known.keys() | told.keys(), key=lambda price: worse * price):
            mine, yours = known.get(price, 0), told.get(price, 0)
            if mine != yours and worse * price <= reach:
                yield LevelDifference(side, price, mine, yours, ranks.get(price))


def _horizon(close: Keyframe, side: str) -> int:
    """How far out the closing book was known, greater being worse on both sides."""
    ticks = -(close.bid_horizon_ticks or 0) if side == "bid" else close.ask_horizon_ticks
    return ticks or 0


def _levels(prices: NDArray[np.int64], sizes: NDArray[np.int64]) -> dict[int, int]:
    pairs = zip(prices.tolist(), sizes.tolist(), strict=True)
    return {price: size for price, size in pairs if size > 0}


def _steps(values: NDArray[np.float64], scale: Scale) -> NDArray[np.int64]:
    steps = np.empty(values.shape, np.int64)
    to_steps(values, scale, steps)
    return steps
