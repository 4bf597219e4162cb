"""Replays a published day: its messages with what each changed, checked against `books.bbo`.

The book is made by the rebuild itself, from the same raw rows; of what is published come the gaps
and, in the end, the flags, since some of them only later messages and snapshots show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books import cursor as at
from market_pipeline.books import registers as reg
from market_pipeline.books.boundaries import message_starts
from market_pipeline.books.change_log import (
    Changes,
    LevelRows,
    LoggedMessages,
    OtherChanges,
    enlarged,
    room_for_changes,
    room_for_messages,
    room_for_other_changes,
)
from market_pipeline.books.entry_points import address_of
from market_pipeline.books.flags import BookFlag
from market_pipeline.books.integers import no_deltas
from market_pipeline.books.kernel import advance
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.other_changes import (
    COUNT,
    NO_ROOM,
    advance_noting,
    new_known,
    new_noted,
)
from market_pipeline.books.rebuild import Rebuild, RebuildOptions
from market_pipeline.books.rebuild_state import RebuildState
from market_pipeline.books.scale import Scale
from market_pipeline.books.soundness import Mark
from market_pipeline.books.state import (
    Deltas,
    Status,
    int64_columns,
    room_for_bbo,
    rows_behind,
)
from market_pipeline.sources.batches import DeltaBatch, SnapshotBatch

__all__ = ["PublishedRows", "Replay", "ReplayMismatch", "Replayed"]

_MESSAGE_ROOM = 1 << 16
_OTHER_ROOM = 1 << 16
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
    """Consecutive messages of one day and what they changed, until the next ones are asked for.

    Attributes:
        first: The number of the first of them in its day, from 0: its row in `books.bbo`.
        messages: The messages; `start` and `end` count in `rows`, `flags` are those published.
        verified: bool (n,), as published.
        clock_ns: int64 (n,), the receipt clock that never runs back: the largest sound receipt time
            so far. Before the first one it is that of the first one of the day.
        rows: What lies between a message's start and end leads to the book after it, with `others`
            that come after its rows.
        under_way: From and to which of the rows there are some of the message after the last one.
        others: What else changed the book.
        changes: The same changes with who made them, if that was asked for; a message's begin where
            those of the one before end. In the last block those of old messages follow.
    """

    first: int
    messages: LoggedMessages
    verified: NDArray[np.bool_]
    clock_ns: NDArray[np.int64]
    rows: LevelRows
    under_way: tuple[int, int]
    others: OtherChanges
    changes: Changes | None = None

    @classmethod
    def empty(cls) -> Self:
        """No message."""
        nothing, no = room_for_changes(0), np.empty(0, np.bool_)
        rows, others = LevelRows.of(nothing), room_for_other_changes(0)
        clock_ns = np.empty(0, np.int64)
        return cls(0, room_for_messages(0), no, clock_ns, rows, (0, 0), others, nothing)

    @classmethod
    def of_touch(
        cls,
        first: int,
        published: PublishedRows,
        ts_origin_ns: NDArray[np.int64],
        clock_ns: int | None,
    ) -> Self:
        """Messages as published, of whose books the touch alone is known.

        Args:
            first: The number of the first of them in its day.
            published, ts_origin_ns: Their rows.
            clock_ns: What the receipt clock stands at before them; None if the day has no sound
                time.
        """
        no_rows = np.zeros(published.flags.size, np.int64)
        return replace(
            cls.empty(),
            first=first,
            messages=LoggedMessages(no_rows, no_rows, ts_origin_ns, *published[:-1]),
            verified=published.verified,
            clock_ns=_running_clock(published, clock_ns),
        )


def _running_clock(published: PublishedRows, before_ns: int | None) -> NDArray[np.int64]:
    """The receipt clock at each row, from what it stands at before them."""
    times_ns = np.where(published.flags & _NO_TIME, _NO_CLOCK, published.ts_receipt_ns)
    before = _NO_CLOCK if before_ns is None else before_ns
    running: NDArray[np.int64] = np.maximum.accumulate(np.append(before, times_ns))[1:]
    return running


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
        clock_ns: What the receipt clock stands at before it; None if the day has no sound time.
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
    ) -> None:
        super().__init__(price_scale, size_scale, options, start=start)
        self._options = self._options._replace(
            depth_interval_ns=-1, keyframe_interval_ns=0, is_logged=True
        )
        self._outputs = self._outputs._replace(bbo=room_for_bbo(_MESSAGE_ROOM))
        self._published = _Published(published)
        self._first = first - self.figures["messages"]
        self._clock_ns = clock_ns
        self._known, self._noted = new_known(self._registers), new_noted()
        self._others = room_for_other_changes(_OTHER_ROOM)
        self._before: tuple[int, int] | None = None
        # Of the messages not yet handed out: where in the batch their rows begin and end.
        self._starts, self._ends = int64_columns(0, 2)
        self._is_under_way = False
        self._first_row = 0

    @property
    def message(self) -> int:
        """The number in the day of the next message to replay."""
        return self._first + int(self._registers[reg.MESSAGES])

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
        while self.message - self._first < until:
            while self._provide(status := self._go_on(until)):
                pass
            yield from self._handed_out()
            if status == Status.DONE:
                if self._published.flags_of_next(1).size:
                    raise ReplayMismatch(self.message, "a further message", "none in the lake")
                return

    def _go_on(self, until: int) -> int:
        """Lets the kernel go on; why it stopped."""
        status = NO_ROOM
        while status == NO_ROOM:
            arguments = self._arguments()
            status = advance_noting(
                address_of(advance, arguments), *arguments,
                self._known, self._others, self._noted, (self._starts, self._ends), until,
            )  # fmt: skip
            self._feed.position = int(self._cursor[at.SNAPSHOT])
            if status == NO_ROOM:
                self._others = enlarged(self._others, self._noted[COUNT])
        if status == Status.NEEDS_ROWS and (
            self._cursor[at.BBO_ROW] or (self._starts < self._ends).any()
        ):
            # What there is of the batch is handed out first; asked again, it needs rows still.
            return Status.OUTPUT_FULL
        return status

    def _provide(self, status: int) -> bool:
        is_provided = super()._provide(status)
        if status == Status.NEEDS_ROWS and self._batch is None:
            self._follow(np.empty(0, np.int64), np.empty(0, np.bool_), 0)
        return is_provided

    def _take(
        self, batch: DeltaBatch, marked: NDArray[np.int64], bits: NDArray[np.int64]
    ) -> Deltas:
        rows = batch.sequence_number.size
        starts = np.empty(rows, np.int64)
        keys = batch.sequence_number, batch.ts_receipt_ns
        starts = starts[: message_starts(*keys, starts, self._before)]
        self._before = int(keys[0][-1]), int(keys[1][-1])
        # Old messages have no row.
        is_own = np.ones(starts.size, np.bool_)
        is_own[np.searchsorted(starts, marked[(bits & Mark.OLD) != 0])] = False
        self._follow(starts, is_own, rows)
        starts = starts[is_own]
        flags = self._published.flags_of_next(starts.size)
        in_gap = starts[: flags.size][(flags & BookFlag.GAP) != 0]
        passed = self._registers[reg.GAPS_PASSED]
        self._gap_rows = np.append(self._gap_rows[passed:], in_gap + self._delivered_rows)
        self._registers[reg.GAPS_PASSED] = 0
        return super()._take(batch, marked, bits)

    def _follow(self, starts: NDArray[np.int64], is_own: NDArray[np.bool_], rows: int) -> None:
        """Says where the rows of a batch's messages are, the one under way before it first."""
        ends = np.append(starts[1:], rows)[: starts.size]
        own_starts, own_ends = starts[is_own], ends[is_own]
        if self._is_under_way:
            further = starts[0] if starts.size else rows
            own_starts, own_ends = np.append(0, own_starts), np.append(further, own_ends)
        self._starts, self._ends = own_starts, own_ends
        if is_own.size:
            self._is_under_way = bool(is_own[-1])

    def _handed_out(self) -> Iterator[Replayed]:
        """Hands out the messages so far, with what is published of them, and makes room."""
        count, noted = int(self._cursor[at.BBO_ROW]), int(self._noted[COUNT])
        batch = self._batch if self._batch is not None else no_deltas()
        starts, ends, under_way = self._starts[:count], self._ends[:count], (0, 0)
        self._starts, self._ends = self._starts[count:], self._ends[count:]
        if self._starts.size and self._cursor[at.ROW] == batch.size_lots.size:
            under_way = int(self._starts[0]), int(self._ends[0])
            self._starts = self._ends
        touch = [column[:count] for column in self._outputs.bbo[:-1]]
        messages = LoggedMessages._make([starts, ends, *touch])
        others = OtherChanges._make(column[:noted] for column in self._others)
        rows = LevelRows.of(batch)
        self._cursor[at.BBO_ROW] = self._noted[COUNT] = 0
        yield self._as_published(self.message - count, messages, rows, under_way, others)

    def _as_published(
        self,
        first: int,
        messages: LoggedMessages,
        rows: LevelRows,
        under_way: tuple[int, int],
        others: OtherChanges,
        changes: Changes | None = None,
    ) -> Replayed:
        """The messages with their published flags, if they are the published ones."""
        published = self._published.take(messages.end.size)
        _refuse_others(first, messages, published)
        clock_ns = _running_clock(published, self._clock_ns)
        if clock_ns.size:
            self._clock_ns = int(clock_ns[-1])
        messages = messages._replace(flags=published.flags)
        verified = published.verified
        return Replayed(first, messages, verified, clock_ns, rows, under_way, others, changes)


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
