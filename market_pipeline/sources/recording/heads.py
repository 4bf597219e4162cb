"""What recorded frames say of themselves, by the declaration of their venue."""

from __future__ import annotations

from functools import lru_cache

from market_pipeline.errors import LakeFileError
from market_pipeline.sources.recording.format import Record
from market_pipeline.sources.venues import VENUES
from market_pipeline.sources.venues.reading import FrameReader
from market_pipeline.sources.venues.venue import Kind, Scope, Venue

__all__ = ["Heads", "venue_of"]

_ORDERED = frozenset({Kind.DEPTH, Kind.TRADES, Kind.AGG_TRADES})
_FRAMES_KEPT = 1_024


def venue_of(exchange: str) -> Venue:
    """The venue that headers name by its exchange.

    Raises:
        LakeFileError: There is none.
    """
    for venue in VENUES.values():
        if venue.exchange == exchange:
            return venue
    raise LakeFileError(
        "The recording is of a venue that is not known here",
        next_step="Read it with the version of market-pipeline that wrote it.",
        expected=", ".join(sorted({venue.exchange for venue in VENUES.values()})),
        found=exchange,
    )


class Heads:
    """Classifies the frames of a venue; one that comes again soon is not read again.

    Attributes:
        reader: The venue's reader.
        of: What a frame, given as bytes, says of itself.
    """

    def __init__(self, venue: Venue) -> None:
        self.reader = FrameReader(venue)
        self.of = lru_cache(_FRAMES_KEPT)(self.reader.classify)
        counted = {c.kind for c in venue.channels if c.continuity.scope is Scope.CONNECTION}
        # The counters of two connections have nothing to do with each other.
        self._ordered = _ORDERED - counted

    def update_id(self, record: Record) -> int | None:
        """The id by which a frame stands in its stream, also across connections; None if none."""
        found = self.of(record.payload)
        return found.last_id if found.kind in self._ordered else None
