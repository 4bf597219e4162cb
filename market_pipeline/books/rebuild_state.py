"""All that a rebuild knows between two messages: to begin a day with, or to resume from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from market_pipeline.books.flags import BookFlag
from market_pipeline.books.integers import OffStepCount
from market_pipeline.books.keyframe import Keyframe
from market_pipeline.books.lookback import LookbackState
from market_pipeline.books.marking import LastSnapshot
from market_pipeline.books.registers import REGISTERS, new_registers
from market_pipeline.books.state import History

__all__ = ["RebuildState"]


@dataclass(frozen=True, slots=True)
class RebuildState:
    """All that a rebuild knows between two messages: a rebuild that starts from it goes on alike.

    Attributes:
        registers: int64, those of `registers.new_registers`.
        bid_price_ticks, bid_size_lots, ask_price_ticks, ask_size_lots: int64, best first.
        off_tick, off_lot: Values refused so far.
        history: What the kernel did last; None if that is not known.
        last_snapshot: Of the snapshots met so far; None before the first.
        lookback: The rows that are held back; None for none.
    """

    registers: NDArray[np.int64]
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    off_tick: OffStepCount
    off_lot: OffStepCount
    history: History | None = None
    last_snapshot: LastSnapshot | None = None
    lookback: LookbackState | None = None

    @classmethod
    def after_close(cls, close: Keyframe) -> RebuildState:
        """The state of a day that begins with the closing book of the day before.

        Raises:
            ValueError: If the closing book was never seeded: then it is none to begin with.
        """
        if close.bid_horizon_ticks is None or close.ask_horizon_ticks is None:
            raise ValueError("a book that was never seeded cannot seed another")
        return cls._of_book(
            close,
            seeded=1,
            seed_sequence_number=close.sequence_number,
            seed_ts_receipt_ns=close.ts_receipt_ns,
        )

    @classmethod
    def after_keyframe(cls, book: Keyframe) -> RebuildState:
        """The state of a rebuild whose last message is that of a keyframe, its counters at 0.

        Since when a crossed book was crossed is not known from it.
        """
        flags = BookFlag(book.flags)
        return cls._of_book(
            book,
            seeded=BookFlag.NOT_SEEDED not in flags,
            gap=BookFlag.GAP in flags,
            refused_since_snapshot=BookFlag.PRECISION_LOSS in flags,
            snapshot_mismatch=BookFlag.SNAPSHOT_MISMATCH in flags,
            last_ts_receipt_ns=book.ts_receipt_ns,
            last_flags=book.flags,
        )

    @classmethod
    def _of_book(cls, book: Keyframe, **further: int) -> RebuildState:
        registers = new_registers()
        sides = {"last_bid_ticks": book.bid_price_ticks, "last_ask_ticks": book.ask_price_ticks}
        for name, value in {
            "last_sequence_number": book.sequence_number,
            "book_sequence_number": book.sequence_number,
            **{name: int(prices[0]) for name, prices in sides.items() if prices.size},
            "bid_horizon_ticks": book.bid_horizon_ticks or 0,
            "ask_horizon_ticks": book.ask_horizon_ticks or 0,
            **further,
        }.items():
            registers[REGISTERS.index(name)] = value
        bids = book.bid_price_ticks, book.bid_size_lots
        asks = book.ask_price_ticks, book.ask_size_lots
        return cls(registers, *bids, *asks, OffStepCount(), OffStepCount())

    @property
    def rows(self) -> int:
        """Delta rows applied so far: the feed goes on with the row of that number."""
        return int(self.registers[REGISTERS.index("rows")])

    @property
    def snapshots(self) -> int:
        """Snapshots met so far: the feed goes on with the snapshot of that number."""
        return int(self.registers[REGISTERS.index("snapshots")])
