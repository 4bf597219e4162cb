"""Arithmetic of time spans: how long each message's book was in force, and what to leave out.

A span is `[start_ns, end_ns)`, int64 nanoseconds since the epoch, UTC. A set of spans is an int64
array of shape (k, 2), sorted and without overlaps. Everything is linear in the messages (times a
logarithm in the few spans) and exact, because it stays in int64.

The arrays of a day's messages are large, so what is derived from them is derived chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from market_pipeline.config.instruments import Instrument

__all__ = [
    "NO_SPANS",
    "NS_PER_HOUR",
    "NS_PER_SECOND",
    "SECONDS_PER_DAY",
    "BoolArray",
    "FloatArray",
    "IndexArray",
    "IntArray",
    "chunks",
    "day_bounds_ns",
    "held_ns",
    "in_time_order",
    "listed_ns",
    "ns_of",
    "overlap_ns",
    "running_chunks",
    "running_time_ns",
    "runs",
    "time_order",
    "union",
    "union_of_disjoint",
    "utc_text",
    "utc_time",
]

IntArray = npt.NDArray[np.int64]
IndexArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NS_PER_SECOND = 1_000_000_000
NS_PER_HOUR = 3_600 * NS_PER_SECOND
SECONDS_PER_DAY = 86_400

CHUNK_MESSAGES = 1 << 17
"""Messages of a chunk: its temporary arrays then fit a processor's cache, more or less."""

NO_SPANS: IntArray = np.empty((0, 2), dtype=np.int64)
NO_SPANS.flags.writeable = False


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def ns_of(time: datetime) -> int:
    """A time that says its zone in ns since 1970, UTC."""
    return (time - _EPOCH) // timedelta(microseconds=1) * 1_000


def day_bounds_ns(day: date) -> tuple[int, int]:
    """The start of a UTC day and of the day after it."""
    start_ns = ns_of(datetime(day.year, day.month, day.day, tzinfo=UTC))
    return start_ns, start_ns + SECONDS_PER_DAY * NS_PER_SECOND


def listed_ns(instrument: Instrument, day: date) -> tuple[int, int]:
    """From when until when of a UTC day an instrument is listed; twice the same if it is not."""
    begin, end = instrument.listed_within(day)
    return ns_of(begin), ns_of(end)


def utc_time(ts_ns: int) -> datetime:
    """The second, UTC, that a time in ns lies in.

    Raises:
        OverflowError, ValueError: It lies in no year from 1 to 9999.
    """
    return datetime.fromtimestamp(ts_ns // NS_PER_SECOND, UTC)


def utc_text(ts_ns: int) -> str:
    """A time in ns as it is shown, to the second."""
    return f"{utc_time(ts_ns):%Y-%m-%d %H:%M:%S} UTC"


def running_time_ns(ts_ns: IntArray) -> IntArray:
    """A clock that never runs backwards: the largest time seen up to each message.

    A receipt clock that was set back thus stands still until it has caught up with itself, so that
    no second of the day is counted twice.
    """
    return np.maximum.accumulate(ts_ns)


def chunks(messages: int) -> Iterator[slice]:
    """Cuts messages into chunks, of which each begins with the last message of the one before.

    Every pair of neighbouring messages is thus in exactly one chunk; a single message is a chunk.
    """
    for first in range(0, max(messages - 1, min(messages, 1)), CHUNK_MESSAGES):
        yield slice(first, first + CHUNK_MESSAGES + 1)


def time_order(ts_ns: IntArray) -> IndexArray | None:
    """The indices of times in order, equal ones as they stand; None if all stand in order.

    They are int32, which is half the memory, of no more than 2^31 times.
    """
    for part in chunks(len(ts_ns)):
        if (np.diff(ts_ns[part]) < 0).any():
            return np.argsort(ts_ns, kind="stable").astype(np.int32)
    return None


def in_time_order(order: IndexArray | None, start: int, stop: int) -> IntArray:
    """Some of the indices that `time_order` found."""
    return np.arange(start, stop) if order is None else order[start:stop].astype(np.int64)


def running_chunks(ts_ns: IntArray) -> Iterator[tuple[int, IntArray]]:
    """The clock of `running_time_ns` in `chunks`: the index of each one's first message, its times.

    It is what takes the place of a second array as long as the day's.
    """
    latest_ns = np.iinfo(np.int64).min
    for chunk in chunks(len(ts_ns)):
        time_ns = running_time_ns(ts_ns[chunk])
        np.maximum(time_ns, latest_ns, out=time_ns)
        latest_ns = time_ns[-1]
        yield chunk.start, time_ns


def held_ns(time_ns: IntArray) -> IntArray:
    """How long the book after each message was in force: until the next message.

    The last message holds for 0 ns, since nothing proves that the feed went on after it.

    Args:
        time_ns: int64, shape (n,), never decreasing (see `running_time_ns`).

    Returns:
        int64, shape (n,), none negative; their sum is the time from the first to the last message.
    """
    held = np.zeros_like(time_ns)
    np.subtract(time_ns[1:], time_ns[:-1], out=held[:-1])
    return held


def overlap_ns(starts_ns: IntArray, ends_ns: IntArray, spans: IntArray) -> IntArray:
    """How much of each `[start, end)` lies inside the spans.

    Args:
        starts_ns, ends_ns: int64, shape (n,), with start <= end.
        spans: int64, shape (k, 2), sorted and disjoint.

    Returns:
        int64, shape (n,).
    """
    overlap = np.zeros_like(starts_ns)
    if len(spans) == 0:
        return overlap
    lengths = spans[:, 1] - spans[:, 0]
    whole = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
    for first in range(0, len(starts_ns), CHUNK_MESSAGES):
        part = slice(first, first + CHUNK_MESSAGES)
        overlap[part] = _covered_before(ends_ns[part], spans, whole)
        overlap[part] -= _covered_before(starts_ns[part], spans, whole)
    return overlap


def _covered_before(instants_ns: IntArray, spans: IntArray, whole: IntArray) -> IntArray:
    """The time inside the spans before each instant; `whole` is that of the first 0, 1, … spans."""
    opened = np.searchsorted(spans[:, 0], instants_ns, side="right")
    latest = np.maximum(opened - 1, 0)
    # The latest span that has started may still be running at the instant.
    still_to_come = np.maximum(spans[latest, 1] - instants_ns, 0)
    return np.where(opened > 0, whole[opened] - still_to_come, 0).astype(np.int64, copy=False)


def runs(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """The maximal runs of true: the index each begins at and the index just after its last.

    Returns:
        Two int64 arrays, shape (number of runs,).
    """
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)).astype(np.int64)
    return edges[0::2], edges[1::2]


def union_of_disjoint(*sets: IntArray) -> IntArray:
    """Several sets of spans, none overlapping another, as one sorted set."""
    joined = np.concatenate([spans[:, :2] for spans in sets])
    return joined[np.argsort(joined[:, 0], kind="stable")]


def union(*sets: IntArray) -> IntArray:
    """Everything that any of several sets of spans holds, as one sorted and disjoint set.

    Args:
        sets: int64, shape (k, 2) each; in any order, overlapping or not, empty spans included.
    """
    joined = np.concatenate([spans[:, :2] for spans in sets])
    if (joined[1:, 0] < joined[:-1, 0]).any():
        joined = joined[np.argsort(joined[:, 0], kind="stable")]
    reached_ns = np.maximum.accumulate(joined[:, 1])
    is_first = np.append(True, joined[1:, 0] > reached_ns[:-1])[: len(joined)]
    if is_first.all():
        return joined
    is_last = np.append(is_first[1:], True)
    # There may be millions: the result takes the place of what it is made of.
    united = joined[: np.count_nonzero(is_first)]
    united[:, 0] = joined[is_first, 0]
    united[:, 1] = reached_ns[is_last]
    return united
