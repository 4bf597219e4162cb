"""The full book between two messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Keyframe"]


@dataclass(frozen=True, slots=True)
class Keyframe:
    """The full book after a message: enough to resume from, or to look at.

    Attributes:
        kind: "keyframe", or "closing" for the state after the last message.
        ts_origin_ns, ts_receipt_ns: Of the last message applied.
        sequence_number: Of it, or of a snapshot that replaced the book after it.
        messages: Messages applied so far in this rebuild.
        flags: The `BookFlag` bits of the last message's row, after the snapshots met since.
        bid_price_ticks, bid_size_lots, ask_price_ticks, ask_size_lots: int64, best first.
        bid_horizon_ticks, ask_horizon_ticks: The farthest level a snapshot confirmed; None before.
    """

    kind: Literal["keyframe", "closing"]
    ts_origin_ns: int
    ts_receipt_ns: int
    sequence_number: int
    messages: int
    flags: int
    bid_price_ticks: NDArray[np.int64]
    bid_size_lots: NDArray[np.int64]
    ask_price_ticks: NDArray[np.int64]
    ask_size_lots: NDArray[np.int64]
    bid_horizon_ticks: int | None
    ask_horizon_ticks: int | None
