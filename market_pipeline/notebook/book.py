"""The full book after one message, as a person looks at it: two frames and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_pipeline.books.flags import INVALIDATING, MEANING, BookFlag
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.scale import Scale

__all__ = ["Book"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Book:
    """All levels of both sides after one message, and whether they are to be trusted.

    Attributes:
        bids, asks: One row per level, best first: `price` and `size` as the nearest float64,
            `price_ticks` and `size_lots` as exact int64.
        ts_origin_ns: The exchange's time of the message, ns UTC.
        ts_receipt_ns: When the vendor received it, ns UTC; may be the earlier.
        sequence_number: The venue's last update id in the message.
        flags: What is known against the book; 0 is valid. `reasons` has a sentence for each bit.
        tick, lot: The price and size of one tick and one lot, exact.
        known_low_price, known_high_price: Between them a snapshot confirmed the book; farther out
            only levels that changed since are known. None before the first snapshot.
    """

    bids: pl.DataFrame
    asks: pl.DataFrame
    ts_origin_ns: int
    ts_receipt_ns: int
    sequence_number: int
    flags: BookFlag
    tick: Decimal
    lot: Decimal
    known_low_price: float | None
    known_high_price: float | None

    @classmethod
    def of_keyframe(cls, frame: Keyframe, tick: Scale, lot: Scale) -> Book:
        """The book of a keyframe in whole ticks and lots."""
        horizons = (frame.bid_horizon_ticks, frame.ask_horizon_ticks)
        low, high = (None if ticks is None else float(ticks * tick.step) for ticks in horizons)
        return cls(
            bids=_levels(frame.bid_price_ticks, frame.bid_size_lots, tick, lot),
            asks=_levels(frame.ask_price_ticks, frame.ask_size_lots, tick, lot),
            ts_origin_ns=frame.ts_origin_ns,
            ts_receipt_ns=frame.ts_receipt_ns,
            sequence_number=frame.sequence_number,
            flags=BookFlag(frame.flags),
            tick=tick.step,
            lot=lot.step,
            known_low_price=low,
            known_high_price=high,
        )

    @property
    def is_valid(self) -> bool:
        """Whether the book counts as valid: none of the invalidating flags is set."""
        return not self.flags & INVALIDATING

    @property
    def reasons(self) -> list[str]:
        """One sentence for each flag that is set."""
        return [MEANING[flag] for flag in BookFlag if flag in self.flags]

    def top(self, levels: int) -> Book:
        """The same book cut to its best levels a side."""
        return replace(self, bids=self.bids.head(levels), asks=self.asks.head(levels))

    def __repr__(self) -> str:
        when = np.datetime64(self.ts_receipt_ns, "ns")
        bid, ask = (
            f"{side['size'][0]:g} @ {side['price'][0]:.15g}" if side.height else "nothing"
            for side in (self.bids, self.asks)
        )
        flags = " | ".join(flag.name or "" for flag in BookFlag if flag in self.flags)
        return (
            f"Book({when}Z, best bid {bid}, best ask {ask}, "
            f"{self.bids.height} bids, {self.asks.height} asks, flags: {flags or 'none'})"
        )


def _levels(
    price_ticks: NDArray[np.int64], size_lots: NDArray[np.int64], tick: Scale, lot: Scale
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "price": tick.to_floats(price_ticks),
            "size": lot.to_floats(size_lots),
            "price_ticks": price_ticks,
            "size_lots": size_lots,
        }
    )
