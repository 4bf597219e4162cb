"""Where the reference replay begins: the day's first message, or some published keyframes.

A keyframe holds the whole state of a valid book but for what happened before: which snapshots were
met, what they held, and which messages came. It is taken before the snapshots of its own last
message, so the first that was not met is the first that is neither older by its sequence number nor
older than a place is waited for. Numbers and times are those that `books.soundness` finds sound, so
that one bad stamp spoils no keyframe. Where the sound receipt clock was set back before, a keyframe
is left out; and only valid ones are begun with: since when a book is crossed is not known from its
keyframe.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from market_pipeline.books.arrow import CHECKPOINT_FORMAT
from market_pipeline.books.boundaries import FirstRows
from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.marking import LastSnapshot, MarkedSnapshots, marked_snapshots
from market_pipeline.books.soundness import Mark, marked_parts
from market_pipeline.books.state import HISTORY_SNAPSHOTS
from market_pipeline.books.tables import CHECKPOINTS
from market_pipeline.sources.batches import SnapshotBatch
from market_pipeline.sources.crypto_lake import SNAPSHOTS, read_raw
from market_pipeline.stages.validation.context import InstrumentDay
from market_pipeline.warehouse.read import scan

__all__ = ["Start", "lot", "starts_of"]

_KEYS = ("receipt_timestamp", "sequence_number")
_UNUSABLE = int(INVALIDATING | BookFlag.BAD_TS_ORIGIN)
_TRIED = 4
"""So many keyframes are looked at for each that is wanted."""


@dataclass(frozen=True, slots=True)
class Start:
    """What to begin with, and what comes next.

    Attributes:
        checkpoint: A row of `books.checkpoints`; None is an empty book.
        message: The number of the next row of `books.bbo` in the day, from 0.
        row, snapshot: The numbers of the next ones in the raw day, from 0.
        epoch: How often the sequence numbers began anew before.
        remembered: The number of the first of the latest snapshots before, from 0.
        before_remembered: What is known of the snapshots before that one; None for nothing.
        before_snapshot: What is known of those before the next one; None for nothing.
    """

    checkpoint: Mapping[str, Any] | None
    message: int
    row: int
    snapshot: int
    epoch: int = 0
    remembered: int = 0
    before_remembered: LastSnapshot | None = None
    before_snapshot: LastSnapshot | None = None


class _Keyframe(NamedTuple):
    """Which keyframe: how many messages came before, and what the last of them was."""

    messages: int
    ts_receipt_ns: int
    sequence_number: int


def lot(day: InstrumentDay, what: str, number: int = 0) -> int:
    """A number as if drawn, that follows from the instrument, the day and what it is drawn for."""
    text = f"{day.instrument.id} {day.day} {what} {number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


def starts_of(
    day: InstrumentDay, count: int, patience_ns: int, *, with_first: bool = True
) -> list[Start]:
    """At most `count` places to begin at, in order.

    The keyframes follow from the instrument, the day and their messages alone. The day's beginning
    is left out where the closing book that it was seeded with is not published any more.

    Args:
        day: The rebuilt day.
        count: At least 1.
        patience_ns: How much older than the feed a snapshot may be before its place is no longer
            waited for.
        with_first: Whether the day's first message is one of them; it is also where there is no
            keyframe to begin at.

    Raises:
        LakeFileError: A raw file cannot be read, or changed since it was registered.
    """
    keyframes = _keyframes(day, _TRIED * (count - with_first))
    places = _places(day.messages, [each.messages for each in keyframes]) if keyframes else {}
    first = _first(day) if with_first else []
    further: dict[int, Start] = {}
    for keyframe in keyframes:
        message, received_ns, number = keyframe
        place = places.get(message)
        if len(first) + len(further) >= count or place is None or place.latest_ns > received_ns:
            continue
        met = _snapshots_met(day.snapshot_files, place.epoch, number, received_ns - patience_ns)
        further[message] = Start(None, message, place.row, *met)
    if not further:
        return first or _first(day)
    books = _checkpoints(day).filter(pl.col("messages").is_in(list(further))).sort("messages")
    for book in books.collect().iter_rows(named=True):
        first.append(replace(further[book["messages"]], checkpoint=book))
    return first


def _first(day: InstrumentDay) -> list[Start]:
    record = day.record
    if record.seed != "previous_close":
        return [Start(None, 0, 0, 0)]
    close = day.close_before
    seed = record.seed_sequence_number, record.seed_ts_receipt_ns
    if close is None or (close["sequence_number"], close["ts_receipt_ns"]) != seed:
        return []
    return [Start(close, 0, 0, 0)]


def _keyframes(day: InstrumentDay, count: int) -> list[_Keyframe]:
    """Messages, time and number of at most `count` valid keyframes, in an order like drawn lots.

    By turns a keyframe is drawn, of which there are as many in a quiet hour as in a busy one, and a
    message, which stands for the keyframe before it.
    """
    if count == 0:
        return []
    keyframes = _checkpoints(day).filter(
        pl.col("flags") & _UNUSABLE == 0, format_version=CHECKPOINT_FORMAT
    )
    rows = keyframes.select(_Keyframe._fields).sort("messages").collect().iter_rows()
    known = {each.messages: each for each in map(_Keyframe._make, rows)}
    places = list(known)

    drawn: dict[int, None] = {}
    by_time = sorted(places, key=lambda place: lot(day, "keyframe", place))
    for turn, keyframe in enumerate(by_time):
        message = lot(day, "message", turn) % max(day.record.messages or 0, 1)
        before = places[max(bisect_right(places, message) - 1, 0)]
        drawn |= {keyframe: None, before: None}
    return [known[place] for place in list(drawn)[:count]]


def _checkpoints(day: InstrumentDay) -> pl.LazyFrame:
    """The day's checkpoints but the closing one, which no message comes after."""
    return scan(day.warehouse, CHECKPOINTS, day.day, [day.instrument.id]).filter(kind="keyframe")


class _Place(NamedTuple):
    """The first row of a message; of those before it the latest sound time, and the epoch."""

    row: int
    latest_ns: int
    epoch: int


def _places(feed: FirstRows, messages: Sequence[int]) -> dict[int, _Place]:
    """Finds messages of a feed by their row of `books.bbo`."""
    places: dict[int, _Place] = {}
    lowest = latest_ns = np.iinfo(np.int64).min
    before = epoch = 0
    for first, part in marked_parts(feed.ts_origin_ns, feed.ts_receipt_ns, feed.sequence_number):
        # Old ones have no row, and a bad stamp is no time.
        published = np.flatnonzero((part & Mark.OLD) == 0)
        marks = part[published]
        received_ns = feed.ts_receipt_ns[first + published]
        times_ns = np.where(marks & Mark.BAD_TS_RECEIPT, lowest, received_ns)
        latest = np.maximum.accumulate(np.append(latest_ns, times_ns))
        epochs = epoch + np.cumsum(np.append(0, (marks & Mark.RESTART) != 0))
        for message in messages:
            if 0 <= (at := message - before) < published.size:
                row = int(feed.row[first + published[at]])
                places[message] = _Place(row, int(latest[at]), int(epochs[at]))
        before += published.size
        latest_ns, epoch = int(latest[-1]), int(epochs[-1])
    return places


def _snapshots_met(
    files: Sequence[Path], epoch: int, number: int, since_ns: int
) -> tuple[int, int, int, LastSnapshot | None, LastSnapshot | None]:
    """Which snapshots were met before a message's are: `Start.snapshot` and what follows it."""
    parts: list[MarkedSnapshots] = []
    snapshots = 0
    for marked in marked_snapshots(_snapshots(files), None):
        parts.append(marked)
        ahead = marked.epoch > epoch
        ahead |= (marked.epoch == epoch) & (marked.batch.sequence_number >= number)
        waits = np.flatnonzero(marked.placeable & ahead & (marked.batch.ts_receipt_ns >= since_ns))
        if waits.size:
            snapshots += int(waits[0])
            break
        snapshots += marked.epoch.size
    remembered = max(snapshots - HISTORY_SNAPSHOTS, 0)
    before_remembered, before = (_last_before(parts, place) for place in (remembered, snapshots))
    return snapshots, epoch, remembered, before_remembered, before


def _last_before(parts: Sequence[MarkedSnapshots], place: int) -> LastSnapshot | None:
    """What is known of the snapshots before a place; None for nothing."""
    first = 0
    for marked in parts:
        if first < place <= first + marked.epoch.size:
            return marked.last_before(place - first)
        first += marked.epoch.size
    return None


def _snapshots(files: Sequence[Path]) -> Iterator[SnapshotBatch]:
    """The times and numbers of a day's snapshots, without their levels."""
    for batch in read_raw(files, SNAPSHOTS, _KEYS):
        receipt_ns, number = (batch.arrays[key] for key in _KEYS)
        none = np.empty((number.size, 0), np.float64)
        yield SnapshotBatch(batch.file, 0, receipt_ns, number, none, none, none, none)
