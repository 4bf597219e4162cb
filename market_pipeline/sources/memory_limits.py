"""How much of raw files is in memory at once, whatever they say: every bound, and why."""

from __future__ import annotations

__all__ = [
    "FOOTER_BYTES",
    "HEADING_BYTES",
    "LINE_BYTES",
    "MAX_CONTRACT_ROWS",
    "MAX_LEVELS",
    "MAX_MESSAGES",
    "MAX_MESSAGE_ROWS",
    "MAX_TRADES",
    "PADDED_LEVELS",
    "PAGES_BYTES",
    "PIECE_BYTES",
    "ROW_GROUP_BYTES",
    "TEXT_BYTES",
]

FOOTER_BYTES = 32 << 20
"""A longer footer is refused; Arrow takes six times as much memory to parse one.

That is 60 row groups of a snapshot of 1,000 levels, which has 4,003 columns.
"""

PAGES_BYTES = 256 << 20
"""Most bytes that the largest pages of all columns read may unpack to together."""

ROW_GROUP_BYTES = 64 << 20
"""A row group of more decoded bytes than this is streamed, or of pages twice as large."""

PIECE_BYTES = 32 << 20
"""Most decoded bytes that Polars is asked for at once; two or three such pieces are under way.

The smaller, the more pages are unpacked twice: in halves a row group of a million deltas takes a
tenth more CPU time than whole, in quarters two fifths.
"""

TEXT_BYTES = 1 << 10
"""A longer text is refused: none of the raw tables has a use for it."""

MAX_MESSAGES = 5 << 22
"""Most messages of an instrument and day, one every 4.1 ms: some bytes of each are held at once.

As many as fit the default memory budget also where a stamp in five is bad.
"""

MAX_MESSAGE_ROWS = 1 << 20
"""Most rows of a message: it is marked by those around it, so all of them are in memory."""

MAX_TRADES = 1 << 24
"""Most trades of an instrument and day: several stages sort them."""

MAX_CONTRACT_ROWS = 1 << 21
"""Most rows of funding or open interest of an instrument and day, one every 41 ms: held at once."""

MAX_LEVELS = 1_000
"""Levels a side that a row of `book` holds at most; deeper ones come as rows of a message."""

LINE_BYTES = 4 << 20
"""A file with a longer line is refused; the deepest snapshots have a tenth of it."""

PADDED_LEVELS = 1 << 20
"""Most levels of a batch of captured snapshots, each as wide as the deepest: a deep one is not put
among many shallow ones.
"""

HEADING_BYTES = 1 << 16
"""A longer first line of a CSV file is refused: it is no heading."""
