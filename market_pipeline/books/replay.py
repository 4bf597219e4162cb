"""Replays a published day: its messages with what each changed, checked against `books.bbo`.

The book is made by the rebuild itself, from the same raw rows; of what is published come the gaps
and, in the end, the flags, since some of them only later messages and snapshots show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books import changes as log
from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.boundaries import message_starts
from market_pipeline.books.change_log import (
    Changes,
    Log,
    LoggedMessages,
    room_for_changes,
    room_for_messages,
)
from market_pipeline.books.changes import log_messages
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.levels import ASK, BID, WINDOW, Levels, base_ticks
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.scale import Scale
from market_pipeline.books.soundness import Mark
from market_pipeline.books.state import Deltas, Status, int64_columns, rows_behind
from market_pipeline.books.walk import export_side, levels_around
from market_pipeline.mapped import ColumnArray
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = ["PublishedRows", "Replay", "ReplayMismatch", "Replayed"]

_MESSAGE_ROOM = 1 << 16
_CHANGE_ROOM = 1 << 18
_SPARE_ROOM = 1 << 14
_NEVER = 2**63 - 1
_NO_CLOCK = -(2**63)
_COMPARED = ("ts_receipt_ns", "sequence_number", "bid_size_lots", "ask_size_lots")

# What the other flags say follows from messages before the start, or from later ones.
_OF_BOOK = np.uint16(
    BookFlag.NOT_SEEDED
    | BookFlag.GAP
    | BookFlag.CROSSED
    | BookFlag.LOCKED
    | BookFlag.PRECISION_LOSS
    | BookFlag.UNCONFIRMED_DEPTH
    | BookFlag.EMPTY_SIDE
)
_NO_TIME = np.uint16(BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY)


class PublishedRows(NamedTuple):
    """Rows of `books.bbo` in order, shape (n,); a side of size 0 is empty."""

    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    flags: NDArray[np.uint16]
    verified: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Replayed:
    """Consecutive messages of one day and what they changed.

    Attributes:
        first: The number of the first of them in its day, from 0: its row in `books.bbo`.
        messages: The messages; `end` counts in `changes`, `flags` are those published.
        verified: bool (n,), as published.
        clock_ns: int64 (n,), the receipt clock that never runs back: the largest sound receipt time
            so far.
        changes: What they changed, and in the last block the rows of old messages behind the last.
    """

    first: int
    messages: LoggedMessages
    verified: NDArray[np.bool_]
    clock_ns: NDArray[np.int64]
    changes: Changes

    @classmethod
    def empty(cls) -> Self:
        """No message."""
        messages, changes = room_for_messages(0), room_for_changes(0)
        return cls(0, messages, np.empty(0, np.bool_), np.empty(0, np.int64), changes)


class ReplayMismatch(Exception):
    """A replayed message is not the published one; `message` is its number in its day."""

    def __init__(self, message: int, expected: str, found: str) -> None:
        super().__init__(f"message {message}: expected {expected}, found {found}")
        self.message, self.expected, self.found = message, expected, found


class _Published:
    """Reads published rows on as they are asked for, and keeps those not yet compared."""

    def __init__(self, batches: Iterable[PublishedRows]) -> None:
        self._batches = iter(batches)
        trust = np.empty(0, np.uint16), np.empty(0, np.bool_)
        self._rows = PublishedRows._make([*int64_columns(0, 6), *trust])
        self._looked_at = 0

    def flags_of_next(self, count: int) -> NDArray[np.uint16]:
        """The flags of so many further rows; of fewer at the end."""
        start, self._looked_at = self._looked_at, self._looked_at + count
        while self._rows.flags.size < self._looked_at:
            more = next(self._batches, None)
            if more is None:
                break
            self._rows = rows_behind(PublishedRows._make, self._rows, more)
        return self._rows.flags[start : self._looked_at]

    def take(self, count: int) -> PublishedRows:
        """The next rows to compare."""
        taken = PublishedRows._make(column[:count] for column in self._rows)
        self._rows = PublishedRows._make(column[count:] for column in self._rows)
        self._looked_at -= count
        return taken


class Replay(Rebuild):
    """One pass over a published day, or over what comes after one of its checkpoints.

    Args:
        price_scale, size_scale: The tick and the lot of that day.
        options: The rules it was rebuilt by; depth and keyframes are not written.
        published: Its rows from the first message to replay on, in batches.
        first: The number of that message in its day.
        start: The state before that message; None for an empty book.
        clock_ns: What the receipt clock stands at before it; None for nothing.
        levels_only: Whether changes say only what leads to the book, which is faster; see
            `books.change_log.Log`.
    """

    def __init__(
        self,
        price_scale: Scale,
        size_scale: Scale,
        options: RebuildOptions,
        published: Iterable[PublishedRows],
        *,
        first: int = 0,
        start: RebuildState | None = None,
        clock_ns: int | None = None,
        levels_only: bool = False,
    ) -> None:
        super().__init__(price_scale, size_scale, options, start=start)
        self._options = self._options._replace(
            depth_interval_ns=-1, keyframe_interval_ns=0, is_logged=True
        )
        self._published = _Published(published)
        self._first = first - self.figures["messages"]
        self._clock_ns = _NO_CLOCK if clock_ns is None else clock_ns
        self._shadow = self._levels
        if not levels_only:
            self._shadow = Levels._make(column.copy() for column in self._levels)
        changes = room_for_changes(_CHANGE_ROOM, levels_only=levels_only)
        self._log = Log(room_for_messages(_MESSAGE_ROOM), changes, levels_only)
        self._place = log.new_place(self._registers)
        self._before: tuple[int, int] | None = None
        self._first_row = 0

    @property
    def message(self) -> int:
        """The number in the day of the next message to replay."""
        return self._first + int(self._place[log.LOGGED])

    def book(self) -> Keyframe:
        """The full book after the last message, with the flags that are known by then."""
        return self._keyframe("keyframe")

    def open(
        self,
        deltas: Iterable[DeltaBatch],
        snapshots: Iterable[SnapshotBatch] = (),
        first_row: int = 0,
    ) -> None:
        """Takes the raw rows: those of the first message and after, and the snapshots not met.

        `first_row` is which row of the day the first of them is.
        """
        self._first_row = first_row
        self._open(deltas, snapshots)

    def until(self, message: int | None = None) -> Iterator[Replayed]:
        """Replays up to and with a message, or to the end; only after `open`, and in order.

        Raises:
            ReplayMismatch: A message is not the one that was published.
            MarketPipelineError: Whatever the sources raise.
        """
        until = _NEVER if message is None else message + 1 - self._first
        while self._place[log.LOGGED] < until:
            while self._provide(status := self._log_on(until)):
                pass
            yield from self._logged(last=status == Status.DONE)
            if status == Status.DONE:
                if self._published.flags_of_next(1).size:
                    raise ReplayMismatch(self.message, "a further message", "none in the lake")
                return

    def _log_on(self, until: int) -> int:
        """Lets the kernel go on; why it stopped."""
        inputs, state = self._inputs(), (self._registers, self._levels, self._history)
        status: int = log_messages(
            *state, inputs, self._cursor, self._options, self._outputs,
            self._shadow, self._log, self._place, until,
        )  # fmt: skip
        self._feed.position = int(self._cursor[at.SNAPSHOT])
        if status == Status.NEEDS_ROWS and self._place[log.MESSAGES]:
            # What is logged is handed out first; asked again, the kernel needs rows still.
            return Status.OUTPUT_FULL
        return status

    def _provide(self, status: int) -> bool:
        is_provided = super()._provide(status)
        if status == Status.NEEDS_ROWS:
            self._place[log.ROW] = 0
        return is_provided

    def _take(
        self, batch: DeltaBatch, marked: NDArray[np.int64], bits: NDArray[np.int64]
    ) -> Deltas:
        rows = batch.sequence_number.size
        if self._place[log.CHANGES] + rows + _SPARE_ROOM > self._log.changes.kind.size:
            self._enlarge(rows)
        starts = np.empty(rows, np.int64)
        keys = batch.sequence_number, batch.ts_receipt_ns
        starts = starts[: message_starts(*keys, starts, self._before)]
        self._before = int(keys[0][-1]), int(keys[1][-1])
        # Old messages have no row.
        starts = np.setdiff1d(starts, marked[(bits & Mark.OLD) != 0], assume_unique=True)
        flags = self._published.flags_of_next(starts.size)
        in_gap = starts[: flags.size][(flags & BookFlag.GAP) != 0]
        passed = self._registers[reg.GAPS_PASSED]
        self._gap_rows = np.append(self._gap_rows[passed:], in_gap + self._delivered_rows)
        self._registers[reg.GAPS_PASSED] = 0
        return super()._take(batch, marked, bits)

    def _move_window(self, more: int) -> None:
        super()._move_window(more)
        if self._log.levels_only:
            self._shadow = self._levels
            return
        bids, asks = (export_side(self._shadow, side) for side in (BID, ASK))
        window = int(self._levels.meta[WINDOW])
        centre = int(base_ticks(self._levels.meta)) + window // 2
        self._shadow = levels_around(centre, bids, asks, window, more)

    def _enlarge(self, rows: int) -> None:
        """Makes room for so many changes beyond those under way, and some."""
        written = int(self._place[log.CHANGES])
        room = 2 * (written + rows + _SPARE_ROOM)
        changes = room_for_changes(room, levels_only=self._log.levels_only)
        before: tuple[ColumnArray, ...] = self._log.changes
        after: tuple[ColumnArray, ...] = changes
        for old, new in zip(before, after, strict=True):
            new[:written] = old[:written]
        self._log = self._log._replace(changes=changes)

    def _logged(self, *, last: bool) -> Iterator[Replayed]:
        """Hands out the messages in the log, with what is published of them, and makes room."""
        count, written = int(self._place[log.MESSAGES]), int(self._place[log.CHANGES])
        end = written if last else int(self._place[log.GROUP])
        first = self.message - count
        if count or end:
            messages = LoggedMessages._make(column[:count].copy() for column in self._log.messages)
            changes = Changes._make(column[:end].copy() for column in self._log.changes)
            np.add(changes.feed_row, self._first_row, changes.feed_row, where=changes.feed_row >= 0)
            yield self._as_published(first, messages, changes)
        elif written:
            self._enlarge(self._log.changes.kind.size)
        for column in self._log.changes:
            column[: written - end] = column[end:written]
        self._place[log.CHANGES], self._place[log.GROUP] = written - end, 0
        self._place[log.MESSAGES] = 0

    def _as_published(self, first: int, messages: LoggedMessages, changes: Changes) -> Replayed:
        """The messages with their published flags, if they are the published ones."""
        published = self._published.take(messages.end.size)
        _refuse_others(first, messages, published)
        times_ns = messages.ts_receipt_ns.copy()
        times_ns[(published.flags & _NO_TIME) != 0] = _NO_CLOCK
        clock_ns = np.maximum.accumulate(np.append(self._clock_ns, times_ns))[1:]
        if clock_ns.size:
            self._clock_ns = int(clock_ns[-1])
            # Before the first sound time it is that of the first one there is. A block without any
            # stays before all times: a bad one may lie behind those that follow.
            clock_ns[clock_ns == _NO_CLOCK] = clock_ns[np.argmax(clock_ns != _NO_CLOCK)]
        messages = messages._replace(flags=published.flags)
        return Replayed(first, messages, published.verified, clock_ns, changes)


def _refuse_others(first: int, messages: LoggedMessages, published: PublishedRows) -> None:
    """Refuses messages, of which the first has that number, that are not the published ones."""
    count = published.flags.size
    differs = np.zeros(count, np.bool_)
    for name in _COMPARED:
        ours, theirs = getattr(messages, name)[:count], getattr(published, name)
        differs |= ours != theirs
    differs |= ((messages.flags[:count] ^ published.flags) & _OF_BOOK) != 0
    for side in ("bid", "ask"):
        # The price of an empty side means nothing.
        prices = [getattr(each, f"{side}_price_ticks") for each in (messages, published)]
        differs |= (prices[0][:count] != prices[1]) & (getattr(published, f"{side}_size_lots") > 0)
    if differs.any():
        at_row = int(differs.argmax())
        names = (*_COMPARED, "bid_price_ticks", "ask_price_ticks", "flags")
        expected, found = (
            str({name: int(getattr(rows, name)[at_row]) for name in names})
            for rows in (published, messages)
        )
        raise ReplayMismatch(first + at_row, expected, found)
    if messages.end.size > count:
        raise ReplayMismatch(first + count, "no further message", "one in the lake")
