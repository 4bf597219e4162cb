"""A replay that also says who changed what, and from what: each row of the day once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books import changes as log
from market_pipeline.books import cursor as at
from market_pipeline.books.change_log import (
    Changes,
    LevelRows,
    Log,
    LoggedMessages,
    enlarged,
    room_for_changes,
    room_for_messages,
    room_for_other_changes,
)
from market_pipeline.books.changes import log_messages
from market_pipeline.books.entry_points import address_of
from market_pipeline.books.kernel import advance
from market_pipeline.books.levels import WINDOW, Levels, base_ticks
from market_pipeline.books.rebuild import RebuildOptions
from market_pipeline.books.replay import PublishedRows, Replay, Replayed
from market_pipeline.books.scale import Scale
from market_pipeline.books.state import Deltas, Status
from market_pipeline.books.walk import levels_around, sides_of
from market_pipeline.sources.batches import DeltaBatch

__all__ = ["LoggedReplay"]

_MESSAGE_ROOM = 1 << 16
_CHANGE_ROOM = 1 << 18
_SPARE_ROOM = 1 << 14


class LoggedReplay(Replay):
    """As `Replay`, with the changes of each message.

    Args:
        price_scale, size_scale, options, published, how: As for `Replay`.
    """

    def __init__(
        self,
        price_scale: Scale,
        size_scale: Scale,
        options: RebuildOptions,
        published: Iterable[PublishedRows],
        **how: Any,
    ) -> None:
        super().__init__(price_scale, size_scale, options, published, **how)
        self._shadow = Levels._make(column.copy() for column in self._levels)
        self._log = Log(room_for_messages(_MESSAGE_ROOM), room_for_changes(_CHANGE_ROOM))
        self._place = log.new_place(self._registers)

    @property
    def message(self) -> int:
        """The number in the day of the next message to replay."""
        return self._first + int(self._place[log.LOGGED])

    def _go_on(self, until: int) -> int:
        arguments = self._arguments()
        status: int = log_messages(
            address_of(advance, arguments), *arguments,
            self._shadow, self._log, self._known, self._place, until,
        )  # fmt: skip
        self._feed.position = int(self._cursor[at.SNAPSHOT])
        if status == Status.DONE:
            # Rows of old messages behind the last message.
            self._place[log.GROUP] = self._place[log.CHANGES]
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
        needed = batch.sequence_number.size + _SPARE_ROOM
        while self._place[log.CHANGES] + needed > self._log.changes.kind.size:
            self._enlarge()
        return super()._take(batch, marked, bits)

    def _move_window(self, more: int) -> None:
        super()._move_window(more)
        bids, asks = sides_of(self._shadow)
        window = int(self._levels.meta[WINDOW])
        centre = int(base_ticks(self._levels.meta)) + window // 2
        self._shadow = levels_around(centre, bids, asks, window, more)

    def _enlarge(self) -> None:
        changes = enlarged(self._log.changes, int(self._place[log.CHANGES]))
        self._log = self._log._replace(changes=changes)

    def _handed_out(self) -> Iterator[Replayed]:
        count, written = int(self._place[log.MESSAGES]), int(self._place[log.CHANGES])
        end = int(self._place[log.GROUP])
        if count or end:
            messages = LoggedMessages._make(column[:count].copy() for column in self._log.messages)
            changes = Changes._make(column[:end].copy() for column in self._log.changes)
            np.add(changes.feed_row, self._first_row, changes.feed_row, where=changes.feed_row >= 0)
            rows = LevelRows.of(changes)
            others, first = room_for_other_changes(0), self.message - count
            yield self._as_published(first, messages, rows, (0, 0), others, changes)
        elif written:
            self._enlarge()
        for column in self._log.changes:
            column[: written - end] = column[end:written]
        self._place[log.CHANGES], self._place[log.GROUP] = written - end, 0
        self._place[log.MESSAGES] = 0
        self._place[log.START] -= end
