"""Where messages begin: a message is the neighbouring rows of equal sequence and receipt time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.state import read_only
from market_pipeline.jit import inlined_kernel, kernel

__all__ = ["FirstRows", "MessageStarts", "first_rows", "longest_step", "message_starts"]

# So many rows at once are still near the processor when they are looked at again.
_PART_ROWS = 1 << 17


class FirstRows(NamedTuple):
    """The first row of every message of a feed, int64 (messages,) each.

    Attributes:
        row: Counted over all rows of the feed, ascending.
        ts_origin_ns, ts_receipt_ns, sequence_number: Its own.
    """

    row: NDArray[np.int64]
    ts_origin_ns: NDArray[np.int64]
    ts_receipt_ns: NDArray[np.int64]
    sequence_number: NDArray[np.int64]


class MessageStarts:
    """Finds where the messages of a feed begin, wherever it is cut into batches."""

    def __init__(self) -> None:
        self._room = np.empty(_PART_ROWS, np.int64)
        self._before: tuple[int, int] | None = None
        self._rows = 0

    def add(
        self,
        ts_origin_ns: NDArray[np.int64],
        ts_receipt_ns: NDArray[np.int64],
        sequence_number: NDArray[np.int64],
    ) -> FirstRows:
        """Takes the next rows, int64 (n,) each; the messages that begin with one of them."""
        columns = ts_origin_ns, ts_receipt_ns, sequence_number
        parts = [
            self._add(*(column[first : first + _PART_ROWS] for column in columns))
            for first in range(0, max(sequence_number.size, 1), _PART_ROWS)
        ]
        return FirstRows._make(map(np.concatenate, zip(*parts, strict=True)))

    def _add(
        self,
        ts_origin_ns: NDArray[np.int64],
        ts_receipt_ns: NDArray[np.int64],
        sequence_number: NDArray[np.int64],
    ) -> FirstRows:
        size = sequence_number.size
        count = message_starts(sequence_number, ts_receipt_ns, self._room, self._before)
        first = self._room[:count]
        columns = (ts_origin_ns[first], ts_receipt_ns[first], sequence_number[first])
        found = FirstRows(first + self._rows, *columns)
        if size:
            self._before = int(sequence_number[-1]), int(ts_receipt_ns[-1])
        self._rows += size
        return found


def first_rows(batches: Iterable[tuple[NDArray[np.int64], ...]]) -> FirstRows:
    """Where the messages of a feed begin.

    Args:
        batches: (ts_origin_ns, ts_receipt_ns, sequence_number), int64 (n,) each, in feed order.
    """
    starts = MessageStarts()
    none = FirstRows._make(np.empty(0, np.int64) for _ in FirstRows._fields)
    parts = [none, *(starts.add(*batch) for batch in batches)]
    return FirstRows._make(map(np.concatenate, zip(*parts, strict=True)))


def message_starts(
    sequence_number: NDArray[np.int64],
    ts_receipt_ns: NDArray[np.int64],
    starts: NDArray[np.int64],
    before: tuple[int, int] | None = None,
) -> int:
    """Writes the index of every row that begins a message, and says how many there are.

    Args:
        sequence_number, ts_receipt_ns: int64 (n,), of rows in feed order.
        starts: int64, n or longer, written; beyond the indices it holds anything.
        before: Sequence number and receipt time of the row before the first; None without one.
    """
    if sequence_number.size == 0:
        return 0
    begins = before != (sequence_number[0], ts_receipt_ns[0])
    columns = read_only(sequence_number), read_only(ts_receipt_ns)
    return int(_message_starts(*columns, begins, starts))


@kernel
def _message_starts(sequence_number, ts_receipt_ns, first_begins, starts):
    # Every index is written and the next one overwrites it unless its row began a message: how long
    # a message is cannot be guessed, so a branch would cost four times as much on short ones.
    starts[0] = 0
    count = np.int64(first_begins)
    last_sequence, last_receipt_ns = sequence_number[0], ts_receipt_ns[0]
    for row in range(1, sequence_number.size):
        sequence, receipt_ns = sequence_number[row], ts_receipt_ns[row]
        starts[count] = row
        count += ((sequence ^ last_sequence) | (receipt_ns ^ last_receipt_ns)) != 0
        last_sequence, last_receipt_ns = sequence, receipt_ns
    return count


def longest_step(values: NDArray[np.int64], before: int | None) -> int:
    """The largest difference of a value to the one before it, 0 where none is above that.

    A difference that does not fit 64 bits wraps around.

    Args:
        values: int64 (n,).
        before: What comes before the first of them; None if nothing does.
    """
    if values.size == 0:
        return 0
    first = values[0] if before is None else before
    return int(_longest_step(read_only(values), np.int64(first)))


@kernel
def _longest_step(values, before):
    longest = max(np.int64(0), _step(before, values[0]))
    for i in range(1, values.size):
        longest = max(longest, _step(values[i - 1], values[i]))
    return longest


@inlined_kernel
def _step(before, value):
    # Unsigned, because the compiler takes it for granted that no signed difference overflows.
    return np.int64(np.uint64(value) - np.uint64(before))
