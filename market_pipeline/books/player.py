"""Plays logged messages of several instruments in order of time, and shows each to a callback.

The callback is compiled into the loop, so it sees the whole book after every message, in the arrays
it lies in, at no cost beyond what it looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.change_log import Changes, LevelRows, LoggedMessages, OtherChanges
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.levels import Levels, empty_levels
from market_pipeline.books.other_changes import make_other_changes
from market_pipeline.books.replay import Replayed
from market_pipeline.books.rows import set_rows
from market_pipeline.books.walk import levels_of, sides_of
from market_pipeline.jit import callback_kernel

__all__ = ["Message", "Player", "Start", "without_levels"]

_NEVER = np.int64(2**63 - 1)

OnMessage = Callable[..., bool]


class Message(NamedTuple):
    """What a callback is given of a message; numbers but for the changes.

    Attributes:
        instrument: Which of the instruments, from 0 in the order they were given.
        number: Its number in its day, from 0: its row in `books.bbo`.
        clock_ns: The receipt clock that never runs back, by which messages are ordered.
        ts_origin_ns, ts_receipt_ns, sequence_number: As published.
        bid_price_ticks, bid_size_lots, ask_price_ticks, ask_size_lots: The touch; an empty side has
            size 0.
        flags, verified: As published.
        first, end: What it changed are the changes from `first` up to `end`; both are 0 where the
            touch alone is replayed.
        changes: `Changes`, of this message and of others; None unless they are shown.
    """

    instrument: int
    number: int
    clock_ns: int
    ts_origin_ns: int
    ts_receipt_ns: int
    sequence_number: int
    bid_price_ticks: int
    bid_size_lots: int
    ask_price_ticks: int
    ask_size_lots: int
    flags: int
    verified: bool
    first: int
    end: int
    changes: Changes | None


@cache
def without_levels(on_message: OnMessage) -> OnMessage:
    """The callback as one of messages whose book is not known: its `levels` are None."""
    compiled = callback_kernel(on_message)

    def shown(state, message, _levels):
        return compiled(state, message, None)

    return shown


@dataclass(frozen=True, slots=True)
class Start:
    """A day begins with this book."""

    book: Keyframe


class _Part(NamedTuple):
    """The messages of one instrument that are to be played, and its book."""

    levels: Levels
    messages: LoggedMessages
    verified: NDArray[np.bool_]
    clock_ns: NDArray[np.int64]
    rows: LevelRows
    others: OtherChanges
    shown: Changes | None


# Entries of a place, for each instrument: its next message, the number of its first in the day, the
# next row and other change, how many messages there are, whether its book has no room for these.
_NEXT, _FIRST, _ROW, _OTHER, _COUNT, _IS_FULL = range(6)


@callback_kernel
def _play(on_message, state, parts, places, from_ns, until_ns):
    """Plays on until an instrument has no message left, or the callback asks to stop.

    Returns the instrument that has none left, or no room, or ended; -1 if it was asked to stop.
    """
    while True:
        now, soonest_ns = np.int64(-1), _NEVER
        for k in range(len(parts)):
            if places[k, _NEXT] >= places[k, _COUNT]:
                if places[k, _COUNT] >= 0:
                    return k
            else:
                clock_ns = parts[k].clock_ns[places[k, _NEXT]]
                if now < 0 or clock_ns < soonest_ns:
                    now, soonest_ns = k, clock_ns
        if now < 0:
            return len(parts)
        if soonest_ns >= until_ns:
            return len(parts)
        levels, messages, verified, _, rows, others, shown = parts[now]
        n = places[now, _NEXT]
        first = messages.end[n - 1] if n > 0 else np.int64(0)
        end = messages.end[n]
        row = max(places[now, _ROW], messages.start[n])
        row = set_rows(levels, rows.is_bid, rows.price_ticks, rows.size_lots, row, end)
        places[now, _ROW] = row
        if row < end:
            places[now, _IS_FULL] = 1
            return now
        other = places[now, _OTHER]
        if other < others.message.size:
            other = make_other_changes(levels, others, other, n)
            places[now, _OTHER] = other
            if other < others.message.size and others.message[other] == n:
                places[now, _IS_FULL] = 1
                return now
        places[now, _NEXT] = n + 1
        if soonest_ns < from_ns:
            continue
        message = Message(
            now,
            places[now, _FIRST] + n,
            soonest_ns,
            messages.ts_origin_ns[n],
            messages.ts_receipt_ns[n],
            messages.sequence_number[n],
            messages.bid_price_ticks[n],
            messages.bid_size_lots[n],
            messages.ask_price_ticks[n],
            messages.ask_size_lots[n],
            np.int64(messages.flags[n]),
            verified[n],
            first,
            end,
            shown,
        )
        if on_message(state, message, levels):
            return np.int64(-1)


class Player:
    """Plays several instruments in order of their receipt clocks; equal times by instrument.

    Args:
        sources: Of each instrument, its days in order: the book each begins with, then its blocks.
        on_message: `on_message(state, message, levels)`, compiled or fit to be: it is given the
            state, a `Message`, and the `Levels` of its instrument after it, and returns whether to
            stop. It must not change the levels, nor allocate.
        state: What it is given: an array, or a tuple of arrays and numbers.
        from_ns, until_ns: Of the receipt clock: earlier messages are played and not shown, later
            ones, and those at the end, not played.
        shows_changes: Whether messages have what they changed: the sources then have to know it.
    """

    def __init__(
        self,
        sources: Sequence[Iterable[Start | Replayed]],
        on_message: OnMessage,
        state: object,
        from_ns: int,
        until_ns: int,
        *,
        shows_changes: bool = False,
    ) -> None:
        self._shows_changes = shows_changes
        self._sources: list[Iterator[Start | Replayed]] = [iter(each) for each in sources]
        self._on_message = callback_kernel(on_message)
        self._state = state
        self._range_ns = np.int64(from_ns), np.int64(until_ns)
        nothing = Replayed.empty()
        self._parts = [self._part(empty_levels(), nothing) for _ in self._sources]
        self._under_way = [nothing.under_way for _ in self._sources]
        self._places = np.zeros((len(self._sources), 6), np.int64)

    def play(self) -> bool:
        """Plays until the callback asks to stop; False if instead there is nothing left.

        Raises:
            MarketPipelineError: Whatever the sources raise.
        """
        while self._sources:
            stopped = _play(
                self._on_message, self._state, tuple(self._parts), self._places, *self._range_ns
            )
            if stopped < 0:
                return True
            if stopped == len(self._parts):
                return False
            self._serve(int(stopped))
        return False

    def levels(self, instrument: int) -> Levels:
        """The book of an instrument as it stands."""
        return self._parts[instrument].levels

    def _serve(self, k: int) -> None:
        """Gives an instrument room in its book, or its next messages."""
        place = self._places[k]
        if place[_IS_FULL]:
            self._make_room(k)
            place[_IS_FULL] = 0
            return
        self._set_under_way(k)
        levels = self._parts[k].levels
        for given in self._sources[k]:
            if isinstance(given, Replayed):
                self._parts[k] = self._part(levels, given)
                self._under_way[k] = given.under_way
                place[:] = 0, given.first, 0, 0, given.messages.end.size, 0
                return
            book = given.book
            bids = book.bid_price_ticks, book.bid_size_lots
            levels = levels_of(bids, (book.ask_price_ticks, book.ask_size_lots))
        # Ended: it has no next message, and needs none.
        place[_COUNT] = -1

    def _set_under_way(self, k: int) -> None:
        """Sets what the block has of the message behind its last one, which the next one ends."""
        (row, end), self._under_way[k] = self._under_way[k], (0, 0)
        while row < end:
            row = set_rows(self._parts[k].levels, *self._parts[k].rows, row, end)
            if row < end:
                self._make_room(k)

    def _make_room(self, k: int) -> None:
        part = self._parts[k]
        self._parts[k] = part._replace(levels=levels_of(*sides_of(part.levels)))

    def _part(self, levels: Levels, block: Replayed) -> _Part:
        shown = block.changes if self._shows_changes else None
        columns = block.messages, block.verified, block.clock_ns, block.rows, block.others
        return _Part(levels, *columns, shown)
