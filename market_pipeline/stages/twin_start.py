"""Where the plain twin begins: with the day's first message, and with some published keyframes.

A keyframe holds the whole state of a valid book but for one thing: which snapshots were met. It is
taken before the snapshots of its own last message, so the first that was not met is the first that
is neither older by its sequence number nor older than a place is waited for, unless a message
before had a higher number or a later time. Only keyframes without such a message are begun with,
and of these only valid ones: since when a book is crossed is not known from its keyframe.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from market_pipeline.books.arrow import CHECKPOINT_FORMAT
from market_pipeline.books.flags import INVALIDATING
from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.lake.published import scan
from market_pipeline.sources.crypto_lake import DELTAS, SNAPSHOTS, read_raw
from market_pipeline.stages.judged import RebuiltDayOf

__all__ = ["Start", "starts_of"]

_KEYS = ("receipt_timestamp", "sequence_number")
_TRIED = 4
"""So many keyframes are looked at for each that is wanted."""


@dataclass(frozen=True, slots=True)
class Start:
    """What to begin with, and what comes next.

    Attributes:
        checkpoint: A row of `books.checkpoints`; None is an empty book.
        message, row, snapshot: The number of the next one in the day, from 0.
    """

    checkpoint: dict[str, Any] | None
    message: int
    row: int
    snapshot: int


def starts_of(day: RebuiltDayOf, count: int, patience_ns: int) -> list[Start]:
    """At most `count` places to begin at, in order: the day's first message is one of them.

    The keyframes follow from the instrument, the day and their messages alone. The day's beginning
    is left out where the closing book that it was seeded with is not published any more.

    Args:
        day: The rebuilt day.
        count: At least 1.
        patience_ns: How much older than the feed a snapshot may be before its place is no longer
            waited for.

    Raises:
        LakeFileError: A raw file cannot be read, or changed since it was registered.
    """
    keyframes = _keyframes(day, _TRIED * (count - 1))
    places = _places(day.delta_files, [each["messages"] for each in keyframes])
    starts = _first(day)
    for keyframe in keyframes:
        place = places.get(keyframe["messages"])
        received_ns, number = keyframe["ts_receipt_ns"], keyframe["sequence_number"]
        if len(starts) >= count or place is None:
            continue
        if place.latest_ns <= received_ns and place.highest_number <= number:
            snapshot = _first_snapshot(day.snapshot_files, received_ns - patience_ns, number)
            checkpoint = _checkpoint(day, keyframe["messages"])
            starts.append(Start(checkpoint, keyframe["messages"], place.row, snapshot))
    return sorted(starts, key=lambda start: start.message)


def _first(day: RebuiltDayOf) -> list[Start]:
    if day.record["seed"] != "previous_close":
        return [Start(None, 0, 0, 0)]
    close = scan(day.warehouse, CHECKPOINTS, day.day - timedelta(days=1), [day.instrument.id])
    rows = close.filter(
        kind="closing",
        sequence_number=day.record["seed_sequence_number"],
        ts_receipt_ns=day.record["seed_ts_receipt_ns"],
    ).collect()
    return [Start(row, 0, 0, 0) for row in rows.to_dicts()]


def _keyframes(day: RebuiltDayOf, count: int) -> list[dict[str, Any]]:
    """Messages, time and number of at most `count` valid keyframes, in an order like drawn lots."""
    keyframes = _checkpoints(day).filter(
        pl.col("flags") & int(INVALIDATING) == 0, format_version=CHECKPOINT_FORMAT
    )
    known = keyframes.select("messages", "ts_receipt_ns", "sequence_number").collect().to_dicts()

    def lot(keyframe: dict[str, Any]) -> bytes:
        text = f"{day.instrument.id} {day.day} {keyframe['messages']}"
        return hashlib.sha256(text.encode()).digest()

    return sorted(known, key=lot)[:count]


def _checkpoint(day: RebuiltDayOf, messages: int) -> dict[str, Any]:
    return _checkpoints(day).filter(messages=messages).collect().row(0, named=True)


def _checkpoints(day: RebuiltDayOf) -> pl.LazyFrame:
    """The day's checkpoints but the closing one, which no message comes after."""
    return scan(day.warehouse, CHECKPOINTS, day.day, [day.instrument.id]).filter(kind="keyframe")


class _Place(NamedTuple):
    """The first row of a message, and the latest time and highest number of the rows before it."""

    row: int
    latest_ns: int
    highest_number: int


def _places(files: Sequence[Path], messages: Sequence[int]) -> dict[int, _Place]:
    """Finds messages by their number in the day, in one pass over two columns up to the last."""
    wanted = np.array(sorted(messages), np.int64)
    found: dict[int, _Place] = {}
    latest_ns = highest_number = np.iinfo(np.int64).min
    before: tuple[int, int] | None = None
    rows = count = 0
    for batch in read_raw(files, DELTAS, _KEYS):
        if len(found) == wanted.size:
            break
        receipt_ns, number = (batch.arrays[key] for key in _KEYS)
        if receipt_ns.size == 0:
            continue
        begins = np.empty(receipt_ns.size, np.bool_)
        begins[0] = before != (receipt_ns[0], number[0])
        begins[1:] = (receipt_ns[1:] != receipt_ns[:-1]) | (number[1:] != number[:-1])
        begun = int(np.count_nonzero(begins))
        here = wanted[(wanted >= count) & (wanted < count + begun)]
        done = 0
        if here.size:
            for message, row in zip(here, np.flatnonzero(begins)[here - count], strict=True):
                latest_ns = receipt_ns[done:row].max(initial=latest_ns)
                highest_number = number[done:row].max(initial=highest_number)
                found[int(message)] = _Place(rows + int(row), int(latest_ns), int(highest_number))
                done = int(row)
        latest_ns = receipt_ns[done:].max(initial=latest_ns)
        highest_number = number[done:].max(initial=highest_number)
        before = int(receipt_ns[-1]), int(number[-1])
        rows += receipt_ns.size
        count += begun
    return found


def _first_snapshot(files: Sequence[Path], since_ns: int, since_number: int) -> int:
    """The first snapshot received since a time that is not older than a sequence number."""
    snapshots = 0
    for batch in read_raw(files, SNAPSHOTS, _KEYS):
        receipt_ns, number = (batch.arrays[key] for key in _KEYS)
        later = np.flatnonzero((receipt_ns >= since_ns) & (number >= since_number))
        if later.size:
            return snapshots + int(later[0])
        snapshots += receipt_ns.size
    return snapshots
