"""A raw feed as the plain book takes it: rows of whole ticks and lots, messages and snapshots.

The rules are those of the rebuild, written down a second time in plain Python.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby, pairwise, takewhile, tee

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.scale import EXACT_STEPS, Scale
from market_pipeline.quality.reference.soundness import SOUND, Marks, Stamps, marked
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = [
    "REFUSED",
    "Levels",
    "Message",
    "Row",
    "Snapshot",
    "mark_messages",
    "mark_snapshots",
    "messages_of",
    "rows_of",
    "snapshots_of",
    "whole_steps",
]

_ROUNDED_STEPS = 2**49
_ROWS_AT_ONCE = 1 << 9
_SNAPSHOTS_AT_ONCE = 1 << 4

REFUSED = -1
"""The size of a row whose price or size is not a whole number of ticks or lots."""

Levels = list[tuple[int, int]]
"""(price in ticks, size in lots), best first."""


@dataclass(slots=True)
class Row:
    """A delta row in whole ticks and lots, times in ns UTC; `size_lots` may be `REFUSED`."""

    ts_receipt_ns: int
    sequence_number: int
    is_bid: bool
    price_ticks: int
    size_lots: int
    ts_origin_ns: int = 0


@dataclass(slots=True)
class Message:
    """Neighbouring rows of one sequence number and receipt time, which are applied as one.

    Attributes:
        first_row: Its first row, counted over all rows of the feed.
        after_gap: Messages are suspected or proven to be lost before it.
        recovered: They are, but the snapshot right before it leads to it.
        marks: What its number and stamps are worth.
    """

    first_row: int
    rows: list[Row]
    after_gap: bool = False
    recovered: bool = False
    marks: Marks = SOUND

    @property
    def stamps(self) -> Stamps:
        """Its number and times: those of its first row."""
        first = self.rows[0]
        return Stamps(first.sequence_number, first.ts_receipt_ns, first.ts_origin_ns)


@dataclass(slots=True)
class Snapshot:
    """The top levels after the message of its sequence number, received at `ts_receipt_ns`.

    Attributes:
        usable: They are a book: on the grid, ordered, filled and not crossed.
        placeable: Its number is not contradicted by those around it, and had not passed already.
        epoch: How often the numbers of the snapshots began anew before it.
    """

    ts_receipt_ns: int
    sequence_number: int
    bids: Levels
    asks: Levels
    usable: bool = True
    placeable: bool = True
    epoch: int = 0


def messages_of(
    rows: Iterable[Row], gap_rows: Collection[int] = (), recovered_rows: Collection[int] = ()
) -> Iterator[Message]:
    """The messages of a feed; gap and recovered rows are first rows of some of them."""
    first_row = 0
    for _, group in groupby(rows, key=lambda row: (row.sequence_number, row.ts_receipt_ns)):
        together = list(group)
        yield Message(first_row, together, first_row in gap_rows, first_row in recovered_rows)
        first_row += len(together)


def mark_messages(messages: Sequence[Message], last: Stamps | None = None) -> None:
    """Tells the messages of a feed what their numbers and stamps are worth.

    Args:
        messages: In feed order; the last ones are marked as if the feed ended with them.
        last: The last sound values before them; None at the beginning of a feed.
    """
    stamps = [message.stamps for message in messages]
    for message, (marks, _) in zip(messages, marked(stamps, last), strict=True):
        message.marks = marks


def mark_snapshots(
    snapshots: Iterable[Snapshot], last: Stamps | None = None, epoch: int = 0
) -> Iterator[Snapshot]:
    """The snapshots of a feed with sound times, and whether and when their numbers mean a place.

    Their only clock is that of receipt. A bad time is replaced by the last sound one, or by that of
    the next snapshot where there was none.

    Args:
        snapshots: In feed order.
        last, epoch: The last sound values before them, and how often the numbers began anew.
    """
    for_stamps, for_times = tee(snapshots)
    stamps = (Stamps(s.sequence_number, s.ts_receipt_ns, s.ts_receipt_ns) for s in for_stamps)
    for (marks, sound), (snapshot, following) in zip(
        marked(stamps, last), _with_next(for_times), strict=True
    ):
        epoch += marks.is_restart
        yield replace(
            snapshot,
            ts_receipt_ns=following.ts_receipt_ns if sound is None else sound.ts_receipt_ns,
            placeable=not (marks.is_old or marks.bad_sequence),
            epoch=epoch,
        )


def _with_next(snapshots: Iterable[Snapshot]) -> Iterator[tuple[Snapshot, Snapshot]]:
    """Each with the next one; the last with itself."""
    before = None
    for snapshot in snapshots:
        if before is not None:
            yield before, snapshot
        before = snapshot
    if before is not None:
        yield before, before


def rows_of(batches: Iterable[DeltaBatch], price_scale: Scale, size_scale: Scale) -> Iterator[Row]:
    """The rows of raw batches; one whose price or size is off its grid is to be refused."""
    for batch in batches:
        for start in range(0, batch.sequence_number.size, _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            columns = (
                batch.ts_receipt_ns[part].tolist(),
                batch.sequence_number[part].tolist(),
                batch.is_bid[part].tolist(),
                whole_steps(batch.price[part], price_scale),
                whole_steps(batch.size[part], size_scale),
                batch.ts_origin_ns[part].tolist(),
            )
            for receipt_ns, sequence, is_bid, ticks, lots, origin_ns in zip(*columns, strict=True):
                size_lots = REFUSED if ticks == REFUSED else lots
                yield Row(receipt_ns, sequence, is_bid, ticks, size_lots, origin_ns)


def snapshots_of(
    batches: Iterable[SnapshotBatch], price_scale: Scale, size_scale: Scale
) -> Iterator[Snapshot]:
    """The snapshots of raw batches."""

    def levels(prices: NDArray[np.float64], sizes: NDArray[np.float64]) -> list[Levels]:
        depth = prices.shape[1]
        ticks = whole_steps(prices.ravel(), price_scale)
        lots = whole_steps(sizes.ravel(), size_scale)
        both = list(zip(ticks, lots, strict=True))
        return [both[at : at + depth] for at in range(0, len(both), depth)]

    for batch in batches:
        for start in range(0, batch.sequence_number.size, _SNAPSHOTS_AT_ONCE):
            part = slice(start, start + _SNAPSHOTS_AT_ONCE)
            columns = (
                batch.ts_receipt_ns[part].tolist(),
                batch.sequence_number[part].tolist(),
                levels(batch.bid_price[part], batch.bid_size[part]),
                levels(batch.ask_price[part], batch.ask_size[part]),
            )
            for receipt_ns, sequence, bids, asks in zip(*columns, strict=True):
                usable = _is_a_book(bids, asks)
                yield Snapshot(receipt_ns, sequence, _filled(bids), _filled(asks), usable)


def _filled(levels: Levels) -> Levels:
    return list(takewhile(lambda level: level[1] > 0, levels))


def _is_a_book(bids: Levels, asks: Levels) -> bool:
    """On the grid, without holes, each level worse than the one before, filled, not crossed."""
    for levels, away in ((bids, -1), (asks, 1)):
        filled = _filled(levels)
        if not filled or any(size != 0 for _, size in levels[len(filled) :]):
            return False
        if any(price <= 0 for price, _ in filled):
            return False
        if any(away * (worse - better) <= 0 for (better, _), (worse, _) in pairwise(filled)):
            return False
    return bids[0][0] < asks[0][0]


def whole_steps(values: NDArray[np.float64], scale: Scale) -> list[int]:
    """Finite values as whole numbers of steps, or `REFUSED` where one is none (`books.scale`)."""
    # What overflows is too far up for a step.
    with np.errstate(over="ignore", invalid="ignore"):
        exact = values * 10.0**scale.decimals / scale.coefficient
        whole = np.rint(exact)
        is_far = np.abs(whole) > _ROUNDED_STEPS
        is_whole = np.abs(exact - whole) <= np.maximum(1e-6, np.abs(exact) * 2.0**-51)
    steps: list[int] = np.where(is_whole & ~is_far, whole, REFUSED).astype(np.int64).tolist()
    for at in np.flatnonzero(is_far).tolist():
        steps[at] = _far_steps(float(values[at]), float(exact[at]), scale)
    return steps


def _far_steps(value: float, about: float, scale: Scale) -> int:
    """The same so far up that a float64's own error may be a quarter of a step."""
    if abs(about) > EXACT_STEPS:
        return REFUSED
    exact = Fraction(value) / Fraction(scale.step)
    whole = round(exact)
    is_near = abs(exact - whole) <= Fraction(1, 4)
    return whole if is_near and whole < EXACT_STEPS else REFUSED
