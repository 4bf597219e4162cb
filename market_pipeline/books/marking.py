"""Batches of a feed with what is to be done about their messages, each marked by those after it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.boundaries import FirstRows, MessageStarts
from market_pipeline.books.soundness import LOOKAHEAD, LastSound, Mark, Soundness, sound_times_ns
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = ["PART_ROWS", "LastSnapshot", "MarkedSnapshots", "marked_deltas", "marked_snapshots"]

PART_ROWS = 1 << 17

_BEFORE_ALL = -(2**63)


def marked_deltas(
    batches: Iterable[DeltaBatch], soundness: Soundness
) -> Iterator[tuple[DeltaBatch, NDArray[np.int64], NDArray[np.int64]]]:
    """Yields the batches in parts, with the rows in them of marked messages, and their `Mark` bits.

    No part has more than `PART_ROWS` rows, which are still near the processor when they are applied
    after they were turned into ticks and lots.

    The last `LOOKAHEAD` messages of a batch wait for those after them, copied into a small batch of
    their own, so that no large one is held while the next is decoded.
    """
    # Here the first rows of messages are counted in their batch.
    waiting: deque[tuple[DeltaBatch, FirstRows]] = deque()
    starts, rows = MessageStarts(), 0
    for batch in batches:
        if batch.sequence_number.size == 0:
            continue
        messages = starts.add(batch.ts_origin_ns, batch.ts_receipt_ns, batch.sequence_number)
        messages = messages._replace(row=messages.row - rows)
        rows += batch.sequence_number.size
        if messages.row.size > LOOKAHEAD:
            waiting.extend(_parts(batch, messages, messages.row.size - LOOKAHEAD))
        else:
            waiting.append((batch, messages))
        del batch  # or it would be held while the next one is decoded
        while sum(messages.row.size for _, messages in list(waiting)[1:]) >= LOOKAHEAD:
            yield from _marked(waiting, soundness)
    while waiting:
        yield from _marked(waiting, soundness)


def _parts(
    batch: DeltaBatch, messages: FirstRows, at: int
) -> Iterator[tuple[DeltaBatch, FirstRows]]:
    """The rows before a message of a batch, and a copy of the others."""
    row = int(messages.row[at])
    yield batch.part(0, row), FirstRows._make(column[:at] for column in messages)
    rest = FirstRows._make(column[at:] for column in messages)
    tail = batch.part(row, batch.sequence_number.size, copied=True)
    yield tail, rest._replace(row=rest.row - row)


def _marked(
    waiting: deque[tuple[DeltaBatch, FirstRows]], soundness: Soundness
) -> Iterator[tuple[DeltaBatch, NDArray[np.int64], NDArray[np.int64]]]:
    """The first of the batches in parts, with the marks of its messages."""
    batch, messages = waiting.popleft()
    parts: list[tuple[NDArray[np.int64], ...]] = [messages[1:]]
    further = 0
    for _, later in waiting:
        parts.append(tuple(column[: LOOKAHEAD - further] for column in later[1:]))
        further += later.row.size
        if further >= LOOKAHEAD:
            break
    origin, receipt, sequence = (np.concatenate(column) for column in zip(*parts, strict=True))
    bits = soundness.mark(origin, receipt, sequence, messages.row.size)
    marked = np.flatnonzero(bits)
    row, bits = messages.row[marked], bits[marked]
    size = batch.sequence_number.size
    for start in range(0, size, PART_ROWS):
        end = min(start + PART_ROWS, size)
        here = slice(*np.searchsorted(row, (start, end)))
        yield batch.part(start, end), row[here] - start, bits[here]


class LastSnapshot(NamedTuple):
    """The last sound number and time of the snapshots so far, and how often numbers began anew.

    Before the first sound ones the number is the lowest there is, and the time None.
    """

    sequence_number: int
    ts_receipt_ns: int | None
    epoch: int


@dataclass(frozen=True, slots=True)
class MarkedSnapshots:
    """A batch of snapshots, and what their numbers and stamps are worth; shape (n,) each.

    Attributes:
        batch: The snapshots; their receipt times are sound.
        placeable: False where the number contradicts those around it, or had passed already.
        epoch: How often the numbers began anew before each.
        number: The last sound number up to each.
        has_time: Whether there was a sound time up to each.
    """

    batch: SnapshotBatch
    placeable: NDArray[np.bool_]
    epoch: NDArray[np.int64]
    number: NDArray[np.int64]
    has_time: NDArray[np.bool_]

    def last_before(self, position: int) -> LastSnapshot:
        """The state after the snapshots before a position from 1 on."""
        at = position - 1
        received_ns = int(self.batch.ts_receipt_ns[at]) if self.has_time[at] else None
        return LastSnapshot(int(self.number[at]), received_ns, int(self.epoch[at]))


def marked_snapshots(
    batches: Iterable[SnapshotBatch], last: LastSnapshot | None
) -> Iterator[MarkedSnapshots]:
    """Yields the batches with what their numbers and stamps are worth.

    A batch waits for the `LOOKAHEAD` snapshots after it.

    Args:
        batches: In feed order.
        last: Of the snapshots before; None at the beginning of a feed.
    """
    last = last or LastSnapshot(_BEFORE_ALL, None, 0)
    # Both clocks are the same one: a snapshot's exchange time is not always given.
    received_ns = last.ts_receipt_ns
    times_ns = None if received_ns is None else (received_ns, received_ns)
    soundness = Soundness(LastSound(last.sequence_number, times_ns))
    waiting: deque[SnapshotBatch] = deque()
    for batch in batches:
        if batch.sequence_number.size == 0:
            continue
        waiting.append(batch)
        while sum(each.sequence_number.size for each in list(waiting)[1:]) >= LOOKAHEAD:
            marked = _marked_snapshots(waiting, soundness, last)
            last = marked.last_before(marked.epoch.size)
            yield marked
        del batch
    while waiting:
        marked = _marked_snapshots(waiting, soundness, last)
        last = marked.last_before(marked.epoch.size)
        yield marked


def _marked_snapshots(
    waiting: deque[SnapshotBatch], soundness: Soundness, last: LastSnapshot
) -> MarkedSnapshots:
    batch = waiting.popleft()
    receipts, numbers = [batch.ts_receipt_ns], [batch.sequence_number]
    for later in waiting:
        receipts.append(later.ts_receipt_ns[:LOOKAHEAD])
        numbers.append(later.sequence_number[:LOOKAHEAD])
    received_ns = np.concatenate(receipts)
    count = batch.sequence_number.size
    bits = soundness.mark(received_ns, received_ns, np.concatenate(numbers), count)
    if not bits.any():
        epoch, yes = np.full(count, last.epoch, np.int64), np.ones(count, np.bool_)
        return MarkedSnapshots(batch, yes, epoch, batch.sequence_number, yes)
    placeable = (bits & (Mark.OLD | Mark.BAD_SEQUENCE)) == 0
    epoch = np.cumsum((bits & Mark.RESTART) != 0) + last.epoch
    is_sound = (bits & (Mark.OLD | Mark.BAD_TS_RECEIPT)) == 0
    has_time = np.logical_or.accumulate(is_sound) | (last.ts_receipt_ns is not None)
    times_ns = _latest(last.ts_receipt_ns or 0, batch.ts_receipt_ns, is_sound)
    # Without a sound time before, that of the next one is the best guess.
    times_ns = np.where(has_time, times_ns, np.append(received_ns[1:], received_ns[-1:])[:count])
    number = _latest(last.sequence_number, batch.sequence_number, placeable)
    marked = replace(batch, ts_receipt_ns=times_ns)
    return MarkedSnapshots(marked, placeable, epoch, number, has_time)


def _latest(
    before: int, values: NDArray[np.int64], is_sound: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """The last sound value up to each, or the one before all of them."""
    return sound_times_ns(np.append(before, values), np.append(False, ~is_sound))[1:]
