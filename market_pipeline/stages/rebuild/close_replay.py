"""Carries a closing book into the next day, up to the first snapshot to compare it with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.boundaries import first_rows
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.scale import Scale, to_steps
from market_pipeline.books.soundness import Mark, marks_of, sound_times_ns
from market_pipeline.books.state import DepthRows, Resync
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = ["CloseReplay", "LevelDifference", "replay_close"]

_MAX_ROWS = 1_000_000
_MAX_NS = 600 * 10**9
_TOP = 20
_HEAD_ROWS = 1 << 16
"""Of so many rows the first messages are looked at: what they are worth the next few say."""


@dataclass(frozen=True, slots=True)
class LevelDifference:
    """A price at which the replayed book and the snapshot hold different sizes; 0 is no level.

    `rank` is its place among the snapshot's levels, 0 the best; None if the snapshot has none.
    """

    side: str
    price_ticks: int
    our_lots: int
    their_lots: int
    rank: int | None


@dataclass(frozen=True, slots=True)
class CloseReplay:
    """How the replayed book did.

    Attributes:
        first_ts_receipt_ns, first_sequence_number: Of the next day's first message, stamps and
            numbers that the next ones contradict apart.
        file, row: Where that one begins.
        figures: The counters of the rebuild that replayed it: `snapshots_compared` is 0 or 1.
        snapshot: The snapshot it was compared with, a batch of one; None if none could be placed.
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
        return self.figures["snapshot_levels"] + self.figures["snapshot_levels_ghost"]

    @property
    def levels_differing(self) -> int:
        """How many of them differ."""
        return self.levels - self.figures["snapshot_levels_matching"]

    @property
    def is_right(self) -> bool:
        """Whether levels were compared, and none differs."""
        return self.levels > 0 and self.levels_differing == 0


def replay_close(
    close: Keyframe,
    deltas: Iterable[DeltaBatch],
    snapshots: Iterable[SnapshotBatch],
    price_scale: Scale,
    size_scale: Scale,
) -> CloseReplay:
    """Applies the next day's first messages to a closing book, which then is compared once.

    No snapshot is looked for beyond a million delta rows or ten minutes of receipt time.

    Args:
        close: A valid closing book.
        deltas, snapshots: The next day's, in feed order; there must be a delta row.
        price_scale, size_scale: The steps of `close`.

    Raises:
        MarketPipelineError: Whatever reading the batches raises.
        ValueError: There is no delta row.
    """
    start = RebuildState.after_close(close)
    options = RebuildOptions(depth_interval_ms=0, keyframe_seconds=0, resync=Resync.NEVER)
    # In parts, because the book is replayed through all that was read, and looked at per message.
    source = (
        batch.part(at, at + _HEAD_ROWS)
        for batch in deltas
        for at in range(0, batch.sequence_number.size, _HEAD_ROWS)
    )
    read = [batch for batch in [next(source, None)] if batch is not None]
    if not read:
        raise ValueError("a day without a delta row has nothing to replay a book through")
    first = read[0]
    begin_ns, begin_number = _beginning(first)
    rebuild, snapshot, compared = None, None, None
    for candidate in _near(snapshots, begin_ns):
        number = int(candidate.sequence_number[0])
        if _read_up_to(number, read, source, close):
            rebuild = Rebuild(price_scale, size_scale, options, start=start)
            rows = [
                block for block in rebuild.blocks(read, [candidate]) if isinstance(block, DepthRows)
            ]
            if rebuild.figures["snapshots_compared"]:
                snapshot, compared = candidate, _row_of(rows, number)
                break
    if rebuild is None:
        rebuild = Rebuild(price_scale, size_scale, options, start=start)
    differences = []
    if snapshot is not None:
        is_untouched = begin_number > snapshot.sequence_number[0]
        ours = close if is_untouched or compared is None else compared
        differences = list(_differences(close, ours, snapshot, price_scale, size_scale))
    return CloseReplay(
        begin_ns,
        begin_number,
        first.file,
        first.first_row,
        rebuild.figures,
        snapshot,
        differences,
    )


def _read_up_to(
    number: int, read: list[DeltaBatch], source: Iterator[DeltaBatch], close: Keyframe
) -> bool:
    """Reads on until the message of a number is whole, or so far as is looked; whether it came."""
    while True:
        came = number == close.sequence_number or any(
            (batch.sequence_number == number).any() for batch in read
        )
        # A message may go on in the next batch.
        if came and number < read[-1].sequence_number[-1]:
            return True
        more = next(source, None) if _rows(read) < _MAX_ROWS else None
        if more is None:
            return came
        read.append(more)


def _beginning(first: DeltaBatch) -> tuple[int, int]:
    """When a day begins and with which number: the sound ones of its first messages."""
    head = slice(_HEAD_ROWS)
    messages = first_rows(
        [(first.ts_origin_ns[head], first.ts_receipt_ns[head], first.sequence_number[head])]
    )
    marks = marks_of(messages.ts_origin_ns, messages.ts_receipt_ns, messages.sequence_number)
    times_ns = sound_times_ns(messages.ts_receipt_ns, (marks & Mark.BAD_TS_RECEIPT) != 0)
    is_sound = (marks & (Mark.BAD_SEQUENCE | Mark.OLD)) == 0
    return int(times_ns[0]), int(messages.sequence_number[np.argmax(is_sound)])


def _rows(batches: Sequence[DeltaBatch]) -> int:
    return sum(batch.sequence_number.size for batch in batches)


def _near(batches: Iterable[SnapshotBatch], begin_ns: int) -> Iterator[SnapshotBatch]:
    """The snapshots of the first minutes, one by one."""
    for batch in batches:
        times_ns = batch.ts_receipt_ns.tolist()
        yield from (
            _one(batch, at)
            for at, time_ns in enumerate(times_ns)
            if abs(time_ns - begin_ns) <= _MAX_NS
        )
        # Before the first minutes there may be any number of snapshots.
        if times_ns and min(times_ns) > begin_ns + _MAX_NS:
            return


def _one(batch: SnapshotBatch, at: int) -> SnapshotBatch:
    arrays: dict[str, Any] = {
        each.name: getattr(batch, each.name)[at : at + 1]
        for each in fields(batch)
        if isinstance(getattr(batch, each.name), np.ndarray)
    }
    return replace(batch, first_row=batch.first_row + at, **arrays)


def _row_of(blocks: Sequence[DepthRows], number: int) -> DepthRows | None:
    """The top levels after the message that a snapshot stands at, as arrays of one row."""
    if not blocks:
        return None
    depth = DepthRows._make(map(np.concatenate, zip(*blocks, strict=True)))
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
        shown = _levels(
            _steps(getattr(theirs, f"{side}_price")[0], price_scale),
            _steps(getattr(theirs, f"{side}_size")[0], size_scale),
        )
        ranks = {price: rank for rank, price in enumerate(shown)}
        reach = min(worse * max(shown, key=lambda price: worse * price), _horizon(close, side))
        for price in sorted(known.keys() | shown.keys(), key=lambda price: worse * price):
            mine, yours = known.get(price, 0), shown.get(price, 0)
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
