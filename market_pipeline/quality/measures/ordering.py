"""Whether messages stand in their order, and each only once: counted over the rows as they come.

A message is the neighbouring rows of equal sequence number and receipt time; in tables other than
the deltas every row is one. A message is

* **unordered** if it was received before the one it stands behind. One step back of the clock is
  one such message, however long the clock stays back;
* **backward** if its sequence number is below that of the one it stands behind;
* **double** if one of the last `WINDOW_MESSAGES` messages had the same sequence number and the same
  rows in the same order. Its receipt time may be another. A message that directly follows itself
  and shares the receipt time too is one message whose rows come twice; it counts just the same, if
  its rows are at most `WINDOW_ROWS`. What repeats from further back is not seen, nor what repeats
  with other rows. Contents are compared by 64-bit hashes: over a day of 20 million messages
  different ones are taken for equal with a probability below one in a million.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.boundaries import FirstRows
from market_pipeline.books.state import read_only
from market_pipeline.mapped import ColumnArray
from market_pipeline.quality.measures._ordering_kernel import (
    HOURS,
    MAX_PLACES_PER_KIND,
    MESSAGES,
    SEQUENCE_CHANGES,
    SLOTS,
    STATE_SIZE,
    WINDOW_MESSAGES,
    WINDOW_ROWS,
    Disorder,
    end_message,
    walk,
)

__all__ = [
    "FOLLOWING",
    "MAX_PLACES_PER_KIND",
    "WINDOW_MESSAGES",
    "WINDOW_ROWS",
    "Disorder",
    "DisorderedPlace",
    "MessageOrder",
]

FOLLOWING = np.empty(0, np.int64)
"""The `row_numbers` of rows that follow one another in their file."""


class DisorderedPlace(NamedTuple):
    """A message that stands wrong, by its first row.

    Attributes:
        file, row: The shard, and which of its rows.
        ts_receipt_ns, sequence_number: The message's own.
        value, before: Its time or number that is wrong, and that of the message before; for a
            double message its sequence number twice.
    """

    kind: Disorder
    file: Path
    row: int
    ts_receipt_ns: int
    sequence_number: int
    value: int
    before: int


class MessageOrder:
    """Counts the messages of a feed that stand wrong, batch by batch.

    Args:
        day_start_ns: Where the UTC day begins; hours are counted from it, and what was received
            outside the day counts in its first or last hour.
    """

    def __init__(self, day_start_ns: int) -> None:
        self._day_start_ns = day_start_ns
        self._files: list[Path] = []
        self._state = np.zeros(STATE_SIZE, np.int64)
        self._hashes = np.zeros(2, np.uint64)
        self._prefix = np.zeros(WINDOW_ROWS, np.uint64)
        self._tables = np.zeros((2, SLOTS), np.uint64)
        self._places = np.zeros((len(Disorder), MAX_PLACES_PER_KIND, 6), np.int64)
        self._per_hour = np.zeros(HOURS, np.int64)

    def add(
        self,
        file: Path,
        first_row: int,
        messages: FirstRows,
        first: ColumnArray,
        second: ColumnArray,
        is_second_kind: NDArray[np.bool_],
        row_numbers: NDArray[np.int64] = FOLLOWING,
    ) -> None:
        """Takes a batch of rows of one file into account.

        Args:
            file, first_row: Which, and which of its rows the first of these is.
            messages: Those that begin with one of these rows, which count from 0.
            first, second: (n,), int64 or float64, what makes rows the same, with `is_second_kind`:
                of a delta price, size and side.
            is_second_kind: bool (n,).
            row_numbers: int64 (n,), which rows of the file these are; or `FOLLOWING`.
        """
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        walk(
            FirstRows._make(map(read_only, messages)),
            read_only(first).view(np.uint64),
            read_only(second).view(np.uint64),
            read_only(is_second_kind),
            len(self._files) - 1,
            first_row,
            read_only(row_numbers),
            self._day_start_ns,
            self._state,
            self._hashes,
            self._prefix,
            self._tables,
            self._places,
            self._per_hour,
        )

    def finish(self) -> None:
        """Ends the last message; nothing may be added any more."""
        end_message(
            self._state,
            self._hashes,
            self._tables,
            self._places,
            self._per_hour,
            self._day_start_ns,
        )

    @property
    def messages(self) -> int:
        """Messages so far."""
        return int(self._state[MESSAGES])

    @property
    def sequence_changes(self) -> int:
        """Messages with another sequence number than the one before."""
        return int(self._state[SEQUENCE_CHANGES])

    @property
    def per_hour(self) -> list[int]:
        """Messages that are unordered, backward or double, each once, by UTC hour; 24 entries."""
        return [int(count) for count in self._per_hour]

    def count(self, kind: Disorder) -> int:
        """How many messages stand wrong in this way."""
        return int(self._state[kind])

    def places(self) -> list[DisorderedPlace]:
        """The first places of each kind, in feed order within it."""
        found = []
        for kind in Disorder:
            for each in self._places[kind, : min(self.count(kind), MAX_PLACES_PER_KIND)].tolist():
                file, *rest = each
                found.append(DisorderedPlace(kind, self._files[file], *rest))
        return found
