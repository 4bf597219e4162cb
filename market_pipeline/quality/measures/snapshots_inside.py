"""What the snapshots inside a silence show: that the book changed, or nothing.

Not every snapshot with another number shows a lost message: numbers may be off by one all day,
stand still, or be of the message that ends the silence and is about to come. So a number counts
only between those of the messages around the silence, and only where the numbers can be believed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market_pipeline.quality.intervals import BoolArray, IntArray
from market_pipeline.quality.measures.silences import Silences

__all__ = ["SnapshotTouches", "snapshot_changes"]

_RECENT_MESSAGES = 10_000
"""A snapshot before a silence is looked for among so many messages before it."""


@dataclass(frozen=True, slots=True, eq=False)
class SnapshotTouches:
    """Consecutive snapshots of a day, as far as they show whether the book changed.

    Attributes:
        ts_origin_ns, ts_receipt_ns, sequence_number: int64, shape (n,).
        touch: float64, shape (n, 4): best bid and ask with their sizes, NaN where there is none.
    """

    ts_origin_ns: IntArray
    ts_receipt_ns: IntArray
    sequence_number: IntArray
    touch: NDArray[np.float64]


def snapshot_changes(
    silences: Silences,
    sequence_number: IntArray,
    snapshots: Iterable[SnapshotTouches],
    *,
    margin_ns: int,
) -> IntArray:
    """Counts the snapshots inside each silence that show another book than the one before them.

    A snapshot counts if both its times lie inside, as with trades, and

    * its number lies between those of the messages around the silence, and the numbers of this
      feed's snapshots can be believed: the snapshot before it has the number of a message, or lies
      inside with a number of its own. Numbers that are all off by one show nothing by themselves;
    * or it has the number of the snapshot before it, which lies inside too, and another touch.

    Args:
        silences: Of the messages.
        sequence_number: int64, shape (messages,).
        snapshots: Those of the day in feed order, cut anywhere.
        margin_ns: A snapshot this shortly before the end may be of the message that ended it.

    Returns:
        int64, shape (k,).
    """
    changes = np.zeros(len(silences), dtype=np.int64)
    numbered = np.zeros(len(silences), dtype=np.bool_)
    last: SnapshotTouches | None = None
    for batch in snapshots:
        if not batch.sequence_number.size:
            continue
        joined = batch if last is None else _joined(last, batch)
        inside = _silence_of(joined, silences, margin_ns)
        _count_changes(joined, inside, silences, sequence_number, changes, numbered)
        last = _last_of(batch)
    return np.maximum(changes, numbered)


def _count_changes(
    snapshots: SnapshotTouches,
    silence: IntArray,
    silences: Silences,
    sequence_number: IntArray,
    changes: IntArray,
    numbered: BoolArray,
) -> None:
    """Takes all snapshots but the first into account, which is what the second is compared with.

    Args:
        snapshots: Consecutive ones.
        silence: int64, shape (n,): which one each lies in; -1 if in none.
        silences, sequence_number: Of the messages.
        changes: int64, shape (k,), added to: how many show a change against one inside too.
        numbered: bool, shape (k,), set where a number that no message has shows one.
    """
    number, touch = snapshots.sequence_number, snapshots.touch
    at = np.flatnonzero(silence[1:] >= 0) + 1
    inside = silence[at]
    after = silences.messages_after[inside]
    low, high = sequence_number[after - 1], sequence_number[after]
    new_number = (number[at] > low) & (number[at] < high) & (number[at] != number[at - 1])
    same = (touch[at] == touch[at - 1]) | (np.isnan(touch[at]) & np.isnan(touch[at - 1]))
    changed = (number[at] == number[at - 1]) & ~same.all(axis=1)
    changed |= new_number & (number[at - 1] > low)
    changed &= silence[at - 1] == inside
    np.add.at(changes, inside[changed], 1)
    for k in np.flatnonzero(new_number & ~changed).tolist():
        if not numbered[inside[k]]:
            recent = sequence_number[max(after[k] - _RECENT_MESSAGES, 0) : after[k]]
            numbered[inside[k]] = bool((recent == number[at[k] - 1]).any())


def _silence_of(snapshots: SnapshotTouches, silences: Silences, margin_ns: int) -> IntArray:
    """Which silence each snapshot lies in by both clocks; -1 if in none. int64, shape (n,)."""
    starts_ns, ends_ns = silences.receipt_spans.T
    silence = np.searchsorted(starts_ns, snapshots.ts_receipt_ns, side="left") - 1
    inside = snapshots.ts_receipt_ns < (ends_ns - margin_ns)[np.maximum(silence, 0)]
    # By the exchange's clock too, of the few that are left.
    at = np.flatnonzero(inside & (silence >= 0))
    origin_ns, spans = snapshots.ts_origin_ns[at], silences.origin_spans[silence[at]]
    at = at[(origin_ns > spans[:, 0]) & (origin_ns < spans[:, 1] - margin_ns)]
    found = np.full(silence.size, -1)
    found[at] = silence[at]
    return found


def _joined(one: SnapshotTouches, other: SnapshotTouches) -> SnapshotTouches:
    return SnapshotTouches(
        *(
            np.concatenate((getattr(one, name), getattr(other, name)))
            for name in ("ts_origin_ns", "ts_receipt_ns", "sequence_number", "touch")
        )
    )


def _last_of(snapshots: SnapshotTouches) -> SnapshotTouches:
    return SnapshotTouches(
        snapshots.ts_origin_ns[-1:].copy(),
        snapshots.ts_receipt_ns[-1:].copy(),
        snapshots.sequence_number[-1:].copy(),
        snapshots.touch[-1:].copy(),
    )
