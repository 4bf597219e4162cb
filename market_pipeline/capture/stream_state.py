"""What a live book is at a time, and how long a stream was proven, unproven, broken or down."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["BookState", "StreamSeconds", "Touch"]


class BookState(StrEnum):
    """What a live book is to be used for."""

    SYNCING = "syncing"
    """It has no levels yet."""
    LIVE = "live"
    RESYNC = "resync"
    """Something is lost; its levels are those of the last right state."""
    DOWN = "down"
    """No connection has its stream."""


class Touch(NamedTuple):
    """Best bid and ask in ticks and lots; a side of size 0 is empty."""

    bid_price_ticks: int
    bid_size_lots: int
    ask_price_ticks: int
    ask_size_lots: int


@dataclass(slots=True)
class StreamSeconds:
    """How long a stream was in each state, in ns.

    Attributes:
        verified: The book was live, and ids or checksums prove it.
        unverifiable: It was live, and the venue proves nothing.
        gap: It waited for a snapshot, or something was lost.
        downtime: There was no connection, or it was silent.
    """

    verified_ns: int = 0
    unverifiable_ns: int = 0
    gap_ns: int = 0
    downtime_ns: int = 0

    @property
    def verified_share(self) -> float:
        """Verified time of all; 0 before there is any."""
        whole = self.verified_ns + self.unverifiable_ns + self.gap_ns + self.downtime_ns
        return self.verified_ns / whole if whole else 0.0

    def add(self, state: BookState, passed_ns: int, *, has_proof: bool) -> None:
        """Adds time that a book was in a state."""
        if state is BookState.DOWN:
            self.downtime_ns += passed_ns
        elif state is not BookState.LIVE:
            self.gap_ns += passed_ns
        elif has_proof:
            self.verified_ns += passed_ns
        else:
            self.unverifiable_ns += passed_ns
