"""The arrays the simulated market lives in: its book, its state, its character and its output."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "MAX_MESSAGE_ROWS",
    "MAX_MESSAGE_TRADES",
    "STATE",
    "TOP_LEVELS",
    "Book",
    "Character",
    "Output",
]

TOP_LEVELS = 20
MAX_MESSAGE_ROWS = 4_096  # above twice the ticks a message can clear and fill, plus its orders
MAX_MESSAGE_TRADES = 8

STATE = np.dtype(
    [
        ("best_bid", np.int64),
        ("best_ask", np.int64),
        ("bid_edge", np.int64),
        ("ask_edge", np.int64),
        ("fair", np.float64),
        ("log_volatility", np.float64),
        ("extra_spread", np.int64),
        ("in_burst", np.int64),
        ("last_taker", np.int64),
        ("sequence", np.int64),
        ("trade_id", np.int64),
        ("origin_ms", np.int64),
        ("receipt_ns", np.int64),
        ("next_snapshot_ns", np.int64),
    ]
)
"""All of the market but the book. `best_*` and `*_edge` (the 20th level) are indices of the book,
`fair` is one too; `last_taker` is 1 for a buyer and -1 for a seller."""


class Book(NamedTuple):
    """The levels, and the levels touched by the message being made.

    Attributes:
        levels: int64, shape (span,): lots by price, bids positive, asks negative.
        counts: int64, shape (2,): populated levels of the bid and ask side.
        touched: int64, shape (MAX_MESSAGE_ROWS,): keys `side * span + index`.
        touched_count: int64, shape (1,).
    """

    levels: NDArray[np.int64]
    counts: NDArray[np.int64]
    touched: NDArray[np.int64]
    touched_count: NDArray[np.int64]


class Character(NamedTuple):
    """What makes one instrument's market differ from another's; constant over its days.

    Attributes:
        base: The price in ticks of element 0 of the book.
        anchor: The index that the fair price is drawn back to over months.
        zone: Most levels lie within so many ticks of the touch.
        density: Share of populated ticks behind a touch that has just moved on.
        volatility: Standard deviation of the fair price per message, in ticks.
        log_lots: Natural logarithm of the median size at the touch.
        calm_gap_ms, burst_gap_ms: Mean gaps outside and inside a burst of messages, beyond the
            least gap.
        snapshot_interval_ns: At least so much receipt time between two `book` rows.
    """

    base: int
    anchor: int
    zone: int
    density: float
    volatility: float
    log_lots: float
    calm_gap_ms: float
    burst_gap_ms: float
    snapshot_interval_ns: int


class Output(NamedTuple):
    """Where a batch is written: arrays of one length per group, filled from the front.

    Attributes:
        message_*: One element per message; `message_end` is the row after its last one;
            `message_touch` holds best bid index, lots, best ask index, lots, and the number of bid
            and ask levels, shape (messages, 6).
        row_*: One element per changed level; `row_side` 0 is bid, `row_index` a book index.
        trade_*: One element per aggregated trade.
        snapshot_message: The message after which a snapshot was taken.
        snapshot_index, snapshot_lots: Shape (snapshots, 2 * TOP_LEVELS): bids, then asks, best
            first.
    """

    message_origin_ms: NDArray[np.int64]
    message_receipt_ns: NDArray[np.int64]
    message_sequence: NDArray[np.int64]
    message_end: NDArray[np.int64]
    message_touch: NDArray[np.int64]
    row_side: NDArray[np.int64]
    row_index: NDArray[np.int64]
    row_lots: NDArray[np.int64]
    trade_origin_ms: NDArray[np.int64]
    trade_receipt_ns: NDArray[np.int64]
    trade_id: NDArray[np.int64]
    trade_is_buy: NDArray[np.bool_]
    trade_index: NDArray[np.int64]
    trade_lots: NDArray[np.int64]
    snapshot_message: NDArray[np.int64]
    snapshot_index: NDArray[np.int64]
    snapshot_lots: NDArray[np.int64]
