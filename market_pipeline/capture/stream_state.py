"""What a stream or its live book is at a time, and how long it was verified, in a gap or down."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["CUT", "BookState", "StreamClock", "StreamSeconds", "Touch"]

CUT = "the queue before the book was full"
"""Why a book is lost that was too slow; the frames that it was not given are recorded."""


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


class StreamClock:
    """How long a stream without a book was in each state; times are ns UTC.

    Attributes:
        seconds: Up to the last call.
    """

    def __init__(self, *, has_proof: bool) -> None:
        self.seconds = StreamSeconds()
        self._has_proof = has_proof
        self._state = BookState.SYNCING
        self._at_ns: int | None = None
        self._since_ns = 0

    def observe(self, at_ns: int) -> None:
        """Adds the time up to an instant; earlier ones add nothing."""
        if self._at_ns is None:
            self._at_ns = at_ns
        passed = max(at_ns - self._at_ns, 0)
        self._at_ns += passed
        self.seconds.add(self._state, passed, has_proof=self._has_proof)
        if self._state is BookState.LIVE:
            self._since_ns += passed

    def heard(self, at_ns: int) -> None:
        """A message was handed on that continues what came before it."""
        self.observe(at_ns)
        self._since_ns = 0
        if self._state is not BookState.DOWN:
            self._state = BookState.LIVE

    def lost(self, at_ns: int) -> None:
        """Something is lost since the last message: the time since then was a gap."""
        self.observe(at_ns)
        since_ns, self._since_ns = self._since_ns, 0
        if self._has_proof:
            self.seconds.verified_ns -= since_ns
        else:
            self.seconds.unverifiable_ns -= since_ns
        self.seconds.gap_ns += since_ns

    def down(self, at_ns: int) -> None:
        """No connection has the stream."""
        self.observe(at_ns)
        self._state = BookState.DOWN

    def up(self, at_ns: int) -> None:
        """A connection has it again; until its first message that is a gap."""
        self.observe(at_ns)
        if self._state is BookState.DOWN:
            self._state = BookState.SYNCING
