"""How far the clocks of two books are apart whose messages have no numbers in common.

The best bid and ask with their sizes are four integers, and most of what they ever are they are
once a day. A touch that both books came to exactly once is one moment of the market, so the
difference of its two times is that of the clocks. Touches are sampled by their hash, which takes
the same ones of both books and bounds the memory.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from market_pipeline.books.flags import BookFlag
from market_pipeline.quality.fidelity.books import BookRows
from market_pipeline.quality.fidelity.matching import Shift

__all__ = ["MIN_TOUCHES", "touch_shifts"]

MIN_TOUCHES = 100
"""Fewer touches in common say nothing of the clocks."""

_MOST_KEPT = 1 << 20
_CLOCKS = (("receipt_ns", BookFlag.BAD_TS_RECEIPT), ("origin_ns", BookFlag.BAD_TS_ORIGIN))


def touch_shifts(
    golden: Iterator[BookRows], other: Iterator[BookRows]
) -> tuple[Shift | None, Shift | None]:
    """The shifts of the receipt clocks and of exchange times.

    None where fewer than `MIN_TOUCHES` touches are in both books once.

    Args:
        golden, other: Batches in feed order, in shared units.
    """
    own, its = _Touches(), _Touches()
    for touches, batches in ((own, golden), (its, other)):
        for rows in batches:
            touches.add(rows)
    one_in = max(own.one_in, its.one_in)
    pairs = own.once(one_in).join(its.once(one_in), on="touch", suffix="_other")
    receipt, exchange = (
        _shift(pairs[f"{name}_other"] - pairs[name]) for name in ("receipt_ns", "origin_ns")
    )
    return receipt, exchange


class _Touches:
    """The touches that a valid book came to, each with its times; of many one in `one_in`."""

    def __init__(self) -> None:
        self.one_in = 1
        self._kept = pl.DataFrame(
            schema={"touch": pl.UInt64, "receipt_ns": pl.Int64, "origin_ns": pl.Int64}
        )
        self._last = np.full((1, 4), -1, np.int64)

    def add(self, rows: BookRows) -> None:
        """Takes the touches of further messages."""
        if rows.flags.size == 0:
            return
        before = np.concatenate([self._last, rows.touch[:-1]])
        self._last = rows.touch[-1:].copy()
        has_come = (rows.touch != before).any(axis=1) & rows.are_valid()
        found = pl.DataFrame(
            {
                "touch": pl.DataFrame(rows.touch[has_come]).hash_rows(seed=0),
                "receipt_ns": rows.ts_receipt_ns[has_come],
                "origin_ns": rows.ts_origin_ns[has_come],
            }
        ).with_columns(
            pl.when(pl.Series(~rows.have(flag)[has_come])).then(name) for name, flag in _CLOCKS
        )
        self._kept = pl.concat([self._kept, self._sampled(found)])
        while self._kept.height > _MOST_KEPT:
            self.one_in *= 2
            self._kept = self._sampled(self._kept)

    def _sampled(self, touches: pl.DataFrame) -> pl.DataFrame:
        return touches.filter(pl.col("touch") % self.one_in == 0)

    def once(self, one_in: int) -> pl.DataFrame:
        """Those of one in so many that the book came to exactly once."""
        is_sampled, is_once = pl.col("touch") % one_in == 0, pl.len().over("touch") == 1
        return self._kept.filter(is_sampled).filter(is_once)


def _shift(differences_ns: pl.Series) -> Shift | None:
    known = differences_ns.drop_nulls().to_numpy()
    return Shift.of(known) if known.size >= MIN_TOUCHES else None
