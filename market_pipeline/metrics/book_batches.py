"""Rows of `books.bbo` or `books.depth` that come in batches, in any cut, on one receipt clock.

A row whose receipt time is bad, or of another day (`NO_TIME`), has no time here: it is taken to
have come with the sound one before it, so that its stamp moves no clock, and its book is invalid
until the next row. Before the first sound one it is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import polars as pl

from market_pipeline.books.flags import BookFlag

__all__ = ["NO_TIME", "with_book_in_force", "with_sound_times"]

NO_TIME: Final = np.uint16(BookFlag.BAD_TS_RECEIPT | BookFlag.OUTSIDE_DAY)


def with_sound_times(batches: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The batches with the receipt time of the sound row before in each row without a time."""
    latest: int | None = None
    has_time = (pl.col("flags") & int(NO_TIME)) == 0
    for batch in batches:
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
