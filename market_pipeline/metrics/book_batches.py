"""Rows of `books.bbo` or `books.depth` that come in batches, in any cut, on one receipt clock.

A row whose receipt time is bad, or of another day (`NO_TIME`), has no time here: it is taken to
have come with the sound one before it, so that its stamp moves no clock, and its book is invalid
until the next row. Before the first sound one it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING, BookFlag
from market_pipeline.books.state import read_only
from market_pipeline.jit import kernel
from market_pipeline.quality.intervals import BoolArray, IntArray

__all__ = ["NO_TIME", "with_book_in_force", "with_sound_times", "with_valid_since"]

_INVALID: Final = int(INVALIDATING)

NO_TIME: Final = np.uint16(BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY)


def with_sound_times(batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The batches with the receipt time of the sound row before in each row without a time."""
    latest: int | None = None
    has_time = (pl.col("flags") & int(NO_TIME)) == 0
    for batch in batches:
        timed = batch
        if (batch["flags"].to_numpy() & NO_TIME).any():  # else all of it would be copied
            timed = batch.with_columns(
                pl.when(has_time)
                .then("ts_receipt_ns")
                .forward_fill()
                .fill_null(pl.lit(latest, pl.Int64))
                .alias("ts_receipt_ns")
            ).filter(pl.col("ts_receipt_ns").is_not_null())
        if timed.height:
            latest = int(timed["ts_receipt_ns"][-1])
        yield timed


def with_book_in_force(
    batches: Iterable[pl.DataFrame],
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Each batch with the book that was in force before it as a row on top, and the batch itself.

    That row is the last one before the batch, at the largest receipt time so far.
    """
    last: pl.DataFrame | None = None
    for batch in batches:
        if batch.is_empty():
            continue
        rows = batch if last is None else pl.concat((last, batch))
        yield rows, batch
        last = rows.with_columns(pl.col("ts_receipt_ns").max()).tail(1)


class _Books(NamedTuple):
    """Rows of `books.bbo`, shape (n,) each."""

    ts_receipt_ns: IntArray
    sequence_number: IntArray
    flags: NDArray[np.uint16]

    @classmethod
    def of(cls, rows: pl.DataFrame) -> Self:
        """Those of a batch."""
        return cls._make(read_only(rows[name].to_numpy()) for name in cls._fields)


@kernel
def _find_rows(books: _Books, rows: _Books, place: IntArray, valid_since: BoolArray) -> None:
    """Finds rows among books, from a place in both on.

    Args:
        books, rows: Each row is to be one of the books, in the same order.
        place: int64 (3,): the next book, the next row, and whether a book since the last row that
            was found is invalid.
        valid_since: Written for each row that is found.
    """
    book, row = place[0], place[1]
    while row < valid_since.size and book < books.flags.size:
        place[2] |= np.int64(books.flags[book]) & _INVALID != 0
        if (
            books.ts_receipt_ns[book] == rows.ts_receipt_ns[row]
            and books.sequence_number[book] == rows.sequence_number[row]
        ):
            valid_since[row] = place[2] == 0
            place[2] = 0
            row += 1
        book += 1
    place[0], place[1] = book, row


def with_valid_since(
    depth: Iterable[pl.DataFrame], bbo: Iterable[pl.DataFrame]
) -> Iterator[pl.DataFrame]:
    """Batches of `books.depth` with `valid_since`: no book after the row before is invalid.

    The row's own book is one of these. It is false of a row that is none of `books.bbo`.

    Args:
        depth, bbo: With ts_receipt_ns, sequence_number and flags, of one day, as published.
    """
    further = (_Books.of(batch) for batch in bbo)
    books = next(further, None)
    place = np.zeros(3, np.int64)
    for batch in depth:
        rows, valid_since = _Books.of(batch), np.zeros(batch.height, np.bool_)
        place[1] = 0
        while books is not None:
            _find_rows(books, rows, place, valid_since)
            if place[1] == batch.height:
                break
            books, place[0] = next(further, None), 0
        yield batch.with_columns(valid_since=valid_since)
